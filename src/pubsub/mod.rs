//! The pluggable publish-subscribe infrastructure: contracts, drivers and the common part of
//! subscribers.

pub mod api;
pub mod driver;
pub mod endpoint;
pub mod registry;
pub mod subscriber;

pub use api::{
    Callback, LinkChange, PeerControl, PeerCounts, PeerRules, PubSubApi, PubSubError, PublisherApi,
    PublisherOptions, Source, SubscriberApi, SubscriberOptions, Subscription,
};
