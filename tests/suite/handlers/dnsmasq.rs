//! The rows of `lport` served by a real dnsmasq, to a real DHCP client, in a network of their own.

use std::process::{Command, Stdio};

use super::{Stage, file, lane};
use crate::rig::config::Folder;
use crate::rig::net::Space;
use crate::rig::process::Process;
use crate::rig::{until, wait_for};

const MAC: &str = "52:54:00:fa:0f:01";

/// Asks once for an address and prints the one it is offered, or `none`.
const CLIENT: &str = r#"
import os, socket, struct, sys
mac = bytes.fromhex(sys.argv[2].replace(":", ""))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())
s.bind(("", 68))
s.settimeout(1)
xid = os.urandom(4)
# op, htype, hlen, hops, xid, secs, flags (answer by broadcast), four addresses, chaddr, names, cookie
packet = struct.pack("!BBBB4sHH16s16s192s4s", 1, 1, 6, 0, xid, 0, 0x8000, b"", mac, b"",
                     b"\x63\x82\x53\x63")
s.sendto(packet + b"\x35\x01\x01\xff", ("255.255.255.255", 67))  # a DHCPDISCOVER
try:
    while True:
        answer = s.recv(2048)
        if answer[4:8] == xid and answer[0] == 2:
            print(socket.inet_ntoa(answer[16:20]))
            break
except socket.timeout:
    print("none")
"#;

/// Two network namespaces joined by a cable: the side of dnsmasq and that of its client.
struct Network {
    server: Space,
    client: Space,
}

fn ip(arguments: &str) {
    let done = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(done.success(), "ip {arguments}");
}

impl Network {
    /// `None` where it may not be made.
    #[track_caller]
    fn new() -> Option<Network> {
        let network = Network {
            server: Space::new()?,
            client: Space::new()?,
        };
        let (server, client) = (network.server.name(), network.client.name());
        ip(&format!(
            "-n {server} link add dhcp0 type veth peer name dhcp1 netns {client}"
        ));
        ip(&format!("-n {server} addr add 10.1.0.1/24 dev dhcp0"));
        ip(&format!("-n {server} link set dhcp0 up"));
        ip(&format!("-n {client} link set dhcp1 address {MAC}"));
        ip(&format!("-n {client} link set dhcp1 up"));
        Some(network)
    }

    fn offer(&self) -> String {
        let said = Command::new("ip")
            .args([
                "netns",
                "exec",
                self.client.name(),
                "/usr/bin/python3",
                "-c",
                CLIENT,
            ])
            .args(["dhcp1", MAC])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    }
}

/// The example's configuration with the paths and the interface of this test.
fn configuration(folder: &Folder) -> String {
    let text = std::fs::read_to_string(file("examples/dnsmasq/dnsmasq.conf")).unwrap();
    let root = folder.path("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    assert!(text.contains("/run/fanfare/") && text.contains("tap-dhcp"));
    text.replace("/run/fanfare", root)
        .replace("tap-dhcp", "dhcp0")
}

#[test]
fn a_port_gets_its_address_from_dnsmasq() {
    let Some(network) = Network::new() else {
        return;
    };
    let folder = Folder::new();
    let config = folder.write("dnsmasq.conf", &configuration(&folder));
    folder.write("dhcp-hosts", "");
    let mut command = Command::new("ip");
    command
        .args([
            "netns",
            "exec",
            network.server.name(),
            "dnsmasq",
            "--keep-in-foreground",
        ])
        .args([
            "--log-facility=-",
            "--log-dhcp",
            "--user=root",
            "--group=root",
        ])
        .arg(format!(
            "--dhcp-leasefile={}",
            folder.path("leases").display()
        ))
        .arg(format!("--conf-file={}", config.display()));
    let dnsmasq = Process::start(command);
    let pid = folder.path("dnsmasq.pid");
    wait_for("dnsmasq runs", || pid.exists());
    assert_eq!(network.offer(), "none", "it knows nobody yet");

    let script = file("examples/dnsmasq/hosts.py");
    let hosts = folder.path("dhcp-hosts");
    let mut stage = Stage::new(vec![lane(
        "pipe",
        &format!("command = ['/usr/bin/python3', {script:?}, {hosts:?}, {pid:?}]"),
    )]);
    stage.set(
        "lport",
        "evil",
        r#"{"macs": ["x\nlog-dhcp"], "ips": ["10.1.0.6"]}"#,
    );
    let port = |ip: &str| format!(r#"{{"macs": ["{MAC}"], "ips": ["{ip}"], "name": "web-1"}}"#);
    stage.set("lport", "p1", &port("10.1.0.5"));
    until("the port is served", || {
        (network.offer() == "10.1.0.5").then_some(())
    });
    dnsmasq.err.find("dnsmasq read the file again", |line| {
        line.contains("dhcp-hosts").then_some(())
    });
    stage.set("lport", "p1", &port("10.1.0.9"));
    until("it moves", || (network.offer() == "10.1.0.9").then_some(()));
    stage.delete("lport", "p1");
    until("it is gone", || (network.offer() == "none").then_some(()));
    assert_eq!(std::fs::read_to_string(&hosts).unwrap(), "");
    let metrics = &stage.agent.lanes()[0].metrics;
    assert_eq!(metrics.losses_total.get(), 0);
    assert!(
        metrics.events_failed_total.get() >= 1,
        "the hostile row was refused"
    );
    assert_eq!(stage.agent.stop(), 0);
}
