//! A burst over the high-water mark, then silence.

use std::time::{Duration, Instant};

use super::rig::{Follower, Publisher};

const ROWS: u64 = 10_000;
const HELLO: Duration = Duration::from_secs(1);

pub fn run(burst: u64) {
    let publisher = Publisher::start("send_hwm = 10\nhello_interval = 1.0\n");
    let rows = ROWS.min(burst);
    publisher.publish(0..rows, rows);
    let agent = Follower::start(&publisher.uri(), 10, None);
    agent.has(rows, rows);
    let followed = agent.followed();
    let metrics = &followed.metrics;
    let snapshots = metrics.snapshots_total.get();

    let begun = Instant::now();
    publisher.publish(rows..rows + burst, rows);
    let (silent, took) = (Instant::now(), begun.elapsed());
    agent.has(rows, rows + burst);
    let late = silent.elapsed();
    assert_eq!(
        metrics.snapshots_total.get(),
        snapshots,
        "the journal has it all"
    );
    println!(
        "overflow: a burst of {burst} events in {took:.2?} with SNDHWM 10: {} gaps, {} events replayed; \
         all there {late:.2?} after the last was acknowledged (hello_interval {HELLO:?})",
        metrics.gaps_total.get(),
        metrics.replayed_events_total.get()
    );
    if metrics.replayed_events_total.get() == 0 {
        println!("overflow: nothing was lost this time, so the figure says nothing");
    }
    agent.stop();
}
