//! The thread that owns the ZAP socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zmq::Socket;

use super::guard::Guard;
use super::zap::{self, Verdict};
use super::{ADDRESS, Command, GateMetrics, LOOK};
use crate::pubsub::driver::zmq::{curve, wait};
use crate::util::pulse::Pulse;
use crate::util::rate::RateLimit;
use crate::util::waker::Inbox;

/// The wait after an error of the socket, which has no known cause.
const BROKEN: Duration = Duration::from_millis(100);

/// Questions answered before the directory is looked at again.
const ROUND: usize = 64;

pub(super) struct Server {
    socket: Socket,
    inbox: Inbox<Command>,
    guard: Guard,
    pulse: Arc<Pulse>,
    metrics: Arc<GateMetrics>,
    errors: RateLimit,
}

/// Says that nobody is admitted any more, also where the thread ends by a panic.
struct Closing(Arc<GateMetrics>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.gate_open.set(0);
        if std::thread::panicking() {
            log::error!("the gate broke down: nobody new is admitted until a restart");
        }
    }
}

impl Server {
    pub(super) fn new(
        socket: Socket,
        inbox: Inbox<Command>,
        guard: Guard,
        pulse: Arc<Pulse>,
        metrics: Arc<GateMetrics>,
    ) -> Self {
        Server {
            socket,
            inbox,
            guard,
            pulse,
            metrics,
            errors: RateLimit::new(5, Duration::from_secs(60)),
        }
    }

    /// Runs until [`Command::Stop`].
    pub(super) fn run(mut self) {
        let _closing = Closing(Arc::clone(&self.metrics));
        let mut due = Instant::now();
        loop {
            // Never at rest: whoever watches it is to notice that it is gone, too.
            self.pulse.beat();
            for command in self.inbox.drain() {
                match command {
                    Command::Look => due = Instant::now(),
                    Command::Stop => return self.guard.write(Instant::now()),
                    #[cfg(test)]
                    Command::Break => panic!("as the test wants it"),
                }
            }
            let now = Instant::now();
            if now >= due {
                self.guard.tick(now);
                due = now + LOOK;
            }
            if (0..ROUND).any(|_| !self.serve()) {
                self.wait(due.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Answers one question; `false` when none is waiting.
    fn serve(&mut self) -> bool {
        let frames = match self.socket.recv_multipart(zmq::DONTWAIT) {
            Ok(frames) => frames,
            Err(zmq::Error::EAGAIN) => return false,
            Err(zmq::Error::EINTR) => return true,
            Err(error) => {
                self.complain("the gate cannot receive", error);
                return false;
            }
        };
        let verdict = match zap::read(&frames, curve::DOMAIN) {
            Some(question) => self.guard.judge(&question, Instant::now()),
            None => {
                self.metrics.gate_malformed_total.inc();
                Verdict::Malformed
            }
        };
        let answer = zap::answer(&frames, &verdict);
        // What is not answered is not admitted.
        if let Err(error) = self.socket.send_multipart(answer, zmq::DONTWAIT) {
            self.complain("the gate cannot answer", error);
        }
        true
    }

    fn complain(&self, what: &str, error: impl std::fmt::Display) {
        if let Some(permit) = self.errors.permit(Instant::now()) {
            log::error!("{what}: {error}{permit}");
        }
        std::thread::sleep(BROKEN);
    }

    fn wait(&self, time: Duration) {
        if let Err(error) = wait(&self.socket, None, self.inbox.fd(), Some(time), ADDRESS) {
            self.complain("the gate cannot wait", error);
        }
    }
}
