use super::*;
use crate::event::{Action, Event};
use crate::handler::{Closing, HandlerError, SyncReason};
use crate::util::testing::{at_most, within};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

type Rows = BTreeMap<String, String>;

/// What a [`Recorder`] did, for the test to see.
#[derive(Default)]
struct Record {
    rows: Mutex<Rows>,
    begun: AtomicUsize,
    ended: AtomicUsize,
    closed: AtomicUsize,
}

impl Record {
    fn rows(&self) -> Rows {
        self.rows.lock().unwrap().clone()
    }
}

/// Keeps rows as a handler does; `act` may sleep or panic.
struct Recorder {
    record: Arc<Record>,
    bracket: Option<Rows>,
    act: Box<dyn FnMut(&Event<'_>) + Send>,
}

impl Handler for Recorder {
    fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
        // One is left only for want of room to remember what changes meanwhile, and no test fills that.
        assert!(self.bracket.is_none(), "one is open");
        self.record.begun.fetch_add(1, Ordering::SeqCst);
        self.bracket = Some(Rows::new());
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        (self.act)(event);
        let mut shown = self.record.rows.lock().unwrap();
        let rows = self.bracket.as_mut().unwrap_or(&mut shown);
        match event.action {
            Action::Delete => rows.remove(event.key),
            _ => rows.insert(event.key.into(), event.value.unwrap_or("").into()),
        };
        Ok(())
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        *self.record.rows.lock().unwrap() = self.bracket.take().expect("a bracket is open");
        self.record.ended.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn close(&mut self, _: Closing) -> Result<(), HandlerError> {
        self.record.closed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn start(
    hub: &Arc<Hub>,
    seat: SeatOptions,
    record: &Arc<Record>,
    make: impl Fn() -> Result<Box<dyn FnMut(&Event<'_>) + Send>, BuildError> + Send + 'static,
) -> Lane {
    let record = Arc::clone(record);
    let build: Build = Box::new(move |_| {
        let record = Arc::clone(&record);
        Ok(Box::new(Recorder {
            record,
            bracket: None,
            act: make()?,
        }))
    });
    Lane::start(hub, LaneOptions::new("test", seat, build)).unwrap()
}

fn wide() -> SeatOptions {
    SeatOptions {
        queue_length: 64,
        queue_bytes: 1 << 20,
        ..SeatOptions::default()
    }
}

fn publish(hub: &Hub, key: u64, value: u64) {
    hub.publish(
        [Event::set("t", &key.to_string(), &value.to_string())]
            .into_iter()
            .collect(),
    );
}

fn replica(hub: &Hub) -> Rows {
    hub.with_replica(|replica| {
        let names = replica.keys(|_, _| true);
        let value = |name| replica.event(name).value.unwrap_or("").to_owned();
        names
            .iter()
            .map(|name| (name.key.to_string(), value(name)))
            .collect()
    })
}

#[test]
fn a_handler_that_first_cannot_be_made_is_given_everything_later() {
    let (hub, record) = (Hub::new(), Arc::<Record>::default());
    let tries = AtomicUsize::new(0);
    let lane = start(&hub, wide(), &record, move || {
        match tries.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Err(BuildError::Environment("not yet".into())),
            _ => Ok(Box::new(|_| {})),
        }
    });
    for key in 0..2000 {
        publish(&hub, key, key);
    }
    within("all rows", || record.rows().len() == 2000);
    assert_eq!(lane.metrics.starts_failed_total.get(), 2);
    publish(&hub, 1, 99);
    within("later events", || {
        record.rows().get("1").is_some_and(|value| value == "99")
    });
}

#[test]
fn a_panic_in_a_bracket_is_followed_by_another_bracket() {
    let (hub, record) = (Hub::new(), Arc::<Record>::default());
    for key in 0..600 {
        publish(&hub, key, key);
    }
    let lives = AtomicUsize::new(0);
    let lane = start(&hub, wide(), &record, move || {
        let first = lives.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(Box::new(move |_| assert!(!first, "as told")))
    });
    within("all rows", || record.rows().len() == 600);
    assert_eq!(lane.metrics.panics_total.get(), 1);
    // Nothing of the queue is taken to be waiting any more.
    publish(&hub, 7, 700);
    within("later events", || {
        record.rows().get("7").is_some_and(|value| value == "700")
    });
    assert_eq!(lane.metrics.overflows_total.get(), 0);
}

/// Rows must not go back in time, whatever the queue does while a bracket is given.
#[test]
fn both_deliveries_end_with_the_replica_under_load() {
    for delivery in [
        crate::dispatch::Delivery::State,
        crate::dispatch::Delivery::Events,
    ] {
        let (hub, record) = (Hub::new(), Arc::<Record>::default());
        let seat = SeatOptions {
            delivery,
            queue_length: 2,
            queue_bytes: 4096,
            ..wide()
        };
        let slow =
            || Ok(Box::new(|_: &Event<'_>| std::thread::sleep(Duration::from_micros(50))) as _);
        let lane = start(&hub, seat, &record, slow);
        for round in 0..2000 {
            if round % 500 == 0 {
                // Up to date, so that the queue is in use again.
                within("the replica", || {
                    lane.metrics.behind.get() == 0 && record.rows() == replica(&hub)
                });
            }
            publish(&hub, round % 37, round);
            if round % 500 == 250 {
                hub.resync(SyncReason::Reconnected);
            }
        }
        within("every bracket is closed, with the replica's rows", || {
            lane.metrics.behind.get() == 0
                && record.begun.load(Ordering::SeqCst) == record.ended.load(Ordering::SeqCst)
                && record.rows() == replica(&hub)
        });
        assert!(
            lane.metrics.overflows_total.get() > 0,
            "the queue was never full"
        );
        assert!(record.begun.load(Ordering::SeqCst) > 1);
    }
}

#[test]
fn a_busy_handler_is_closed_before_time_is_up() {
    let (hub, record) = (Hub::new(), Arc::<Record>::default());
    let slow = || Ok(Box::new(|_: &Event<'_>| std::thread::sleep(Duration::from_millis(10))) as _);
    let mut lane = start(&hub, wide(), &record, slow);
    within("the first bracket", || {
        record.ended.load(Ordering::SeqCst) == 1
    });
    hub.publish((0..500).map(|_| Event::set("t", "k", "v")).collect());
    let deadline = Instant::now() + at_most(Duration::from_millis(400));
    lane.close_by(deadline);
    hub.close();
    assert!(lane.join_by(deadline), "it was not done in time");
    assert_eq!(record.closed.load(Ordering::SeqCst), 1);
    assert!(
        lane.metrics.events_applied_total.get() < 500,
        "it was never busy"
    );
}

/// Says in which order it is called.
struct Calls(Arc<Mutex<Vec<&'static str>>>, bool);

impl Handler for Calls {
    fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
        self.0.lock().unwrap().push("begin");
        Ok(())
    }
    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        self.0.lock().unwrap().push("apply");
        assert!(!self.1 || event.key != "fatal", "as told");
        Ok(())
    }
    fn end_sync(&mut self) -> Result<(), HandlerError> {
        self.0.lock().unwrap().push("end");
        Ok(())
    }
}

/// What comes while it is made again must not reach it before its bracket.
#[test]
fn the_first_call_of_each_life_opens_a_bracket() {
    let (hub, lives) = (Hub::new(), AtomicUsize::new(0));
    let calls: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let build: Build = Box::new({
        let (hub, calls) = (Arc::clone(&hub), Arc::clone(&calls));
        move |_| {
            let first = lives.fetch_add(1, Ordering::SeqCst) == 0;
            publish(&hub, 1, 1);
            calls.lock().unwrap().push("made");
            Ok(Box::new(Calls(Arc::clone(&calls), first)))
        }
    });
    let lane = Lane::start(&hub, LaneOptions::new("test", wide(), build)).unwrap();
    within("the first bracket", || {
        calls.lock().unwrap().last() == Some(&"end")
    });
    hub.publish([Event::set("t", "fatal", "1")].into_iter().collect());
    within("the second bracket", || {
        lane.metrics.panics_total.get() == 1 && calls.lock().unwrap().last() == Some(&"end")
    });
    assert_eq!(
        *calls.lock().unwrap(),
        [
            "made", "begin", "apply", "end", "apply", "made", "begin", "apply", "apply", "end"
        ]
    );
}

mod behind;
mod outcomes;
