//! Bare SUB sockets and what they have received together.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::path::{Made, Middle};
use crate::{HWM, PATIENCE, TOPIC};

/// Bare SUB sockets and what they have received together.
pub struct Audience {
    pub size: u64,
    /// What has arrived.
    pub count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    /// How long events were on their way, nanoseconds, as far as that is noted.
    latencies: Arc<Mutex<Vec<u64>>>,
    threads: Vec<JoinHandle<()>>,
}

/// A context has at most 1,023 sockets, and libzmq's lists of them grow slow.
pub const SOCKETS_PER_CONTEXT: u64 = 256;
pub const AUDIENCE_THREADS: u64 = 2;

impl Audience {
    fn subscribe(context: &zmq::Context, uri: &str) -> zmq::Socket {
        let socket = context.socket(zmq::SUB).unwrap();
        socket.set_rcvhwm(HWM).unwrap();
        socket.set_subscribe(TOPIC.as_bytes()).unwrap();
        socket.connect(uri).unwrap();
        socket
    }

    /// One subscriber that is always at its socket. With an epoch it notes how long each event was
    /// on its way.
    pub fn one(uri: &str, epoch: Option<Instant>) -> Self {
        let (count, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (counted, stopped) = (Arc::clone(&count), Arc::clone(&stop));
        let socket = Self::subscribe(&zmq::Context::new(), uri);
        socket.set_rcvtimeo(200).unwrap();
        let latencies = Arc::<Mutex<Vec<u64>>>::default();
        let noted = Arc::clone(&latencies);
        let thread = std::thread::spawn(move || {
            let mut frame = zmq::Message::new();
            while !stopped.load(Ordering::Relaxed) {
                if socket.recv(&mut frame, 0).is_err() {
                    continue;
                }
                socket.recv(&mut frame, 0).unwrap();
                if let Some(epoch) = epoch {
                    let now = epoch.elapsed().as_nanos() as u64;
                    match Made::nanos_in(&frame) {
                        0 => {}
                        made => noted.lock().unwrap().push(now - made),
                    }
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Audience {
            size: 1,
            count,
            stop,
            latencies,
            threads: vec![thread],
        }
    }

    /// Many subscribers that few threads look after in turn.
    pub fn many(uri: &str, size: u64) -> Self {
        let (count, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let contexts: Vec<zmq::Context> = (0..size.div_ceil(SOCKETS_PER_CONTEXT))
            .map(|_| zmq::Context::new())
            .collect();
        let mut shares: Vec<Vec<zmq::Socket>> = Vec::new();
        shares.resize_with(AUDIENCE_THREADS.min(size) as usize, Vec::new);
        for place in 0..size as usize {
            let socket = Self::subscribe(&contexts[place % contexts.len()], uri);
            let share = place % shares.len();
            shares[share].push(socket);
        }
        let look_after = |sockets: Vec<zmq::Socket>| {
            let (counted, stopped) = (Arc::clone(&count), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut frame = zmq::Message::new();
                while !stopped.load(Ordering::Relaxed) {
                    let mut received = 0;
                    for socket in &sockets {
                        while socket.recv(&mut frame, zmq::DONTWAIT).is_ok() {
                            socket.recv(&mut frame, 0).unwrap();
                            received += 1;
                        }
                    }
                    counted.fetch_add(received, Ordering::Relaxed);
                    if received == 0 {
                        std::thread::sleep(Duration::from_micros(500));
                    }
                }
            })
        };
        let threads = shares.into_iter().map(look_after).collect();
        Audience {
            size,
            count,
            stop,
            latencies: Arc::default(),
            threads,
        }
    }

    /// Waits until at most `missing` deliveries of `events` events are under way.
    pub fn wait_for(&self, events: u64, missing: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (wanted, count) = (events * self.size, self.count.load(Ordering::Relaxed));
            if wanted <= count + missing {
                return;
            }
            assert!(Instant::now() < deadline, "{count} of {wanted} arrived");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// What was noted since the last time, sorted.
    pub fn take(&self) -> Vec<u64> {
        let mut latencies = std::mem::take(&mut *self.latencies.lock().unwrap());
        latencies.sort_unstable();
        latencies
    }

    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// Waits until all of the audience has subscribed.
pub fn await_subscriptions(middle: &Middle, audience: &Audience) {
    let deadline = Instant::now() + PATIENCE;
    while (middle.subscriptions)() < audience.size {
        assert!(Instant::now() < deadline, "not all subscriptions are seen");
        std::thread::sleep(Duration::from_millis(5));
    }
}
