//! A child with the three pipes to it, none of which ever blocks.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::lines::Lines;
use crate::handler::command::process::{self, Process};
use crate::util::stop::StopToken;

/// Reads from one pipe before the others and the time are looked at again.
const MAX_READS: usize = 16;
/// How long a process may take from closing its pipes to its end, to be told by its status.
const EXIT_TIME: Duration = Duration::from_millis(200);

/// A line that the child said.
#[derive(Debug)]
pub(super) enum Said {
    /// On its standard output.
    Out(String),
    /// On its standard error.
    Err(String),
}

/// A running child.
#[derive(Debug)]
pub(super) struct Child {
    process: Process,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    out_lines: Lines,
    err_lines: Lines,
    /// What the pipe has not taken yet.
    queue: Vec<u8>,
    written: usize,
}

impl Child {
    /// Starts the command.
    ///
    /// # Errors
    /// What the system says; nothing is left running.
    pub fn start(arguments: &[String]) -> io::Result<Self> {
        let mut command = process::command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Process::start(command)?;
        let child = &mut process.child;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let pipes = [
            stdin.as_ref().map(AsFd::as_fd),
            stdout.as_ref().map(AsFd::as_fd),
            stderr.as_ref().map(AsFd::as_fd),
        ];
        for pipe in pipes.into_iter().flatten() {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Child {
            process,
            stdin,
            stdout,
            stderr,
            out_lines: Lines::default(),
            err_lines: Lines::default(),
            queue: Vec::new(),
            written: 0,
        })
    }

    /// Queues a line.
    pub fn push(&mut self, line: &str) {
        self.queue.extend_from_slice(line.as_bytes());
        self.queue.push(b'\n');
    }

    /// Bytes that the pipe has not taken.
    pub fn queued(&self) -> usize {
        self.queue.len() - self.written
    }

    /// Ends the child's input, once what is queued is written.
    pub fn finish(&mut self) {
        if self.queued() == 0 {
            self.stdin = None;
        }
    }

    /// Waits until something can be written or read, or until `until`.
    pub fn wait(&self, stop: &StopToken, until: Instant) -> io::Result<()> {
        let queued = (self.queued() > 0).then_some(PollFlags::OUT);
        let stdin = self.stdin.as_ref().zip(queued);
        let watched = [
            stdin.map(|(pipe, flags)| (pipe.as_fd(), flags)),
            self.stdout
                .as_ref()
                .map(|pipe| (pipe.as_fd(), PollFlags::IN)),
            self.stderr
                .as_ref()
                .map(|pipe| (pipe.as_fd(), PollFlags::IN)),
            stop.fd().map(|fd| (fd, PollFlags::IN)),
            Some((self.process.fd(), PollFlags::IN)),
        ];
        let watched = watched.into_iter().flatten();
        let mut watched: Vec<_> = watched
            .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
            .collect();
        match process::wait(&mut watched, until) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes and reads what can be without waiting.
    pub fn exchange(&mut self) -> Vec<Said> {
        self.write();
        let mut said = Vec::new();
        read(&mut self.stdout, &mut self.out_lines, |line| {
            said.push(Said::Out(line))
        });
        read(&mut self.stderr, &mut self.err_lines, |line| {
            said.push(Said::Err(line))
        });
        said
    }

    /// Why nothing more is to be expected of it: it has ended, or says nothing any more. To be
    /// asked after [`Child::exchange`] gave nothing: its last words come first.
    pub fn dead(&mut self) -> Option<String> {
        match self.process.ended() {
            Ok(Some(status)) => Some(format!("ended with {status}")),
            Ok(None) if self.stdout.is_none() => Some(self.last_moment()),
            Ok(None) => None,
            Err(error) => Some(format!("cannot be watched: {error}")),
        }
    }

    /// A process that exits closes its pipes a moment before its status is there.
    fn last_moment(&mut self) -> String {
        let until = Instant::now() + EXIT_TIME;
        let mut watched = [PollFd::from_borrowed_fd(self.process.fd(), PollFlags::IN)];
        match process::wait(&mut watched, until).and_then(|()| self.process.ended()) {
            Ok(Some(status)) => format!("ended with {status}"),
            _ => "closed its standard output".into(),
        }
    }

    fn write(&mut self) {
        while let Some(pipe) = &mut self.stdin {
            let rest = &self.queue[self.written..];
            if rest.is_empty() {
                self.queue.clear();
                self.written = 0;
                return;
            }
            match pipe.write(rest) {
                Ok(n) if n > 0 => self.written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nobody reads. It is about to end, or will be found to answer nothing.
                _ => self.stdin = None,
            }
        }
    }
}

fn read(pipe: &mut Option<impl Read>, lines: &mut Lines, mut line: impl FnMut(String)) {
    let mut buffer = [0; 16 * 1024];
    for _ in 0..MAX_READS {
        let Some(open) = pipe else {
            return;
        };
        match open.read(&mut buffer) {
            Ok(n) if n > 0 => lines.push(&buffer[..n], &mut line),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => *pipe = None,
        }
    }
}
