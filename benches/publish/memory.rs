//! The memory of `fanfare-publisher` itself while events of 10,000 rows go through it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::audience::Audience;
use crate::path::{Made, Worker, client, free_port};
use crate::{ROWS, pour};

/// Ends the program when the bench does, however.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Prints it at the start and after each step, and by how much it grew in the last one: by then the
/// journal is full, and what comes is trimmed off at its other end.
pub fn run(made: &[Made], steps: &[u64]) {
    let folder = tempfile::tempdir().unwrap();
    let (socket, port) = (folder.path().join("s"), free_port());
    let publisher = Running(publisher(folder.path(), &socket, port));
    let pid = publisher.0.id();
    let mut client = client(&socket);
    client.send(&made[0]);
    client.finish();
    println!("memory of fanfare-publisher at start: {}", resident(pid));
    let audience = Audience::one(&format!("tcp://127.0.0.1:{port}"), None);
    while audience.count.load(Ordering::Relaxed) == 0 {
        client.send(&made[0]);
        std::thread::sleep(Duration::from_millis(20));
    }
    client.finish();
    std::thread::sleep(Duration::from_millis(300));
    audience.count.store(0, Ordering::Relaxed);
    let (mut sent, mut sizes) = (0, Vec::new());
    for &step in steps {
        pour(&mut client, &audience, made, sent, step - sent);
        sent = step;
        let now = resident(pid);
        println!("memory of fanfare-publisher after {sent} events over {ROWS} rows: {now}");
        sizes.push(now.mib);
    }
    if let [.., before, last] = sizes[..] {
        println!(
            "memory of fanfare-publisher, growth in the last step: {:.1} MiB (wanted: at most 2)",
            last - before
        );
    }
    drop(client);
    audience.end();
    drop(publisher);
}

fn publisher(folder: &Path, socket: &Path, port: u16) -> Child {
    let config: PathBuf = folder.join("publisher.toml");
    let text = format!(
        "security = \"none\"\nmetrics_address = \"\"\nlog_level = \"error\"\ndurability = \"os\"\n\
         publisher_bind_address = \"127.0.0.1\"\npublisher_port = {port}\n\
         publisher_multiproc_socket = \"{}\"\nstate_dir = \"{}\"\nrun_dir = \"{}\"\n",
        socket.display(),
        folder.display(),
        folder.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare-publisher"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") {
            command.env_remove(name);
        }
    }
    command.arg("--config").arg(&config).spawn().unwrap()
}

struct Resident {
    mib: f64,
    most: f64,
}

impl std::fmt::Display for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} MiB (most so far {:.1})", self.mib, self.most)
    }
}

fn resident(pid: u32) -> Resident {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib: f64 = line
            .unwrap()
            .trim_matches([':', ' ', '\t', 'k', 'B'])
            .parse()
            .unwrap();
        kib / 1024.0
    };
    Resident {
        mib: mib("VmRSS"),
        most: mib("VmHWM"),
    }
}
