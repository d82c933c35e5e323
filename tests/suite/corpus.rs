//! What is fuzzed, with all inputs that are kept: seeds, and what fuzzing has found.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::collections::BTreeMap;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};

use fanfare::agent::checkpoint::file::{self, Writer};
use fanfare::agent::recovery::{Life, Positions};
use fanfare::config::{Known, Sources, load_agent, load_publisher};
use fanfare::control;
use fanfare::event::hello::Hello;
use fanfare::event::{Event, Stamp, codec};
use fanfare::handler::registry::Registry;
use fanfare::publisher::submit;
use fanfare::security::key::{PublicKey, SecretKey};
use fanfare::sync::{self, Answer, Packed, Refusal};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_input_that_is_kept_passes() {
    let mut known = Vec::new();
    for (name, run) in targets::TARGETS {
        let files = files(&corpus().join(name));
        assert!(!files.is_empty(), "no input of {name}");
        for file in &files {
            let input = std::fs::read(file).unwrap();
            eprintln!("{}", file.display());
            run(&input);
        }
        known.push(corpus().join(name));
    }
    assert_eq!(
        files(&corpus()),
        known,
        "a folder that belongs to no target"
    );
}

/// `BLESS=1` writes them.
#[test]
fn the_seeds_are_as_generated() {
    for ((target, name), bytes) in seeds() {
        let path = corpus().join(target).join(format!("seed-{name}"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let kept = std::fs::read(&path).unwrap_or_default();
        assert!(kept == bytes, "{} is not as generated", path.display());
    }
}

/// Seeds that are wrong, and are there to be refused.
const WRONG: [(&str, &str); 6] = [
    ("event", "deep"),
    ("sync-request", "short"),
    ("sync-answer", "short"),
    ("control", "odd"),
    ("agent-config", "faulty"),
    ("publisher-config", "faulty"),
];

/// None of the properties that are looked at holds of nothing: each seed that is right is read, and no
/// other.
#[test]
fn what_the_properties_are_about_is_there() {
    for ((target, name), bytes) in seeds() {
        let bytes = &bytes[..];
        let is_read = match target {
            "event" => codec::decode(bytes).is_ok(),
            "hello" => Hello::decode(bytes).is_ok(),
            "sync-request" => sync::request::decode(bytes).is_ok(),
            "sync-answer" => sync::answer::decode(bytes).is_ok(),
            "submit-request" => submit::Request::decode(bytes).is_ok(),
            "submit-reply" => submit::Answer::decode(bytes).is_ok(),
            "checkpoint" => file::read_from(&mut Cursor::new(bytes), drop).is_ok(),
            "control" => {
                let mut lines = bytes.trim_ascii_end().split(|byte| *byte == b'\n');
                lines.all(|line| control::Request::decode(line).is_ok())
            }
            "keys" => std::str::from_utf8(bytes).is_ok_and(|text| match &*name {
                "public" => PublicKey::parse(text).is_ok(),
                _ => SecretKey::parse(text).is_ok(),
            }),
            "agent-config" => {
                is_configuration(bytes, |from, known| load_agent(from, known).is_ok())
            }
            "publisher-config" => {
                is_configuration(bytes, |from, known| load_publisher(from, known).is_ok())
            }
            other => panic!("nobody reads what is kept for {other}"),
        };
        let is_right = !WRONG.contains(&(target, &name));
        assert_eq!(is_read, is_right, "{target} {name}");
    }
}

fn is_configuration(bytes: &[u8], load: impl Fn(&Sources, &Known<'_>) -> bool) -> bool {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let sources = Sources {
        files: vec![file.path().to_owned()],
        ..Sources::default()
    };
    load(&sources, &Known::new(&Registry::builtin()))
}

type Seeds = BTreeMap<(&'static str, String), Vec<u8>>;

fn stamp() -> Stamp {
    Stamp {
        publisher: *b"0123456789abcdef",
        incarnation: 7,
        seq: 41,
        prev: 40,
        version: 1 << 40,
        unix_micros: 1_700_000_000_000_000,
    }
}

fn events() -> Vec<Vec<u8>> {
    let stamped = |event| Event {
        stamp: Some(stamp()),
        ..event
    };
    let long = "x".repeat(300);
    let events = [
        stamped(Event::set("lport", "p1", "{\"id\": 1}").on("tenant1")),
        stamped(Event::delete("lport", "p1").on("tenant1")),
        Event::set("lrouter", "r1", &long),
        Event::delete("", ""),
    ];
    let encoded = events.iter().map(|event| {
        let mut out = Vec::new();
        codec::encode(event, &mut out);
        out
    });
    encoded.collect()
}

fn seeds() -> Seeds {
    let mut seeds = Seeds::new();
    let mut add = |target: &'static str, name: &str, bytes: Vec<u8>| {
        let old = seeds.insert((target, name.to_owned()), bytes);
        assert!(old.is_none(), "{target} has two seeds {name}");
    };
    for (n, event) in events().into_iter().enumerate() {
        add("event", &n.to_string(), event);
    }
    // As other writers have it: any order, unknown keys, nested values, texts as bin and str 16.
    let foreign = b"\x87\xc4\x05topic\xda\x00\x02t1\xa5other\x81\xa1a\x92\xc0\xcb\0\0\0\0\0\0\0\0\
        \xa6action\xa3set\xa3key\xd9\x01k\xa5value\xc6\0\0\0\x01v\xa5table\xc0\x07\xc7\x01\x05\xff";
    add("event", "foreign", foreign.to_vec());
    add(
        "event",
        "deep",
        [&b"\x81\xa1x"[..], &[0x91; 9], b"\xc0"].concat(),
    );

    let mut out = Vec::new();
    let hello = Hello {
        publisher: stamp().publisher,
        incarnation: 7,
        head: 41,
        floor: 1,
        unix_micros: stamp().unix_micros,
        since: 12,
        sync_endpoint: "tcp://*:8867".into(),
        authoritative: true,
        recent: vec![(1, 41), (2, 40)],
        overflow: true,
    };
    hello.encode(&mut out);
    add("hello", "full", out.clone());
    Hello::default().encode(&mut out);
    add("hello", "empty", out.clone());

    let topic = || "tenant1".to_owned();
    let requests = [
        sync::Request::Heads {
            incarnation: 7,
            topics: vec![(topic(), 41), ("D".into(), 0)],
        },
        sync::Request::Replay {
            incarnation: 7,
            topic: topic(),
            after: 40,
        },
        sync::Request::Snapshot {
            topic: topic(),
            chunk: None,
        },
        sync::Request::Snapshot {
            topic: topic(),
            chunk: Some((3, 1)),
        },
        sync::Request::Topics {
            after: String::new(),
        },
        sync::Request::Topics { after: topic() },
    ];
    for (n, request) in requests.iter().enumerate() {
        sync::request::encode(n as u64, request, &mut out);
        add("sync-request", &n.to_string(), out.clone());
    }
    // The last one, the list of topics, without the end of its topic.
    out.truncate(out.len() - 3);
    add("sync-request", "short", out.clone());

    let (mut few, mut many) = (Packed::default(), Packed::default());
    events().iter().for_each(|event| few.push(event));
    (0..4).for_each(|_| many.push(&events()[2]));
    let rows = |total, rows| Answer::Rows {
        id: 3,
        chunk: 1,
        chunks: 2,
        incarnation: 7,
        seq: 41,
        complete_since: 0,
        total,
        rows,
    };
    let answers = [
        Answer::Heads {
            incarnation: 7,
            head: 41,
            behind: vec![(topic(), 41)],
        },
        Answer::Events {
            incarnation: 7,
            upto: 41,
            last: 41,
            events: few,
        },
        Answer::Gone { incarnation: 7 },
        rows(None, many),
        rows(Some((4, 5)), Packed::default()),
        Answer::Lapsed,
        Answer::RetryAfter(250),
        Answer::Refused {
            code: Refusal::Forbidden,
            reason: "not yours".into(),
        },
        Answer::Refused {
            code: Refusal::Version,
            reason: "version 1 only".into(),
        },
        Answer::Refused {
            code: Refusal::Malformed,
            reason: String::new(),
        },
        Answer::Topics {
            incarnation: 7,
            topics: Vec::new(),
            more: false,
        },
        Answer::Topics {
            incarnation: 7,
            topics: vec!["D".into(), topic()],
            more: true,
        },
    ];
    for (n, answer) in answers.iter().enumerate() {
        sync::answer::encode(n as u64, answer, &mut out);
        add("sync-answer", &n.to_string(), out.clone());
    }
    // The last one says that there are more topics than follow.
    let (head, incarnation, mark) = (10, 8, 1);
    out[head + incarnation + mark + 1] += 1;
    add("sync-answer", "short", out.clone());

    let head = submit::Head {
        tag: 5,
        producer: *b"fedcba9876543210",
        floor: 1,
        first: 3,
    };
    let events = events();
    let items = events.iter().zip([None, Some(9)].into_iter().cycle());
    let items = items.map(|(payload, version)| submit::Item { version, payload });
    submit::encode(&head, items.clone(), usize::MAX, &mut out);
    add("submit-request", "several", out.clone());
    submit::encode(&head, items.take(1), usize::MAX, &mut out);
    add("submit-request", "one", out.clone());

    let refusal = |code| submit::Refusal {
        number: 4,
        code,
        reason: "why".into(),
    };
    let replies = [
        submit::Reply::Accepted {
            upto: 6,
            refused: vec![
                refusal(submit::Code::Older),
                refusal(submit::Code::Other(99)),
            ],
        },
        submit::Reply::Expect { number: 2 },
        submit::Reply::Busy {
            retry_after_ms: 100,
            reason: "the disk is full".into(),
        },
        submit::Reply::Unsupported { versions: vec![1] },
        submit::Reply::Malformed {
            reason: "cut short".into(),
        },
        submit::Reply::Accepted {
            upto: 9,
            refused: [
                submit::Code::Topic,
                submit::Code::NotARow,
                submit::Code::TooLarge,
                submit::Code::Malformed,
                submit::Code::Version,
            ]
            .map(refusal)
            .into(),
        },
    ];
    for (n, reply) in replies.into_iter().enumerate() {
        let answer = submit::Answer {
            tag: 5,
            first: 3,
            reply,
        };
        answer.encode(&mut out);
        add("submit-reply", &n.to_string(), out.clone());
    }

    add("checkpoint", "full", checkpoint(true).unwrap());
    add("checkpoint", "empty", checkpoint(false).unwrap());

    let requests = [
        control::Request::Status {},
        control::Request::Watch {
            tables: vec!["lport".into()],
            topics: vec![topic()],
        },
        control::Request::Get {
            table: "lport".into(),
            key: Some("p\n1".into()),
        },
        control::Request::TopicsList {},
        control::Request::TopicsAdd { topic: topic() },
        control::Request::TopicsRemove { topic: topic() },
        control::Request::Resync { handler: None },
        control::Request::QuarantineRelease {
            handler: Some("log".into()),
            table: None,
            key: None,
        },
        control::Request::LogLevel {
            level: Some("debug".into()),
        },
        control::Request::QuarantineList { handler: None },
    ];
    let lines: Vec<String> = requests.iter().map(control::Request::encode).collect();
    add("control", "all", lines.concat().into_bytes());
    for (n, line) in lines.into_iter().enumerate() {
        add("control", &n.to_string(), line.into_bytes());
    }
    add(
        "control",
        "odd",
        b"{\"v\":2,\"do\":\"status\"}\n[[[\n{\"v\":1}\n\xff\n".to_vec(),
    );

    let public = PublicKey::new(std::array::from_fn(|n| n as u8));
    let text = public.to_string();
    add("keys", "public", text.clone().into_bytes());
    let secret = text.replace("public:", "secret:");
    assert!(SecretKey::parse(&secret).is_ok());
    add("keys", "secret", secret.into_bytes());

    let generated = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/suite/corpus")
            .join(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    add("agent-config", "full", generated("agent.toml"));
    add("publisher-config", "full", generated("publisher.toml"));
    for (target, text) in [
        (
            "agent-config",
            "publishers_ips = 7\nsecurty = \"none\"\n[[handler]]\n",
        ),
        ("publisher-config", "publisher_port = 70000\nsecurity = [\n"),
    ] {
        add(target, "faulty", text.into());
    }
    seeds
}

fn checkpoint(full: bool) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out)?;
    if full {
        writer.positions(&Positions {
            life: Life {
                publisher: stamp().publisher,
                incarnation: 7,
            },
            topics: vec![("tenant1".into(), 41), ("D".into(), 0)],
        })?;
        let events = events();
        let decoded = events.iter().map(|event| codec::decode(event).unwrap());
        writer.rows(decoded.filter(|event| event.stamp.is_some()))?;
    }
    writer.finish()?;
    Ok(out)
}
