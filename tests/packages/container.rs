//! A machine of its own: systemd as PID 1 over this host's root, every change in a temporary folder.
//!
//! Nothing is left behind whatever ends the test: `machine.sh` keeps the machine until the pipe to the
//! test is closed, which it also is when the test is killed, and then takes it down.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::packages;

/// How long anything may take; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running machine with the packages in its folder /packages.
pub struct Container {
    /// `machine.sh`, which takes everything down when its standard input ends.
    keeper: Child,
    /// PID 1 of the machine, as this host sees it.
    init: u32,
    name: String,
    folder: PathBuf,
}

impl Container {
    /// A machine with the packages of `debs` in /packages; nothing is installed.
    pub fn boot(debs: &Path) -> Container {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fanfare-{}-{count:02}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        let packages = folder.join("upper/packages");
        fs::create_dir_all(&packages).unwrap();
        for package in ["fanfare-agent", "fanfare-publisher"] {
            for kind in [".deb", ".rpm"] {
                let file = packages::find(debs, package, kind);
                fs::copy(&file, packages.join(file.file_name().unwrap())).unwrap();
            }
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages/machine.sh");
        let keeper = Command::new("unshare")
            .args(["--mount", "--propagation", "private"])
            .arg(script)
            .args([&folder, Path::new(&name)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut container = Container {
            keeper,
            init: 0,
            name,
            folder,
        };
        container.init = container.wait_for_init();
        container.until(
            "the machine is up",
            "systemctl is-system-running | grep -E 'running|degraded'",
        );
        container
    }

    fn wait_for_init(&mut self) -> u32 {
        let mut told = String::new();
        let mut out = BufReader::new(self.keeper.stdout.take().unwrap());
        out.read_line(&mut told).unwrap();
        let nspawn: u32 = told.trim().parse().expect("machine.sh tells a number");
        let children = format!("/proc/{nspawn}/task/{nspawn}/children");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = fs::read_to_string(&children).unwrap_or_default();
            let found = found.split_whitespace().filter_map(|pid| pid.parse().ok());
            for pid in found {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                // Its number within the machine comes last.
                let is_first = status
                    .lines()
                    .any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"));
                if name.trim() == "systemd" && is_first {
                    return pid;
                }
            }
            let stat = fs::read_to_string(format!("/proc/{nspawn}/stat")).unwrap_or_default();
            let ended = stat.is_empty() || stat.contains(") Z");
            assert!(!ended, "the machine does not start");
            assert!(Instant::now() < deadline, "the machine has no PID 1");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string(), "--all"])
            .args([
                "env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL=C.UTF-8",
            ])
            .args(["DEBIAN_FRONTEND=noninteractive", "HOME=/root", "TERM=dumb"])
            .args(["timeout", "--kill-after=5", &PATIENCE.as_secs().to_string()])
            .args(["bash", "-euo", "pipefail", "-c"])
            .arg(format!("cd /packages\n{script}"))
            .stdin(Stdio::null());
        command
    }

    /// Exit status and both outputs of a script.
    pub fn run(&self, script: &str) -> (i32, String) {
        let output = self.command(script).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let told = text(&output.stdout) + &text(&output.stderr);
        (output.status.code().unwrap_or(-1), told)
    }

    /// What a script prints; it must succeed.
    #[track_caller]
    pub fn ok(&self, script: &str) -> String {
        let (status, told) = self.run(script);
        assert!(
            status == 0,
            "exit status {status} of:\n{script}\n{told}\n{}",
            self.journal()
        );
        told
    }

    /// What a script prints that must fail.
    #[track_caller]
    pub fn fails(&self, script: &str) -> String {
        let (status, told) = self.run(script);
        assert!(status != 0, "not failed:\n{script}\n{told}");
        told
    }

    /// Repeats a script until it succeeds.
    #[track_caller]
    pub fn until(&self, what: &str, script: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, told) = self.run(script);
            if status == 0 {
                return told;
            }
            assert!(
                Instant::now() < deadline,
                "not in time: {what}\n{script}\n{told}\n{}",
                self.journal()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A script that runs beside the test.
    pub fn spawn(&self, script: &str) -> Child {
        self.command(script)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap()
    }

    /// Writes a file of the machine, its folders too.
    pub fn write(&self, path: &str, text: &str) {
        self.ok(&format!(
            "mkdir -p \"$(dirname {path})\"\ncat >{path} <<'END-OF-FILE'\n{text}\nEND-OF-FILE"
        ));
    }

    /// A property of a unit.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        let told = self.ok(&format!("systemctl show --value -p {name} {unit}"));
        told.trim().to_owned()
    }

    /// What the daemons told last.
    pub fn journal(&self) -> String {
        let script = "journalctl --no-pager --quiet -n 60 -u fanfare-agent -u fanfare-publisher";
        self.run(script).1
    }

    /// Installs the debs of these packages as an operator does.
    #[track_caller]
    pub fn install(&self, names: &[&str]) -> String {
        let files: Vec<_> = names.iter().map(|name| format!("./{name}_*.deb")).collect();
        self.ok(&format!(
            "apt-get install -y --no-install-recommends {}",
            files.join(" ")
        ))
    }

    /// A cable to another machine, and an address at each end.
    #[track_caller]
    pub fn connect(&self, address: &str, other: &Container, its: &str) {
        let (here, there) = (self.init.to_string(), other.init.to_string());
        packages::output(
            Command::new("ip")
                .args([
                    "link", "add", "name", "cable", "netns", &here, "type", "veth",
                ])
                .args(["peer", "name", "cable", "netns", &there]),
        );
        for (machine, address) in [(self, address), (other, its)] {
            machine.ok(&format!(
                "ip address add {address}/24 dev cable && ip link set cable up"
            ));
        }
    }

    /// Both packages, talking to each other in plain text.
    #[track_caller]
    pub fn with_both(debs: &Path, more: &str) -> Container {
        let machine = Container::boot(debs);
        let config = format!("security = \"none\"\n{more}");
        machine.write("/etc/fanfare/conf.d/50-test.toml", &config);
        machine.install(&["fanfare-agent", "fanfare-publisher"]);
        machine.until(
            "both are in step",
            "fanfare publisher status && fanfare status",
        );
        machine
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let status = self.keeper.wait();
        let left = Traces::of(self).when_gone();
        let gone = status.as_ref().is_ok_and(|status| status.success()) && left.is_empty();
        if !gone {
            eprintln!("the machine is not gone: {status:?}, {left:?}");
            assert!(std::thread::panicking(), "a machine is not gone");
        }
    }
}

/// By what a machine can be seen from this host.
struct Traces {
    name: String,
    init: u32,
    folder: PathBuf,
}

impl Traces {
    fn of(machine: &Container) -> Traces {
        Traces {
            name: machine.name.clone(),
            init: machine.init,
            folder: machine.folder.clone(),
        }
    }

    /// What there still is after a moment, in which the host's PID 1 takes note of the dead.
    fn when_gone(&self) -> Vec<PathBuf> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = self.left();
            if left.is_empty() || Instant::now() >= deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What there still is of it: processes, control groups, mounts, files.
    fn left(&self) -> Vec<PathBuf> {
        let mut paths = vec![
            PathBuf::from(format!("/run/systemd/nspawn/propagate/{}", self.name)),
            self.folder.clone(),
        ];
        if self.init != 0 {
            paths.push(PathBuf::from(format!("/proc/{}", self.init)));
        }
        for hierarchy in ["", "unified/", "systemd/"] {
            paths.push(format!("/sys/fs/cgroup/{hierarchy}{}", self.name).into());
        }
        paths.retain(|path| path.exists());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if mounts.contains(&self.name) {
            paths.push("/proc/self/mountinfo".into());
        }
        // Whoever runs in it, wherever: its root is the machine's.
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let inside = processes.map(|entry| entry.path()).filter(|path| {
            let command = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            let groups = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
            groups.contains(&self.name) || command.contains(&self.name)
        });
        paths.extend(inside);
        paths
    }
}

#[test]
fn a_failed_test_leaves_nothing_of_its_machine() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let seen = Mutex::new(None);
    let failed = std::panic::catch_unwind(|| {
        let machine = Container::boot(&debs);
        machine.install(&["fanfare-agent"]);
        // One that does not go by itself, and one that this test started.
        machine.ok("systemd-run --quiet sh -c 'trap \"\" TERM; sleep 1000; sleep 1000'");
        let beside = machine.spawn("trap '' TERM; sleep 1000; sleep 1000");
        let traces = Traces::of(&machine);
        assert!(traces.left().len() >= 4, "{:?}", traces.left());
        *seen.lock().unwrap() = Some((traces, beside));
        machine.ok("false");
    });
    assert!(failed.is_err());
    let (traces, mut beside) = seen.into_inner().unwrap().unwrap();
    assert!(!beside.wait().unwrap().success());
    let left = traces.left();
    assert!(left.is_empty(), "{left:?}");
}

/// Only run by the test below, which kills it.
#[test]
#[ignore = "waits to be killed"]
fn a_test_that_is_killed() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::boot(&debs);
    println!("machine {} {}", machine.name, machine.init);
    std::thread::sleep(PATIENCE);
}

#[test]
fn a_killed_test_leaves_nothing_of_its_machine() {
    if packages::folder().is_none() {
        return;
    }
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("container::a_test_that_is_killed")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(test.stdout.take().unwrap()).lines();
    let told = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("machine fanfare-")?.1.to_owned()))
        .expect("it has booted a machine");
    let (name, init) = told.split_once(' ').unwrap();
    let name = format!("fanfare-{name}");
    let traces = Traces {
        init: init.parse().unwrap(),
        folder: std::env::temp_dir().join(&name),
        name,
    };
    assert!(traces.left().len() >= 4, "{:?}", traces.left());
    test.kill().unwrap();
    test.wait().unwrap();
    let left = traces.when_gone();
    assert!(left.is_empty(), "{left:?}");
}
