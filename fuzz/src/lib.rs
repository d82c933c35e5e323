//! What is fuzzed: everything that reads what somebody else wrote. Each function takes any bytes
//! and panics where something does not hold.
//!
//! `make fuzz` gives them to libFuzzer; `tests/suite/corpus.rs` includes this file and gives it all
//! that is kept in `corpus`, as a plain test. It uses nothing but what the library shows.

use std::io::{BufReader, Cursor};

use fanfare::agent::checkpoint::file as checkpoint_file;
use fanfare::config::{Known, Sources, load_agent, load_publisher};
use fanfare::control::{self, Request as ControlRequest, lines};
use fanfare::event::codec::{self, Malformed};
use fanfare::event::hello::{Hello, MAX_RECENT};
use fanfare::event::{EventBatch, TopicFrame};
use fanfare::handler::registry::Registry;
use fanfare::publisher::submit;
use fanfare::security::key::{PublicKey, SecretKey};
use fanfare::sync::{self, Packed};

/// A target by the name of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("agent-config", agent_config),
    ("checkpoint", checkpoint),
    ("control", control),
    ("event", event),
    ("hello", hello),
    ("keys", keys),
    ("publisher-config", publisher_config),
    ("submit-reply", submit_reply),
    ("submit-request", submit_request),
    ("sync-answer", sync_answer),
    ("sync-request", sync_request),
];

/// Whatever `read` takes, it takes whole: not with a byte more, and not with any less.
fn is_whole(data: &[u8], read: impl Fn(&[u8]) -> bool) {
    let longer = [data, &[0]].concat();
    assert!(!read(&longer), "a byte that follows was accepted");
    for cut in [0, 1, data.len() / 2, data.len() - 1] {
        assert!(!read(&data[..cut]), "accepted without its end");
    }
}

/// Frame 1 of an event.
pub fn event(data: &[u8]) {
    // Frame 0 may be anything as well.
    let frame = TopicFrame::parse(data);
    assert!(frame.topic.len() <= data.len());

    let event = match codec::decode(data) {
        Ok(event) => event,
        Err(error) => {
            assert!(Malformed::REASONS.contains(&error.reason()));
            return;
        }
    };
    is_whole(data, |data| codec::decode(data).is_ok());
    let mut out = Vec::new();
    codec::encode(&event, &mut out);
    assert_eq!(codec::decode(&out), Ok(event));
    // As it crosses threads.
    let mut batch = EventBatch::new();
    assert!(batch.push(&event));
    assert_eq!(batch.get(0), Some(event));
    assert!(batch.text_len() <= data.len());
}

/// A publisher's heartbeat.
pub fn hello(data: &[u8]) {
    let Ok(hello) = Hello::decode(data) else {
        return;
    };
    assert!(hello.recent.len() <= MAX_RECENT);
    let mut out = Vec::new();
    hello.encode(&mut out);
    assert!(out.len() <= data.len());
    assert_eq!(Hello::decode(&out).as_ref(), Ok(&hello));
    // What follows is for later versions.
    out.push(1);
    assert_eq!(Hello::decode(&out), Ok(hello));
    out.truncate(out.len() - 2);
    assert!(Hello::decode(&out).is_err());
}

/// What an agent asks the sync service.
pub fn sync_request(data: &[u8]) {
    let (tag, request) = match sync::request::decode(data) {
        Ok(read) => read,
        Err(error) => {
            assert!(data.len() >= 10 || error.tag == 0);
            return;
        }
    };
    assert!(data.len() <= sync::MAX_REQUEST);
    is_whole(data, |data| sync::request::decode(data).is_ok());
    // There is one way to write each.
    let mut out = Vec::new();
    sync::request::encode(tag, &request, &mut out);
    assert_eq!(out, data);
}

/// What the sync service answers.
pub fn sync_answer(data: &[u8]) {
    let Ok((tag, answer)) = sync::answer::decode(data) else {
        return;
    };
    let packed = match &answer {
        sync::Answer::Events { events, .. } => Some(events),
        sync::Answer::Rows { rows, .. } => Some(rows),
        _ => None,
    };
    if let Some(packed) = packed {
        // No more than what was sent can become, and no more than is allowed.
        assert!(packed.bytes() <= sync::MAX_UNPACKED.min(data.len() * 255));
        let bytes: usize = packed.iter().map(|e| e.len() + Packed::PER_EVENT).sum();
        assert_eq!(
            (packed.iter().count(), bytes),
            (packed.len(), packed.bytes())
        );
    }
    let mut out = Vec::new();
    sync::answer::encode(tag, &answer, &mut out);
    assert_eq!(sync::answer::decode(&out), Ok((tag, answer.clone())));
    sync::answer::set_tag(!tag, &mut out);
    assert_eq!(sync::answer::decode(&out), Ok((!tag, answer)));
    is_whole(&out, |data| sync::answer::decode(data).is_ok());
}

/// What a worker asks the publisher service.
pub fn submit_request(data: &[u8]) {
    let peeked = submit::Request::peek(data);
    let Ok(request) = submit::Request::decode(data) else {
        return;
    };
    let head = request.head;
    assert_eq!(peeked, (head.tag, head.first));
    assert!(head.floor >= 1 && head.first >= head.floor && request.upto() >= head.first);
    assert_eq!(request.items().count(), request.count());
    is_whole(data, |data| submit::Request::decode(data).is_ok());
    let mut out = Vec::new();
    let taken = submit::encode(&head, request.items(), usize::MAX, &mut out);
    assert_eq!((taken, &out[..]), (request.count(), data));
    for item in request.items() {
        if let Ok(event) = codec::decode(item.payload) {
            // Either is an answer.
            let _ = submit::check(&event, item.version);
        }
    }
}

/// What the publisher service answers a worker.
pub fn submit_reply(data: &[u8]) {
    let Ok(answer) = submit::Answer::decode(data) else {
        return;
    };
    if let submit::Reply::Accepted { refused, .. } = &answer.reply {
        assert!(refused.len() <= submit::MAX_EVENTS);
    }
    is_whole(data, |data| submit::Answer::decode(data).is_ok());
    let (mut out, mut again) = (Vec::new(), Vec::new());
    answer.encode(&mut out);
    // Reasons longer than we write are cut, once.
    let read = submit::Answer::decode(&out);
    let read = read.expect("what was written can be read");
    assert_eq!((read.tag, read.first), (answer.tag, answer.first));
    read.encode(&mut again);
    assert_eq!(out, again);
}

/// An agent's checkpoint: as it is, and with its checksum made right, so that what it holds is read.
pub fn checkpoint(data: &[u8]) {
    read_checkpoint(data);
    if let Some(covered) = data.len().checked_sub(4) {
        let sum = crc32fast::hash(&data[..covered]).to_be_bytes();
        read_checkpoint(&[&data[..covered], &sum].concat());
    }
}

fn read_checkpoint(data: &[u8]) {
    let mut batches = Vec::new();
    let read = checkpoint_file::read_from(&mut Cursor::new(data), |batch| batches.push(batch));
    let Ok(positions) = read else {
        return;
    };
    let mut out = Vec::new();
    let mut write = || {
        let mut writer = checkpoint_file::Writer::new(&mut out)?;
        for positions in &positions {
            writer.positions(positions)?;
        }
        for batch in &batches {
            writer.rows(batch.iter())?;
        }
        writer.finish()
    };
    write().expect("memory takes everything");
    let mut again = Vec::new();
    let read = checkpoint_file::read_from(&mut Cursor::new(&out), |batch| again.push(batch));
    assert_eq!(read.expect("what was written can be read"), positions);
    assert!(
        batches
            .iter()
            .flat_map(EventBatch::iter)
            .eq(again.iter().flat_map(EventBatch::iter))
    );
    // What follows the end is not passed over.
    let mut longer = [&out[..out.len() - 4], b"\x02\0\0\0\0"].concat();
    longer.extend(crc32fast::hash(&longer).to_be_bytes());
    assert!(checkpoint_file::read_from(&mut Cursor::new(&longer), drop).is_err());
    // One bit of it is enough to refuse it.
    let place = data.first().map_or(0, |byte| usize::from(*byte)) % out.len();
    out[place] ^= 1;
    assert!(checkpoint_file::read_from(&mut Cursor::new(&out), drop).is_err());
}

/// What a client says on the control socket.
pub fn control(data: &[u8]) {
    let mut from = BufReader::with_capacity(64, data);
    let mut line = Vec::new();
    while let Ok(lines::Read::Line) = lines::read(&mut from, &mut line, control::MAX_REQUEST) {
        assert!(line.len() < control::MAX_REQUEST && !line.contains(&b'\n'));
        match ControlRequest::decode(&line) {
            Ok(request) => {
                let written = request.encode();
                assert_eq!(written.find('\n'), Some(written.len() - 1));
                assert_eq!(ControlRequest::decode(written.as_bytes()), Ok(request));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// The text of a key, or of a file that holds one.
pub fn keys(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(key) = PublicKey::parse(text) {
        assert_eq!(key.to_string(), text);
        assert!(SecretKey::parse(text).is_err());
    }
    if let Ok(key) = SecretKey::parse(text) {
        assert_eq!(&key.z85()[..], &data[data.len() - 40..]);
        assert!(PublicKey::parse(text).is_err());
        assert!(!format!("{key:?}").contains(&text[text.len() - 40..]));
    }
}

/// The agent's configuration.
pub fn agent_config(data: &[u8]) {
    config("agent", data, |sources, known| {
        load_agent(sources, known)
            .map_err(|faults| faults.to_string())
            .map(|config| {
                let again = load_agent(sources, known).expect("it was without a fault just now");
                assert_eq!(config.differs(&again), (Vec::new(), Vec::new()));
                config.warnings()
            })
    });
}

/// The publisher's configuration.
pub fn publisher_config(data: &[u8]) {
    config("publisher", data, |sources, known| {
        load_publisher(sources, known)
            .map_err(|faults| faults.to_string())
            .map(|config| {
                let again =
                    load_publisher(sources, known).expect("it was without a fault just now");
                assert_eq!(config.differs(&again), (Vec::new(), Vec::new()));
                config.warnings()
            })
    });
}

/// Loads `data` as a file, or says all that is wrong with it.
fn config(
    name: &str,
    data: &[u8],
    load: impl Fn(&Sources, &Known<'_>) -> Result<Vec<String>, String>,
) {
    let name = format!("fanfare-fuzz-{name}-{}.toml", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, data).expect("there is a temporary directory");
    let sources = Sources {
        files: vec![path.clone()],
        ..Sources::default()
    };
    let modules = Registry::builtin();
    match load(&sources, &Known::new(&modules)) {
        Ok(warnings) => assert!(warnings.iter().all(|line| !line.is_empty())),
        Err(faults) => assert!(faults.lines().count() > 0),
    }
    // Another process of this number may have been there; it is only a file to be tidied up.
    let _ = std::fs::remove_file(path);
}
