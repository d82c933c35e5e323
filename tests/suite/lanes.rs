//! Handlers that sleep or fail do not hold up the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use fanfare::agent::Agent;
use fanfare::dispatch::hub::SeatOptions;
use fanfare::dispatch::lane::LaneState;
use fanfare::dispatch::{Delivery, LaneOptions};
use fanfare::event::Event;
use fanfare::handler::{BuildError, Handler, HandlerError, SyncReason};
use fanfare::pubsub::PublisherApi;
use fanfare::pubsub::driver::memory::MemoryNetwork;

use crate::rig::agent::{endpoint, options, publisher, start};
use crate::rig::tape::{Tape, Told};
use crate::rig::wait_for;

const URI: &str = "memory://api1";
const KEYS: u32 = 5_000;
const QUEUE_BYTES: usize = 1 << 20;

/// Writes down what it is given; the first row it sleeps on is that of key `sleep`, until the
/// other end of `gate` is dropped. Rows that `fails` says so of may work later.
struct Scripted {
    tape: Tape,
    gate: Option<Receiver<()>>,
    fails: Arc<AtomicBool>,
}

impl Handler for Scripted {
    fn begin_sync(&mut self, reason: SyncReason) -> Result<(), HandlerError> {
        self.tape.push(Told::Begin(reason));
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        if event.key == "sleep"
            && let Some(gate) = &self.gate
        {
            assert!(gate.recv().is_err(), "nothing is sent");
        }
        if event.key.ends_with('7') && self.fails.load(Ordering::SeqCst) {
            return Err(HandlerError::Retry("not now".into()));
        }
        self.tape.note(event);
        Ok(())
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        self.tape.push(Told::End);
        Ok(())
    }
}

fn scripted(
    name: &str,
    tape: &Tape,
    gate: Option<Receiver<()>>,
    fails: &Arc<AtomicBool>,
) -> LaneOptions {
    let (tape, fails) = (tape.clone(), Arc::clone(fails));
    let seat = SeatOptions {
        delivery: Delivery::State,
        queue_length: 64,
        queue_bytes: QUEUE_BYTES,
        ..SeatOptions::default()
    };
    let build = Box::new(move |_: &_| {
        Ok(Box::new(Scripted {
            tape: tape.clone(),
            gate: gate.clone(),
            fails: Arc::clone(&fails),
        }) as _)
    });
    LaneOptions::new(name, seat, build)
}

fn equals_replica(tape: &Tape, agent: &Agent) -> bool {
    let state = tape.state();
    agent.hub().with_replica(|replica| {
        let same = |((table, key), value): (&(String, String), &String)| {
            replica.get(table, key).and_then(|row| row.value.as_ref()) == Some(value)
        };
        replica.len() == state.len() && state.iter().all(same)
    })
}

/// Sends for `time`, about 5,000 events a second over [`KEYS`] rows, some of which go away; looks
/// on in between. Says how many were sent.
fn load(publisher: &mut dyn PublisherApi, time: Duration, mut look: impl FnMut(u64)) -> u64 {
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < time {
        for _ in 0..25 {
            let key = format!("k{}", sent as u32 % KEYS);
            let value = format!("{sent:0>200}");
            let event = match sent % 11 {
                3 if sent > u64::from(KEYS) => Event::delete("t", &key),
                _ => Event::set("t", &key, &value),
            };
            publisher.send_event(&event.on("t1"), None).unwrap();
            sent += 1;
        }
        look(sent);
        let due = start + Duration::from_millis(sent / 5);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    sent
}

#[test]
fn one_that_sleeps_for_seconds_and_one_that_fails_hold_nobody_up() {
    let network = MemoryNetwork::new();
    let mut publisher = publisher(&network, URI);
    publisher.initialize().unwrap();
    let (slow, bad, fast) = (Tape::default(), Tape::default(), Tape::default());
    let (never, fails) = (Arc::default(), Arc::new(AtomicBool::new(true)));
    let (open, gate) = bounded::<()>(0);
    let agent = start(
        Box::new(network.clone()),
        options(),
        &[URI],
        &["t1"],
        vec![
            scripted("sleeper", &slow, Some(gate), &never),
            scripted("failing", &bad, None, &fails),
            fast.handler(),
            LaneOptions::new(
                "broken",
                SeatOptions::default(),
                Box::new(|_| Err(BuildError::Environment("no such program".into()))),
            ),
        ],
    );
    wait_for("the agent subscribes", || {
        network.subscriptions(&endpoint(URI)) == 5
    });
    for tape in [&slow, &bad, &fast] {
        tape.synced(1);
    }
    let event = Event::set("t", "sleep", "v").on("t1");
    publisher.send_event(&event, None).unwrap();
    fast.has("sleep");
    let handles = agent.handles();
    let [sleeper, failing, other, broken] = &handles[..] else {
        panic!("four handlers")
    };
    let mut most = 0;
    let sent = load(publisher.as_mut(), Duration::from_secs(4), |_| {
        let (status, other) = (sleeper.status(), other.status());
        most = most.max(status.rows_waiting);
        // What is kept for the sleeper: its queue, and names of rows.
        assert!(status.queued_bytes <= QUEUE_BYTES, "{status:?}");
        assert!(status.rows_waiting <= u64::from(KEYS), "{status:?}");
        assert!(!other.behind, "{other:?}");
    });
    let duplicates = &agent.hub().metrics.events_duplicate_total;
    wait_for("the other one has it all", || {
        fast.count() as u64 + duplicates.get() == sent + 1
    });
    assert_eq!(slow.count(), 0, "it sleeps");
    assert!(most > u64::from(KEYS) / 2, "{most} rows were remembered");
    let lane = |number: usize| &agent.lanes()[number].metrics;
    assert!(lane(0).overflows_total.get() > 0);
    assert_eq!(lane(2).overflows_total.get(), 0);
    assert_eq!(lane(2).events_failed_total.get(), 0);
    assert_eq!(fast.begins(), [SyncReason::Started]);

    // A tenth of the rows fail for one; the others are as they must be.
    let status = failing.status();
    assert!(status.retries_waiting >= 400, "{status:?}");
    assert!(status.retries_waiting <= 500, "{status:?}");
    assert!(
        status
            .last_error
            .is_some_and(|e| e.text.contains("not now"))
    );
    let status = broken.status();
    assert!(matches!(
        status.state,
        LaneState::Waiting(_) | LaneState::Starting
    ));
    assert!(
        status
            .last_error
            .is_some_and(|e| e.text == "cannot start: no such program")
    );

    fails.store(false, Ordering::SeqCst);
    drop(open);
    wait_for("the sleeper has caught up", || {
        equals_replica(&slow, &agent)
    });
    wait_for("what failed is tried again", || {
        equals_replica(&bad, &agent)
    });
    assert!(equals_replica(&fast, &agent));
    assert!(lane(1).retries_total.get() >= 400);
    // The newest state of each row, not each step.
    assert!(slow.count() < fast.count() / 2);
    assert_eq!(slow.begins(), [SyncReason::Started]);
    assert_eq!(bad.begins(), [SyncReason::Started]);
    assert_eq!(agent.stop(), 0);
}
