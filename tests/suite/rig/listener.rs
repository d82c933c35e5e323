//! A bare SUB socket that writes down what comes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fanfare::event::hello::Hello;
use fanfare::event::{Stamp, codec};

use super::{PATIENCE, until, within};

/// The heartbeat's topic as a subscriber names it.
pub const HELLO: &[u8] = b"\x01hello\0";

#[derive(Clone)]
pub struct Heard {
    pub at: Instant,
    pub frame: Vec<u8>,
    pub payload: Vec<u8>,
}

/// An event that was heard.
#[derive(Debug, Clone)]
pub struct Told {
    pub at: Instant,
    pub frame: Vec<u8>,
    pub table: String,
    pub key: String,
    pub value: Option<String>,
    pub stamp: Stamp,
}

impl Told {
    /// Nothing for a hello and for rows of the table `publisher`, which come by themselves.
    fn of(heard: &Heard) -> Option<Told> {
        if heard.frame == HELLO {
            return None;
        }
        let event = codec::decode(&heard.payload).unwrap();
        let told = Told {
            at: heard.at,
            frame: heard.frame.clone(),
            table: event.table.into(),
            key: event.key.into(),
            value: event.value.map(str::to_owned),
            stamp: event.stamp.expect("what the service sends is stamped"),
        };
        (told.table != "publisher").then_some(told)
    }
}

pub struct Listener {
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Subscribes to the prefixes, in order, and stays whatever becomes of the publisher.
    pub fn connect(uri: &str, prefixes: &[&[u8]]) -> Listener {
        let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
        socket.set_rcvhwm(0).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_reconnect_ivl(5).unwrap();
        socket.set_rcvtimeo(20).unwrap();
        for prefix in prefixes {
            socket.set_subscribe(prefix).unwrap();
        }
        socket.connect(uri).unwrap();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (to, stopped) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok(frames) = socket.recv_multipart(0) else {
                    continue;
                };
                let [frame, payload] = <[Vec<u8>; 2]>::try_from(frames).unwrap();
                let at = Instant::now();
                to.lock().unwrap().push(Heard { at, frame, payload });
            }
        });
        Listener {
            heard,
            stop,
            thread: Some(thread),
        }
    }

    /// Subscribes to the prefixes and to hellos, and waits until all that is in force.
    #[track_caller]
    pub fn joined(uri: &str, prefixes: &[&[u8]]) -> Listener {
        let prefixes: Vec<&[u8]> = prefixes.iter().copied().chain([HELLO]).collect();
        let listener = Listener::connect(uri, &prefixes);
        until("a hello greets the subscriber", || {
            (!listener.hellos().is_empty()).then_some(())
        });
        listener
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub fn hellos(&self) -> Vec<(Instant, Hello)> {
        let heard = self.heard.lock().unwrap();
        heard
            .iter()
            .filter(|heard| heard.frame == HELLO)
            .map(|heard| (heard.at, Hello::decode(&heard.payload).unwrap()))
            .collect()
    }

    /// The events so far, those of the table `publisher` apart: they come by themselves.
    pub fn told(&self) -> Vec<Told> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter_map(Told::of).collect()
    }

    /// Waits for an event of this key.
    #[track_caller]
    pub fn has(&self, key: &str) -> Told {
        self.has_within(PATIENCE, key)
    }

    /// The same, for no longer than `limit`.
    #[track_caller]
    pub fn has_within(&self, limit: Duration, key: &str) -> Told {
        let mut seen = 0;
        within(limit, &format!("{key} is heard"), || {
            // Only what is new: there may be very many.
            let new = self.heard.lock().unwrap()[seen..].to_vec();
            seen += new.len();
            let mut told = new.iter().filter_map(Told::of);
            told.find(|told| told.key == key)
        })
    }

    pub fn count(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    /// The highest seq heard of, by an event or a hello.
    pub fn head(&self) -> u64 {
        let heard = self.heard.lock().unwrap();
        // The stamp is the end of an event's payload.
        let seq = |heard: &Heard| match heard.frame == HELLO {
            true => Hello::decode(&heard.payload).unwrap().head,
            false => {
                let stamp = heard.payload.last_chunk::<56>().unwrap();
                Stamp::from_bytes(stamp).unwrap().seq
            }
        };
        heard.last().map_or(0, seq)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("what was heard is not two frames");
        }
    }
}
