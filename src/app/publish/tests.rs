use std::io::Cursor;
use std::thread::JoinHandle;

use clap::Parser;
use crossbeam_channel::bounded;

use super::*;
use crate::publisher::client::Refusal;
use crate::publisher::requests::{RequestOptions, Requests};
use crate::publisher::submit::{Code, Reply, request_path};

#[derive(Debug, Parser)]
struct Line1 {
    #[command(flatten)]
    args: PublishArgs,
}

fn args(words: &[&str]) -> Result<PublishArgs, clap::Error> {
    let words = std::iter::once("publish").chain(words.iter().copied());
    Line1::try_parse_from(words).map(|line| line.args)
}

struct Service {
    folder: tempfile::TempDir,
    requests: Option<Requests>,
    core: Option<JoinHandle<Vec<String>>>,
}

/// Takes every event but those whose key is `old`.
fn service() -> Service {
    let folder = tempfile::tempdir().unwrap();
    let (sink, submitted) = bounded(4);
    let path = request_path(&folder.path().join("p"));
    let options = RequestOptions::default();
    let requests = Requests::start(&zmq::Context::new(), &path, &options, sink).unwrap();
    let core = std::thread::spawn(move || {
        let mut keys = Vec::new();
        for submitted in submitted {
            let mut refused = Vec::new();
            for (event, number) in submitted.events.iter().zip(submitted.first..) {
                let (code, reason) = (Code::Older, "version 9 is known".into());
                match event.key {
                    "old" => refused.push(Refusal {
                        number,
                        code,
                        reason,
                    }),
                    key => keys.push(key.to_owned()),
                }
            }
            let upto = submitted.first + submitted.events.len() as u64 - 1;
            submitted.reply.send(Reply::Accepted { upto, refused });
        }
        keys
    });
    Service {
        folder,
        requests: Some(requests),
        core: Some(core),
    }
}

impl Service {
    /// What was reported, the exit status.
    fn publish(&self, words: &[&str]) -> Result<(String, u8), String> {
        let socket = self.folder.path().join("p");
        let mut words = words.to_vec();
        let socket = socket.display().to_string();
        words.extend(["--socket", &socket]);
        let mut report = Report::new(false);
        publish(&args(&words).unwrap(), &mut report)?;
        Ok((report.to_string(), report.status()))
    }

    fn file(&self, text: &str) -> String {
        let path = self.folder.path().join("events.jsonl");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// The keys that were published.
    fn end(&mut self) -> Vec<String> {
        // Its drop closes the channel that the core reads.
        self.requests = None;
        self.core.take().unwrap().join().unwrap()
    }
}

#[test]
fn one_event_from_flags() {
    let mut service = service();
    let set = [
        "--table", "t", "--key", "k1", "--value", "1", "--topic", "x",
    ];
    let all_well = ("acknowledged 1, refused 0".to_owned(), 0);
    assert_eq!(service.publish(&set), Ok(all_well.clone()));
    let delete = ["--table", "t", "--key", "k2", "--delete"];
    assert_eq!(service.publish(&delete), Ok(all_well));
    let old = [
        "--table",
        "t",
        "--key",
        "old",
        "--delete",
        "--event-version",
        "3",
    ];
    assert_eq!(
        service.publish(&old),
        Ok(("acknowledged 0, refused 1".into(), 1))
    );
    let reserved = [
        "--table", "t", "--key", "k", "--delete", "--topic", "\u{1}x",
    ];
    assert!(service.publish(&reserved).unwrap_err().contains("reserved"));
    assert_eq!(service.end(), ["k1", "k2"]);
}

#[test]
fn a_file_with_a_bad_line_publishes_nothing() {
    let mut service = service();
    let good = r#"{"table":"t","key":"a","value":1}"#;
    let bad = service.file(&format!("{good}\n\n{{}}\n"));
    let error = service.publish(&["--from", &bad]).unwrap_err();
    assert!(error.ends_with("has a bad line"), "{error}");
    let old = r#"{"table":"t","key":"old","action":"delete"}"#;
    let file = service.file(&format!("{good}\n\n{old}\n{good}"));
    assert_eq!(
        service.publish(&["--from", &file]),
        Ok(("acknowledged 2, refused 1".into(), 1))
    );
    assert!(service.publish(&["--from", "/nowhere"]).is_err());
    assert_eq!(service.end(), ["a", "a"]);
}

#[test]
fn many_events_go_in_order() {
    let mut service = service();
    let line = |n: u32| format!("{{\"table\":\"t\",\"key\":\"{n}\",\"value\":1}}\n");
    let file = service.file(&(0..30_000).map(line).collect::<String>());
    assert_eq!(
        service.publish(&["--from", &file]),
        Ok(("acknowledged 30000, refused 0".into(), 0))
    );
    let keys = service.end();
    assert_eq!(keys.len(), 30_000);
    assert!(keys.iter().zip(0..).all(|(key, n)| *key == n.to_string()));
}

#[test]
fn without_a_service_it_gives_up_and_says_how_many_are_unknown() {
    let mut service = service();
    service.end();
    let begin = Instant::now();
    let words = ["--table", "t", "--key", "k", "--delete", "--timeout", "0.2"];
    assert_eq!(
        service.publish(&words),
        Ok(("acknowledged 0, refused 0, unknown 1".into(), 1))
    );
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn refusals_are_told_by_line() {
    let mut report = Report::new(false);
    for (number, line) in [(1, 1), (2, 2), (3, 5), (4, 6), (5, 9)] {
        report.sent(number, Some(line));
    }
    assert_eq!(report.line_of(2), Some(2));
    assert_eq!(report.line_of(4), Some(6));
}

#[test]
fn slips_of_the_command_line_are_told() {
    for words in [
        &[][..],
        &["--table", "t"],
        &["--table", "t", "--key", "k"],
        &["--table", "t", "--key", "k", "--value", "1", "--delete"],
        &["--from", "x", "--table", "t", "--key", "k", "--delete"],
        &["--from", "x", "--delete"],
        &["--from", "x", "--timeout", "0"],
        &[
            "--table",
            "t",
            "--key",
            "k",
            "--delete",
            "--event-version",
            "0",
        ],
    ] {
        assert!(args(words).is_err(), "{words:?}");
    }
    assert_eq!(default_socket(), "/run/fanfare/publisher.sock");
}

#[test]
fn lines_are_read_in_bounded_memory() {
    let long = "x".repeat(crate::publisher::submit::MAX_EVENT + 2);
    let text = format!("{{}}\n \n{long}\n{{\"table\":\"t\",\"key\":\"k\",\"value\":1}}");
    let read: Vec<_> = lines(Cursor::new(text)).collect();
    let numbers: Vec<_> = read.iter().map(|line| line.number).collect();
    assert_eq!(numbers, [1, 3, 4]);
    assert!(read[1].event.as_ref().unwrap_err().contains("at most"));
    assert!(read[2].event.is_ok());
}
