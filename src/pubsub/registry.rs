//! The drivers by alias, as `pub_sub_driver` names them.

use ::zmq::Context;

use super::api::PubSubApi;
use super::driver::zmq::multiproc::{self, ZmqMultiproc};
use super::driver::zmq::{self, ZmqPubSub};

/// One entry.
pub struct Driver {
    /// What `pub_sub_driver = "…"` says.
    pub alias: &'static str,
    /// One line for listings.
    pub about: &'static str,
    /// Makes the driver. A process has one context, whichever drivers it uses.
    pub make: fn(&Context) -> Box<dyn PubSubApi>,
}

/// Every driver.
pub static DRIVERS: &[Driver] = &[
    Driver {
        alias: zmq::ALIAS,
        about: "ZeroMQ: PUB binds, SUB connects, over publisher_transport",
        make: |context| Box::new(ZmqPubSub::with_context(context)),
    },
    Driver {
        alias: multiproc::ALIAS,
        about: "ZeroMQ: PULL binds, PUSH connects, on publisher_multiproc_socket",
        make: |context| Box::new(ZmqMultiproc::with_context(context)),
    },
];

/// The driver of this alias.
pub fn find(alias: &str) -> Option<&'static Driver> {
    DRIVERS.iter().find(|driver| driver.alias == alias)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_driver_is_found_by_its_one_alias_and_made() {
        for driver in DRIVERS {
            assert!(std::ptr::eq(find(driver.alias).expect("found"), driver));
            assert!(!driver.about.is_empty());
            (driver.make)(&Context::new());
        }
        assert!(find("no_such_driver").is_none());
    }
}
