//! A slow handler hurts nobody else, and catches up.

use crossbeam_channel::{Receiver, bounded};
use fanfare::agent::Agent;
use fanfare::dispatch::hub::SeatOptions;
use fanfare::dispatch::{Delivery, LaneOptions};
use fanfare::event::Event;
use fanfare::handler::{Handler, HandlerError, SyncReason};
use fanfare::pubsub::PublisherApi;
use fanfare::pubsub::driver::memory::MemoryNetwork;

use crate::rig::agent::{endpoint, options, publisher, start};
use crate::rig::tape::{Tape, Told};
use crate::rig::wait_for;

const URI: &str = "memory://api1";

/// Sleeps in its first event until the other end of `gate` is dropped.
struct Sleeper {
    tape: Tape,
    gate: Receiver<()>,
}

impl Handler for Sleeper {
    fn begin_sync(&mut self, reason: SyncReason) -> Result<(), HandlerError> {
        self.tape.push(Told::Begin(reason));
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        self.tape.note(event);
        assert!(self.gate.recv().is_err(), "nothing is sent");
        Ok(())
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        self.tape.push(Told::End);
        Ok(())
    }
}

fn sleeper(tape: &Tape, gate: Receiver<()>, delivery: Delivery) -> LaneOptions {
    let tape = tape.clone();
    let seat = SeatOptions {
        delivery,
        queue_length: 4,
        queue_bytes: 1 << 20,
        ..SeatOptions::default()
    };
    let build = Box::new(move |_: &_| {
        let (tape, gate) = (tape.clone(), gate.clone());
        Ok(Box::new(Sleeper { tape, gate }) as _)
    });
    LaneOptions::new("sleeper", seat, build)
}

/// Events: many more than the sleeper's queue holds, over few rows, some of which go away.
const EVENTS: u32 = 20_000;
const KEYS: u32 = 500;

fn run(delivery: Delivery) -> (Agent, Tape, Tape) {
    let network = MemoryNetwork::new();
    let mut publisher = publisher(&network, URI);
    publisher.initialize().unwrap();
    let (slow, fast) = (Tape::default(), Tape::default());
    let (open, gate) = bounded::<()>(0);
    let handlers = vec![sleeper(&slow, gate, delivery), fast.handler()];
    let agent = start(
        Box::new(network.clone()),
        options(),
        &[URI],
        &["t1"],
        handlers,
    );
    wait_for("the agent subscribes", || {
        network.subscriptions(&endpoint(URI)) == 5
    });
    slow.synced(1);
    fast.synced(1);

    send(publisher.as_mut(), "first", Some("v"));
    slow.has("first");
    let metrics = std::sync::Arc::clone(&agent.lanes()[0].metrics);
    for n in 0..EVENTS {
        let key = format!("k{}", n % KEYS);
        let value = n.to_string();
        let gone = (n % KEYS).is_multiple_of(7) && n >= EVENTS / 2;
        send(publisher.as_mut(), &key, (!gone).then_some(&value));
    }
    send(publisher.as_mut(), "last", Some("v"));
    // The other one has it all while this one sleeps.
    fast.has("last");
    let deletes_of_nothing = agent.hub().metrics.events_duplicate_total.get();
    assert_eq!(
        fast.count() as u64 + deletes_of_nothing,
        u64::from(EVENTS) + 2
    );
    assert_eq!(slow.count(), 1, "it sleeps");
    assert!(
        metrics.overflows_total.get() >= 1,
        "its queue was never full"
    );
    assert_eq!(metrics.behind.get(), 1);

    drop(open);
    slow.has("last");
    wait_for("it has caught up", || metrics.behind.get() == 0);
    wait_for("its state is that of the other", || {
        slow.state() == fast.state()
    });
    let state = slow.state();
    assert_eq!(
        agent.hub().with_replica(|replica| replica.len()),
        state.len()
    );
    for ((table, key), value) in &state {
        let same = agent.hub().with_replica(|replica| {
            replica.get(table, key).and_then(|row| row.value.as_ref()) == Some(value)
        });
        assert!(same, "{table} {key} {value}");
    }
    assert_eq!(state.len() as u32, 2 + KEYS - KEYS.div_ceil(7));
    (agent, slow, fast)
}

fn send(publisher: &mut dyn PublisherApi, key: &str, value: Option<&str>) {
    let event = match value {
        Some(value) => Event::set("t", key, value),
        None => Event::delete("t", key),
    };
    publisher.send_event(&event.on("t1"), None).unwrap();
}

#[test]
fn state_is_caught_up_without_a_resync() {
    let (agent, slow, fast) = run(Delivery::State);
    assert_eq!(slow.begins(), [SyncReason::Started]);
    assert_eq!(fast.begins(), [SyncReason::Started]);
    assert!(
        slow.count() < fast.count() / 2,
        "each row was given more than its newest state"
    );
    assert_eq!(agent.stop(), 0);
}

#[test]
fn events_that_cannot_be_given_become_a_resync() {
    let (agent, slow, fast) = run(Delivery::Events);
    let begins = slow.begins();
    assert!(begins.len() >= 2, "{begins:?}");
    assert!(
        begins[1..]
            .iter()
            .all(|reason| *reason == SyncReason::Overflow)
    );
    assert_eq!(fast.begins(), [SyncReason::Started]);
    assert_eq!(agent.stop(), 0);
}
