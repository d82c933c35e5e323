//! Events on their way to one honest agent.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use fanfare::agent::Agent;
use fanfare::event::Event;
use fanfare::publisher::client::PublisherClient;
use fanfare::pubsub::SubscriberOptions;
use fanfare::pubsub::driver::zmq::ZmqPubSub;

use super::waits::Waits;
use super::witness::{Mark, Pause, Witness};
use crate::rig::agent::start;
use crate::rig::cluster::Cluster;
use crate::rig::tape::Tape;
use crate::rig::wait_for;

/// The time between two events.
const PACE: Duration = Duration::from_millis(2);

/// Rows that change again and again: with ever more rows publisher and agent would have more to do at the
/// end than at the beginning.
const ROWS: usize = 1_000;

/// The row by which the agent is seen to hear.
const FIRST: &str = "first";

/// A calm p99 below this is the host's luck.
const CALM: Duration = Duration::from_millis(1);

/// Of the time that the host takes: with less an attack is compared with the calm around it alone. With more also
/// with the other publisher at the same time, whichever is slower.
const QUIET: f64 = 0.01;

/// From a worker through a publisher to an agent.
pub struct Line {
    client: PublisherClient,
    tape: Tape,
    agent: Agent,
    sent: Vec<SystemTime>,
}

impl Line {
    pub fn through(cluster: &Cluster, honest: SubscriberOptions) -> Line {
        let tape = Tape::default();
        let driver = Box::new(ZmqPubSub::new());
        let handlers = vec![tape.handler()];
        let agent = start(driver, honest, &[&cluster.uri()], &["t1"], handlers);
        let client = cluster.host.client();
        wait_for("the agent hears", || {
            let event = Event::set("t", FIRST, "1").on("t1");
            client.publish(&event, None).unwrap();
            tape.count() > 0
        });
        Line {
            client,
            tape,
            agent,
            sent: Vec::new(),
        }
    }

    fn send(&mut self) {
        let number = self.sent.len();
        let (key, value) = ((number % ROWS).to_string(), number.to_string());
        let event = Event::set("t", &key, &value).on("t1");
        self.sent.push(SystemTime::now());
        self.client.publish(&event, None).unwrap();
    }

    /// Waits until everything has come, and says how long it took.
    #[track_caller]
    fn waits(&mut self, pauses: &[Pause]) -> Waits {
        let mut rows = Vec::new();
        wait_for("everything has come", || {
            std::thread::sleep(Duration::from_millis(50));
            rows = self.tape.timed_rows();
            // Not the lease of the publisher.
            rows.retain(|(row, _)| row.table == "t" && row.key != FIRST);
            rows.len() == self.sent.len()
        });
        let (mut all, mut kept) = (Vec::new(), Vec::new());
        for (row, at) in &rows {
            let number: usize = row.value.as_ref().unwrap().parse().unwrap();
            let sent = self.sent[number];
            let took = at.duration_since(sent).unwrap_or_default();
            all.push(took);
            if !pauses.iter().any(|pause| pause.touches(sent, *at)) {
                kept.push(took);
            }
        }
        self.sent.clear();
        self.tape.clear();
        Waits::of(all, kept)
    }

    pub fn stop(self) {
        assert_eq!(self.agent.stop(), 0);
    }
}

/// The agent of the publisher that is attacked, and one of another that is not, beside it on the machine.
pub struct Pair {
    pub attacked: Line,
    pub other: Line,
}

/// How long the events of a round took.
#[derive(Clone)]
pub struct Round {
    pub attacked: Waits,
    pub other: Waits,
    /// What the host took of the processors' time.
    pub stolen: f64,
}

impl Round {
    /// How many times as long as in the calm of others events took.
    pub fn times(&self, calm: &[&Round]) -> f64 {
        let all = calm.iter().map(|round| round.attacked.clone());
        let calm = all.reduce(|one, other| one.with(&other));
        let calm = calm.map_or(CALM, |waits| waits.p99().max(CALM));
        self.attacked.p99().div_duration_f64(calm)
    }

    /// How many times as long as those of the publisher that nobody attacks.
    fn times_the_other(&self) -> f64 {
        self.attacked
            .p99()
            .div_duration_f64(self.other.p99().max(CALM))
    }

    /// Whether they took at most twice as long as in the calm of others; where the host took much of the time, or
    /// as those of the publisher that nobody attacks.
    pub fn is_like(&self, calm: &[&Round]) -> bool {
        let beside = self.stolen > QUIET && self.times_the_other() <= 2.0;
        self.attacked.is_enough() && (self.times(calm) <= 2.0 || beside)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {:.2} times the p99 of {:.1?} beside it; the host took {:.1} %",
            self.attacked,
            self.times_the_other(),
            self.other.p99(),
            100.0 * self.stolen
        )
    }
}

impl Pair {
    /// Publishes for a while, by turns.
    #[track_caller]
    pub fn measure(&mut self, witness: &Witness, length: Duration) -> Round {
        let mark: Mark = witness.mark();
        let start = Instant::now();
        for number in 0.. {
            let due = start + PACE * number;
            if due > start + length {
                break;
            }
            for (line, due) in [(&mut self.attacked, due), (&mut self.other, due + PACE / 2)] {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                line.send();
            }
        }
        let seen = witness.since(&mark);
        Round {
            attacked: self.attacked.waits(&seen.pauses),
            other: self.other.waits(&seen.pauses),
            stolen: seen.stolen,
        }
    }
}
