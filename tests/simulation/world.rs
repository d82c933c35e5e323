//! The world: virtual time, and what happens in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare::agent::recovery::{Input, Options};
use fanfare::sync::{Answer, Request};
use fastrand::Rng;

use crate::agent::Agent;
use crate::counts::Counts;
use crate::network::{Message, Weather};
use crate::publisher::{HELLO_INTERVAL, MAX_IDLE_TIME, Object, Publisher, Write};

pub const TOPICS: [&str; 4] = ["D", "t1", "t10", "t2"];

#[derive(Debug)]
pub enum Happening {
    Write,
    Written(usize, Vec<Write>),
    Hello(usize),
    Heard(usize, usize, u64, Box<Message>),
    Subscribed(usize, usize, u64, Option<&'static str>, bool),
    Connect(usize, usize, u64),
    Silence(usize, usize, u64),
    Asked(usize, usize, u64, usize, u64, Box<Request>),
    /// And whether it, and all before it, are as the service meant them.
    Answered(usize, usize, u64, u64, Box<(Answer, bool)>),
    Legacy(usize, usize, u64),
    Tick(usize, usize, u64),
    Start(usize),
    StartAgent(usize),
    Fault,
}

pub struct World {
    pub now: Duration,
    pub base: Instant,
    queue: BTreeMap<(Duration, u64), Happening>,
    next: u64,
    pub rng: Rng,
    pub publishers: Vec<Publisher>,
    /// Who is at which address.
    pub addresses: Vec<usize>,
    pub agents: Vec<Agent>,
    pub objects: Vec<Object>,
    /// By version.
    pub written: BTreeMap<u64, Write>,
    pub cuts: BTreeMap<(usize, usize), Duration>,
    /// Agents, publishers, and topics of these that they may not have.
    pub forbidden: BTreeSet<(usize, usize, &'static str)>,
    /// Whether grants come and go.
    pub has_grants: bool,
    /// Whether publishers are started in other ways than before: without a sync service, as legacy.
    pub may_switch: bool,
    pub weather: Weather,
    pub subscription_lost: u8,
    pub may_lose: bool,
    calm: bool,
    pace: u64,
    pub counts: Counts,
    trace: bool,
}

/// Time in which everything must be noticed once nothing goes wrong any more: a half-open
/// connection is given up and made again, then a hello comes.
const NOTICED: Duration = MAX_IDLE_TIME
    .saturating_mul(4)
    .saturating_add(HELLO_INTERVAL.saturating_mul(2));

impl World {
    /// Lets a seed's faults happen, then sees that all comes right; says what happened.
    pub fn run(seed: u64, trace: bool) -> Counts {
        let mut world = World::new(seed, trace);
        world.start();
        let storm = Duration::from_millis(world.rng.u64(2_000..30_000));
        world.until(storm);
        world.calm_down();
        // What was put off is asked for within the longest wait, twice where the first answer was
        // patience; an old snapshot may have to age first.
        let options = world.agents[0].options.clone();
        let fetched = (options.retry_max + options.ask_timeout) * 3
            + Duration::from_millis(crate::service::PATIENCE.into()) * 3
            + crate::service::KEPT_FOR;
        world.until(world.now + NOTICED + fetched);
        for agent in 0..world.agents.len() {
            if let Err(why) = world.check_settled(agent) {
                panic!("{why}");
            }
            world.check_rows(agent, false);
        }
        world.quiet();
        world.fresh();
        world.counts
    }

    fn new(seed: u64, trace: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(1..4);
        let publishers = (0..count).map(|index| {
            let max_events = *rng.choice(&[4, 10, 60, 400]).unwrap();
            Publisher::new(index, max_events, rng.usize(1..5))
        });
        let publishers: Vec<Publisher> = publishers.collect();
        let options = Options {
            ask_timeout: Duration::from_millis(rng.u64(500..3000)),
            in_flight: rng.usize(1..5),
            held_bytes: *rng.choice(&[400, 2000, 100_000]).unwrap(),
            // Where it is long, hellos alone must find everything.
            heads_every: Duration::from_secs(*rng.choice(&[5, 45, 36_000]).unwrap()),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(2),
            all_topics: 0,
        };
        let agents = (0..rng.usize(1..4)).map(|_| {
            let wanted = TOPICS
                .iter()
                .copied()
                .filter(|topic| *topic == "D" || rng.bool());
            let wanted = wanted.collect();
            let mut options = options.clone();
            if rng.u8(..4) == 0 {
                options.all_topics = *rng.choice(&[2, 10]).unwrap();
            }
            Agent::new(options, wanted, rng.bool())
        });
        let agents = agents.collect();
        let mut objects = Vec::new();
        for topic in TOPICS {
            let owners = (0..count).map(Some).chain([None, None, None]);
            for (number, owner) in owners.enumerate() {
                let key = format!("{topic}-{number}");
                objects.push(Object { key, topic, owner });
            }
        }
        let bad = |rng: &mut Rng, most: u8| if rng.bool() { rng.u8(..=most) } else { 0 };
        World {
            now: Duration::ZERO,
            base: Instant::now(),
            queue: BTreeMap::new(),
            next: 0,
            addresses: (0..count).collect(),
            publishers,
            agents,
            objects,
            written: BTreeMap::new(),
            cuts: BTreeMap::new(),
            forbidden: BTreeSet::new(),
            has_grants: rng.u8(..3) == 0,
            may_switch: rng.u8(..3) == 0,
            weather: Weather {
                question_lost: bad(&mut rng, 40),
                answer_lost: bad(&mut rng, 40),
                answer_late: bad(&mut rng, 60),
                answer_twice: bad(&mut rng, 40),
                answer_damaged: bad(&mut rng, 60),
            },
            subscription_lost: bad(&mut rng, 60),
            may_lose: rng.bool(),
            calm: false,
            pace: rng.u64(50..2000),
            rng,
            counts: Counts::default(),
            trace,
        }
    }

    pub fn instant(&self) -> Instant {
        self.base + self.now
    }

    pub fn chance(&mut self, of_256: u8) -> bool {
        !self.calm && self.rng.u8(..) < of_256
    }

    /// Whether nothing goes wrong any more.
    pub fn calm(&self) -> bool {
        self.calm
    }

    pub fn say(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>10.4} {}", self.now.as_secs_f64(), text());
        }
    }

    pub fn at(&mut self, at: Duration, what: Happening) {
        self.queue.insert((at, self.next), what);
        self.next += 1;
    }

    fn start(&mut self) {
        for publisher in 0..self.publishers.len() {
            self.at(Duration::ZERO, Happening::Hello(publisher));
        }
        for agent in 0..self.agents.len() {
            let at = Duration::from_millis(self.rng.u64(..3000));
            self.at(at, Happening::StartAgent(agent));
        }
        self.at(Duration::ZERO, Happening::Write);
        self.at(Duration::ZERO, Happening::Fault);
    }

    fn until(&mut self, end: Duration) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), what) = entry.remove_entry();
            self.now = at;
            self.happen(what);
        }
        self.now = end;
    }

    /// No fault begins any more, and nothing is written.
    fn calm_down(&mut self) {
        self.say(|| "the faults end".into());
        self.calm = true;
        self.cuts.clear();
        for publisher in &mut self.publishers {
            publisher.service.stuck_until = Duration::ZERO;
        }
        for agent in &mut self.agents {
            for follower in &mut agent.followers {
                follower.conn.losing = 0;
            }
        }
        self.grant_all();
        let pause = Duration::from_secs(4);
        self.until(self.now + pause);
        // In the end all can be asked.
        for publisher in 0..self.publishers.len() {
            self.restart_whole(publisher);
        }
        self.until(self.now + pause);
    }

    /// Where all is well nothing is asked but the heads, from time to time.
    fn quiet(&mut self) {
        let asked = |world: &World| world.agents.iter().map(|agent| agent.asked).sum::<u64>();
        let before = asked(self);
        let time = Duration::from_secs(60);
        self.until(self.now + time);
        // Who follows all topics asks which there are as well, page by page.
        let questions = |agent: &Agent| if agent.follows_all() { 6 } else { 1 };
        let followers = self.agents.iter().map(questions).sum::<usize>() * self.addresses.len();
        let followers = followers as u64;
        let every = self.agents[0].options.heads_every;
        let rounds = (time.as_secs() * 3 / 2 / every.as_secs() + 1) * u64::from(every < time);
        let more = asked(self) - before;
        // And the heads are asked for: one round less, for where the time began and ends.
        let fewest = (time.as_secs() * 3 / 4 / every.as_secs()).saturating_sub(1);
        let fewest = fewest * (self.agents.len() * self.addresses.len()) as u64;
        assert!(more >= fewest, "{more} questions, of {fewest}");
        assert!(
            more <= rounds * followers,
            "{more} questions though all is well"
        );
    }

    /// I1: an agent that begins now has the same rows.
    fn fresh(&mut self) {
        let agent = self.agents.len();
        let options = Options {
            all_topics: 0,
            ..self.agents[0].options.clone()
        };
        self.agents
            .push(Agent::new(options, TOPICS.into_iter().collect(), false));
        self.at(self.now, Happening::StartAgent(agent));
        self.until(self.now + Duration::from_secs(60));
        if let Err(why) = self.check_settled(agent) {
            panic!("{why}");
        }
        self.check_rows(agent, true);
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Write => self.write(),
            Happening::Written(publisher, group) => self.publish(publisher, group),
            Happening::Hello(publisher) => {
                let model = &self.publishers[publisher];
                if model.up && !model.legacy && self.now >= model.hello_due {
                    self.send_hello(publisher);
                    self.hello_at(publisher);
                }
            }
            Happening::Heard(agent, slot, epoch, message) => {
                self.heard(agent, slot, epoch, *message)
            }
            Happening::Subscribed(agent, slot, epoch, topic, wanted) => {
                self.subscribed((agent, slot), epoch, topic, wanted);
            }
            Happening::Connect(agent, slot, epoch) => self.connect(agent, slot, epoch),
            Happening::Silence(agent, slot, epoch) => self.silence(agent, slot, epoch),
            Happening::Asked(agent, slot, run, publisher, tag, request) => {
                self.asked((agent, slot, run), publisher, tag, *request);
            }
            Happening::Answered(agent, slot, run, tag, answer) => {
                let model = &self.agents[agent];
                if model.up && model.run == run {
                    let (answer, honest) = *answer;
                    self.agents[agent].followers[slot].ledger.honest = honest;
                    self.step(agent, slot, Input::Answer(tag, answer));
                }
            }
            Happening::Legacy(agent, slot, epoch) => self.legacy(agent, slot, epoch),
            Happening::Tick(agent, slot, run) => self.tick(agent, slot, run),
            Happening::Start(publisher) => {
                self.say(|| format!("p{publisher} starts"));
                self.publishers[publisher].start(self.now);
                self.hello_at(publisher);
            }
            Happening::StartAgent(agent) => self.start_agent(agent),
            Happening::Fault if !self.calm => {
                self.fault();
                let pause = Duration::from_millis(self.rng.u64(1..=self.pace));
                self.at(self.now + pause, Happening::Fault);
            }
            Happening::Fault => {}
        }
    }

    fn tick(&mut self, agent: usize, slot: usize, run: u64) {
        let now = self.instant();
        let is_due = |model: &Agent| {
            let deadline = model.followers[slot].recovery.deadline();
            deadline.is_some_and(|at| at <= now)
        };
        let model = &mut self.agents[agent];
        if !model.up || model.run != run {
            return;
        }
        // Whether this one came to something or not, the next one is to be thought of anew.
        model.followers[slot].tick_at = None;
        if is_due(model) {
            self.step(agent, slot, Input::Tick);
            assert!(
                !is_due(&self.agents[agent]),
                "a tick leaves a deadline in the past"
            );
        }
    }

    fn start_agent(&mut self, agent: usize) {
        self.say(|| format!("a{agent} starts"));
        let now = self.instant();
        let addresses = self.addresses.len();
        self.agents[agent].start(addresses, now, &mut self.rng);
        for slot in 0..addresses {
            let wanted = self.agents[agent].topics(slot).clone();
            for topic in wanted {
                self.step(agent, slot, Input::Wanted(Arc::from(topic)));
            }
            let epoch = self.agents[agent].followers[slot].conn.epoch;
            let at = self.now + self.delay();
            self.at(at, Happening::Connect(agent, slot, epoch));
        }
    }

    pub fn hello_at(&mut self, publisher: usize) {
        let due = self.publishers[publisher].hello_due.max(self.now);
        self.at(due, Happening::Hello(publisher));
    }

    /// A group of writes goes to one publisher, perhaps after later ones to another.
    fn write(&mut self) {
        if self.calm {
            return;
        }
        let publisher = self.rng.usize(..self.publishers.len());
        let mut group = Vec::new();
        for _ in 0..self.rng.usize(1..6) {
            let object = self.rng.choice(&self.objects).unwrap().clone();
            if object.owner.is_some_and(|owner| owner != publisher) {
                continue;
            }
            let version = self.written.len() as u64 + 1;
            let value = (self.rng.u8(..) < 170).then(|| format!("{{\"v\":{version}}}"));
            let write = Write {
                object,
                version,
                value,
            };
            self.written.insert(version, write.clone());
            group.push(write);
        }
        let shared = group.iter().all(|write| write.object.owner.is_none());
        let late = if shared && self.rng.bool() {
            self.delay()
        } else {
            Duration::ZERO
        };
        self.at(self.now + late, Happening::Written(publisher, group));
        let pause = Duration::from_millis(self.rng.u64(1..200));
        self.at(self.now + pause, Happening::Write);
    }

    fn publish(&mut self, publisher: usize, group: Vec<Write>) {
        let model = &mut self.publishers[publisher];
        if !model.up {
            return;
        }
        if model.legacy {
            return self.send_unstamped(publisher, &group);
        }
        let sent: Vec<_> = group
            .into_iter()
            .filter_map(|write| model.accept(write))
            .collect();
        if sent.is_empty() {
            return;
        }
        if model.trim() {
            self.counts.note("fault: events trimmed");
        }
        model.sent_events(self.now);
        self.say(|| {
            let stamps = sent
                .iter()
                .map(|sent| (sent.write.object.topic, sent.stamp.seq, sent.stamp.prev));
            format!("p{publisher} sends {:?}", stamps.collect::<Vec<_>>())
        });
        self.send_events(publisher, &sent);
        self.hello_at(publisher);
    }
}
