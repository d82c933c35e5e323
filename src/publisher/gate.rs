//! Who may connect: the ZAP handler of the publisher's process.
//!
//! libzmq asks it about every handshake at a secured socket. It fails closed: where its thread has
//! ended nobody is admitted. Where its directory cannot be looked at any more, those are admitted who
//! were before, and nobody is added or shut out; that is counted, and the service is not ready. To be
//! started before anything is bound; the sockets that it guards are told by [`Cuts`] when somebody who
//! may be connected may be so no longer, because libzmq cannot drop one peer of many: all reconnect,
//! and prove anew who they are. What they miss meanwhile they find missing.

mod guard;
mod server;
#[cfg(test)]
mod tests;
mod zap;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Metric;
use crate::pubsub::PubSubError;
use crate::pubsub::driver::zmq::{failed, ffi};
use crate::security::admitted::Admitted;
use crate::util::pulse::Pulse;
use crate::util::thread::{Ending, Handle, Thread};
use crate::util::waker::{self, Commands};

use self::guard::Guard;
use self::server::Server;

crate::metrics! {
    /// What the gate counts.
    pub struct GateMetrics {
        gate_admitted_total: Counter = "Connections admitted.",
        gate_refused_total: Counter = "Connections refused because their key is not authorised.",
        gate_kept_out_total: Counter = "Connections refused because their node had sent what no agent sends, within a minute.",
        gate_hurried_total: Counter = "Connections refused because their node had made too many in a short time.",
        gate_malformed_total: Counter = "Questions about connections that could not be read; refused.",
        gate_cuts_total: Counter = "Times all connections were ended because a node is authorised no longer.",
        gate_reads_total: Counter = "Times authorized_keys was read.",
        gate_nodes: Gauge = "Authorised nodes.",
        gate_bad_files: Gauge = "Files of authorized_keys that authorise nobody.",
        gate_unsure_files: Gauge = "Files of authorized_keys that cannot be read now; they authorise whom they did.",
        gate_directory_failed: Gauge = "Whether authorized_keys cannot be looked at, so that whoever was authorised still is (1).",
        gate_pending: Gauge = "Unknown keys that are kept for the operator to authorise.",
        gate_open: Gauge = "Whether connections are admitted at all (1).",
    }
}

/// Where libzmq asks.
const ADDRESS: &str = "inproc://zeromq.zap.01";

/// How often the directory is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long its end is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells the owners of guarded sockets to cut all connections. The default tells nobody anything.
#[derive(Debug, Clone, Default)]
pub struct Cuts(Arc<Metric>);

impl Cuts {
    /// How many there were. An owner that has done fewer has one to do.
    pub fn count(&self) -> u64 {
        self.0.get()
    }

    pub(super) fn order(&self) {
        self.0.inc();
    }
}

/// How the gate behaves.
#[derive(Debug, Clone)]
pub struct GateOptions {
    /// One file `NAME.key` for each node that may connect.
    pub authorized: PathBuf,
    /// Where unknown keys are listed.
    pub pending: PathBuf,
    /// The shortest time between two cuts.
    pub cut_every: Duration,
    /// Shared with the sockets that it guards.
    pub admitted: Admitted,
}

#[derive(Debug)]
enum Command {
    Look,
    Stop,
    #[cfg(test)]
    Break,
}

/// The running gate. Dropping it ends it; sockets that are still bound then admit nobody.
pub struct Gate {
    /// Its thread.
    pub thread: Handle,
    commands: Arc<Commands<Command>>,
    cuts: Cuts,
    /// Whether its thread gets on. It wakes each second, so that one without a beat is stuck or dead.
    pub pulse: Arc<Pulse>,
    /// What it counts.
    pub metrics: Arc<GateMetrics>,
}

impl Gate {
    /// Starts to answer for all sockets of `context`.
    ///
    /// # Errors
    /// The directory cannot be read, or the context has a gate already.
    pub fn start(context: &zmq::Context, options: GateOptions) -> Result<Self, PubSubError> {
        let metrics = Arc::new(GateMetrics::default());
        let cuts = Cuts::default();
        let mut guard = Guard::new(options, cuts.clone(), Arc::clone(&metrics));
        guard.begin()?;
        let mut socket = context
            .socket(zmq::REP)
            .and_then(|socket| socket.set_linger(0).map(|()| socket))
            .map_err(failed("cannot open the socket of the gate"))?;
        ffi::bind(&mut socket, ADDRESS).map_err(|error| PubSubError::System {
            what: format!("cannot bind {ADDRESS}"),
            why: error.to_string(),
        })?;
        let cannot = |why: std::io::Error| PubSubError::System {
            what: "cannot start the gate".into(),
            why: why.to_string(),
        };
        let (commands, inbox) = waker::channel().map_err(cannot)?;
        let commands = Arc::new(commands);
        let pulse = Arc::<Pulse>::default();
        pulse.beat();
        let server = Server::new(
            socket,
            inbox,
            guard,
            Arc::clone(&pulse),
            Arc::clone(&metrics),
        );
        metrics.gate_open.set(1);
        let thread = Thread::spawn("gate", move || server.run()).map_err(cannot)?;
        let told = Arc::clone(&commands);
        let ending = Ending {
            tell: Box::new(move || _ = told.send(Command::Stop)),
            within: PATIENCE,
            late: "the thread of the gate does not end; left behind",
        };
        Ok(Gate {
            thread: Handle::new(thread, ending),
            commands,
            cuts,
            pulse,
            metrics,
        })
    }

    /// For the owners of the sockets that it guards.
    pub fn cuts(&self) -> Cuts {
        self.cuts.clone()
    }

    /// Looks at the directory now, not only within a second.
    pub fn look(&self) {
        if !self.commands.send(Command::Look) {
            log::error!("the gate has ended: nobody new is admitted until a restart");
        }
    }

    #[cfg(test)]
    fn break_down(&self) {
        assert!(self.commands.send(Command::Break));
    }
}
