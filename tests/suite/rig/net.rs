//! Hosts in network namespaces of their own, on one switch, and what can go wrong between them.
//!
//! Namespaces are named after this process and are removed when the test ends; those of processes
//! that were killed are removed by whoever comes next.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::left_out;

const PREFIX: &str = "fanfare-";

/// A network namespace that is gone with its test.
pub struct Space(String);

impl Space {
    /// `None` where it may not be made: the test is left out.
    #[track_caller]
    pub fn new() -> Option<Space> {
        sweep();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        let why = match made {
            Ok(output) if output.status.success() => return Some(Space(name)),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        left_out(&format!(
            "network namespaces cannot be made: {}",
            why.trim()
        ));
        None
    }

    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Which namespace of this process is the next.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A switch and the hosts on it. Host `n` is at 10.99.0.`n + 1`.
pub struct Net {
    switch: Space,
    hosts: Vec<Space>,
}

impl Net {
    /// A network of so many hosts; `None` where this may not be made: the test is left out.
    #[track_caller]
    pub fn new(hosts: usize) -> Option<Net> {
        let mut spaces = (0..=hosts).map(|_| Space::new());
        let switch = spaces.next()??;
        let hosts: Option<Vec<Space>> = spaces.collect();
        let net = Net {
            switch,
            hosts: hosts?,
        };
        let switch = net.switch();
        ip(&["-n", switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", switch, "link", "set", "br0", "up"]);
        for number in 0..net.hosts.len() {
            let (host, port) = (net.host(number), port(number));
            let address = format!("{}/24", net.address(number));
            ip(&[
                "link", "add", &port, "netns", switch, "type", "veth", "peer", "name", "eth0",
                "netns", host,
            ]);
            ip(&["-n", switch, "link", "set", &port, "master", "br0", "up"]);
            ip(&["-n", host, "addr", "add", &address, "dev", "eth0"]);
            ip(&["-n", host, "link", "set", "eth0", "up"]);
            ip(&["-n", host, "link", "set", "lo", "up"]);
        }
        let table =
            "table bridge faults {\nchain forward {\ntype filter hook forward priority 0\n}\n}\n";
        nft(switch, table);
        Some(net)
    }

    fn switch(&self) -> &str {
        self.switch.name()
    }

    fn host(&self, number: usize) -> &str {
        self.hosts[number].name()
    }

    pub fn address(&self, number: usize) -> String {
        format!("10.99.0.{}", number + 1)
    }

    /// `command` on a host. The process is the command's own, so signals reach it.
    pub fn on(&self, number: usize, command: &Command) -> Command {
        let mut within = Command::new("ip");
        within.args(["netns", "exec", self.host(number)]);
        within.arg(command.get_program()).args(command.get_args());
        within
    }

    /// What goes to and comes from a host is dropped, and nobody is told.
    pub fn cut(&self, number: usize) {
        let port = port(number);
        self.forbid(&format!("iifname \"{port}\""));
        self.forbid(&format!("oifname \"{port}\""));
    }

    /// What goes to and comes from these ports of any host is dropped.
    pub fn cut_ports(&self, ports: &[u16]) {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let ports = ports.join(", ");
        self.forbid(&format!("tcp dport {{ {ports} }}"));
        self.forbid(&format!("tcp sport {{ {ports} }}"));
    }

    fn forbid(&self, what: &str) {
        let rule = format!("add rule bridge faults forward {what} counter drop\n");
        nft(self.switch(), &rule);
    }

    /// Everything passes again; says how many packets did not.
    #[track_caller]
    pub fn heal(&self) -> u64 {
        let dropped = counted(self.switch());
        nft(self.switch(), "flush chain bridge faults forward\n");
        dropped
    }

    /// One packet in `of` to these ports of a host is answered by a reset.
    pub fn reset(&self, number: usize, ports: &[u16], of: u32) {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let ports = ports.join(", ");
        let rules = format!(
            "table inet faults {{\nchain input {{\ntype filter hook input priority 0\ntcp dport {{ \
             {ports} }} numgen random mod {of} == 0 counter reject with tcp reset\n}}\n}}\n"
        );
        nft(self.host(number), &rules);
    }

    /// No more resets at a host; says how many there were.
    #[track_caller]
    pub fn calm(&self, number: usize) -> u64 {
        let resets = counted(self.host(number));
        nft(self.host(number), "delete table inet faults\n");
        resets
    }

    /// What goes to a host goes no faster than this.
    pub fn slow(&self, number: usize, rate: &str) {
        let (switch, port) = (self.switch(), port(number));
        let mut command = Command::new("tc");
        command.args(["-n", switch, "qdisc", "add", "dev", &port, "root", "tbf"]);
        run(command.args(["rate", rate, "burst", "32kb", "latency", "400ms"]));
    }

    /// The ports from which a host is connected to `port` of others.
    #[track_caller]
    pub fn connected_from(&self, number: usize, port: u16) -> Vec<u16> {
        let mut command = Command::new("cat");
        command.arg("/proc/self/net/tcp");
        let table = run(&mut self.on(number, &command));
        let number = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
        let established = table.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, own, other, "01", ..] = fields[..] else {
                return None;
            };
            (number(other)? == port).then(|| number(own))?
        });
        established.collect()
    }
}

/// One host of a network, for a process to run on.
#[derive(Clone)]
pub struct Place {
    net: Arc<Net>,
    number: usize,
}

impl Place {
    pub fn new(net: &Arc<Net>, number: usize) -> Place {
        Place {
            net: Arc::clone(net),
            number,
        }
    }

    pub fn address(&self) -> String {
        self.net.address(self.number)
    }

    pub fn run(&self, command: &Command) -> Command {
        self.net.on(self.number, command)
    }
}

/// The switch's port of a host.
fn port(number: usize) -> String {
    format!("port{number}")
}

/// Where it fails somebody else has removed what a killed test had left.
fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

/// Removes what killed tests have left behind.
fn sweep() {
    let Ok(names) = std::fs::read_dir("/run/netns") else {
        return;
    };
    for name in names.flatten() {
        let name = name.file_name().to_string_lossy().into_owned();
        let rest = name.strip_prefix(PREFIX);
        let owner = rest.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            remove(&name);
        }
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

#[track_caller]
fn nft(namespace: &str, rules: &str) {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "nft", "-f", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(rules.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success(), "{rules}");
}

/// Packets that the rules of a namespace have met.
#[track_caller]
fn counted(namespace: &str) -> u64 {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "nft", "list", "ruleset"]);
    let rules = run(&mut command);
    let mut words = rules.split_whitespace();
    let mut packets = 0;
    while let Some(word) = words.next() {
        if word == "packets" {
            packets += words.next().unwrap().parse::<u64>().unwrap();
        }
    }
    packets
}
