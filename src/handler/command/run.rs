//! Commands from their start to their end, one or several at a time.
//!
//! The thread that runs them waits in `poll` for everything at once: the commands' ends (pidfds),
//! their pipes, the stop and the time. So there is no thread to leak, no signal handler, and
//! nothing a command does or leaves undone with its pipes can block.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdin, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::pipes::{Tail, drain, feed};
use super::process::{self, Process};
use crate::handler::{BuildError, HandlerError};
use crate::util::stop::StopToken;

/// Reads from the pipe of a command that has ended; what it left behind may go on writing.
const MAX_LAST_READS: usize = 16;

/// Runs one command, each run under a tag of the owner's.
#[derive(Debug)]
pub(in crate::handler) struct Runner<T> {
    arguments: Vec<String>,
    timeout: Duration,
    stop: StopToken,
    jobs: Vec<Job<T>>,
    /// Killed commands that are not gone yet.
    undead: Vec<Process>,
}

/// One run.
#[derive(Debug)]
struct Job<T> {
    tag: T,
    process: Process,
    stdin: Option<ChildStdin>,
    stderr: Option<ChildStderr>,
    input: Vec<u8>,
    fed: usize,
    tail: Tail,
    deadline: Instant,
}

/// Why a command is no longer waited for.
enum End {
    Exited(ExitStatus),
    TimedOut,
    Stopped,
}

/// A run that ended, and how.
pub(in crate::handler) type Done<T> = (T, Result<(), HandlerError>);

impl<T> Runner<T> {
    /// Checks that the kernel has what it takes. `arguments` is not empty.
    pub fn new(
        arguments: Vec<String>,
        timeout: Duration,
        stop: StopToken,
    ) -> Result<Self, BuildError> {
        process::check_kernel()?;
        Ok(Runner {
            arguments,
            timeout,
            stop,
            jobs: Vec::new(),
            undead: Vec::new(),
        })
    }

    /// The tags of what runs.
    pub fn running(&self) -> impl ExactSizeIterator<Item = &T> {
        self.jobs.iter().map(|job| &job.tag)
    }

    /// Starts the command with `environment` added to the agent's own and `input` for its standard
    /// input. [`Runner::wait`] tells how it ended.
    ///
    /// # Errors
    /// `Permanent` when the environment is too large for any command; `Retry` when it cannot be
    /// started now.
    pub fn start(
        &mut self,
        tag: T,
        environment: &[(&str, &str)],
        input: Vec<u8>,
    ) -> Result<(), HandlerError> {
        if self.stop.is_stopped() {
            return Err(HandlerError::Retry("stopped".into()));
        }
        self.reap()?;
        let mut command = process::command(&self.arguments);
        command
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = Process::start(command).map_err(|error| match error.kind() {
            ErrorKind::ArgumentListTooLong => HandlerError::Permanent(format!(
                "table, key or topic is too long for the environment of a command: {error}"
            )),
            _ => self.retry(&format_args!("cannot be started: {error}")),
        })?;
        let (stdin, stderr) = (process.child.stdin.take(), process.child.stderr.take());
        let pipes = [
            stdin.as_ref().map(AsFd::as_fd),
            stderr.as_ref().map(AsFd::as_fd),
        ];
        for pipe in pipes.into_iter().flatten() {
            rustix::io::ioctl_fionbio(pipe, true)
                .map_err(|error| self.retry(&format_args!("cannot be watched: {error}")))?;
        }
        self.jobs.push(Job {
            tag,
            process,
            stdin,
            stderr,
            input,
            fed: 0,
            tail: Tail::default(),
            deadline: Instant::now() + self.timeout,
        });
        Ok(())
    }

    /// Feeds and drains what runs until something ends, or until `until`; gives what has ended.
    pub fn wait(&mut self, until: Instant) -> Vec<Done<T>> {
        loop {
            let mut done = Vec::new();
            let mut place = 0;
            while let Some(job) = self.jobs.get_mut(place) {
                match job.attend(&self.stop) {
                    Ok(None) => place += 1,
                    end => {
                        let job = self.jobs.swap_remove(place);
                        done.push(self.end(job, end));
                    }
                }
            }
            if !done.is_empty() || self.jobs.is_empty() || Instant::now() >= until {
                return done;
            }
            if let Err(error) = self.poll(until)
                && error.kind() != ErrorKind::Interrupted
            {
                for job in std::mem::take(&mut self.jobs) {
                    done.push(self.end(job, Err(io::Error::from(error.kind()))));
                }
                return done;
            }
        }
    }

    /// Takes leave of killed commands that were not gone before.
    ///
    /// # Errors
    /// `Retry` while one still is not: it hangs in the kernel, and more of its kind would too.
    pub fn reap(&mut self) -> Result<(), HandlerError> {
        self.undead
            .retain_mut(|process| matches!(process.ended(), Ok(None)));
        match self.undead.first() {
            None => Ok(()),
            Some(process) => Err(self.retry(&format_args!(
                "was killed as process {} but is not gone",
                process.child.id()
            ))),
        }
    }

    fn program(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    fn retry(&self, why: &dyn std::fmt::Display) -> HandlerError {
        HandlerError::Retry(format!("{} {why}", self.program()))
    }

    fn poll(&self, until: Instant) -> io::Result<()> {
        let mut watched = Vec::with_capacity(3 * self.jobs.len() + 1);
        let mut until = until;
        for job in &self.jobs {
            until = until.min(job.deadline);
            watched.push(PollFd::from_borrowed_fd(job.process.fd(), PollFlags::IN));
            let pipes = [
                job.stdin
                    .as_ref()
                    .map(|pipe| (pipe.as_fd(), PollFlags::OUT)),
                job.stderr
                    .as_ref()
                    .map(|pipe| (pipe.as_fd(), PollFlags::IN)),
            ];
            let pipes = pipes.into_iter().flatten();
            watched.extend(pipes.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
        }
        if let Some(fd) = self.stop.fd() {
            watched.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        process::wait(&mut watched, until)
    }

    fn end(&mut self, mut job: Job<T>, end: io::Result<Option<End>>) -> Done<T> {
        if let Ok(Some(End::Exited(status))) = end {
            let result = match status.success() {
                true => Ok(()),
                false => Err(self.retry(&format_args!("failed with {status}{}", job.tail))),
            };
            return (job.tag, result);
        }
        if !job.process.kill() {
            self.undead.push(job.process);
        }
        let error = match end {
            Ok(Some(End::Stopped)) => HandlerError::Retry("stopped".into()),
            Ok(_) => self.retry(&format_args!(
                "ran longer than {} s and was killed{}",
                self.timeout.as_secs_f64(),
                job.tail
            )),
            Err(error) => self.retry(&format_args!(
                "was killed, for it cannot be watched: {error}"
            )),
        };
        (job.tag, Err(error))
    }
}

impl<T: Default> Runner<T> {
    /// Runs the command to its end; to be used where no other run is under way.
    ///
    /// # Errors
    /// As [`Runner::start`]; also `Retry` when it fails, takes too long or is stopped.
    pub fn run(
        &mut self,
        environment: &[(&str, &str)],
        input: Vec<u8>,
    ) -> Result<(), HandlerError> {
        self.start(T::default(), environment, input)?;
        loop {
            // Beyond the command's own deadline, which ends it.
            let until = Instant::now() + self.timeout;
            if let Some((_, result)) = self.wait(until).pop() {
                return result;
            }
        }
    }
}

impl<T> Job<T> {
    /// Does what can be done without waiting.
    fn attend(&mut self, stop: &StopToken) -> io::Result<Option<End>> {
        feed(&mut self.stdin, &self.input, &mut self.fed);
        drain(&mut self.stderr, &mut self.tail);
        if let Some(status) = self.process.ended()? {
            for _ in 0..MAX_LAST_READS {
                if !drain(&mut self.stderr, &mut self.tail) {
                    break;
                }
            }
            return Ok(Some(End::Exited(status)));
        }
        if stop.is_stopped() {
            return Ok(Some(End::Stopped));
        }
        Ok((Instant::now() >= self.deadline).then_some(End::TimedOut))
    }
}
