//! The agent's exporter.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::rig::config::{AGENT, Folder};
use crate::rig::control::{get, metrics, report};
use crate::rig::peer::Publisher;
use crate::rig::port::Port;
use crate::rig::process::Process;
use crate::rig::{until, wait_for};

#[test]
fn probes_are_told_whether_and_why_not() {
    let (port, http, folder) = (Port::free(), Port::free(), Folder::new());
    let address = format!("metrics_address = \"127.0.0.1:{}\"", http.number);
    let config = folder.agent_config(&[&port.uri()], &["t1"], &address);
    let agent = Process::start(folder.command(AGENT, &config));
    until("the agent is alive", || {
        (get(&http, "/healthz")? == (200, "ok\n".into())).then_some(())
    });
    let (status, why) = get(&http, "/readyz").unwrap();
    assert_eq!(status, 503);
    let down = format!("publisher {} is not connected", port.uri());
    assert!(why.contains(&down), "{why}");
    let name = format!(
        "fanfare_agent_publisher_live{{publisher=\"{}\"}}",
        port.uri()
    );
    assert_eq!(metrics(&http)[&name], 0);
    assert_eq!(metrics(&http)["fanfare_agent_ready"], 0);
    // Nothing was ever proved of it, and an alert must see how long that lasts.
    let proved = name.replace("live", "proved_seconds");
    wait_for("a second has passed", || {
        metrics(&http).get(&proved).is_some_and(|&age| age >= 1)
    });
    assert_eq!(metrics(&http)[&name.replace("live", "twin")], 0);

    let mut publisher = Publisher::bind(&port.uri());
    wait_for("the agent is ready", || {
        get(&http, "/readyz").unwrap() == (200, "ok\n".into())
    });
    publisher.has_agent(&["D", "t1"]);
    publisher.set("t1", "k", "1");
    folder.has_key("t", "k");
    // It says no hello, and nothing can be proved of such a one.
    wait_for("it is taken for what it is", || {
        let now = metrics(&http);
        now[&name.replace("live", "legacy")] == 1 && !now.contains_key(&proved)
    });
    let now = metrics(&http);
    assert_eq!(now[&name], 1);
    assert_eq!(now["fanfare_agent_ready"], 1);
    assert_eq!(now["fanfare_agent_rows"], 1);
    assert_eq!(now["fanfare_agent_handler_running{handler=\"file\"}"], 1);
    assert!(now["fanfare_agent_process_resident_memory_bytes"] > 1 << 20);
    assert!(now["fanfare_agent_http_requests_total"] > 3);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        now[&format!("fanfare_agent_info{{version=\"{version}\"}}")],
        1
    );

    // A publisher that goes away makes it unready again.
    publisher.kill();
    wait_for("the agent is not ready", || {
        get(&http, "/readyz").unwrap().0 == 503
    });

    // A stopped process answers nobody; as soon as it goes on it does.
    agent.signal(Signal::STOP);
    let address = SocketAddr::from(([127, 0, 0, 1], http.number));
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    assert!(stream.read(&mut [0]).is_err());
    agent.signal(Signal::CONT);
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

/// As with a full disk: what the module `file` is given it takes, and what it makes of it fails.
#[test]
fn a_handler_whose_own_work_fails_is_no_node_in_step() {
    let (port, http, folder) = (Port::free(), Port::free(), Folder::new());
    let mut publisher = Publisher::bind(&port.uri());
    let (there, away) = (folder.path("files"), folder.path("away"));
    std::fs::create_dir(&there).unwrap();
    let more = format!(
        "metrics_address = \"127.0.0.1:{}\"\n[[handler]]\nname = \"other\"\nmodule = \"file\"\n\
         path = {:?}\ninterval = 1.0\n",
        http.number,
        there.join("rows.json")
    );
    let _agent = folder.agent(&[&port.uri()], &["t1"], &more);
    publisher.has_agent(&["D", "t1"]);
    let ready = || get(&http, "/readyz");
    until("it is in step", || (ready()?.0 == 200).then_some(()));
    std::fs::rename(&there, &away).unwrap();
    publisher.set("t1", "k", "1");
    let why = until("it fails", || {
        let (status, why) = ready()?;
        (status == 503 && why.contains("handler other fails")).then_some(why)
    });
    assert!(why.contains("cannot write"), "{why}");
    let name = |what: &str, handler: &str| {
        format!("fanfare_agent_handler_{what}{{handler=\"{handler}\"}}")
    };
    let now = metrics(&http);
    assert_eq!(now[&name("failing", "other")], 1);
    assert_eq!(now[&name("failing", "file")], 0);
    assert!(now[&name("calls_failed_total", "other")] >= 1);
    assert_eq!(now["fanfare_agent_ready"], 0);
    let report = report(&folder);
    let handlers = report["handlers"].as_array().unwrap();
    let other = handlers.iter().find(|one| one["name"] == "other").unwrap();
    assert_eq!(other["state"], "failing", "{report:#}");
    std::fs::rename(&away, &there).unwrap();
    until("it works again", || (ready()?.0 == 200).then_some(()));
    assert_eq!(metrics(&http)[&name("failing", "other")], 0);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let (http, folder) = (Port::free(), Folder::new());
    let _other = std::net::TcpListener::bind(("127.0.0.1", http.number)).unwrap();
    let address = format!("metrics_address = \"127.0.0.1:{}\"", http.number);
    let config = folder.agent_config(&["127.0.0.1:1"], &[], &address);
    let mut agent = Process::start(folder.command(AGENT, &config));
    let status = agent.ends_within(Duration::from_secs(10));
    assert_eq!(status.code(), Some(1));
    let why = agent.errors();
    let address = format!("metrics_address 127.0.0.1:{}", http.number);
    assert!(why.contains(&address) && why.contains("in use"), "{why}");
}
