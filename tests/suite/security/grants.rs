//! Grants: a node has its own topics and no others, whatever it asks for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fanfare::sync::{Answer, Refusal, Request, answer, request};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::rig::control::run;
use crate::rig::counted::of_publisher;
use crate::rig::host::Host;
use crate::rig::load::rows;
use crate::rig::node::Node;
use crate::rig::site::Site;
use crate::rig::stranger::taken_over;
use crate::rig::{PATIENCE, at_most, try_within, until, wait_for};

/// Each of two tenants has a node.
const GRANTS: &str = "[[grant]]\nnodes = [\"n1\"]\ntopics = [\"t1\"]\n\
                      [[grant]]\nnodes = [\"n2\"]\ntopics = [\"t2\"]\n";

/// A subscriber to one prefix beside the heartbeat, which shows that it is heard.
struct Spy {
    socket: zmq::Socket,
    prefix: &'static [u8],
    heard: BTreeSet<Vec<u8>>,
    hellos: u64,
}

impl Spy {
    fn new(site: &Site, prefix: &'static [u8]) -> Spy {
        Spy::of(site, "n2", prefix)
    }

    fn of(site: &Site, node: &str, prefix: &'static [u8]) -> Spy {
        let socket = taken_over(site, node, zmq::SUB, &site.cluster.uri());
        socket.set_subscribe(prefix).unwrap();
        socket.set_subscribe(b"\x01hello\0").unwrap();
        let mut spy = Spy {
            socket,
            prefix,
            heard: BTreeSet::new(),
            hellos: 0,
        };
        spy.hears_hello();
        spy
    }

    fn listen(&mut self) {
        while let Ok(frames) = self.socket.recv_multipart(zmq::DONTWAIT) {
            match &frames[0][..] {
                b"\x01hello\0" => self.hellos += 1,
                other => drop(self.heard.insert(other.to_vec())),
            }
        }
    }

    /// Waits for one more hello: what was sent before it has come by then.
    #[track_caller]
    fn hears_hello(&mut self) {
        let before = self.hellos;
        wait_for(&format!("a hello beside {:?}", self.prefix), || {
            self.listen();
            self.hellos > before
        });
    }
}

/// The answer of the sync service.
#[track_caller]
fn ask(socket: &zmq::Socket, tag: u64, what: &Request) -> Answer {
    let mut out = Vec::new();
    request::encode(tag, what, &mut out);
    socket.send(out, 0).unwrap();
    until("the sync service answers", || {
        let bytes = socket.recv_bytes(zmq::DONTWAIT).ok()?;
        let (answered, answer) = answer::decode(&bytes).unwrap();
        assert_eq!(answered, tag);
        Some(answer)
    })
}

#[test]
fn one_tenant_does_not_read_another() {
    let all = "[[grant]]\nnodes = [\"n3\"]\ntopics = [\"*\"]\n";
    let mut site = Site::with(&["n1", "n2", "n3"], &format!("{GRANTS}{all}"));
    site.cluster.publish("t1", 0..50, 100);
    let honest = site.node_with("n1", &["t1"]);
    honest.has(&rows(50, 100));
    let mut spies: Vec<Spy> = [
        &b"t1\0"[..],
        b"t1",
        b"t",
        b"",
        b"t1\0\0",
        b"\x01",
        b"t2\0",
        b"D\0",
    ]
    .map(|prefix| Spy::new(&site, prefix))
    .into();
    // More than one at once, one after the other, and one given back.
    let greedy = &spies[0].socket;
    greedy.set_subscribe(b"").unwrap();
    greedy.set_subscribe(b"t").unwrap();
    greedy.set_unsubscribe(b"t1\0").unwrap();
    greedy.set_subscribe(b"t1\0").unwrap();
    wait_for("all that was asked for is judged", || {
        let counted = site.report()["parts"]["grants"].clone();
        counted["grants_refused_subscriptions_total"].as_u64() >= Some(9)
    });
    site.cluster.publish("t1", 50..150, 100);
    site.cluster.publish("t2", 1000..1020, 10_000);
    site.cluster.publish("D", 2000..2001, 10_000);
    honest.has(&{
        let mut all = rows(150, 100);
        all.insert("k2000".into(), json!({"n": 2000}));
        all
    });
    for spy in &mut spies {
        spy.hears_hello();
        let expected: BTreeSet<Vec<u8>> = match spy.prefix {
            b"t2\0" | b"D\0" => [spy.prefix.to_vec()].into(),
            _ => BTreeSet::new(),
        };
        assert_eq!(spy.heard, expected, "subscribed to {:?}", spy.prefix);
    }

    let line = taken_over(&site, "n2", zmq::DEALER, &site.sync_uri);
    let refused = |answer: Answer| matches!(answer, Answer::Refused { code, .. } if code == Refusal::Forbidden);
    let incarnation = site.report()["incarnation"].as_u64().unwrap();
    let (topic, after) = ("t1".to_owned(), 0);
    let snapshot = |topic: &str, chunk| Request::Snapshot {
        topic: topic.into(),
        chunk,
    };
    assert!(refused(ask(&line, 1, &snapshot("t1", None))));
    let replay = Request::Replay {
        incarnation,
        topic,
        after,
    };
    assert!(refused(ask(&line, 2, &replay)));
    let heads = |topics: &[&str]| Request::Heads {
        incarnation,
        topics: topics.iter().map(|&topic| (topic.to_owned(), 0)).collect(),
    };
    assert!(refused(ask(&line, 3, &heads(&["t1"]))));
    let Answer::Heads { behind, .. } = ask(&line, 4, &heads(&["t1", "t2", "D"])) else {
        panic!("no heads");
    };
    let behind: Vec<&str> = behind.iter().map(|(topic, _)| &**topic).collect();
    // What may not be had is behind for ever, which makes an agent ask for it and be told why.
    assert_eq!(behind, ["t2", "D", "t1"]);
    let far = Request::Heads {
        incarnation,
        topics: vec![("t1".into(), 1 << 40), ("D".into(), 1 << 40)],
    };
    let Answer::Heads { behind, .. } = ask(&line, 40, &far) else {
        panic!("no heads");
    };
    assert_eq!(
        behind,
        [("t1".to_owned(), (1 << 40) + 1)],
        "nothing of where t1 stands"
    );
    // Not by the name of a snapshot that another node is given either.
    let own = taken_over(&site, "n1", zmq::DEALER, &site.sync_uri);
    let Answer::Rows { id, .. } = ask(&own, 1, &snapshot("t1", None)) else {
        panic!("no rows");
    };
    assert!(refused(ask(&line, 5, &snapshot("t1", Some((id, 0))))));
    assert_eq!(
        ask(&line, 6, &snapshot("t2", Some((id, 0)))),
        Answer::Lapsed
    );
    let Answer::Rows { rows, .. } = ask(&line, 7, &snapshot("t2", None)) else {
        panic!("no rows");
    };
    assert_eq!(rows.len(), 20);
    // Which topics there are is told to those only who may have all of them.
    let topics = Request::Topics {
        after: String::new(),
    };
    assert!(refused(ask(&line, 8, &topics)));
    assert!(refused(ask(&own, 2, &topics)));
    let line = taken_over(&site, "n3", zmq::DEALER, &site.sync_uri);
    let Answer::Topics { topics, more, .. } = ask(&line, 1, &topics) else {
        panic!("no topics");
    };
    assert_eq!(
        (topics, more),
        (["D", "t1", "t2"].map(String::from).into(), false)
    );

    let report = site.report();
    let (first, second) = (json!("n2"), json!("n1"));
    let listed = report["refused"].as_array().unwrap();
    let of = |topic: &str| {
        let mut found = listed
            .iter()
            .filter(|entry| entry["topic"] == topic && entry["node"] == first);
        found.next().cloned().unwrap_or(Value::Null)
    };
    // The other asked for nothing that it may not have but the names of all topics.
    let beside = |entry: &&Value| entry["node"] != first;
    let beside: Vec<&Value> = listed.iter().filter(beside).collect();
    assert!(
        beside
            .iter()
            .all(|entry| entry["node"] == second && entry["topic"] == "(everything)"),
        "{report:#}"
    );
    assert!(of("t1")["subscriptions"].as_u64() >= Some(2), "{report:#}");
    assert!(of("t1")["requests"].as_u64() >= Some(4), "{report:#}");
    assert!(
        of("(everything)")["subscriptions"].as_u64() >= Some(2),
        "{report:#}"
    );
    assert_eq!(of("(everything)")["requests"], 1, "{report:#}");
    let socket = site.cluster.host.folder.path("run/publisher-control.sock");
    let shown = run(&[&"publisher", &"status", &"--socket", &socket]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    let line = shown
        .lines()
        .find(|line| line.contains("NO GRANT FOR NODE"));
    assert!(line.is_some() && shown.contains("(everything)"), "{shown}");

    let mut honest = honest;
    let counted = honest.stop();
    assert_eq!(counted.of(" publisher tcp", "connects_total"), 1);
    // What followed its first look came by subscription.
    assert_eq!(counted.recovery("gaps_total"), 0, "{:#?}", counted.lines);
    let said = site.stop();
    assert_eq!(said.count("gate_cuts_total"), 0, "{}", said.0);
    assert!(
        said.count("grants_refused_subscriptions_total") >= 9,
        "{}",
        said.0
    );
    assert!(
        said.count("grants_refused_requests_total") >= 4,
        "{}",
        said.0
    );
    let logged = |what: &str| said.0.lines().any(|line| line.contains(what));
    assert!(
        logged("node n2 subscribes to t1, which no grant gives it"),
        "{}",
        said.0
    );
}

/// What an agent says of itself.
fn standing(node: &Node) -> Value {
    let socket = node.folder.path("run").join("agent-control.sock");
    let done = run(&[&"status", &"--json", &"--socket", &socket]);
    serde_json::from_slice(&done.stdout).unwrap_or_default()
}

/// A grant that comes lets a node in, one that goes ends what it had; nobody else notices.
#[test]
fn grants_come_and_go_without_a_restart() {
    let mut site = Site::with(&["n1", "n2"], GRANTS);
    site.cluster.publish("t1", 0..50, 100);
    let mut first = site.node_with("n1", &["t1"]);
    let mut second = site.node_with("n2", &["t1", "t2"]);
    first.has(&rows(50, 100));
    wait_for("the agent says what it may not have", || {
        let report = standing(&second);
        report["publishers"][0]["topics_forbidden"] == json!(["t1"])
            && report["publishers"][0]["state"] == "forbidden"
            && report["ready"] == false
    });
    let reasons = standing(&second)["reasons"].to_string();
    assert!(
        reasons.contains("does not let this node have all topics it wants"),
        "{reasons}"
    );
    // Rows of their own: one that is published on another topic leaves the first.
    site.cluster.publish("t2", 1000..1003, 10_000);
    let with_own = |mut all: std::collections::BTreeMap<String, Value>, count: u64| {
        let own = (1000..1000 + count).map(|n| (format!("k{n}"), json!({"n": n})));
        all.extend(own);
        all
    };
    second.has(&with_own(rows(0, 100), 3));

    // Each hello says that there is something of t1, and is no reason to ask again.
    let mut beside = Spy::of(&site, "n1", b"t1\0");
    (0..5).for_each(|_| beside.hears_hello());
    drop(beside);
    let recovery = standing(&second)["publishers"][0]["recovery"].clone();
    let asked = recovery["refused_total"].as_u64().unwrap();
    // Once, and again if the connection was made anew.
    assert!(
        (1..=2).contains(&asked),
        "it asked again and again: {recovery:#}"
    );

    site.reload("topics = [\"t2\"]", "topics = [\"t2\", \"t1\"]");
    second.has(&with_own(rows(50, 100), 3));
    wait_for("it is in step", || standing(&second)["ready"] == true);
    site.cluster.publish("t1", 50..80, 100);
    first.has(&rows(80, 100));
    second.has(&with_own(rows(80, 100), 3));

    site.reload("topics = [\"t2\", \"t1\"]", "topics = [\"t2\"]");
    wait_for("what it may not have has ended", || {
        let counted = site.report()["parts"]["grants"].clone();
        counted["grants_ended_total"] == 2
    });
    site.cluster.publish("t1", 80..100, 100);
    site.cluster.publish("t2", 1003..1004, 10_000);
    first.has(&rows(100, 100));
    second.has(&with_own(rows(80, 100), 4));
    wait_for("it is forbidden again", || {
        standing(&second)["publishers"][0]["topics_forbidden"] == json!(["t1"])
    });
    // All grants go, and everybody may have everything.
    let all = site.cluster.host.more.clone();
    let from = all.find("[[grant]]").unwrap();
    site.reload(&all[from..], "");
    second.has(&with_own(rows(100, 100), 4));
    first.stop();
    second.stop();
    let said = site.stop();
    assert_eq!(said.count("grants_changed_total"), 3, "{}", said.0);
    assert!(said.count("grants_ended_total") >= 2, "{}", said.0);
    assert_eq!(said.count("gate_cuts_total"), 0, "{}", said.0);
    // With the last grant everybody's connection went; before that, those of one node only.
    let all_cut = |line: &&str| line.contains("grants begin or end: all connections");
    assert_eq!(said.0.lines().filter(all_cut).count(), 1, "{}", said.0);
}

/// Grants are of no use where nobody proves who he is.
#[test]
fn grants_without_keys_start_nothing() {
    let mut host = Host::new(&format!("security = \"none\"\n{GRANTS}"));
    let output = host.command().output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("grant: with security = \"none\" nobody knows"),
        "{said}"
    );
    host.more = "security = \"curve\"\n[[grant]]\nnodes = [\"a*b\"]\ntopic = [\"t\"]\n".into();
    let output = host.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for fault in [
        "grant#1.nodes: \"a*b\" has * elsewhere than at its end",
        "grant#1.topic: unknown key; did you mean `topics`?",
        "grant#1.topics: must be set",
    ] {
        assert!(said.contains(fault), "{fault} in {said}");
    }
}

/// A service that was started without keys knows of nobody who it is: what a peer says of itself would
/// count, and honest agents would have nothing.
#[test]
fn grants_are_not_put_in_force_where_nobody_proves_who_it_is() {
    let mut host = Host::running("security = \"none\"");
    host.more = format!("security = \"curve\"\n{GRANTS}");
    // Writes the file.
    host.command();
    let process = host.process();
    process.signal(Signal::HUP);
    process.err.find("it says so", |line| {
        line.contains("grants take effect at the next start")
            .then_some(())
    });
    let reloads = |host: &Host| {
        let counted = host.report()["parts"]["publisher"].clone();
        ["config_reloads_total", "config_reloads_failed_total"].map(|name| counted[name].as_u64())
    };
    assert_eq!(reloads(&host), [Some(0), Some(1)]);
    // Nothing is new in the file, and the grants in it are still not in force.
    host.process().signal(Signal::HUP);
    wait_for("it is refused again", || {
        reloads(&host) == [Some(0), Some(2)]
    });
    let notices = host.report()["notices"].to_string();
    assert!(
        notices.contains("grants take effect at the next start"),
        "{notices}"
    );
    let said = host.stop(crate::rig::PATIENCE);
    assert_eq!(of_publisher(&said, "grants_changed_total"), 0, "{said}");
}

/// More than that nobody waits for its first rows because it has to be let in.
const LEAVE: Duration = Duration::from_millis(500);

/// The best of a few tries each, so that it is not the machine that is measured.
#[test]
fn leave_costs_a_joining_agent_less_than_half_a_second() {
    let mut times = [Vec::new(), Vec::new()];
    let mut sites = ["", GRANTS].map(|grants| Site::with(&["n1"], grants));
    for site in &sites {
        site.cluster.publish("t1", 0..50, 100);
    }
    for round in 1..=3 {
        for (site, times) in sites.iter().zip(&mut times) {
            let begun = Instant::now();
            let mut node = site.node_with("n1", &["t1"]);
            node.has(&rows(50 * round, 1_000));
            times.push(begun.elapsed());
            // What follows at once comes by subscription, and nothing of it is missed.
            site.cluster
                .publish("t1", 50 * round..50 * (round + 1), 1_000);
            node.has(&rows(50 * (round + 1), 1_000));
            let counted = node.stop();
            assert_eq!(counted.of(" publisher tcp", "connects_total"), 1);
        }
    }
    println!(
        "until the first rows: {:?} without grants, {:?} with",
        times[0], times[1]
    );
    let [without, with] = times.map(|times| times.into_iter().min().unwrap());
    assert!(
        with < without + at_most(LEAVE),
        "{with:?}, {without:?} without grants"
    );
    for site in &mut sites {
        site.stop();
    }
}

/// Nobody who comes and goes, and nobody who does what no agent does, keeps others from what they may
/// have, or is given it.
#[test]
fn a_crowd_is_let_in_beside_some_that_misbehave() {
    const ROUNDS: usize = 8;
    // A node has few connections.
    let crowd: Vec<String> = (0..16).map(|number| format!("c{number}")).collect();
    // All but the last of these misbehave, each once: it is kept out then.
    let others: Vec<String> = (0..=ROUNDS).map(|number| format!("m{number}")).collect();
    let names: Vec<&str> = crowd.iter().chain(&others).map(String::as_str).collect();
    let grants = GRANTS.replace("[\"n1\"]", &format!("{crowd:?}"));
    let grants = grants.replace("[\"n2\"]", &format!("{others:?}"));
    let mut site = Site::with(&names, &grants);
    let uri = site.cluster.uri();
    let client = |number: usize| {
        let client = taken_over(&site, &crowd[number % crowd.len()], zmq::SUB, &uri);
        client.set_subscribe(b"t1\0").unwrap();
        client.set_subscribe(b"t1").unwrap();
        client
    };
    let subscribes = |node: &String| {
        let socket = taken_over(&site, node, zmq::XSUB, &uri);
        socket.send("\u{1}t1\0", 0).unwrap();
        socket
    };
    let others: Vec<zmq::Socket> = others.iter().map(subscribes).collect();
    wait_for("all of these have asked for what they may not have", || {
        let counted = site.report()["parts"]["grants"].clone();
        counted["grants_refused_subscriptions_total"].as_u64() > Some(ROUNDS as u64)
    });
    let mut clients: Vec<zmq::Socket> = Vec::new();
    for (round, misbehaves) in others[..ROUNDS].iter().enumerate() {
        misbehaves.send("no subscription", 0).unwrap();
        // Half of them go before or while they are let in.
        let new: Vec<zmq::Socket> = (0..20).map(|n| client(20 * round + n)).collect();
        std::thread::sleep(Duration::from_millis(10 * round as u64));
        clients.extend(new.into_iter().step_by(2));
    }
    let mut number = 0;
    let mut waiting: Vec<usize> = (0..clients.len()).collect();
    let all = try_within(PATIENCE, || {
        site.cluster.publish("t1", number..number + 1, 10);
        number += 1;
        waiting.retain(|&n| clients[n].poll(zmq::POLLIN, 2).unwrap() == 0);
        waiting.is_empty().then_some(())
    });
    let parts = site.report()["parts"].clone();
    assert!(
        all.is_some(),
        "{waiting:?} do not hear what they may: {parts:#}"
    );
    println!(
        "{} of them made to come again",
        parts["service"]["connections_unclear_total"]
    );
    assert_eq!(
        parts["service"]["connections_unruly_total"], ROUNDS,
        "{parts:#}"
    );
    assert!(
        parts["gate"]["gate_kept_out_total"].as_u64() > Some(0),
        "{parts:#}"
    );
    for socket in &others {
        assert_eq!(socket.poll(zmq::POLLIN, 0).unwrap(), 0);
    }
    let said = site.stop();
    assert!(
        said.0
            .contains("node m0 is kept out for a minute: it sends what no agent sends"),
        "{}",
        said.0
    );
}
