//! Whether the threads that the publisher service is made of run and get on.

use std::time::{Duration, Instant};

use super::wire::Wired;
use crate::config::PublisherConfig;
use crate::publisher::peers::Peers;
use crate::util::pulse::{Pulse, Watched};
use crate::util::thread::Handle;

/// The gate and the sockets' threads have work every second, and may wait for a slow disk: within these
/// bounds they are late after `stuck_timeout`.
const LATE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));

/// How the service is.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Why it does not do all that it is for, a line each; none when it does.
    pub reasons: Vec<String>,
    /// Threads that have ended or are stuck. While there are any, nothing but a restart helps.
    pub stuck: u64,
}

/// What is remembered of each thread.
pub struct Vigil {
    service: Watched,
    /// In the order of [`parts`].
    parts: [Option<Watched>; 4],
}

/// The threads beside the service's that beat, and how: requests, sync, gate and monitors, where there
/// are such.
fn parts(wired: &Wired) -> [Option<(&Handle, &Pulse)>; 4] {
    [
        wired.requests().map(|part| (&part.thread, &*part.pulse)),
        wired.sync().map(|part| (&part.thread, &*part.pulse)),
        wired.gate().map(|part| (&part.thread, &*part.pulse)),
        wired.monitors().map(|part| (&part.thread, &*part.pulse)),
    ]
}

/// A thread as it is now.
#[derive(Clone, Copy)]
struct Seen {
    runs: bool,
    at_it: Duration,
}

impl Seen {
    fn new(watched: &mut Watched, pulse: &Pulse, runs: bool, now: Instant) -> Seen {
        Seen {
            runs,
            at_it: watched.stuck_for(pulse, now),
        }
    }
}

impl Vigil {
    /// Nothing was seen yet.
    pub fn new(wired: &Wired, now: Instant) -> Self {
        let watched = |pulse: &Pulse| Watched::new(pulse, now);
        Vigil {
            service: watched(&wired.service().pulse),
            parts: parts(wired).map(|part| part.map(|(_, pulse)| watched(pulse))),
        }
    }

    /// How it is now.
    pub fn look(&mut self, wired: &Wired, config: &PublisherConfig, now: Instant) -> Health {
        let service = wired.service();
        let own = Seen::new(&mut self.service, &service.pulse, service.is_running(), now);
        let mut known = self.parts.iter_mut();
        let [requests, sync, gate, monitors] = parts(wired).map(|part| {
            let ((thread, pulse), watched) = part.zip(known.next()?.as_mut())?;
            Some(Seen::new(watched, pulse, thread.is_running(), now))
        });

        let stuck = own.at_it >= config.stuck_timeout;
        let late = config.stuck_timeout.clamp(LATE.0, LATE.1);
        let is_gone =
            |seen: Option<Seen>| seen.is_some_and(|seen| !seen.runs || seen.at_it >= late);
        let has_ended = |seen: Option<Seen>| seen.is_none_or(|seen| !seen.runs);
        // It waits for nothing but to be asked, so that it does not beat.
        let follows = |peers: &Peers| peers.thread.is_running();
        // It keeps the lease too, which has run out by the time that the store is waited for so long.
        let patience = config.publisher_timeout.min(config.stuck_timeout);
        let blocked =
            |seen: Option<Seen>| seen.is_some_and(|seen| seen.runs && seen.at_it >= patience);
        let ended = [
            (!own.runs, "the service's thread has ended"),
            (own.runs && stuck, "the service's thread is stuck"),
            (
                is_gone(requests),
                "the request socket does not answer: clients that await an answer publish nothing",
            ),
            (
                is_gone(sync),
                "the sync service does not answer: agents do not get what they missed",
            ),
            (
                is_gone(gate),
                "the gate does not answer: no node is admitted until a restart",
            ),
            (
                has_ended(monitors),
                "the monitors, which also keep the lease, have ended",
            ),
            (
                !wired.following().is_none_or(follows),
                "the thread that follows other publishers has ended: their rows are not taken over \
                 until a restart",
            ),
        ];
        let gated = wired.gate();
        let waits = [
            (
                blocked(monitors),
                "the northbound store does not answer: the lease is not renewed",
            ),
            (
                service.metrics.stalled.get() == 1,
                "the journal cannot be written: nothing is accepted",
            ),
            (
                gated.is_some_and(|gate| gate.metrics.gate_directory_failed.get() == 1),
                "authorized_keys cannot be looked at: nodes whose keys are removed are not shut out, and \
                 new ones not admitted",
            ),
            (
                service.metrics.state_begun_anew.get() == 1,
                "the journal was damaged and begun anew without its rows: see \
                 publisher.redb.corrupt-* in state_dir; once it is moved away, restart",
            ),
        ];
        let holds = |(holds, _): &&(bool, &str)| *holds;
        let each = ended.iter().chain(&waits).filter(holds);
        Health {
            reasons: each.map(|(_, why)| (*why).to_owned()).collect(),
            stuck: ended.iter().filter(holds).count() as u64,
        }
    }
}

#[cfg(test)]
mod tests;
