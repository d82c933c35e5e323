//! The network between publisher and agent fails: nothing passes, connections are dead and nobody
//! says so, or are reset again and again.

use std::time::{Duration, Instant};

use fanfare::event::Event;

use crate::rig::load::{Load, flush, rows};
use crate::rig::region::Region;
use crate::rig::{PATIENCE, in_time, wait_for, within};

const KEYS: u64 = 500;

/// 2,000 events per second at most.
const PACE: Duration = Duration::from_millis(10);

/// After this without a hello an agent gives a connection up, in these tests: three hellos.
const SILENCE: Duration = Duration::from_secs(3);

/// What an attempt to connect may take, a wait before it, and a replay after it, on a loaded machine.
const AGAIN: Duration = Duration::from_secs(12);

/// Nothing passes for much longer than three hellos, while changes and deletes are published.
#[test]
fn a_partition_under_load_heals_by_replay() {
    let Some(mut region) = Region::new(1, "", "", &["t1"]) else {
        return;
    };
    let client = region.cluster.host.client();
    let doomed: Vec<String> = (0..10).map(|number| format!("doomed{number}")).collect();
    for key in &doomed {
        let event = Event::set("t", key, "{}").on("t1");
        client.publish(&event, None).unwrap();
    }
    flush(&client);
    region.cluster.publish("t1", 0..KEYS, KEYS);
    region.nodes[0].start();
    wait_for("the agent has the rows that will go", || {
        let rows = region.nodes[0].rows();
        rows.get("t")
            .is_some_and(|table| table.len() as u64 == KEYS + 10)
    });
    let load = Load::start(region.cluster.host.client(), "t1", KEYS, KEYS, PACE);
    wait_for("the load is there", || load.sent() > KEYS + 1_000);

    let (cut, before) = (Instant::now(), load.sent());
    region.net.cut(1);
    for key in &doomed {
        let event = Event::delete("t", key).on("t1");
        client.publish(&event, None).unwrap();
    }
    flush(&client);
    region.nodes[0].says("silent for too long");
    within(PATIENCE, "the partition lasts", || {
        (cut.elapsed() > 2 * SILENCE && load.sent() > before + 1_000).then_some(())
    });
    let missed = load.sent() - before;
    let dropped = region.net.heal();
    let healed = Instant::now();
    assert!(dropped > 0, "nothing was cut");

    let sent = load.stop();
    region.nodes[0].has(&rows(sent, KEYS));
    in_time("repair after the partition", healed, AGAIN);
    let counted = region.nodes[0].stop();
    assert!(counted.of(" publisher tcp", "silences_total") >= 1);
    assert!(counted.of(" publisher tcp", "connects_total") >= 2);
    assert!(counted.recovery("replays_total") > 0);
    let replayed = counted.recovery("replayed_events_total");
    // What was on its way at the cut may have been received.
    assert!(replayed >= missed / 2, "{replayed} of {missed}");
    // Loaded at the beginning only.
    assert_eq!(counted.recovery("snapshots_total"), 2);
    assert_eq!(counted.recovery("in_sync"), 1);
    assert_eq!(counted.resyncs(), 1);
}

/// The publisher restarts, and of the end of its connections nothing reaches the agent, neither FIN
/// nor RST, now or ever: the agent holds connections to nobody. Only that nothing is heard shows it.
#[test]
fn connections_to_nobody_are_given_up() {
    let Some(mut region) = Region::new(1, "", "", &["t1"]) else {
        return;
    };
    region.cluster.publish("t1", 0..KEYS, KEYS);
    region.nodes[0].start();
    region.nodes[0].has(&rows(KEYS, KEYS));
    let ports = [region.cluster.host.port.number, region.cluster.sync.number];
    let ports = ports.map(|port| region.net.connected_from(1, port));
    assert!(ports.iter().all(|each| each.len() == 1), "{ports:?}");
    region.net.cut_ports(&ports.concat());
    region.cluster.host.kill();
    region.cluster.host.start();
    region.cluster.publish("t1", KEYS..2 * KEYS, KEYS);
    let sent = Instant::now();
    region.nodes[0].has(&rows(2 * KEYS, KEYS));
    in_time(
        "repair after dead connections",
        sent,
        SILENCE + Duration::from_secs(4),
    );
    let counted = region.nodes[0].stop();
    assert!(region.net.heal() > 0, "nothing was cut");
    // By silence, and by nothing else.
    assert_eq!(counted.of(" publisher tcp", "silences_total"), 1);
    assert_eq!(counted.of(" publisher tcp", "connects_total"), 2);
    assert!(counted.recovery("replayed_events_total") >= KEYS);
    assert_eq!(counted.recovery("snapshots_total"), 2);
    assert_eq!(counted.recovery("in_sync"), 1);
    assert_eq!(counted.resyncs(), 1);
}

/// An agent's host is gone, and nothing says so: the publisher gives its connections up.
#[test]
fn connections_of_nobody_are_given_up() {
    let Some(mut region) = Region::new(1, "", "", &["t1"]) else {
        return;
    };
    region.cluster.publish("t1", 0..KEYS, KEYS);
    region.nodes[0].start();
    region.nodes[0].has(&rows(KEYS, KEYS));
    let open = |region: &Region| {
        let parts = region.cluster.host.report()["parts"].clone();
        let open = [
            &parts["service"]["connections"],
            &parts["sync"]["sync_connections"],
        ];
        open.map(|count| count.as_u64().unwrap())
    };
    wait_for("both connections are there", || open(&region) == [1, 1]);
    region.net.cut(1);
    region.nodes[0].kill();
    let gone = Instant::now();
    within(3 * PATIENCE, "both connections are given up", || {
        (open(&region) == [0, 0]).then_some(())
    });
    println!("given up after {:?}", gone.elapsed());
    assert!(region.net.heal() > 0, "nothing was cut");
    region.cluster.publish("t1", KEYS..2 * KEYS, KEYS);
    region.nodes[0].start();
    region.nodes[0].has(&rows(2 * KEYS, KEYS));
    region.nodes[0].stop();
}

/// Connections are reset every few packets for a while.
#[test]
fn a_storm_of_resets_passes() {
    let Some(mut region) = Region::new(1, "", "", &["t1"]) else {
        return;
    };
    region.cluster.publish("t1", 0..KEYS, KEYS);
    region.nodes[0].start();
    region.nodes[0].has(&rows(KEYS, KEYS));
    let load = Load::start(region.cluster.host.client(), "t1", KEYS, KEYS, PACE);
    let ports = [region.cluster.host.port.number, region.cluster.sync.number];
    let begun = Instant::now();
    region.net.reset(0, &ports, 20);
    within(PATIENCE, "the storm lasts", || {
        (begun.elapsed() > Duration::from_secs(4) && load.sent() > KEYS + 1_000).then_some(())
    });
    let resets = region.net.calm(0);
    let over = Instant::now();
    assert!(resets >= 5, "{resets} resets");
    let sent = load.stop();
    region.nodes[0].has(&rows(sent, KEYS));
    in_time("repair after the storm", over, AGAIN);
    let counted = region.nodes[0].stop();
    let lost = counted.of(" publisher tcp", "disconnects_total");
    assert!(lost >= 3, "{lost} connections lost in {resets} resets");
    assert!(counted.recovery("replayed_events_total") > 0);
    assert_eq!(counted.recovery("snapshots_total"), 2);
    assert_eq!(counted.recovery("in_sync"), 1);
    assert_eq!(counted.resyncs(), 1);
}
