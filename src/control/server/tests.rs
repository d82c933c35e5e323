use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::control::{Answer, Client, ClientError, Fed, Feed, MAX_REQUEST, Request};
use crate::util::testing::{at_most, within};

struct Fake;

impl Desk for Fake {
    fn answer(&self, request: Request) -> Result<Answer, Refusal> {
        match request {
            Request::Status {} => Ok(Answer::Done(json!({"ready": true}))),
            Request::Get { table, .. } => {
                let rows = (0..1000).map(move |n| json!({"table": table, "key": n}));
                Ok(Answer::Items(Box::new(rows)))
            }
            Request::Watch { .. } => Ok(Answer::Feed(Box::new(Flood(0)))),
            other => Err(Refusal::new(Code::Unsupported, format!("{other:?}"))),
        }
    }
}

/// Gives items without end.
struct Flood(u64);

impl Feed for Flood {
    fn next(&mut self, _: Duration) -> Fed {
        self.0 += 1;
        Fed::Items(vec![json!({"n": self.0, "filler": "x".repeat(1000)})])
    }
}

fn open(folder: &Path) -> Control {
    let options = Options {
        run_dir: folder.join("run"),
        daemon: "agent",
        group: "root".into(),
        users: Default::default(),
    };
    Control::open(&options, Arc::default(), Arc::new(Fake)).unwrap()
}

fn ask(client: &mut Client, request: &Request) -> (Vec<Value>, Result<Value, ClientError>) {
    let mut items = Vec::new();
    let end = client.ask(request, |item| {
        items.push(item);
        true
    });
    (items, end)
}

#[test]
fn one_connection_many_requests() {
    let folder = tempfile::tempdir().unwrap();
    let control = open(folder.path());
    let mode = fs::metadata(control.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut client = Client::connect(control.path()).unwrap();
    assert_eq!(client.greeting().fanfare, "agent");
    let get = Request::Get {
        table: "t".into(),
        key: None,
    };
    let (items, end) = ask(&mut client, &get);
    assert_eq!(end.unwrap(), json!({"rows": 1000}));
    assert_eq!(items[999], json!({"table": "t", "key": 999}));
    let (_, end) = ask(&mut client, &Request::Resync { handler: None });
    assert!(
        matches!(&end, Err(ClientError::Refused(why)) if why.code == Code::Unsupported),
        "{end:?}"
    );
    let (_, end) = ask(&mut client, &Request::Status {});
    assert_eq!(end.unwrap(), json!({"ready": true}));
    assert_eq!(control.metrics.requests_total.get(), 3);
    let path = control.path().to_owned();
    drop(control);
    assert!(matches!(Client::connect(&path), Err(ClientError::Down(_))));
    let (_, end) = ask(&mut client, &Request::Status {});
    assert!(matches!(end, Err(ClientError::Broken { .. })), "{end:?}");
}

#[test]
fn what_a_dead_daemon_left_is_replaced_and_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let options = Options {
        run_dir: folder.path().join("run"),
        daemon: "agent",
        group: "root".into(),
        users: Default::default(),
    };
    let error = Control::open(&options, Arc::default(), Arc::new(Fake)).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ControlError::InUse(_)), "{text}");
    assert!(text.contains(&format!("process {}", std::process::id())));
    // The first is still there.
    Client::connect(first.path()).unwrap();
    let path = first.path().to_owned();
    drop(first);
    // As after kill -9: a socket that nobody listens on.
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(Client::connect(&path), Err(ClientError::Down(_))));
    let _second = open(folder.path());
    Client::connect(&path).unwrap();
}

#[test]
fn one_too_many_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let control = open(folder.path());
    let clients: Vec<Client> = (0..MAX_CLIENTS)
        .map(|_| Client::connect(control.path()).unwrap())
        .collect();
    let mut client = Client::connect(control.path()).unwrap();
    let (_, end) = ask(&mut client, &Request::Status {});
    assert!(
        matches!(&end, Err(ClientError::Refused(why)) if why.code == Code::Busy),
        "{end:?}"
    );
    assert_eq!(control.metrics.clients_refused_total.get(), 1);
    drop(clients);
}

#[test]
fn a_watcher_that_reads_nothing_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let control = open(folder.path());
    let mut slow = UnixStream::connect(control.path()).unwrap();
    let watch = Request::Watch {
        tables: Vec::new(),
        topics: Vec::new(),
    };
    slow.write_all(watch.encode().as_bytes()).unwrap();
    let mut client = Client::connect(control.path()).unwrap();
    // More than the greeting, and no more comes.
    let (mut held, mut looks) = (0, 0);
    within("there is no room for more", || {
        let now = rustix::io::ioctl_fionread(&slow).unwrap();
        looks = if now == held { looks + 1 } else { 0 };
        held = now;
        held > 10_000 && looks >= 20
    });
    let (_, end) = ask(&mut client, &Request::Status {});
    assert!(end.is_ok());
    let begun = Instant::now();
    drop(control);
    assert!(begun.elapsed() < at_most(Duration::from_millis(500)));
}

#[test]
fn a_line_without_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let control = open(folder.path());
    let mut stream = UnixStream::connect(control.path()).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    lines.next().unwrap().unwrap();
    stream.write_all(&vec![b'x'; MAX_REQUEST + 1]).unwrap();
    let answer = lines.next().unwrap().unwrap();
    assert!(answer.contains("at most 65536 bytes"), "{answer}");
    assert_eq!(control.metrics.requests_malformed_total.get(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever comes, the next client is served.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let folder = tempfile::tempdir().unwrap();
        let control = open(folder.path());
        let mut stream = UnixStream::connect(control.path()).unwrap();
        let _ = stream.write_all(&bytes);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut told = Vec::new();
        let _ = stream.read_to_end(&mut told);
        let greeted = told.starts_with(br#"{"fanfare":"agent""#);
        prop_assert!(greeted, "{}", String::from_utf8_lossy(&told));
        let mut client = Client::connect(control.path()).unwrap();
        let (_, end) = ask(&mut client, &Request::Status {});
        prop_assert!(end.is_ok());
    }
}
