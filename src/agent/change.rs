//! What of a running agent can be changed: publishers and handlers.

use std::time::{Duration, Instant};

use super::Agent;
use crate::dispatch::{Lane, LaneOptions, Lookout};
use crate::handler::SyncReason;
use crate::pubsub::PubSubError;
use crate::pubsub::endpoint::{Defaults, Endpoint};

/// Longest that handlers are waited for that are ended while the agent runs: its owner, who must show the
/// service manager that it lives, waits meanwhile.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);

impl Agent {
    /// From now on these are the configured publishers: follows those that are new, and follows
    /// those no longer that are not among them, unless the table `publisher` names them, whose addresses
    /// `defaults` completes. What
    /// cannot be followed is left out, told, and no publisher of these. Takes up to half a second for
    /// each one left.
    pub fn set_publishers(
        &mut self,
        publishers: &[Endpoint],
        defaults: &Defaults,
    ) -> Vec<(Endpoint, PubSubError)> {
        let mut failed = Vec::new();
        let old = std::mem::replace(&mut self.publishers, publishers.to_vec());
        for endpoint in old.iter().filter(|old| !publishers.contains(old)) {
            if self.subscriber.unregister_listen_address(endpoint) {
                log::info!("publisher {endpoint} is followed no longer");
            }
        }
        for endpoint in publishers.iter().filter(|new| !old.contains(new)) {
            match self.subscriber.register_listen_address(endpoint) {
                Ok(true) => log::info!("publisher {endpoint} is followed"),
                // It was discovered before.
                Ok(false) => {}
                Err(error) => failed.push((endpoint.clone(), error)),
            }
        }
        for (endpoint, _) in &failed {
            self.publishers.retain(|followed| followed != endpoint);
        }
        if let Some(desk) = &mut self.desk {
            desk.set_configured(&self.publishers, defaults, self.subscriber.as_mut());
        }
        if let Some(followed) = &self.followed {
            followed.expect(self.publishers.len(), Instant::now());
        }
        failed
    }

    /// Starts one more handler, which is given all rows.
    ///
    /// # Errors
    /// The system has no thread or descriptor left; the handler's name is in the text, and there is none.
    pub fn add_handler(&mut self, options: LaneOptions) -> Result<(), PubSubError> {
        let name = options.name.clone();
        self.start_lane(options)?;
        let watched = self.look_out();
        if watched.is_err() {
            self.remove_handlers(&[&name]);
        }
        watched
    }

    pub(super) fn start_lane(&mut self, options: LaneOptions) -> Result<(), PubSubError> {
        let name = options.name.clone();
        let topics = self.topics.requests(&name);
        let lane =
            Lane::start_with(&self.hub, options, topics).map_err(|error| PubSubError::System {
                what: format!("cannot start handler {name}"),
                why: error.to_string(),
            })?;
        self.lanes.push(lane);
        Ok(())
    }

    /// Sees late calls of the handlers there are now.
    pub(super) fn look_out(&mut self) -> Result<(), PubSubError> {
        self.lookout = None;
        let lookout = Lookout::start(self.lanes.iter().map(Lane::handle));
        self.lookout = lookout.map_err(|error| PubSubError::System {
            what: "cannot watch over handlers".into(),
            why: error.to_string(),
        })?;
        Ok(())
    }

    /// Ends the handlers of these names, which work off what they have; as [`Agent::stop`] does, in
    /// the same time, but 5 s at most. Topics that only they wanted are followed no longer. Says how many did not
    /// end and were left behind.
    pub fn remove_handlers(&mut self, names: &[&str]) -> usize {
        let start = Instant::now();
        let time = self.stop_timeout.min(REMOVED_WITHIN);
        let (mut leaving, staying): (Vec<Lane>, Vec<Lane>) = std::mem::take(&mut self.lanes)
            .into_iter()
            .partition(|lane| names.contains(&lane.name()));
        self.lanes = staying;
        for lane in &leaving {
            lane.close_by(start + time);
            lane.leave();
        }
        let stuck = super::join(&mut leaving, start, time);
        let subscriber = self.subscriber.as_mut();
        self.topics.forget(names, subscriber, &self.hub);
        if let Err(error) = self.look_out() {
            log::error!("{error}");
        }
        stuck
    }

    /// Has the handler of this name, or every one, start over; `false` when there is none.
    pub fn resync(&self, name: Option<&str>) -> bool {
        match name {
            None => self.hub.resync(SyncReason::Requested),
            Some(name) => match self.lanes.iter().find(|lane| lane.name() == name) {
                Some(lane) => lane.handle().resync(SyncReason::Requested),
                None => return false,
            },
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, Sender, bounded};

    use super::*;
    use crate::agent::Parts;
    use crate::dispatch::SeatOptions;
    use crate::event::Event;
    use crate::handler::{Handler, HandlerError};
    use crate::pubsub::SubscriberOptions;
    use crate::pubsub::driver::memory::MemoryNetwork;

    /// Hangs in its first call until it is let go.
    struct Stuck {
        entered: Sender<()>,
        held: Receiver<()>,
    }

    impl Handler for Stuck {
        fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
            let _ = self.entered.send(());
            let _ = self.held.recv();
            Ok(())
        }

        fn apply(&mut self, _: &Event<'_>) -> Result<(), HandlerError> {
            Ok(())
        }

        fn end_sync(&mut self) -> Result<(), HandlerError> {
            Ok(())
        }
    }

    /// The service manager would end an agent that shows no sign of life for half a minute.
    #[test]
    fn a_stuck_handler_is_left_behind_soon_however_long_the_end_may_take() {
        let ((hold, held), (entering, entered)) = (bounded::<()>(0), bounded(1));
        let seat = SeatOptions {
            queue_length: 1,
            ..SeatOptions::default()
        };
        let build = move |_: &_| {
            let (entered, held) = (entering.clone(), held.clone());
            Ok(Box::new(Stuck { entered, held }) as Box<dyn Handler>)
        };
        let mut agent = Agent::start(Parts {
            driver: Box::new(MemoryNetwork::new()),
            subscriber: SubscriberOptions::default(),
            publishers: Vec::new(),
            discovery: None,
            topics: Vec::new(),
            recovery: None,
            handlers: vec![LaneOptions::new("stuck", seat, Box::new(build))],
            stop_timeout: Duration::from_secs(60),
        })
        .unwrap();
        entered.recv_timeout(Duration::from_secs(20)).unwrap();
        let start = Instant::now();
        assert_eq!(agent.remove_handlers(&["stuck"]), 1);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(25), "{took:?}");
        drop(hold);
        assert_eq!(agent.stop(), 0);
    }
}
