//! An API server host with a sync service.

use std::ops::Range;

use fanfare::event::Event;

use super::PATIENCE;
use super::counted::Said;
use super::dealer::Peer;
use super::host::Host;
use super::load::{flush, publish, send};
use super::port::Port;

/// The host, and the port of its sync service.
pub struct Cluster {
    pub host: Host,
    pub sync: Port,
}

impl Cluster {
    pub fn new(more: &str) -> Cluster {
        let sync = Port::free();
        let more = format!(
            "hello_interval = 0.2\nmax_idle_time = 1.0\nsync_port = {}\n{more}",
            sync.number
        );
        Cluster {
            host: Host::new(&more),
            sync,
        }
    }

    pub fn running(more: &str) -> Cluster {
        let mut cluster = Cluster::new(more);
        cluster.host.start();
        cluster
    }

    pub fn uri(&self) -> String {
        format!("tcp://{}:{}", self.host.address(), self.host.port.number)
    }

    /// Where its sync service listens.
    pub fn sync_uri(&self) -> String {
        self.sync.uri()
    }

    /// A client of its sync service.
    pub fn peer(&self) -> Peer {
        Peer::connect(&self.sync_uri())
    }

    /// Publishes `{"n": number}` as rows `k<number % keys>` of table `t`, and waits for all
    /// acknowledgements.
    #[track_caller]
    pub fn publish(&self, topic: &str, numbers: Range<u64>, keys: u64) {
        let client = self.host.client();
        publish(&client, topic, numbers, keys);
        flush(&client);
    }

    /// Publishes `value` as rows `k<number>` of table `t`, in the same way.
    #[track_caller]
    pub fn fill(&self, topic: &str, rows: Range<usize>, value: &str) {
        let client = self.host.client();
        for number in rows {
            let key = format!("k{number}");
            send(&client, &Event::set("t", &key, value).on(topic));
        }
        flush(&client);
    }

    /// Deletes a row of table `t`.
    #[track_caller]
    pub fn delete(&self, topic: &str, key: &str) {
        let client = self.host.client();
        send(&client, &Event::delete("t", key).on(topic));
        flush(&client);
    }

    /// Ends the service in order.
    #[track_caller]
    pub fn stop(&mut self) -> Said {
        Said(self.host.stop(PATIENCE))
    }
}
