//! What an agent with nothing to do costs its node: memory and wake-ups of the real process, with three
//! real publishers that say hello and nothing else, in plain text and with keys.
//!
//! `cargo bench --bench idle`; `--test` looks for a shorter time. A wake-up is a time a thread of the
//! agent stopped running, as the kernel counts (context switches, voluntary or not).

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const PUBLISHERS: usize = 3;
/// Rows that the agent has of each publisher.
const ROWS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the program when the bench does, however.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

fn run(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    output.status.success().then_some(text)
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A publisher in `folder` that has its rows, and its port.
fn publisher(folder: &Path, security: &str) -> (Running, u16) {
    fs::create_dir(folder).unwrap();
    let (port, socket) = (free_port(), folder.join("s"));
    let config = folder.join("publisher.toml");
    let text = format!(
        "{security}metrics_address = \"\"\nlog_level = \"error\"\npublisher_bind_address = \"127.0.0.1\"\n\
         publisher_port = {port}\nsync_port = {}\nstate_dir = {folder:?}\nrun_dir = {folder:?}\n\
         publisher_multiproc_socket = {socket:?}\n",
        free_port(),
    );
    fs::write(&config, text).unwrap();
    let mut publisher = command(env!("CARGO_BIN_EXE_fanfare-publisher"));
    let running = Running(publisher.arg("--config").arg(&config).spawn().unwrap());
    let rows: String = (0..ROWS)
        .map(|n| {
            format!("{{\"table\":\"lport\",\"key\":\"{port}-{n}\",\"value\":{{\"n\":{n}}}}}\n")
        })
        .collect();
    let lines = folder.join("rows");
    fs::write(&lines, rows).unwrap();
    until("its rows are published", || {
        let mut tool = command(env!("CARGO_BIN_EXE_fanfare"));
        tool.args(["publish", "--socket"]).arg(&socket);
        run(tool.arg("--from").arg(&lines))
    });
    (running, port)
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("{name} is not in /proc"));
    line.trim_matches([':', ' ', '\t', 'k', 'B'])
        .parse()
        .unwrap()
}

/// How often each thread has stopped so far, by name and number.
fn stops(pid: u32) -> BTreeMap<(String, u64), u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let stops = threads.filter_map(|thread| {
        // A thread may just have ended.
        let text = fs::read_to_string(thread.path().join("status")).ok()?;
        let name = text.lines().next()?.split('\t').nth(1)?.to_owned();
        let count =
            field(&text, "voluntary_ctxt_switches") + field(&text, "nonvoluntary_ctxt_switches");
        Some(((name, field(&text, "Pid")), count))
    });
    stops.collect()
}

fn measure(what: &str, security: [&str; 2], folder: &Path, time: Duration) {
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|n| publisher(&folder.join(format!("p{n}")), security[0]))
        .collect();
    let run_dir = folder.join("agent");
    fs::create_dir(&run_dir).unwrap();
    let uris: Vec<_> = publishers
        .iter()
        .map(|(_, port)| format!("127.0.0.1:{port}"))
        .collect();
    let config = run_dir.join("agent.toml");
    let text = format!(
        "{}publishers_ips = {uris:?}\nmetrics_address = \"127.0.0.1:{}\"\nlog_level = \"error\"\n\
         state_dir = {run_dir:?}\nrun_dir = {run_dir:?}\n[[handler]]\nmodule = \"log\"\n\
         [[handler]]\nmodule = \"file\"\npath = {:?}\n",
        security[1],
        free_port(),
        run_dir.join("rows.json"),
    );
    fs::write(&config, text).unwrap();
    let mut agent = command(env!("CARGO_BIN_EXE_fanfare-agent"));
    let agent = Running(agent.arg("--config").arg(&config).spawn().unwrap());
    let pid = agent.0.id();
    until("it is in step with all rows", || {
        let mut tool = command(env!("CARGO_BIN_EXE_fanfare"));
        tool.args(["status", "--json", "--socket"]);
        let told = run(tool.arg(run_dir.join("agent-control.sock")))?;
        let report: serde_json::Value = serde_json::from_str(&told).unwrap();
        // The publishers' leases are rows too.
        let rows = report["replica"]["rows"].as_u64().unwrap() as usize;
        (report["ready"] == true && rows >= PUBLISHERS * ROWS).then_some(())
    });
    // What the start, the rows and the question have left to do.
    std::thread::sleep(Duration::from_secs(5).min(time));

    let (before, start) = (stops(pid), Instant::now());
    std::thread::sleep(time);
    let (after, seconds) = (stops(pid), start.elapsed().as_secs_f64());
    let each = after.iter().map(|(thread, count)| {
        let earlier = before.get(thread).copied().unwrap_or(0);
        (&thread.0, (count - earlier) as f64 / seconds)
    });
    let mut by_name: BTreeMap<&String, f64> = BTreeMap::new();
    for (name, rate) in each {
        *by_name.entry(name).or_default() += rate;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mib = |name: &str| field(&status, name) as f64 / 1024.0;
    println!(
        "idle agent, {PUBLISHERS} publishers, {what}: {:.1} MiB resident, {:.1} of them its own (wanted: at most 15); \
         {:.1} wake-ups/s over {seconds:.0} s (wanted: below 10)",
        mib("VmRSS"),
        mib("RssAnon"),
        by_name.values().sum::<f64>(),
    );
    let threads: Vec<_> = by_name
        .iter()
        .map(|(name, rate)| format!("{name} {rate:.2}"))
        .collect();
    println!("  wake-ups/s by thread: {}", threads.join(", "));
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let time = Duration::from_secs(if quick { 2 } else { 30 });
    let folder = tempfile::tempdir().unwrap();
    let part = |name: &str| {
        let part = folder.path().join(name);
        fs::create_dir(&part).unwrap();
        part
    };
    let plain = "security = \"none\"\n";
    measure("plain text", [plain, plain], &part("plain"), time);

    let keys = part("keys");
    let nodes = keys.join("nodes");
    fs::create_dir(&nodes).unwrap();
    for whose in [&["--publisher"][..], &["--node", "n1"][..]] {
        let mut tool = command(env!("CARGO_BIN_EXE_fanfare"));
        tool.arg("keygen").args(whose).arg("--dir").arg(&keys);
        run(&mut tool).expect("keys are made");
    }
    fs::copy(keys.join("n1.key"), nodes.join("n1.key")).unwrap();
    let publisher = format!(
        "publisher_key = {:?}\nauthorized_keys = {nodes:?}\n",
        keys.join("publisher.key_secret")
    );
    let agent = format!(
        "node_key = {:?}\npublisher_keys = {{ \"*\" = {:?} }}\n",
        keys.join("n1.key_secret"),
        keys.join("publisher.key")
    );
    measure("keys", [&publisher, &agent], &part("secured"), time);
}
