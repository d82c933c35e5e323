//! What a recovery was told and asked, kept by another hand: what it may note, ask and show follows
//! from that, whatever it thinks of its topics.

mod deeds;
mod notes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare::agent::recovery::{Input, Life, Note, Options, Positions, Recovery};
use fanfare::event::hello::{Hello, topic_hash};
use fanfare::sync::{Answer, Refusal, Request};

use crate::verdicts::verdicts;

/// How long nothing is asked for that was refused, and the most patience a service gets.
const MINUTE: Duration = Duration::from_secs(60);

/// A question that is under way.
#[derive(Debug)]
struct Question {
    request: Request,
    at: Instant,
    /// Whether what it is about has changed since.
    overtaken: bool,
}

#[derive(Debug)]
pub struct Ledger {
    options: Options,
    /// Whether the answer that comes now is as the service meant it.
    pub honest: bool,
    life: Option<Life>,
    /// The highest incarnation of each publisher that was met.
    met: BTreeMap<[u8; 16], u64>,
    /// Where publishers were left.
    kept: HashMap<Life, BTreeMap<Arc<str>, u64>>,
    connected: bool,
    greeted: bool,
    legacy: bool,
    endpoint: Option<String>,
    head: u64,
    hello_at: Option<Instant>,
    proved: Option<Instant>,
    under_way: BTreeMap<u64, Question>,
    last_tag: u64,
    /// When a round of heads began last because it was time.
    heads_at: Option<Instant>,
    /// What is not to be asked for before then.
    patience: BTreeMap<String, Instant>,
    forbidden: BTreeSet<String>,
    /// What failed since something was answered well.
    failures: u32,
    /// How far replays that are under way have come, and events in them.
    fetched: BTreeMap<String, (u64, u64)>,
    listed: usize,
}

/// What one input must lead to.
#[derive(Debug, Default)]
pub struct Expected {
    /// Exactly these notes, of the kinds that depend on nothing else.
    notes: Vec<Note>,
    /// The answer was asked for, as was this.
    answered: Option<Question>,
    /// Nobody waits for it.
    nothing: bool,
    endpoint: Option<Option<String>>,
    resync: bool,
    forbidden: Option<String>,
    /// Where this life was left, when it is another than before.
    resumed: Option<BTreeMap<Arc<str>, u64>>,
    /// An answer of another life.
    foreign: bool,
    /// Failures before.
    failures: u32,
    /// Topics that were not live before.
    behind: usize,
    /// Bytes held before.
    held: usize,
    /// Whether all was there before.
    in_sync: bool,
    /// Whether nothing kept a round of heads waiting before.
    free: bool,
    /// A replay of this topic is complete, with so many events.
    replayed: Option<(String, u64)>,
    /// What events are to their topics.
    verdicts: Option<Vec<Note>>,
    /// It says nothing that is new.
    idle: bool,
}

/// What a question is for.
fn purpose(request: &Request) -> &str {
    match request {
        Request::Heads { .. } => "the heads",
        Request::Topics { .. } => "the topics",
        Request::Replay { topic, .. } | Request::Snapshot { topic, .. } => topic,
    }
}

fn incarnation(answer: &Answer) -> Option<u64> {
    match answer {
        Answer::Heads { incarnation, .. }
        | Answer::Events { incarnation, .. }
        | Answer::Gone { incarnation }
        | Answer::Topics { incarnation, .. }
        | Answer::Rows { incarnation, .. } => Some(*incarnation),
        Answer::RetryAfter(_) | Answer::Refused { .. } | Answer::Lapsed => None,
    }
}

impl Ledger {
    pub fn new(options: &Options, kept: &[Positions]) -> Self {
        let mut met = BTreeMap::new();
        for kept in kept {
            let highest = met.entry(kept.life.publisher).or_default();
            *highest = kept.life.incarnation.max(*highest);
        }
        let topics = |kept: &Positions| kept.topics.iter().cloned().collect();
        Ledger {
            options: options.clone(),
            honest: true,
            life: None,
            met,
            kept: kept.iter().map(|kept| (kept.life, topics(kept))).collect(),
            connected: false,
            greeted: false,
            legacy: false,
            endpoint: None,
            head: 0,
            hello_at: None,
            proved: None,
            under_way: BTreeMap::new(),
            last_tag: 0,
            heads_at: None,
            patience: BTreeMap::new(),
            forbidden: BTreeSet::new(),
            failures: 0,
            fetched: BTreeMap::new(),
            listed: 0,
        }
    }

    /// Whether nobody can be asked: the publisher said so, or says no hello though it stamps what it
    /// sends.
    pub fn is_blind(&self) -> bool {
        match self.legacy {
            true => self.life.is_some(),
            false => self.greeted && self.endpoint.is_none(),
        }
    }

    /// Whether there may be holes in what is followed: there was nobody to ask.
    pub fn has_holes(&self) -> bool {
        self.legacy || (self.hello_at.is_some() && self.endpoint.is_none())
    }

    /// Whether being in sync proves nothing: nobody can be asked, or nobody says what there is.
    pub fn is_vague(&self) -> bool {
        self.legacy || self.endpoint.is_none()
    }

    /// Something is told to `recovery`, of which nothing but its positions is looked at.
    pub fn told(&mut self, input: &Input, recovery: &Recovery, now: Instant) -> Expected {
        let mut expected = Expected {
            failures: self.failures,
            behind: recovery.standing().behind,
            held: recovery.standing().held_bytes,
            in_sync: recovery.is_in_sync() && !self.is_vague(),
            free: self.under_way.len() < self.options.in_flight && !self.is_under_way("the heads"),
            ..Expected::default()
        };
        match input {
            Input::Up { again } => {
                expected.resync = self.legacy && *again;
                (self.connected, self.greeted) = (true, false);
                // What was forbidden is asked for at once.
                let forbidden = &self.forbidden;
                let other = |request: &Request| !forbidden.contains(purpose(request));
                self.under_way
                    .retain(|_, question| other(&question.request));
                self.patience.retain(|what, _| !forbidden.contains(what));
            }
            Input::Down => (self.connected, self.greeted) = (false, false),
            Input::Legacy => {
                self.legacy = true;
                self.give_up(now);
            }
            Input::Hello(hello) => self.hello(hello, recovery, now, &mut expected),
            Input::Events(events) => {
                if expected.in_sync {
                    expected.verdicts = verdicts(events, recovery);
                }
                for stamp in events.iter().filter_map(|event| event.stamp) {
                    let life = Life {
                        publisher: stamp.publisher,
                        incarnation: stamp.incarnation,
                    };
                    self.meet(life, recovery, &mut expected);
                }
            }
            Input::Answer(tag, answer) => self.answer(*tag, answer, now, &mut expected),
            Input::Lost => self.give_up(now),
            Input::Anew => {
                (self.connected, self.greeted) = (false, false);
                let life = self.life;
                self.kept.retain(|kept, _| Some(*kept) != life);
                self.begin();
            }
            Input::Tick => {
                let timeout = self.options.ask_timeout;
                let late = |question: &&Question| question.at + timeout <= now;
                let late = self.under_way.values().filter(late).count();
                expected.notes = vec![Note::Unanswered; late];
                if late > 0 {
                    self.give_up(now);
                }
            }
            Input::Wanted(_) => {}
            Input::Unwanted(topic) => {
                self.under_way
                    .retain(|_, question| purpose(&question.request) != &**topic);
                self.patience.remove(&**topic);
                self.fetched.remove(&**topic);
                self.forbidden.remove(&**topic);
                for kept in self.kept.values_mut() {
                    kept.remove(topic);
                }
            }
        }
        expected
    }

    /// Nothing that is under way will be answered: it is not asked again at once.
    fn give_up(&mut self, now: Instant) {
        self.failures += u32::from(!self.under_way.is_empty());
        for question in std::mem::take(&mut self.under_way).into_values() {
            self.wait(&question.request, now + self.options.retry_min / 2);
        }
    }

    fn wait(&mut self, request: &Request, until: Instant) {
        self.patience.insert(purpose(request).to_owned(), until);
    }

    fn meet(&mut self, life: Life, recovery: &Recovery, expected: &mut Expected) -> bool {
        if self.life == Some(life) {
            return true;
        }
        let highest = self.met.get(&life.publisher).copied();
        match highest {
            Some(highest) if life.incarnation < highest => {
                expected.notes.push(Note::LowerIncarnation);
                return false;
            }
            Some(highest) if life.incarnation > highest => {
                expected.notes.push(Note::NewIncarnation);
            }
            _ => {}
        }
        if let Some(known) = self.life
            && known.publisher != life.publisher
        {
            expected.notes.push(Note::OtherPublisher);
            self.greeted = false;
            let left = recovery.positions().unwrap_or_default();
            self.kept
                .retain(|kept, _| kept.publisher != known.publisher);
            self.kept.insert(known, left.topics.into_iter().collect());
        }
        self.met.insert(life.publisher, life.incarnation);
        self.life = Some(life);
        self.begin();
        expected.resumed = Some(self.kept.get(&life).cloned().unwrap_or_default());
        true
    }

    fn begin(&mut self) {
        self.head = 0;
        self.under_way.clear();
        self.patience.clear();
        self.fetched.clear();
        self.failures = 0;
        self.forbidden.clear();
    }

    fn hello(&mut self, hello: &Hello, recovery: &Recovery, now: Instant, expected: &mut Expected) {
        let life = Life {
            publisher: hello.publisher,
            incarnation: hello.incarnation,
        };
        if !self.meet(life, recovery, expected) {
            return;
        }
        expected.idle = expected.in_sync && self.says_nothing_new(hello, recovery);
        // One from before the connection was lost may be read after it.
        (self.greeted, self.legacy) = (self.connected, false);
        self.hello_at = Some(now);
        self.head = self.head.max(hello.head);
        let endpoint = Some(hello.sync_endpoint.clone()).filter(|name| !name.is_empty());
        if endpoint != self.endpoint {
            self.give_up(now);
            self.endpoint = endpoint.clone();
            expected.endpoint = Some(endpoint);
        }
    }

    fn is_under_way(&self, what: &str) -> bool {
        let mut under_way = self.under_way.values();
        under_way.any(|question| purpose(&question.request) == what)
    }

    /// Whether a hello leaves nothing out, and lists nothing that is not here.
    fn says_nothing_new(&self, hello: &Hello, recovery: &Recovery) -> bool {
        let positions = recovery.positions().unwrap_or_default();
        let position = |hash: u64| {
            let mut topics = positions.topics.iter();
            topics.find(|(topic, _)| topic_hash(topic) == hash)
        };
        let here = |(hash, last): &(u64, u64)| match position(*hash) {
            Some((_, seq)) => seq >= last,
            None => self.options.all_topics == 0,
        };
        let whole = hello.head == self.head || (hello.since <= self.head && !hello.overflow);
        whole && hello.recent.iter().all(here)
    }

    fn answer(&mut self, tag: u64, answer: &Answer, now: Instant, expected: &mut Expected) {
        let Some(question) = self.under_way.remove(&tag) else {
            expected.nothing = true;
            return;
        };
        let request = question.request.clone();
        let soon = self.options.retry_min / 2;
        let wait = match answer {
            Answer::RetryAfter(millis) => {
                expected.notes.push(Note::AskedToWait);
                let wait = Duration::from_millis((*millis).into());
                Some(wait.clamp(self.options.retry_min, MINUTE))
            }
            Answer::Lapsed if !question.overtaken => Some(soon),
            Answer::Refused { code, .. } => {
                expected.notes.push(Note::Refused(*code));
                match (code, &request) {
                    (Refusal::Malformed, _) => Some(soon),
                    // Its topics are asked for instead.
                    (Refusal::Forbidden, Request::Heads { .. }) => None,
                    _ => Some(MINUTE),
                }
            }
            answer => {
                let of = incarnation(answer);
                expected.foreign =
                    of.is_some_and(|of| self.life.is_none_or(|life| life.incarnation != of));
                expected.foreign.then_some(soon)
            }
        };
        if let Some(wait) = wait {
            self.wait(&request, now + wait);
        }
        let is_of_topic = matches!(request, Request::Replay { .. } | Request::Snapshot { .. });
        if is_of_topic && !matches!(answer, Answer::RetryAfter(_)) {
            let topic = purpose(&request);
            let refused =
                matches!(answer, Answer::Refused { code, .. } if *code == Refusal::Forbidden);
            if !refused {
                self.forbidden.remove(topic);
            } else if self.forbidden.insert(topic.to_owned()) {
                expected.forbidden = Some(topic.to_owned());
            }
        }
        self.replayed(&request, answer, expected);
        expected.answered = Some(question);
    }

    fn replayed(&mut self, request: &Request, answer: &Answer, expected: &mut Expected) {
        let topic = purpose(request);
        let (
            Request::Replay { after, .. },
            Answer::Events {
                upto, last, events, ..
            },
        ) = (request, answer)
        else {
            if !matches!(answer, Answer::RetryAfter(_) | Answer::Refused { .. }) {
                self.fetched.remove(topic);
            }
            return;
        };
        let known = self.fetched.remove(topic).filter(|(at, _)| at == after);
        let fetched = known.map_or(0, |(_, fetched)| fetched) + events.len() as u64;
        if upto < last {
            self.fetched.insert(topic.to_owned(), (*upto, fetched));
        } else {
            expected.replayed = Some((topic.to_owned(), fetched));
        }
    }
}
