//! Missed events by replay, beside the same events live through the same service.

use std::time::Instant;

use super::rig::{Follower, Publisher, wait_for};

const ROWS: u64 = 10_000;
const HWM: i32 = 1_000_000;

pub fn run(events: u64, rounds: u64) {
    let publisher = Publisher::start(&format!("send_hwm = {HWM}\n"));
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_path_buf();
    let rows = ROWS.min(events);
    publisher.publish(0..rows, rows);
    let mut sent = rows;
    let (mut ratios, mut replays, mut lives) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let away = Follower::start(&publisher.uri(), HWM, Some(folder.clone()));
        away.has(rows, sent);
        away.stop();
        let live = Follower::start(&publisher.uri(), HWM, None);
        live.has(rows, sent);

        let received = || live.source().metrics.events_received_total.get();
        let (before, begun) = (received(), Instant::now());
        publisher.publish(sent..sent + events, rows);
        sent += events;
        wait_for("all has come", || received() >= before + events);
        let took_live = begun.elapsed();
        let missed = live.followed().metrics.gaps_total.get();
        assert_eq!(missed, 0, "what was to be live was not");
        live.stop();

        let begun = Instant::now();
        let back = Follower::start(&publisher.uri(), HWM, Some(folder.clone()));
        back.has(rows, sent);
        let took_replay = begun.elapsed();
        let followed = back.followed();
        assert!(followed.metrics.replayed_events_total.get() >= events);
        assert_eq!(followed.metrics.snapshots_total.get(), 0);
        back.stop();

        let per_second = |took: std::time::Duration| events as f64 / took.as_secs_f64();
        lives.push(per_second(took_live));
        replays.push(per_second(took_replay));
        ratios.push(took_live.as_secs_f64() / took_replay.as_secs_f64());
    }
    let median = |mut each: Vec<f64>| {
        each.sort_by(f64::total_cmp);
        each[each.len() / 2]
    };
    println!(
        "replay of {events} missed events: {:.0}/s, from the start of the agent on; live {:.0}/s; \
         ratio {:.2} (wanted: at least 0.5)",
        median(replays),
        median(lives),
        median(ratios)
    );
}
