//! Processes that tests start: what they say is kept, and they end with their test.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::{PATIENCE, wait_for, within};

/// The lines of one stream.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn follow(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                lines.0.lock().unwrap().push(line);
            }
        })
    }

    pub fn all(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clone()
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The lines from number `start` on.
    pub fn from(&self, start: usize) -> Vec<String> {
        self.0.lock().unwrap()[start..].to_vec()
    }

    /// Waits for a line that `found` takes something from.
    #[track_caller]
    pub fn find<T>(&self, what: &str, found: impl Fn(&str) -> Option<T>) -> T {
        self.find_within(PATIENCE, what, found)
    }

    /// The same, for no longer than `limit`.
    #[track_caller]
    pub fn find_within<T>(
        &self,
        limit: Duration,
        what: &str,
        found: impl Fn(&str) -> Option<T>,
    ) -> T {
        let mut seen = 0;
        within(limit, what, || {
            let new = self.from(seen);
            seen += new.len();
            new.iter().find_map(|line| found(line))
        })
    }
}

pub struct Process {
    name: String,
    child: Child,
    followers: [JoinHandle<()>; 2],
    pub stdin: Option<ChildStdin>,
    pub out: Lines,
    pub err: Lines,
}

impl Process {
    pub fn start(mut command: Command) -> Process {
        for (name, _) in std::env::vars_os() {
            let foreign = name.to_str().is_some_and(|name| {
                name.starts_with("FANFARE_") || name == "RUST_LOG" || name == "JOURNAL_STREAM"
            });
            if foreign && !command.get_envs().any(|(set, _)| set == name) {
                command.env_remove(&name);
            }
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, err) = (Lines::default(), Lines::default());
        let followers = [
            out.follow(child.stdout.take().unwrap()),
            err.follow(child.stderr.take().unwrap()),
        ];
        Process {
            name: format!("{command:?}"),
            stdin: child.stdin.take(),
            child,
            followers,
            out,
            err,
        }
    }

    pub fn write(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory it has had, kB.
    pub fn peak_kb(&self) -> u64 {
        self.status_kb("VmHWM:")
    }

    /// The memory that it has, kB.
    pub fn memory_kb(&self) -> u64 {
        self.status_kb("VmRSS:")
    }

    fn status_kb(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        let value = value.and_then(|value| value.trim().strip_suffix(" kB"));
        value.unwrap().parse().unwrap()
    }

    /// Limits its address space to what it has and `more` bytes; `None`: no longer.
    pub fn limit_memory(&self, more: Option<u64>) {
        let own = getrlimit(Resource::As);
        let most = more.map(|more| self.status_kb("VmSize:") * 1024 + more);
        let limit = Rlimit {
            current: most.or(own.current),
            maximum: own.maximum,
        };
        prlimit(Some(Pid::from_child(&self.child)), Resource::As, limit).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it, while it runs.
    #[track_caller]
    pub fn kill(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "{} has ended: {ended:?}", self.name);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end; fails when it takes longer than `limit`. All it said is there then.
    #[track_caller]
    pub fn ends_within(&mut self, limit: Duration) -> ExitStatus {
        let status = within(limit, "the process ends", || self.child.try_wait().unwrap());
        wait_for("everything it said is read", || {
            self.followers.iter().all(JoinHandle::is_finished)
        });
        status
    }

    /// Everything on standard error, after the end.
    pub fn errors(&self) -> String {
        self.err.all().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let (out, err) = (self.out.all(), self.err.all());
            let tail = |lines: &[String]| lines[lines.len().saturating_sub(40)..].join("\n");
            let (out, err) = (tail(&out), tail(&err));
            eprintln!("--- {}, ended: {ended:?}\n{out}\n{err}", self.name);
            return;
        }
        // No test wants that, and none may miss it: libzmq and sanitizers end a process so.
        let signal = ended.ok().flatten().and_then(|status| status.signal());
        let broken = [Signal::ABORT, Signal::SEGV, Signal::BUS, Signal::ILL];
        if signal.is_some_and(|signal| broken.iter().any(|broken| broken.as_raw() == signal)) {
            panic!(
                "{} was ended by signal {signal:?}: {}",
                self.name,
                self.errors()
            );
        }
    }
}
