//! The modules in the box as an operator uses them: in an agent, with real programs.

mod attach;
mod custom;
mod dnsmasq;
mod kill;
mod pipe;

use std::path::PathBuf;

use fanfare::agent::Agent;
use fanfare::dispatch::LaneOptions;
use fanfare::dispatch::hub::SeatOptions;
use fanfare::event::Event;
use fanfare::handler::Settings;
use fanfare::handler::registry::find;
use fanfare::pubsub::PublisherApi;
use fanfare::pubsub::driver::memory::MemoryNetwork;
use fanfare::util::stop::StopToken;
use figment::Figment;
use figment::providers::{Format, Toml};

use crate::rig::agent::{endpoint, options, publisher, start};
use crate::rig::wait_for;

const URI: &str = "memory://api1";

/// A lane with the module `module` of these settings.
fn lane(module: &str, settings: &str) -> LaneOptions {
    let values = Figment::from(Toml::string(settings)).extract().unwrap();
    let settings = Settings::new(values);
    let module = find(module).unwrap();
    let seat = SeatOptions {
        queue_length: 64,
        queue_bytes: 1 << 20,
        ..SeatOptions::default()
    };
    let build = Box::new(move |stop: &StopToken| module.make(module.name, &settings, stop));
    LaneOptions::new(module.name, seat, build)
}

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join(path);
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// An agent and the publisher it follows.
struct Stage {
    publisher: Box<dyn PublisherApi>,
    agent: Agent,
}

impl Stage {
    fn new(handlers: Vec<LaneOptions>) -> Stage {
        let network = MemoryNetwork::new();
        let mut publisher = publisher(&network, URI);
        publisher.initialize().unwrap();
        let driver = Box::new(network.clone());
        let agent = start(driver, options(), &[URI], &["t1"], handlers);
        wait_for("the agent subscribes", || {
            network.subscriptions(&endpoint(URI)) == 5
        });
        Stage { publisher, agent }
    }

    fn set(&mut self, table: &str, key: &str, value: &str) {
        let event = Event::set(table, key, value).on("t1");
        self.publisher.send_event(&event, None).unwrap();
    }

    fn delete(&mut self, table: &str, key: &str) {
        let event = Event::delete(table, key).on("t1");
        self.publisher.send_event(&event, None).unwrap();
    }
}
