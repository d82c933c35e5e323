//! Publishers that are named by host name.

use std::time::{Duration, Instant};

use fanfare::pubsub::SubscriberOptions;
use fanfare::pubsub::driver::zmq::ZmqPubSub;

use crate::rig::agent::{options, over_zmq, source, start};
use crate::rig::logs;
use crate::rig::peer::Publisher;
use crate::rig::port::Port;
use crate::rig::tape::Tape;
use crate::rig::wait_for;

#[test]
fn a_name_is_resolved_again_for_every_connection() {
    let port = Port::free();
    let uri = format!("tcp://localhost:{}", port.number);
    let tape = Tape::default();
    let agent = over_zmq(&[&uri], &["t1"], vec![tape.handler()]);
    for life in 0..2 {
        let mut publisher = Publisher::bind(&port.uri());
        publisher.has_agent(&["D", "t1"]);
        publisher.set("t1", &format!("life{life}"), "v");
        tape.has(&format!("life{life}"));
    }
    assert_eq!(source(&agent, &uri).metrics.connects_total.get(), 2);
}

#[test]
fn a_name_that_does_not_resolve_backs_off_and_holds_up_nothing() {
    let port = Port::free();
    let mut publisher = Publisher::bind(&port.uri());
    let uri = format!("tcp://no-such-host-{}.invalid:{}", port.number, port.number);
    let tape = Tape::default();
    let options = SubscriberOptions {
        connect_timeout: Duration::from_millis(500),
        ..options()
    };
    let driver = Box::new(ZmqPubSub::new());
    let begun = Instant::now();
    let agent = start(
        driver,
        options,
        &[&uri, &port.uri()],
        &["t1"],
        vec![tape.handler()],
    );
    // The other publisher is heard at once.
    publisher.has_agent(&["D", "t1"]);
    publisher.set("t1", "k", "v");
    tape.has("k");
    let source = source(&agent, &uri);
    wait_for("look-ups fail", || {
        source.metrics.connects_failed_total.get() >= 4
    });
    // Half of 20, 40 and 80 ms at least.
    assert!(
        begun.elapsed() >= Duration::from_millis(70),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(source.metrics.connects_total.get(), 0);
    let said = logs::with(&uri);
    let why =
        |line: &String| line.contains("not resolved") || line.contains("not connected within");
    assert!(said.iter().any(why), "{said:?}");
    let stop = Instant::now();
    assert_eq!(agent.stop(), 0);
    assert!(
        stop.elapsed() < Duration::from_millis(900),
        "{:?}",
        stop.elapsed()
    );
}
