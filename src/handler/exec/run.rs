//! One command from its start to its end.
//!
//! The thread that runs a command waits in `poll` for everything at once: the command's end (a
//! pidfd), its pipes, the stop and the time. So there is no thread to leak, no signal handler, and
//! nothing the command does or leaves undone with its pipes can block.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::pipes::{Tail, drain, feed};
use crate::handler::{BuildError, HandlerError};
use crate::util::stop::StopToken;

/// How long a killed process may take to be gone. Only one that hangs in the kernel needs longer.
const KILL_GRACE: Duration = Duration::from_secs(1);
/// Reads from the pipe of a command that has ended; what it left behind may go on writing.
const MAX_LAST_READS: usize = 16;

/// Runs one command after the other.
pub(super) struct Runner {
    command: Vec<String>,
    timeout: Duration,
    stop: StopToken,
    /// A killed command that is not gone yet.
    undead: Option<Child>,
}

/// Why a command is no longer waited for.
enum End {
    Exited,
    TimedOut,
    Stopped,
}

impl Runner {
    /// Checks that the kernel has what it takes. `command` is not empty.
    pub(super) fn new(
        command: Vec<String>,
        timeout: Duration,
        stop: StopToken,
    ) -> Result<Self, BuildError> {
        pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).map_err(|error| {
            BuildError::Environment(format!("pidfd_open (Linux 5.3 or newer): {error}"))
        })?;
        Ok(Runner {
            command,
            timeout,
            stop,
            undead: None,
        })
    }

    /// Runs the command with `environment` added to the agent's own and `input` on standard input.
    ///
    /// # Errors
    /// `Permanent` when the environment is too large for any command; `Retry` for all else: it
    /// cannot be started, fails, takes too long or is stopped.
    pub(super) fn run(
        &mut self,
        environment: &[(&str, &str)],
        input: &[u8],
    ) -> Result<(), HandlerError> {
        if self.stop.is_stopped() {
            return Err(HandlerError::Retry("stopped".into()));
        }
        self.reap()?;
        let mut child = self.spawn(environment)?;
        let mut stderr = Tail::default();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let end = match &pidfd {
            Ok(pidfd) => self.attend(&mut child, pidfd, input, &mut stderr),
            Err(error) => Err((*error).into()),
        };
        if let Ok(End::Exited) = end {
            let status = child.wait().map_err(|error| self.retry(&error))?;
            return self.judge(status, &stderr);
        }
        self.kill(child, pidfd.ok());
        match end {
            Ok(End::Stopped) => Err(HandlerError::Retry("stopped".into())),
            Ok(_) => Err(self.retry(&format_args!(
                "ran longer than {} s and was killed{stderr}",
                self.timeout.as_secs_f64()
            ))),
            Err(error) => Err(self.retry(&format_args!(
                "was killed, for it cannot be watched: {error}"
            ))),
        }
    }

    /// Takes leave of a killed command that was not gone before.
    ///
    /// # Errors
    /// `Retry` while it still is not: it hangs in the kernel, and more of its kind would too.
    pub(super) fn reap(&mut self) -> Result<(), HandlerError> {
        if let Some(child) = &mut self.undead {
            if let Ok(None) = child.try_wait() {
                let why = format!("was killed as process {} but is not gone", child.id());
                return Err(self.retry(&why));
            }
            self.undead = None;
        }
        Ok(())
    }

    fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    fn retry(&self, why: &dyn std::fmt::Display) -> HandlerError {
        HandlerError::Retry(format!("{} {why}", self.program()))
    }

    fn spawn(&self, environment: &[(&str, &str)]) -> Result<Child, HandlerError> {
        let mut command = Command::new(self.program());
        // Without what the service manager gave to the agent alone: a command that speaks to it
        // would do so in the agent's name.
        command
            .args(self.command.iter().skip(1))
            .envs(environment.iter().copied())
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        command.spawn().map_err(|error| match error.kind() {
            ErrorKind::ArgumentListTooLong => HandlerError::Permanent(format!(
                "table, key or topic is too long for the environment of a command: {error}"
            )),
            _ => self.retry(&format_args!("cannot be started: {error}")),
        })
    }

    /// Feeds and drains the command until it ends or must be killed.
    fn attend(
        &self,
        child: &mut Child,
        pidfd: &OwnedFd,
        mut input: &[u8],
        tail: &mut Tail,
    ) -> io::Result<End> {
        let deadline = Instant::now() + self.timeout;
        let mut stdin = child.stdin.take();
        let mut stderr = child.stderr.take();
        if let Some(pipe) = &stdin {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        if let Some(pipe) = &stderr {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        loop {
            feed(&mut stdin, &mut input);
            drain(&mut stderr, tail);
            let left = deadline.saturating_duration_since(Instant::now());
            let stop = self.stop.fd();
            let pipes = [
                stdin.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::OUT)),
                stderr.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::IN)),
                stop.map(|fd| (fd, PollFlags::IN)),
            ];
            let mut watched = vec![PollFd::new(pidfd, PollFlags::IN)];
            watched.extend(
                pipes
                    .into_iter()
                    .flatten()
                    .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)),
            );
            match wait(&mut watched, left) {
                Ok(()) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if !watched[0].revents().is_empty() {
                for _ in 0..MAX_LAST_READS {
                    if !drain(&mut stderr, tail) {
                        break;
                    }
                }
                return Ok(End::Exited);
            }
            if self.stop.is_stopped() {
                return Ok(End::Stopped);
            }
            if left.is_zero() {
                return Ok(End::TimedOut);
            }
        }
    }

    /// Kills the command with all of its group and waits a moment for its end.
    fn kill(&mut self, mut child: Child, pidfd: Option<OwnedFd>) {
        // The child was not waited for, so its id, the group's too, cannot be another's yet.
        if let Err(error) = kill_process_group(Pid::from_child(&child), Signal::KILL) {
            log::warn!("cannot kill {}: {error}", self.program());
        }
        if let Some(pidfd) = pidfd {
            let deadline = Instant::now() + KILL_GRACE;
            let mut watched = [PollFd::new(&pidfd, PollFlags::IN)];
            while let Err(Errno::INTR) = wait(
                &mut watched,
                deadline.saturating_duration_since(Instant::now()),
            ) {}
        }
        if let Ok(None) = child.try_wait() {
            self.undead = Some(child);
        }
    }

    fn judge(&self, status: ExitStatus, stderr: &Tail) -> Result<(), HandlerError> {
        if status.success() {
            return Ok(());
        }
        Err(self.retry(&format_args!("failed with {status}{stderr}")))
    }
}

fn wait(watched: &mut [PollFd<'_>], time: Duration) -> rustix::io::Result<()> {
    let time = Timespec::try_from(time).map_err(|_| Errno::INVAL)?;
    poll(watched, Some(&time)).map(|_| ())
}
