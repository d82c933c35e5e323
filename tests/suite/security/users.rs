//! Unix sockets: who is not among the users who may use them is refused, whatever mode and group say.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::rig::cluster::Cluster;
use crate::rig::config::{Folder, PUBLISHER, TOOL};
use crate::rig::control::publisher_report;
use crate::rig::node::Node;
use crate::rig::port::Port;
use crate::rig::process::Process;
use crate::rig::{PATIENCE, has_root, until, wait_for};

const NOBODY: &str = "65534";

/// Runs a command as another user; the sockets' modes and folders let everybody in.
fn as_nobody(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    command.arg(program).args(arguments).output().unwrap()
}

/// The tool, where another user can run it.
struct Tool(tempfile::TempDir);

impl Tool {
    fn new() -> Tool {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), 0o755);
        let at = folder.path().join("fanfare");
        std::fs::copy(TOOL, &at).unwrap();
        open(&at, 0o755);
        Tool(folder)
    }

    fn path(&self) -> String {
        self.0.path().join("fanfare").to_str().unwrap().to_owned()
    }
}

fn open(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A group that there is on every system, and that nobody is in here.
const GROUP: &str = "daemon";

/// A socket's mode lets in its owner and [`GROUP`], and nobody else.
#[track_caller]
fn is_for_the_group(socket: &Path) {
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let own = groups
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{GROUP}:x:")));
    let number: u32 = own.unwrap().split(':').next().unwrap().parse().unwrap();
    let found = std::fs::metadata(socket).unwrap();
    assert_eq!(
        (found.mode() & 0o7777, found.uid(), found.gid()),
        (0o660, 0, number),
        "{}",
        socket.display()
    );
}

/// Opens a socket and the folders above it to everybody.
fn expose(socket: &Path) {
    open(socket, 0o777);
    for folder in socket.ancestors().skip(1) {
        if folder == std::env::temp_dir() {
            break;
        }
        open(folder, 0o755);
    }
}

#[test]
fn others_do_not_use_the_control_sockets() {
    if !has_root() {
        return;
    }
    let tool = Tool::new();
    for (users, allowed) in [("[\"0\"]", false), ("[\"nobody\"]", true), ("[]", true)] {
        let whose = format!("socket_users = {users}\nsocket_group = {GROUP:?}\n");
        let mut cluster = Cluster::running(&whose);
        let uri = cluster.uri();
        let mut node = Node::started(&[&uri], &["t1"], &whose);
        let sockets = [
            node.folder.path("run").join("agent-control.sock"),
            cluster
                .host
                .folder
                .path("run")
                .join("publisher-control.sock"),
        ];
        for (socket, words) in sockets
            .iter()
            .zip([&["status"][..], &["publisher", "status"]])
        {
            wait_for("the socket is there", || socket.exists());
            is_for_the_group(socket);
            expose(socket);
            let mut arguments = words.to_vec();
            arguments.extend(["--socket", socket.to_str().unwrap()]);
            let output = as_nobody(&tool.path(), &arguments);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let shown = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(shown.contains("process"), allowed, "{users}: {said}{shown}");
            assert_eq!(
                said.contains("user 65534 may not use this socket"),
                !allowed,
                "{said}"
            );
            let could_ask = output.status.code() != Some(3);
            assert_eq!(could_ask, allowed, "{output:?}");
            // Root is never shut out.
            let own = Command::new(TOOL).args(&arguments).output().unwrap();
            assert!(
                String::from_utf8_lossy(&own.stdout).contains("process"),
                "{own:?}"
            );
        }
        let forbidden = [
            crate::rig::control::report(&node.folder)["control"].clone(),
            cluster.host.report()["parts"]["control"].clone(),
        ];
        for counted in forbidden {
            assert_eq!(
                counted["clients_forbidden_total"],
                u64::from(!allowed),
                "{counted:#}"
            );
        }
        let logged = |lines: &str| lines.contains("user 65534 is not in socket_users: refused");
        let counted = node.stop().lines.join("\n");
        assert_eq!(logged(&counted), !allowed, "{counted}");
        let said = cluster.host.stop(PATIENCE);
        assert_eq!(logged(&said), !allowed, "{said}");
    }
}

#[test]
fn others_do_not_publish() {
    if !has_root() {
        return;
    }
    let tool = Tool::new();
    for (users, allowed) in [("[\"root\"]", false), ("[\"65534\"]", true)] {
        let mut cluster = Cluster::running(&format!(
            "socket_users = {users}\nsocket_group = {GROUP:?}\n"
        ));
        let socket = cluster.host.socket();
        // Its mode is as the service makes it by then.
        let heard = format!("{}: connected", socket.display());
        let lines = &cluster.host.process().err;
        lines.find("the workers' socket is there", |line| {
            line.contains(&heard).then_some(())
        });
        let entries = std::fs::read_dir(socket.parent().unwrap()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let is_socket = |path: &PathBuf| path.metadata().unwrap().file_type().is_socket();
        let sockets: Vec<PathBuf> = paths.filter(is_socket).collect();
        assert_eq!(sockets.len(), 2, "events and requests: {sockets:?}");
        for path in &sockets {
            is_for_the_group(path);
            expose(path);
        }
        let socket = socket.to_str().unwrap();
        let event = [
            "--table",
            "t",
            "--key",
            "k",
            "--value",
            "1",
            "--timeout",
            "2",
        ];
        let mut acknowledged = vec!["publish", "--socket", socket];
        acknowledged.extend(event);
        let output = as_nobody(&tool.path(), &acknowledged);
        assert_eq!(output.status.success(), allowed, "{output:?}");
        // As old workers do: pushed, and nobody answers.
        let linger = if allowed { 20_000 } else { 1_000 };
        let script = format!(
            "import zmq\nc=zmq.Context()\ns=c.socket(zmq.PUSH)\ns.linger={linger}\ns.connect('ipc://{socket}')\n\
             s.send_multipart([b'D\\0', b'\\x85\\xa5table\\xa1t\\xa3key\\xa2k2\\xa6action\\xa3set\\xa5value\\xa11\\xa5topic\\xa1D'])\n\
             s.close()\nc.term()"
        );
        as_nobody("/usr/bin/python3", &["-c", &script]);
        let parts = until("both are counted", || {
            let report = cluster.host.report();
            let parts = &report["parts"];
            let refused = [
                &parts["requests"]["request_connections_refused_total"],
                &parts["workers"]["refusals_total"],
            ];
            let counted = match allowed {
                true => parts["service"]["head_seq"].as_u64() >= Some(3),
                false => refused.iter().all(|count| count.as_u64() > Some(0)),
            };
            counted.then(|| parts.clone())
        });
        let pushed = parts["workers"]["events_received_total"].as_u64().unwrap();
        assert_eq!(pushed, u64::from(allowed), "{parts:#}");
        // Own user and root publish all the same.
        cluster.host.set("D", "own", "1");
        let said = cluster.host.stop(PATIENCE);
        assert_eq!(
            said.contains("who are not in socket_users"),
            !allowed,
            "{said}"
        );
    }
}

/// Listens to events and asks for the topics there are; says what came of the two.
const AGENT: &str = "
import zmq
c = zmq.Context()
events, sync = c.socket(zmq.SUB), c.socket(zmq.DEALER)
events.subscribe(b'')
for s, path in ((events, PATH), (sync, PATH + '.sync')):
    s.linger = 0
    s.connect('ipc://' + path)
sync.send(bytes([1, 4]) + bytes(7) + bytes([7]) + bytes(1))
print('heard' if events.poll(TIME) else 'nothing')
print('answered' if sync.poll(TIME) else 'nothing')
";

#[test]
fn others_hear_nothing_and_are_given_nothing() {
    if !has_root() {
        return;
    }
    const DAEMON: u32 = 1;
    for (users, allowed) in [("[\"root\"]", false), ("[\"nobody\"]", true)] {
        let folder = Folder::new();
        let path = folder.path("e.sock");
        let config = format!(
            "publisher_transport = \"ipc\"\npublisher_bind_address = {path:?}\nsync_port = 1\n\
             publisher_multiproc_socket = {:?}\nmax_idle_time = 0.2\n\
             socket_group = \"daemon\"\nsocket_users = {users}\n",
            folder.path("p.sock"),
        );
        let mut service = Process::start(folder.command(PUBLISHER, &config));
        service.err.find("it is bound", |line| {
            line.contains("sends on").then_some(())
        });
        let sync = folder.path("e.sock.sync");
        wait_for("the sync service is there", || sync.exists());
        for socket in [&path, &sync] {
            until("it is for the group", || {
                let socket = std::fs::metadata(socket).unwrap();
                let may = (socket.permissions().mode() & 0o777, socket.gid());
                (may == (0o660, DAEMON)).then_some(())
            });
            expose(socket);
        }
        let script = |time: u32| {
            let (time, path) = (time.to_string(), format!("{:?}", path.to_str().unwrap()));
            AGENT.replace("TIME", &time).replace("PATH", &path)
        };
        // As long as it takes, or some hellos.
        let time = if allowed { 20_000 } else { 1_000 };
        let output = as_nobody("/usr/bin/python3", &["-c", &script(time)]);
        let got = String::from_utf8_lossy(&output.stdout).into_owned();
        let all = "heard\nanswered\n";
        let wanted = if allowed { all } else { "nothing\nnothing\n" };
        assert_eq!(got, wanted, "{users}: {output:?}");
        // Own user and root have everything all the same.
        let mut own = Command::new("/usr/bin/python3");
        let output = own.args(["-c", &script(20_000)]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), all, "{output:?}");
        until("both are counted", || {
            let parts = &publisher_report(&folder)["parts"];
            let refused = [
                &parts["service"]["handshakes_refused_total"],
                &parts["sync"]["sync_handshakes_refused_total"],
            ];
            let so = |count: &&serde_json::Value| count.as_u64().map(|n| n > 0) == Some(!allowed);
            let all = refused.iter().all(so);
            all.then_some(())
        });
        service.signal(rustix::process::Signal::TERM);
        assert!(
            service.ends_within(PATIENCE).success(),
            "{}",
            service.errors()
        );
    }
}

#[test]
fn others_do_not_attach_to_a_handlers_socket() {
    if !has_root() {
        return;
    }
    let port = Port::free();
    let mut node = Node::new(&[&port.uri()], &["t1"], "");
    let path = node.folder.path("local.sock");
    let handler = format!(
        "\n[[handler]]\nmodule = \"socket\"\npath = {path:?}\nmode = \"0777\"\nusers = [\"daemon\"]\n"
    );
    node.configure(|config| config.replace("sync_timeout = 20.0", "sync_timeout = 0.1") + &handler);
    node.start();
    wait_for("the socket is there", || path.exists());
    expose(&path);
    let script = format!(
        "import socket\ns=socket.socket(socket.AF_UNIX)\ns.settimeout(10)\ns.connect({:?})\nprint(s.recv(4096).decode())",
        path.to_str().unwrap()
    );
    let output = as_nobody("/usr/bin/python3", &["-c", &script]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("user 65534 may not attach"), "{output:?}");
    let mut own = Command::new("/usr/bin/python3");
    let output = own.args(["-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && !said.contains("may not"),
        "{output:?}"
    );
    let report = crate::rig::control::report(&node.folder);
    let own = report["handlers"].as_array().unwrap().iter();
    let mut own = own.filter(|handler| handler["name"] == "socket");
    assert_eq!(
        own.next().unwrap()["own"]["clients_forbidden_total"],
        1,
        "{report:#}"
    );
    let lines = node.stop().lines.join("\n");
    assert!(
        lines.contains("user 65534 may not attach: refused"),
        "{lines}"
    );
}
