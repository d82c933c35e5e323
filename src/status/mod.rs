//! What a daemon shows of itself: lines for its log, a report for its control socket, metrics for
//! its exporter.

mod agent;
mod counted;
mod publisher;
mod rows;
mod summary;

pub use agent::{AgentReport, AgentView, HandlerReport, PublisherReport};
pub use counted::{Counted, Own, OwnMetrics, Process, ProcessMetrics};
pub use publisher::{Part, PeerReport, RefusedTopic, ServiceReport};
pub use rows::{Topic, topics};
pub use summary::{publisher_summary, summary};
