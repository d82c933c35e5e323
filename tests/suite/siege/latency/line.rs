//! Events on their way to one honest agent.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use fanfare::agent::Agent;
use fanfare::event::Event;
use fanfare::publisher::client::PublisherClient;
use fanfare::pubsub::SubscriberOptions;
use fanfare::pubsub::driver::zmq::ZmqPubSub;

use super::{Mark, Pause, Waits, Witness};
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
/// with the other publisher at the same time.
const QUIET: f64 = 0.01;

/// And even then no more than so many times the calm.
const MOST: f64 = 4.0;

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

    /// How many times as long as those of the publisher that nobody attacks: of those that are left, and of all.
    fn times_the_other(&self) -> [f64; 2] {
        let (one, other) = (&self.attacked, &self.other);
        [
            one.p99().div_duration_f64(other.p99().max(CALM)),
            one.p99_of_all()
                .div_duration_f64(other.p99_of_all().max(CALM)),
        ]
    }

    /// Whether enough is left to be compared with.
    pub fn is_enough(&self) -> bool {
        self.attacked.is_enough() && self.other.is_enough()
    }

    /// Whether they took at most twice as long as in the calm of others; where the host took much of the time, or
    /// as those of the publisher that nobody attacks. What is left out are the slow ones rather, so that must be true
    /// of all of them too; and the other has the same processors, which an attack may take from both.
    pub fn is_like(&self, calm: &[&Round]) -> bool {
        let beside = self.times_the_other().iter().all(|times| *times <= 2.0);
        let times = self.times(calm);
        self.is_enough() && (times <= 2.0 || self.stolen > QUIET && beside && times <= MOST)
    }

    /// The slowest, where none is left out.
    pub fn longest(&self) -> Duration {
        self.attacked.longest()
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [left, all] = self.times_the_other();
        let (one, other, percent) = (&self.attacked, self.other.p99(), 100.0 * self.stolen);
        write!(
            f,
            "{one}, {left:.2} (of all {all:.2}) times the p99 of {other:.1?} beside it; the host took {percent:.1} %"
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
