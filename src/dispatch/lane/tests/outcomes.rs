//! Failures of every kind, with the real thread.

use super::*;
use crate::dispatch::{Actions, Delivery, Filter, Lookout};
use std::collections::HashMap;

/// What the handler answers to a row, by key; nothing: it takes it.
type Plan = Arc<Mutex<HashMap<String, Answer>>>;

#[derive(Debug, Clone)]
enum Answer {
    Fail(HandlerError),
    Panic,
    /// Waits for its stop token.
    Hang,
}

/// Keeps rows; brackets replace them when they end.
struct Planned {
    plan: Plan,
    record: Arc<Record>,
    bracket: Option<Rows>,
    stop: StopToken,
    tries_at: Option<Instant>,
}

impl Planned {
    fn answer(&self, key: &str) -> Result<(), HandlerError> {
        let answer = self.plan.lock().unwrap().get(key).cloned();
        match answer {
            None => Ok(()),
            Some(Answer::Fail(error)) => Err(error),
            Some(Answer::Panic) => panic!("as planned"),
            Some(Answer::Hang) => {
                assert!(self.stop.receiver().recv().is_err());
                Err(HandlerError::Retry("told to end".into()))
            }
        }
    }
}

impl Handler for Planned {
    fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
        self.record.begun.fetch_add(1, Ordering::SeqCst);
        self.bracket = Some(Rows::new());
        self.answer("(begin)")
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        self.answer(event.key)?;
        let mut shown = self.record.rows.lock().unwrap();
        let rows = self.bracket.as_mut().unwrap_or(&mut shown);
        match event.action {
            Action::Delete => rows.remove(event.key),
            _ => rows.insert(event.key.into(), event.value.unwrap_or("").into()),
        };
        Ok(())
    }

    fn idle(&mut self, now: Instant) -> Result<Option<Instant>, HandlerError> {
        match self.tries_at {
            Some(at) if now < at => Ok(Some(at)),
            _ => {
                let done = self.answer("(idle)");
                // Reported once, as the module `file` does: until the next attempt there is nothing to say.
                self.tries_at = done.is_err().then(|| now + Duration::from_secs(1));
                done.map(|()| None)
            }
        }
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        self.answer("(end)")?;
        *self.record.rows.lock().unwrap() = self.bracket.take().expect("a bracket is open");
        self.record.ended.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

struct Rig {
    hub: Arc<Hub>,
    plan: Plan,
    record: Arc<Record>,
    lane: Lane,
}

fn rig(seat: SeatOptions, time_limit: Option<Duration>) -> Rig {
    let (hub, plan, record) = (Hub::new(), Plan::default(), Arc::<Record>::default());
    let build: Build = {
        let (plan, record) = (Arc::clone(&plan), Arc::clone(&record));
        Box::new(move |stop| {
            Ok(Box::new(Planned {
                plan: Arc::clone(&plan),
                record: Arc::clone(&record),
                bracket: None,
                stop: stop.clone(),
                tries_at: None,
            }))
        })
    };
    let limits = Limits {
        retry_min: Duration::from_millis(10),
        retry_max: Duration::from_millis(50),
        waiting: 100,
        ..Limits::default()
    };
    let options = LaneOptions {
        time_limit,
        limits,
        ..LaneOptions::new("test", seat, build)
    };
    let lane = Lane::start(&hub, options).unwrap();
    let rig = Rig {
        hub,
        plan,
        record,
        lane,
    };
    within("the first bracket", || {
        rig.record.ended.load(Ordering::SeqCst) == 1
    });
    rig
}

/// Has each bracket; one row fails late as the second one is opened.
struct Lingering {
    brackets: Arc<Mutex<Vec<Vec<String>>>>,
    late: Vec<HandlerError>,
}

impl Handler for Lingering {
    fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
        let mut brackets = self.brackets.lock().unwrap();
        brackets.push(Vec::new());
        if brackets.len() == 2 {
            self.late.push(HandlerError::Retry("of before".into()));
        }
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        let mut brackets = self.brackets.lock().unwrap();
        brackets.last_mut().unwrap().push(event.key.into());
        Ok(())
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        self.brackets.lock().unwrap().push(Vec::new());
        Ok(())
    }

    fn late_failures(&mut self, tell: &mut dyn FnMut(&Event<'_>, HandlerError)) {
        for error in self.late.drain(..) {
            tell(&Event::set("t", "b", "1"), error);
        }
    }
}

/// The bracket has the row anew: without it, it would say that the row is gone.
#[test]
fn what_fails_from_before_a_bracket_is_given_in_it() {
    for seat in both() {
        let (hub, brackets) = (Hub::new(), Arc::<Mutex<Vec<Vec<String>>>>::default());
        let rows = ["a", "b", "c"].map(|key| Event::set("t", key, "1"));
        hub.publish(rows.into_iter().collect());
        let build: Build = {
            let brackets = Arc::clone(&brackets);
            Box::new(move |_| {
                Ok(Box::new(Lingering {
                    brackets: Arc::clone(&brackets),
                    late: Vec::new(),
                }))
            })
        };
        let lane = Lane::start(&hub, LaneOptions::new("test", seat, build)).unwrap();
        let opened = |count| brackets.lock().unwrap().len() >= count;
        within("the first bracket", || opened(2));
        // One may be between the brackets.
        brackets.lock().unwrap().truncate(1);
        hub.resync(SyncReason::Requested);
        within("the second bracket", || opened(3));
        assert_eq!(brackets.lock().unwrap()[1], ["a", "b", "c"]);
        assert_eq!(lane.handle().status().retries_waiting, 0);
        assert_eq!(lane.metrics.resyncs_total.get(), 2);
    }
}

fn both() -> [SeatOptions; 2] {
    [Delivery::State, Delivery::Events].map(|delivery| SeatOptions { delivery, ..wide() })
}

impl Rig {
    fn plan(&self, key: &str, answer: Option<Answer>) {
        let mut plan = self.plan.lock().unwrap();
        match answer {
            Some(answer) => drop(plan.insert(key.into(), answer)),
            None => drop(plan.remove(key)),
        }
    }

    fn shows(&self, key: &str, value: Option<&str>) {
        within(&format!("{key} is {value:?}"), || {
            self.record.rows().get(key).map(String::as_str) == value
        });
    }

    fn set(&self, key: &str, value: &str) {
        self.hub
            .publish([Event::set("t", key, value)].into_iter().collect());
    }

    fn error(&self) -> String {
        let error = self.lane.handle().status().last_error;
        error.map(|error| error.text).unwrap_or_default()
    }

    fn is_like_the_replica(&self) {
        within("the replica's rows", || {
            self.record.rows() == replica(&self.hub)
        });
    }
}

fn retry() -> Option<Answer> {
    Some(Answer::Fail(HandlerError::Retry("not now".into())))
}

fn never() -> Option<Answer> {
    Some(Answer::Fail(HandlerError::Permanent("no such port".into())))
}

#[test]
fn a_row_that_fails_is_tried_again_while_others_go_on() {
    for seat in both() {
        let rig = rig(seat, None);
        rig.plan("a", retry());
        rig.set("a", "1");
        rig.set("b", "1");
        rig.shows("b", Some("1"));
        within("it is tried again", || {
            rig.lane.metrics.retries_total.get() >= 3
        });
        rig.set("a", "2");
        rig.set("b", "2");
        rig.shows("b", Some("2"));
        assert_eq!(rig.lane.handle().status().retries_waiting, 1);
        assert_eq!(rig.error(), "set of t a failed: not now; may work later");
        rig.plan("a", None);
        rig.shows("a", Some("2"));
        within("nothing waits", || {
            rig.lane.metrics.retries_waiting.get() == 0
        });
        rig.is_like_the_replica();
        assert_eq!(rig.record.begun.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn a_row_that_will_never_work_is_held_back_until_it_is_released() {
    for seat in both() {
        let rig = rig(seat, None);
        for key in ["a", "b", "c"] {
            rig.plan(key, never());
            rig.set(key, "bad");
        }
        let handle = rig.lane.handle();
        within("quarantine", || handle.status().quarantined == 3);
        let listed = handle.quarantine();
        assert_eq!(
            (&*listed[0].0.key, &*listed[0].1.reason),
            ("a", "no such port")
        );
        for key in ["a", "b", "c"] {
            rig.plan(key, None);
        }
        // By a newer state, by name, and with all others.
        rig.set("a", "good");
        rig.shows("a", Some("good"));
        assert!(!rig.record.rows().contains_key("b"));
        assert!(handle.release("t", "b") && !handle.release("t", "nothing"));
        rig.shows("b", Some("bad"));
        assert_eq!(handle.release_all(), 1);
        rig.is_like_the_replica();
        within("the gauge", || rig.lane.metrics.quarantined.get() == 0);
    }
}

#[test]
fn a_row_that_brings_the_handler_down_keeps_others_waiting_only_so_often() {
    let rig = rig(wide(), None);
    rig.plan("a", Some(Answer::Panic));
    rig.set("a", "bad");
    rig.set("b", "1");
    rig.shows("b", Some("1"));
    assert_eq!(rig.lane.metrics.panics_total.get(), 3);
    let handle = rig.lane.handle();
    assert_eq!(handle.quarantine()[0].1.reason, "panicked: as planned");
    assert!(handle.quarantine()[0].1.lasting);
    assert_eq!(handle.status().starts, 4);
    rig.plan("a", None);
    rig.set("a", "good");
    rig.is_like_the_replica();
}

#[test]
fn a_handler_that_is_lost_is_made_again() {
    let rig = rig(wide(), None);
    rig.set("b", "1");
    let lost = HandlerError::Lost("its child died".into());
    rig.plan("a", Some(Answer::Fail(lost)));
    rig.set("a", "1");
    within("it is lost", || rig.lane.metrics.losses_total.get() == 1);
    rig.plan("a", None);
    rig.shows("a", Some("1"));
    rig.is_like_the_replica();
    assert_eq!(rig.lane.handle().status().state, LaneState::Running);
}

#[test]
fn a_bracket_that_fails_to_open_comes_again() {
    let rig = rig(wide(), None);
    rig.plan("(begin)", retry());
    rig.hub.resync(SyncReason::Requested);
    within("another bracket", || {
        rig.record.begun.load(Ordering::SeqCst) >= 3
    });
    rig.plan("(begin)", None);
    rig.set("a", "1");
    rig.is_like_the_replica();
}

/// As the module `file`, and `exec` with batches, fail where the disk is full.
#[test]
fn a_handler_whose_own_work_fails_is_shown_until_it_works() {
    let rig = rig(wide(), None);
    let failing = || rig.lane.metrics.failing.get() == 1;
    assert!(!failing());
    rig.plan("(idle)", retry());
    rig.set("a", "1");
    within("it fails", failing);
    assert_eq!(rig.error(), "not now; may work later");
    assert!(rig.lane.handle().status().failing);
    // It is called meanwhile, and says no more than when it will try again.
    let failed = || rig.lane.metrics.calls_failed_total.get();
    within("it fails again", || {
        assert!(failing());
        failed() >= 2
    });
    rig.plan("(idle)", None);
    within("it works", || !failing());
    assert_eq!(rig.lane.metrics.events_failed_total.get(), 0);
}

#[test]
fn a_handler_whose_bracket_or_row_fails_is_shown_until_it_works() {
    for what in ["(begin)", "(end)", "a"] {
        let rig = rig(wide(), None);
        let failing = || rig.lane.metrics.failing.get() == 1;
        rig.plan(what, retry());
        if what == "a" {
            rig.set("a", "1");
        } else {
            rig.hub.resync(SyncReason::Requested);
        }
        within("it fails", failing);
        let metrics = &rig.lane.metrics;
        assert_eq!(metrics.calls_failed_total.get() == 0, what == "a", "{what}");
        rig.plan(what, None);
        within("it works", || !failing());
        rig.is_like_the_replica();
    }
}

#[test]
fn when_too_many_rows_fail_the_handler_starts_over() {
    for seat in both() {
        let rig = rig(seat, None);
        for key in 0..150 {
            rig.plan(&key.to_string(), retry());
            rig.set(&key.to_string(), "1");
        }
        within("too many", || {
            rig.lane.metrics.too_many_failures_total.get() >= 1
        });
        rig.plan.lock().unwrap().clear();
        rig.is_like_the_replica();
        assert!(rig.record.begun.load(Ordering::SeqCst) >= 2);
    }
}

#[test]
fn a_call_that_runs_too_long_is_told_to_end() {
    let rig = rig(wide(), Some(Duration::from_millis(100)));
    let _lookout = Lookout::start([rig.lane.handle()]).unwrap().unwrap();
    rig.plan("a", Some(Answer::Hang));
    rig.set("a", "1");
    rig.set("b", "1");
    within("it is late", || {
        rig.lane.metrics.late_calls_total.get() == 1
    });
    rig.plan("a", None);
    // Its token was used up: it is another one that is given the rest.
    rig.is_like_the_replica();
    assert!(rig.lane.handle().status().starts >= 2);
    assert!(rig.error().contains("brought it down"), "{}", rig.error());
    assert_eq!(rig.lane.metrics.late.get(), 0);
}

#[test]
fn a_call_that_cannot_be_ended_is_shown_as_stuck() {
    let (hub, record) = (Hub::new(), Arc::<Record>::default());
    let (open, gate) = crossbeam_channel::bounded::<()>(0);
    let seat = wide();
    let build: Build = Box::new({
        let record = Arc::clone(&record);
        move |_| {
            let gate = gate.clone();
            Ok(Box::new(Recorder {
                record: Arc::clone(&record),
                bracket: None,
                act: Box::new(move |_| assert!(gate.recv().is_err(), "nothing is sent")),
            }))
        }
    });
    let options = LaneOptions {
        time_limit: Some(Duration::from_millis(50)),
        ..LaneOptions::new("test", seat, build)
    };
    let lane = Lane::start(&hub, options).unwrap();
    let _lookout = Lookout::start([lane.handle()]).unwrap();
    publish(&hub, 1, 1);
    let before = Instant::now();
    within(
        "it is stuck",
        || matches!(lane.handle().status().state, LaneState::Stuck(since) if since <= Instant::now()),
    );
    assert_eq!(lane.metrics.late.get(), 1);
    assert!(before.elapsed() >= Duration::from_millis(30));
    // It comes back after all.
    drop(open);
    within("the replica", || record.rows() == replica(&hub));
    within("it runs", || {
        lane.handle().status().state == LaneState::Running && lane.metrics.late.get() == 0
    });
    assert_eq!(lane.metrics.late_calls_total.get(), 1);
}

#[test]
fn the_status_says_why_a_handler_does_not_start() {
    let (hub, record) = (Hub::new(), Arc::<Record>::default());
    let lane = start(&hub, wide(), &record, || {
        Err(BuildError::Environment("no such file: /x".into()))
    });
    within("it says why", || {
        let status = lane.handle().status();
        matches!(status.state, LaneState::Waiting(_))
            && status
                .last_error
                .is_some_and(|error| error.text == "cannot start: no such file: /x")
    });
    hub.close();
    within("it ends", || {
        lane.handle().status().state == LaneState::Ended
    });
}

#[test]
fn rows_that_leave_the_topics_and_rows_of_dropped_topics_are_gone() {
    for seat in both() {
        let filter = Filter {
            topics: vec!["red".into(), "pink".into()],
            actions: Actions::All,
            tables: vec![],
        };
        let rig = rig(SeatOptions { filter, ..seat }, None);
        let publish = |events: &[Event<'_>]| rig.hub.publish(events.iter().copied().collect());
        publish(&[
            Event::set("t", "a", "1").on("red"),
            Event::set("t", "b", "1").on("red"),
            Event::set("t", "c", "1").on("blue"),
            Event::set("t", "d", "1").on("pink"),
            // Older state again: left out of the batch, which must not confuse the numbers.
            Event::set("t", "e", "1").on("pink"),
        ]);
        rig.shows("d", Some("1"));
        assert!(!rig.record.rows().contains_key("c"));
        publish(&[
            Event::set("t", "x", "1").on("blue"),
            Event::set("t", "a", "2").on("blue"),
            Event::set("t", "c", "2").on("red"),
        ]);
        rig.shows("a", None);
        rig.shows("c", Some("2"));
        // Away from the topics and back while the handler is told nothing.
        rig.hub.resync(SyncReason::Requested);
        publish(&[Event::set("t", "b", "2").on("blue")]);
        rig.shows("b", None);
        assert_eq!(rig.hub.drop_topics(&["pink".into()]), 2);
        rig.shows("d", None);
        rig.shows("e", None);
        // What was on its way is dropped until the topic is wanted again.
        publish(&[Event::set("t", "d", "3").on("pink")]);
        assert_eq!(rig.hub.metrics.events_unwanted_total.get(), 1);
        rig.hub.want_topic("pink");
        publish(&[Event::set("t", "d", "4").on("pink")]);
        rig.shows("d", Some("4"));
        assert_eq!(rig.record.rows().len(), 2, "{:?}", rig.record.rows());
    }
}
