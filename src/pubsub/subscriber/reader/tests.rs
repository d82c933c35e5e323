//! The end of a reader.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::*;
use crate::event::{Event, EventBatch, codec};
use crate::pubsub::api::{Callback, LinkChange};
use crate::pubsub::subscriber::follow::Passing;
use crate::pubsub::subscriber::{Received, Signal};
use crate::util::testing::{deadline, patience};
use crate::util::waker;

/// A connection on which all messages there will be are waiting.
struct Full {
    messages: VecDeque<Vec<u8>>,
    current: Vec<u8>,
    up: Option<Signal>,
}

impl Link for Full {
    fn subscribe(&mut self, _: &[u8]) -> Result<(), PubSubError> {
        Ok(())
    }

    fn unsubscribe(&mut self, _: &[u8]) -> Result<(), PubSubError> {
        Ok(())
    }

    fn receive(&mut self) -> Result<Received<'_>, PubSubError> {
        let Some(payload) = self.messages.pop_front() else {
            return Ok(Received::Nothing);
        };
        self.current = payload;
        Ok(Received::Message {
            topic: b"D\0",
            payload: &self.current,
        })
    }

    fn signal(&mut self) -> Result<Option<Signal>, PubSubError> {
        Ok(self.up.take())
    }

    fn wait(
        &mut self,
        wakes: [BorrowedFd<'_>; 2],
        timeout: Option<Duration>,
    ) -> Result<(), PubSubError> {
        poll::readable(wakes, timeout).unwrap();
        Ok(())
    }
}

struct Fake {
    selects: bool,
    link: Mutex<Option<Full>>,
}

impl Transport for Fake {
    fn supports(&self, _: &Endpoint) -> bool {
        true
    }

    fn selects(&self) -> bool {
        self.selects
    }

    fn open(&self, _: &Endpoint, _: &str) -> Result<Box<dyn Link>, PubSubError> {
        Ok(Box::new(self.link.lock().unwrap().take().unwrap()))
    }
}

/// Holds the first events up until it is let go.
struct Gate {
    heard: Mutex<Vec<String>>,
    entered: Sender<()>,
    held: Receiver<()>,
}

impl Callback for Gate {
    fn events(&self, _: &Source, events: EventBatch) {
        let keys = events.iter().map(|event| event.key.to_owned());
        self.heard.lock().unwrap().extend(keys);
        let _ = self.entered.try_send(());
        // Until the other end is gone.
        let _ = self.held.recv_timeout(patience());
    }

    fn link(&self, _: &Source, _: LinkChange) {}
}

/// How many events are handed on in all, and in the first batch, where the reader is told to end while
/// it hands on the first of 1,000.
fn told_to_end(selects: bool) -> (usize, usize) {
    let message = |number: u32| {
        let (key, mut payload) = (number.to_string(), Vec::new());
        codec::encode(&Event::set("t", &key, "v"), &mut payload);
        payload
    };
    let link = Full {
        messages: (0..1_000).map(message).collect(),
        current: Vec::new(),
        up: Some(Signal::Up),
    };
    let (entered_to, entered) = bounded(1);
    let (let_go, held) = bounded(0);
    let gate = Arc::new(Gate {
        heard: Mutex::default(),
        entered: entered_to,
        held,
    });
    let (commands, inbox) = waker::channel().unwrap();
    let source = Arc::new(Source::new("memory://p".into()));
    let callback = Arc::clone(&gate) as Arc<dyn Callback>;
    let parts = Parts {
        follow: Box::new(Passing::new(&callback, &source)),
        endpoint: Endpoint::Memory { name: "p".into() },
        source,
        transport: Arc::new(Fake {
            selects,
            link: Mutex::new(Some(link)),
        }),
        options: SubscriberOptions::default(),
        topics: vec!["D".into()],
        inbox,
        commands: commands.try_clone().unwrap(),
    };
    let thread = std::thread::spawn(move || Reader::new(parts).run());
    entered.recv_timeout(patience()).unwrap();
    let first = gate.heard.lock().unwrap().len();
    assert!(commands.send(Command::Stop));
    drop(let_go);
    thread.join().unwrap();
    let heard = gate.heard.lock().unwrap();
    let expected: Vec<_> = (0..heard.len()).map(|number| number.to_string()).collect();
    assert_eq!(*heard, expected);
    (heard.len(), first)
}

/// Panics at the first subscription to `bad`; notes all others.
struct Subscribed {
    topics: Arc<Mutex<Vec<String>>>,
    panicked: Arc<Mutex<bool>>,
}

impl Link for Subscribed {
    fn subscribe(&mut self, prefix: &[u8]) -> Result<(), PubSubError> {
        let topic = String::from_utf8(prefix.to_vec()).unwrap();
        if topic == "bad\0" && !std::mem::replace(&mut *self.panicked.lock().unwrap(), true) {
            std::panic::panic_any("as libzmq's binding may");
        }
        self.topics.lock().unwrap().push(topic);
        Ok(())
    }

    fn unsubscribe(&mut self, _: &[u8]) -> Result<(), PubSubError> {
        Ok(())
    }

    fn receive(&mut self) -> Result<Received<'_>, PubSubError> {
        Ok(Received::Nothing)
    }

    fn signal(&mut self) -> Result<Option<Signal>, PubSubError> {
        Ok(None)
    }

    fn wait(
        &mut self,
        wakes: [BorrowedFd<'_>; 2],
        timeout: Option<Duration>,
    ) -> Result<(), PubSubError> {
        poll::readable(wakes, timeout).unwrap();
        Ok(())
    }
}

/// Each link notes what is subscribed to on it, beside those before.
#[derive(Default)]
struct Noting {
    links: Mutex<Vec<Arc<Mutex<Vec<String>>>>>,
    panicked: Arc<Mutex<bool>>,
}

impl Transport for Noting {
    fn supports(&self, _: &Endpoint) -> bool {
        true
    }

    fn selects(&self) -> bool {
        true
    }

    fn open(&self, _: &Endpoint, _: &str) -> Result<Box<dyn Link>, PubSubError> {
        let topics = Arc::default();
        self.links.lock().unwrap().push(Arc::clone(&topics));
        let panicked = Arc::clone(&self.panicked);
        Ok(Box::new(Subscribed { topics, panicked }))
    }
}

#[test]
fn a_panic_in_one_command_loses_neither_it_nor_those_behind_it() {
    let (commands, inbox) = waker::channel().unwrap();
    let source = Arc::new(Source::new("memory://p".into()));
    let (entered, _) = bounded(1);
    let (_, held) = bounded(0);
    let callback: Arc<dyn Callback> = Arc::new(Gate {
        heard: Mutex::default(),
        entered,
        held,
    });
    let transport = Arc::<Noting>::default();
    let parts = Parts {
        follow: Box::new(Passing::new(&callback, &source)),
        endpoint: Endpoint::Memory { name: "p".into() },
        source,
        transport: Arc::clone(&transport) as Arc<dyn Transport>,
        options: SubscriberOptions {
            reconnect_min: Duration::from_millis(1),
            ..SubscriberOptions::default()
        },
        topics: vec!["D".into()],
        inbox,
        commands: commands.try_clone().unwrap(),
    };
    // They wait behind each other.
    for topic in ["bad", "behind"] {
        assert!(commands.send(Command::Subscribe(topic.into())));
    }
    let thread = std::thread::spawn(move || Reader::new(parts).run());
    let until = deadline();
    let has_all = || {
        let links = transport.links.lock().unwrap();
        let last = links.last().filter(|_| links.len() > 1);
        last.is_some_and(|topics| {
            let topics = topics.lock().unwrap();
            let has = |topic: &str| topics.iter().any(|known| known == topic);
            has("D\0") && has("bad\0") && has("behind\0")
        })
    };
    while !has_all() {
        let links = transport.links.lock().unwrap().clone();
        assert!(Instant::now() < until, "{links:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(*transport.panicked.lock().unwrap());
    assert!(commands.send(Command::Stop));
    thread.join().unwrap();
}

/// Whoever pushed it does not send it again.
#[test]
fn what_was_pushed_before_the_end_is_handed_on() {
    let (all, first) = told_to_end(false);
    assert!(first < 1_000);
    assert_eq!(all, 1_000);
}

/// A publisher's events are in its journal: an agent that ends does not wait for them.
#[test]
fn what_was_published_is_not_waited_for() {
    let (all, first) = told_to_end(true);
    assert!(first < 1_000);
    assert_eq!(all, first);
}
