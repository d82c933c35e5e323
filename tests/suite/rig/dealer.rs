//! The sync service, asked over a bare DEALER.

use std::collections::BTreeMap;
use std::time::Duration;

use fanfare::event::codec;
use fanfare::sync::{Answer, Digest, Packed, Request, SnapshotId, answer, request};

use super::{PATIENCE, at_most};

/// One client.
pub struct Peer {
    pub socket: zmq::Socket,
    tag: u64,
}

impl Peer {
    pub fn connect(uri: &str) -> Peer {
        Peer::on(&zmq::Context::new(), uri)
    }

    pub fn on(context: &zmq::Context, uri: &str) -> Peer {
        let socket = context.socket(zmq::DEALER).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_reconnect_ivl(5).unwrap();
        let patience = at_most(PATIENCE).as_millis();
        socket.set_rcvtimeo(patience as i32).unwrap();
        socket.connect(uri).unwrap();
        Peer { socket, tag: 0 }
    }

    /// Sends a request; gives its tag.
    pub fn send(&mut self, request: &Request) -> u64 {
        self.tag += 1;
        let mut out = Vec::new();
        request::encode(self.tag, request, &mut out);
        self.socket.send(out, 0).unwrap();
        self.tag
    }

    #[track_caller]
    pub fn receive(&self) -> (u64, Answer) {
        answer::decode(&self.socket.recv_bytes(0).unwrap()).unwrap()
    }

    /// Asks and is answered.
    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> Answer {
        let tag = self.send(request);
        let (answered, answer) = self.receive();
        assert_eq!(answered, tag);
        answer
    }

    /// Where the topics stand, and the incarnation.
    #[track_caller]
    pub fn heads(&mut self, incarnation: u64, topics: &[(&str, u64)]) -> (u64, Vec<(String, u64)>) {
        let topics = topics.iter().map(|(topic, seq)| ((*topic).into(), *seq));
        let topics = topics.collect();
        let heads = Request::Heads {
            incarnation,
            topics,
        };
        match self.ask(&heads) {
            Answer::Heads {
                incarnation,
                behind,
                ..
            } => (incarnation, behind),
            other => panic!("{other:?}"),
        }
    }

    /// All rows of a topic as of one snapshot, asking again as long as it is told to.
    #[track_caller]
    pub fn snapshot(&mut self, topic: &str) -> Taken {
        loop {
            match self.ask(&snapshot(topic, None)) {
                Answer::RetryAfter(millis) => {
                    std::thread::sleep(Duration::from_millis(millis.into()));
                }
                first => return self.rest(topic, first),
            }
        }
    }

    /// The rest of a snapshot after its first chunk.
    #[track_caller]
    pub fn rest(&mut self, topic: &str, first: Answer) -> Taken {
        let mut taken = Taken::default();
        let mut answer = first;
        while let Some(next) = taken.take(answer) {
            answer = self.ask(&snapshot(topic, Some(next)));
        }
        taken
    }
}

pub fn snapshot(topic: &str, chunk: Option<(SnapshotId, u32)>) -> Request {
    Request::Snapshot {
        topic: topic.into(),
        chunk,
    }
}

/// A snapshot that was fetched.
#[derive(Debug, Default)]
pub struct Taken {
    pub id: SnapshotId,
    pub incarnation: u64,
    pub seq: u64,
    pub complete_since: u64,
    pub chunks: u32,
    /// Key to value; `None` for a tombstone.
    pub rows: BTreeMap<String, Option<String>>,
    digest: Digest,
}

impl Taken {
    /// Takes a chunk; gives the next one to ask for.
    #[track_caller]
    pub fn take(&mut self, answer: Answer) -> Option<(SnapshotId, u32)> {
        let Answer::Rows {
            id,
            chunk,
            chunks,
            incarnation,
            seq,
            complete_since,
            total,
            rows,
        } = answer
        else {
            panic!("{answer:?}");
        };
        if chunk == 0 {
            (self.id, self.incarnation, self.seq) = (id, incarnation, seq);
            (self.complete_since, self.chunks) = (complete_since, chunks);
        }
        assert_eq!(
            (id, incarnation, seq, chunks),
            (self.id, self.incarnation, self.seq, self.chunks)
        );
        self.digest.add(&rows);
        for (key, value) in read(&rows) {
            assert!(
                self.rows.insert(key, value).is_none(),
                "a row is given twice"
            );
        }
        assert_eq!(total.is_some(), chunk + 1 == chunks);
        match total {
            None => Some((id, chunk + 1)),
            Some((count, sum)) => {
                assert_eq!((count, sum), (self.digest.rows, self.digest.sum));
                None
            }
        }
    }
}

/// Keys and values of what was packed.
pub fn read(packed: &Packed) -> Vec<(String, Option<String>)> {
    let events = packed.iter().map(|payload| codec::decode(payload).unwrap());
    events
        .map(|event| (event.key.to_owned(), event.value.map(str::to_owned)))
        .collect()
}
