//! A machine of its own: systemd as PID 1 over this host's root, every change in a temporary folder.
//!
//! Nothing is left behind whatever ends the test. The overlay is mounted in a mount namespace of the
//! container's own and goes with it; the container is killed when the test's thread ends; only the
//! temporary folder remains when the test is killed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::packages;

/// How long anything may take; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running machine with the packages in its folder /packages.
pub struct Container {
    nspawn: Child,
    /// PID 1 of the machine, as this host sees it.
    init: u32,
    folder: TempDir,
}

impl Container {
    /// A machine with the debs of `debs` in /packages; nothing is installed.
    pub fn boot(debs: &Path) -> Container {
        let folder = tempfile::Builder::new()
            .prefix("fanfare-machine-")
            .tempdir()
            .unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["upper/packages", "work", "root"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        for package in ["fanfare-agent", "fanfare-publisher"] {
            let deb = packages::find(debs, package, ".deb");
            fs::copy(&deb, path("upper/packages").join(deb.file_name().unwrap())).unwrap();
        }
        let script = format!(
            "mount -t overlay overlay -o lowerdir=/,upperdir={upper},workdir={work} {root}\n\
             # Images of containers forbid packages to start services.\n\
             rm -f {root}/usr/sbin/policy-rc.d\n\
             exec systemd-nspawn --quiet --directory={root} --machine={name} --boot --register=no \
               --keep-unit --private-network --link-journal=no --console=pipe",
            upper = path("upper").display(),
            work = path("work").display(),
            root = path("root").display(),
            name = format_args!("fanfare-{}", std::process::id()),
        );
        let nspawn = Command::new("unshare")
            .args(["--mount", "--propagation", "private"])
            .args(["setpriv", "--pdeathsig", "KILL", "sh", "-euc", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut container = Container {
            nspawn,
            init: 0,
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
        let nspawn = self.nspawn.id();
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
            if let Some(status) = self.nspawn.try_wait().unwrap() {
                panic!("the machine does not start: {status}");
            }
            assert!(Instant::now() < deadline, "the machine has no PID 1");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &self.init.to_string(),
                "--all",
                "--wd=/packages",
            ])
            .args([
                "env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL=C.UTF-8",
            ])
            .args(["DEBIAN_FRONTEND=noninteractive", "HOME=/root", "TERM=dumb"])
            .args(["timeout", "--kill-after=5", &PATIENCE.as_secs().to_string()])
            .args(["bash", "-euo", "pipefail", "-c", script])
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
        // PID 1 and everything below it go with nspawn, the overlay with its mount namespace.
        let killed = self.nspawn.kill().and_then(|()| self.nspawn.wait());
        if let Err(error) = killed {
            eprintln!("the machine is not gone: {error}");
        }
        let _ = &self.folder;
    }
}
