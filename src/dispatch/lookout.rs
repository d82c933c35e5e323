//! Sees calls of handlers that run too long: such a call cannot say so itself.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::lane::LaneHandle;
use crate::util::thread::{Ending, Handle, Thread};

/// Bounds of the time between two looks, a quarter of the shortest limit. A call is seen to be
/// late after its limit and at most two such times.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Watches over lanes until it is dropped.
#[derive(Debug)]
pub struct Lookout {
    thread: Handle,
}

impl Lookout {
    /// Watches those of `lanes` that have a time limit; `None` when none has.
    pub fn start<'a>(lanes: impl IntoIterator<Item = &'a LaneHandle>) -> io::Result<Option<Self>> {
        let timed = lanes.into_iter().filter_map(|lane| {
            let limit = lane.shared().time_limit?;
            Some((lane.clone(), limit))
        });
        let timed: Vec<(LaneHandle, Duration)> = timed.collect();
        let Some(shortest) = timed.iter().map(|(_, limit)| *limit).min() else {
            return Ok(None);
        };
        let look = (shortest / 4).clamp(LOOK_MIN, LOOK_MAX);
        let (stop, stopped): (Sender<()>, Receiver<()>) = bounded(0);
        let thread = Thread::spawn("lookout", move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(look) {
                for (lane, limit) in &timed {
                    let call = lane.shared().call.load(Ordering::Relaxed);
                    let now = Instant::now();
                    if let Some(since) = lane.shared().stopwatch().look(call, now, *limit) {
                        log::error!(
                            "handler {}: a call runs longer than {limit:?}: it is told to end",
                            lane.name()
                        );
                        lane.shared()
                            .error(&format!("a call ran longer than {limit:?}"), since);
                        lane.shared().late(call, since);
                    }
                }
            }
        })?;
        let ending = Ending {
            // It waits for nothing else.
            tell: Box::new(move || drop(stop)),
            within: LOOK_MAX,
            late: "the lookout over handlers does not end; left behind",
        };
        Ok(Some(Lookout {
            thread: Handle::new(thread, ending),
        }))
    }

    /// Whether its thread runs; one that has ended does not begin again.
    pub fn is_running(&self) -> bool {
        self.thread.is_running()
    }
}

/// Tells how long a call runs from its number alone, so that a call needs no clock. It belongs to its
/// lane: a lookout is followed by another one when a handler comes or goes, and for the others that must
/// change nothing.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    /// The call seen last, since when, and whether it was told of.
    seen: Option<(u64, Instant, bool)>,
}

impl Stopwatch {
    /// Since when `call` (0 for none) is seen to run, told once when that is longer than `limit`.
    fn look(&mut self, call: u64, now: Instant, limit: Duration) -> Option<Instant> {
        match &mut self.seen {
            Some((seen, since, told)) if *seen == call && call != 0 => {
                let late = !*told && now.saturating_duration_since(*since) >= limit;
                *told |= late;
                late.then_some(*since)
            }
            seen => {
                *seen = Some((call, now, false));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::{Hub, Lane, LaneOptions, SeatOptions};
    use crate::event::Event;
    use crate::handler::{Handler, HandlerError, SyncReason};

    /// Hangs in its first call until it is let go.
    struct Stuck(Receiver<()>);

    impl Handler for Stuck {
        fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
            let _ = self.0.recv();
            Ok(())
        }

        fn apply(&mut self, _: &Event<'_>) -> Result<(), HandlerError> {
            Ok(())
        }

        fn end_sync(&mut self) -> Result<(), HandlerError> {
            Ok(())
        }
    }

    /// Each change of handlers has another lookout.
    #[test]
    fn a_late_call_is_told_of_once_by_whatever_lookout() {
        let (hub, (hold, held)) = (Hub::new(), bounded::<()>(0));
        let build = move |_: &_| Ok(Box::new(Stuck(held.clone())) as Box<dyn Handler>);
        let seat = SeatOptions {
            queue_length: 1,
            ..SeatOptions::default()
        };
        let mut options = LaneOptions::new("stuck", seat, Box::new(build));
        // Longer than any one lookout lasts.
        options.time_limit = Some(Duration::from_millis(400));
        let lane = Lane::start(&hub, options).unwrap();
        let look_for = |time: Duration| {
            let lookout = Lookout::start([lane.handle()]).unwrap();
            std::thread::sleep(time);
            drop(lookout);
        };
        let until = Instant::now() + Duration::from_secs(20);
        while lane.metrics.late_calls_total.get() == 0 {
            assert!(Instant::now() < until, "its time begins anew each time");
            look_for(Duration::from_millis(150));
        }
        look_for(Duration::from_millis(800));
        assert_eq!(lane.metrics.late_calls_total.get(), 1);
        drop(hold);
    }

    #[test]
    fn a_call_is_told_of_once() {
        let (start, limit) = (Instant::now(), Duration::from_secs(2));
        let at = |secs| start + Duration::from_secs(secs);
        let mut stopwatch = Stopwatch::default();
        assert_eq!(stopwatch.look(1, at(0), limit), None);
        assert_eq!(stopwatch.look(2, at(5), limit), None, "another call");
        assert_eq!(stopwatch.look(2, at(6), limit), None);
        assert_eq!(stopwatch.look(2, at(7), limit), Some(at(5)));
        assert_eq!(stopwatch.look(2, at(70), limit), None);
        assert_eq!(stopwatch.look(0, at(71), limit), None);
        assert_eq!(stopwatch.look(0, at(99), limit), None, "nothing runs");
    }
}
