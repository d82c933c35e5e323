use proptest::collection::vec;
use proptest::prelude::*;

use super::request::BadRequest;
use super::*;

fn request_bytes(tag: u64, request: &Request) -> Vec<u8> {
    let mut out = vec![9; 3];
    request::encode(tag, request, &mut out);
    out
}

fn answer_bytes(tag: u64, answer: &Answer) -> Vec<u8> {
    let mut out = vec![9; 3];
    answer::encode(tag, answer, &mut out);
    out
}

fn packed(events: &[Vec<u8>]) -> Packed {
    let mut packed = Packed::default();
    events.iter().for_each(|event| packed.push(event));
    packed
}

fn events_answer(events: Packed) -> Answer {
    Answer::Events {
        incarnation: 1,
        upto: 2,
        last: 3,
        events,
    }
}

#[test]
fn the_layout_is_the_contract() {
    let chunk = Request::Snapshot {
        topic: "t1".into(),
        chunk: Some((5, 6)),
    };
    let expected: &[u8] = &[
        1, 3, 0, 0, 0, 0, 0, 0, 0, 7, 2, b't', b'1', 1, //
        0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 6,
    ];
    assert_eq!(request_bytes(7, &chunk), expected);
    let replay = Request::Replay {
        incarnation: 3,
        topic: "D".into(),
        after: 4,
    };
    let expected: &[u8] = &[
        1, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 1, b'D',
    ];
    assert_eq!(request_bytes(7, &replay), expected);
    let events = answer_bytes(8, &events_answer(packed(&[b"xy".to_vec()])));
    let expected: &[u8] = &[
        1, 2, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0,
        0, 0, 0, 3, // Too short to be compressed.
        0, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0, 2, b'x', b'y',
    ];
    assert_eq!(events, expected);
}

#[test]
fn a_refusal_is_read_in_every_version() {
    let refused = Answer::Refused {
        code: Refusal::Version,
        reason: "this service speaks version 1".into(),
    };
    let mut bytes = answer_bytes(7, &refused);
    bytes[0] = 9;
    assert_eq!(answer::decode(&bytes), Ok((7, refused)));
    let mut bytes = answer_bytes(7, &Answer::Lapsed);
    bytes[0] = 9;
    assert_eq!(answer::decode(&bytes), Err(Malformed::Version(9)));
    let mut bytes = request_bytes(7, &heads(vec![]));
    bytes[0] = 2;
    bytes.truncate(10);
    let why = Malformed::Version(2);
    assert_eq!(request::decode(&bytes), Err(BadRequest { tag: 7, why }));
    assert_eq!(request::decode(&[2]).unwrap_err().tag, 0);
}

fn heads(topics: Vec<(String, u64)>) -> Request {
    Request::Heads {
        incarnation: 1,
        topics,
    }
}

fn refused(bytes: &[u8]) -> Malformed {
    request::decode(bytes).unwrap_err().why
}

#[test]
fn faults_are_told_apart() {
    let good = request_bytes(7, &heads(vec![("t1".into(), 5)]));
    let broken = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        refused(&bytes)
    };
    assert_eq!(broken(1, 5), Malformed::Kind(5));
    assert_eq!(broken(18, 5), Malformed::Topics(5 * 256 + 1));
    assert_eq!(broken(19, 2), ReadError::Truncated.into());
    assert_eq!(broken(19, 0), ReadError::TrailingBytes.into());
    assert_eq!(broken(20, 0), Malformed::Topic(0));
    assert_eq!(broken(21, 0xff), ReadError::InvalidUtf8.into());
    let topic = |len: usize| request_bytes(7, &heads(vec![("x".repeat(len), 0)]));
    assert!(request::decode(&topic(MAX_TOPIC_LEN)).is_ok());
    assert_eq!(refused(&topic(MAX_TOPIC_LEN + 1)), Malformed::Topic(241));
    assert_eq!(refused(&topic(1000)), Malformed::Topic(255));
    let longest = vec![("x".repeat(MAX_TOPIC_LEN), 0); MAX_TOPICS];
    let bytes = request_bytes(7, &heads(longest.clone()));
    assert_eq!(bytes.len(), MAX_REQUEST);
    assert_eq!(request::decode(&bytes), Ok((7, heads(longest))));
}

#[test]
fn what_is_packed_is_bounded_and_whole() {
    let row = vec![b'x'; 1000];
    let good = answer_bytes(7, &events_answer(packed(&[row.clone(), row])));
    assert!(good.len() < 200, "{} bytes", good.len());
    let broken = |at: usize, bytes: &[u8]| {
        let mut broken = good.clone();
        broken[at..at + bytes.len()].copy_from_slice(bytes);
        answer::decode(&broken).unwrap_err()
    };
    assert_eq!(broken(34, &[2]), Malformed::Mark(2));
    assert_eq!(broken(38, &[3]), Malformed::Packed);
    assert_eq!(broken(38, &[1]), Malformed::Packed);
    let over = (MAX_UNPACKED + 1) as u32;
    assert_eq!(
        broken(39, &over.to_be_bytes()),
        Malformed::TooLarge(over as usize)
    );
    // As long as may be, but not what it says, and found before memory is taken.
    let most = MAX_UNPACKED as u32;
    assert_eq!(broken(39, &most.to_be_bytes()), Malformed::Packed);
    assert_eq!(broken(39, &2007_u32.to_be_bytes()), Malformed::Packed);
    assert_eq!(broken(39, &2009_u32.to_be_bytes()), Malformed::Packed);
}

#[test]
fn one_answer_is_made_that_of_another() {
    let mut bytes = answer_bytes(7, &Answer::Gone { incarnation: 1 });
    answer::set_tag(8, &mut bytes);
    let gone = Answer::Gone { incarnation: 1 };
    assert_eq!(answer::decode(&bytes), Ok((8, gone)));
}

fn topics() -> impl Strategy<Value = Vec<(String, u64)>> {
    vec(("[a-zß]{1,60}", any::<u64>()), 0..5)
}

fn requests() -> impl Strategy<Value = Request> {
    let topic = "[a-zß]{1,60}";
    prop_oneof![
        (any::<u64>(), topics()).prop_map(|(incarnation, topics)| Request::Heads {
            incarnation,
            topics
        }),
        (any::<u64>(), topic, any::<u64>()).prop_map(|(incarnation, topic, after)| {
            Request::Replay {
                incarnation,
                topic,
                after,
            }
        }),
        (topic, any::<Option<(u64, u32)>>())
            .prop_map(|(topic, chunk)| Request::Snapshot { topic, chunk }),
    ]
}

fn any_packed() -> impl Strategy<Value = Packed> {
    let same = (any::<u8>(), 0..500_usize).prop_map(|(byte, len)| vec![byte; len]);
    vec(prop_oneof![vec(any::<u8>(), 0..50), same], 0..8).prop_map(|events| packed(&events))
}

fn answers() -> impl Strategy<Value = Answer> {
    let numbers = any::<(u64, u64, u64)>();
    let code = prop_oneof![
        Just(Refusal::Version),
        Just(Refusal::Malformed),
        Just(Refusal::Forbidden)
    ];
    prop_oneof![
        (any::<(u64, u64)>(), topics()).prop_map(|((incarnation, head), behind)| Answer::Heads {
            incarnation,
            head,
            behind
        }),
        (numbers, any_packed()).prop_map(|((incarnation, upto, last), events)| Answer::Events {
            incarnation,
            upto,
            last,
            events
        }),
        any::<u64>().prop_map(|incarnation| Answer::Gone { incarnation }),
        (
            any::<(u64, u64, u64, u64)>(),
            any::<Option<(u64, u64)>>(),
            (0..9_u32, 1..9_u32),
            any_packed()
        )
            .prop_map(
                |((id, incarnation, seq, complete_since), total, (chunk, more), rows)| {
                    Answer::Rows {
                        id,
                        chunk,
                        chunks: chunk + more,
                        incarnation,
                        seq,
                        complete_since,
                        total,
                        rows,
                    }
                }
            ),
        Just(Answer::Lapsed),
        any::<u32>().prop_map(Answer::RetryAfter),
        (code, "[a-zß ]{0,60}").prop_map(|(code, reason)| Answer::Refused { code, reason }),
    ]
}

proptest! {
    #[test]
    fn requests_come_out_as_they_went_in(tag: u64, request in requests(), extra: u8) {
        let mut bytes = request_bytes(tag, &request);
        for cut in 0..bytes.len() {
            prop_assert!(request::decode(&bytes[..cut]).is_err());
        }
        prop_assert_eq!(request::decode(&bytes), Ok((tag, request)));
        bytes.push(extra);
        let why = ReadError::TrailingBytes.into();
        prop_assert_eq!(request::decode(&bytes), Err(BadRequest { tag, why }));
    }

    #[test]
    fn answers_come_out_as_they_went_in(tag: u64, answer in answers(), extra: u8) {
        let mut bytes = answer_bytes(tag, &answer);
        for cut in 0..bytes.len() {
            prop_assert!(answer::decode(&bytes[..cut]).is_err());
        }
        prop_assert_eq!(answer::decode(&bytes), Ok((tag, answer)));
        bytes.push(extra);
        prop_assert!(answer::decode(&bytes).is_err());
    }

    #[test]
    fn what_is_packed_is_given_whole(events in vec(vec(any::<u8>(), 0..50), 0..8)) {
        let bytes = answer_bytes(1, &events_answer(packed(&events)));
        let Ok((1, Answer::Events { events: read, .. })) = answer::decode(&bytes) else {
            panic!("not read");
        };
        prop_assert_eq!(read.iter().collect::<Vec<_>>(), events);
    }

    #[test]
    fn garbage_is_an_error_and_nothing_worse(
        mut bytes in vec(any::<u8>(), 0..120), kind in 0u8..9, mark in 0u8..3, len in 0u32..3000,
    ) {
        let read = |bytes: &[u8]| {
            let _ = request::decode(bytes);
            if let Ok((_, Answer::Events { events, .. } | Answer::Rows { rows: events, .. })) =
                answer::decode(bytes)
            {
                assert_eq!(events.iter().count(), events.len());
                assert!(events.bytes() <= MAX_UNPACKED);
            }
        };
        read(&bytes);
        for (slot, byte) in bytes.iter_mut().zip([1, kind]) {
            *slot = byte;
        }
        read(&bytes);
        // To where packed events begin, in answers with events and with rows.
        for at in [34, 51] {
            if bytes.len() > at + 9 {
                bytes[at - 1] = 0;
                bytes[at] = mark;
                bytes[at + 5..at + 9].copy_from_slice(&len.to_be_bytes());
                read(&bytes);
            }
        }
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order(
        mut rows in vec(vec(any::<u8>(), 0..9), 0..9), cut in any::<prop::sample::Index>(),
    ) {
        let digest = |rows: &[Vec<u8>]| {
            let (one, other) = rows.split_at(cut.index(rows.len() + 1));
            let mut digest = Digest::default();
            digest.add(&packed(one));
            digest.add(&packed(other));
            digest
        };
        let before = digest(&rows);
        rows.reverse();
        prop_assert_eq!(digest(&rows), before);
    }
}
