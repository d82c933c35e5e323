//! A child process with all that it starts: a group, which ends with its owner.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::handler::BuildError;

/// How long a killed process may take to be gone. Only one that hangs in the kernel needs longer.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// A child in a process group of its own. Dropping it kills the group, unless the child was seen to
/// end: what it leaves in the background then is let be.
#[derive(Debug)]
pub(in crate::handler) struct Process {
    /// With the pipes it was started with.
    pub child: Child,
    pidfd: OwnedFd,
    ended: bool,
}

/// Checks that the kernel has what it takes.
///
/// # Errors
/// It has not.
pub(in crate::handler) fn check_kernel() -> Result<(), BuildError> {
    match pidfd_open(rustix::process::getpid(), PidfdFlags::empty()) {
        Ok(_) => Ok(()),
        Err(error) => Err(BuildError::Environment(format!(
            "pidfd_open (Linux 5.3 or newer): {error}"
        ))),
    }
}

/// The command of these arguments, program first.
pub(in crate::handler) fn command(arguments: &[String]) -> Command {
    let mut command = Command::new(arguments.first().map_or("", String::as_str));
    // Without what the service manager gave to the agent alone: a command that speaks to it would
    // do so in the agent's name.
    command
        .args(arguments.iter().skip(1))
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID")
        .process_group(0);
    command
}

impl Process {
    /// Starts what [`command`] made.
    ///
    /// # Errors
    /// What the system says; nothing is left running.
    pub fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Process {
                child,
                pidfd,
                ended: false,
            }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error.into())
            }
        }
    }

    /// Becomes readable when the child ends.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How the child ended, `None` while it has not.
    ///
    /// # Errors
    /// What the system says; the child counts as not ended then.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        self.ended |= status.is_some();
        Ok(status)
    }

    /// Kills the child with all of its group and waits a moment; says whether it is gone.
    pub fn kill(&mut self) -> bool {
        if self.ended {
            return true;
        }
        // The child was not waited for, so its id, the group's too, cannot be another's yet.
        if let Err(error) = kill_process_group(Pid::from_child(&self.child), Signal::KILL) {
            log::warn!("cannot kill process group {}: {error}", self.child.id());
        }
        let deadline = Instant::now() + KILL_GRACE;
        let mut watched = [PollFd::new(&self.pidfd, PollFlags::IN)];
        while let Err(ErrorKind::Interrupted) =
            wait(&mut watched, deadline).map_err(|error| error.kind())
        {}
        matches!(self.ended(), Ok(Some(_)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.kill() {
            log::warn!(
                "process {} was killed but is not gone: it hangs in the kernel",
                self.child.id()
            );
        }
    }
}

/// Waits until something is ready or `until` has come.
pub(in crate::handler) fn wait(watched: &mut [PollFd<'_>], until: Instant) -> io::Result<()> {
    let time = until.saturating_duration_since(Instant::now());
    let time = Timespec::try_from(time).map_err(|_| Errno::INVAL)?;
    poll(watched, Some(&time))?;
    Ok(())
}
