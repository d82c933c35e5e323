use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn head() -> Head {
    Head {
        tag: 7,
        producer: *b"0123456789abcdef",
        floor: 2,
        first: 3,
    }
}

fn write(head: &Head, items: &[Item<'_>], max: usize) -> (Vec<u8>, usize) {
    let mut out = Vec::new();
    let taken = encode(head, items.iter().copied(), max, &mut out);
    (out, taken)
}

const ITEM: Item<'static> = Item {
    version: Some(9),
    payload: b"xy",
};

#[test]
fn the_layout_is_the_contract() {
    let (bytes, taken) = write(&head(), &[ITEM], MAX_REQUEST);
    assert_eq!(taken, 1);
    assert_eq!(bytes[..5], [1, 0, 0, 0, 7]);
    assert_eq!(&bytes[5..21], b"0123456789abcdef");
    assert_eq!((bytes[28], bytes[36], bytes[38]), (2, 3, 1));
    assert_eq!(bytes[46], 9);
    assert_eq!(&bytes[47..], [0, 0, 0, 2, b'x', b'y']);
    let mut out = Vec::new();
    Answer {
        tag: 7,
        first: 3,
        reply: Reply::Accepted {
            upto: 4,
            refused: vec![Refusal {
                number: 4,
                code: Code::Topic,
                reason: "no".into(),
            }],
        },
    }
    .encode(&mut out);
    let expected: &[u8] = &[
        1, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, //
        0, 0, 0, 0, 0, 0, 0, 4, 2, 2, b'n', b'o',
    ];
    assert_eq!(out, expected);
}

#[test]
fn a_request_is_cut_at_its_limit_but_takes_one() {
    assert_eq!(write(&head(), &[ITEM; 3], 0).1, 1);
    assert_eq!(write(&head(), &[ITEM; 3], request::HEAD_LEN + 28).1, 2);
    assert_eq!(write(&head(), &[ITEM; 2000], MAX_REQUEST).1, MAX_EVENTS);
}

#[test]
fn faults_are_told_apart() {
    let (good, _) = write(&head(), &[ITEM], MAX_REQUEST);
    let broken = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Request::decode(&bytes).map(|_| ()).unwrap_err()
    };
    assert_eq!(broken(0, 2), SubmitError::Version(2));
    assert_eq!(broken(28, 0), SubmitError::Numbers);
    assert_eq!(broken(28, 4), SubmitError::Numbers);
    assert_eq!(broken(38, 0), SubmitError::Count(0));
    assert_eq!(broken(37, 5), SubmitError::Count(5 * 256 + 1));
    assert_eq!(broken(50, 3), ReadError::Truncated.into());
    assert_eq!(broken(50, 1), ReadError::TrailingBytes.into());
    let last = Head {
        first: u64::MAX,
        ..head()
    };
    let (bytes, _) = write(&last, &[ITEM], MAX_REQUEST);
    assert_eq!(
        Request::decode(&bytes).map(|_| ()),
        Err(SubmitError::Numbers)
    );
    assert_eq!(Request::peek(&good), (7, 3));
    assert_eq!(Request::peek(&[9, 0, 0, 0, 5, 1]), (5, 0));
    assert_eq!(Request::peek(&[]), (0, 0));
}

#[test]
fn unsupported_is_read_in_every_version() {
    let answer = Answer {
        tag: 1,
        first: 0,
        reply: Reply::Unsupported { versions: vec![2] },
    };
    let mut bytes = Vec::new();
    answer.encode(&mut bytes);
    bytes[0] = 9;
    assert_eq!(Answer::decode(&bytes), Ok(answer));
}

#[test]
fn what_no_publisher_takes_is_known_before() {
    let code = |event: Event<'_>| check(&event, None).unwrap_err().0;
    let set = Event::set("t", "k", "v");
    assert_eq!(check(&set, None), Ok(()));
    assert_eq!(check(&set, Some(MAX_VERSION)), Ok(()));
    let (told, why) = check(&set, Some(MAX_VERSION + 1)).unwrap_err();
    assert_eq!(told, Code::Version);
    assert!(why.contains("9223372036854775807"), "{why}");
    assert_eq!(check(&Event::delete("t", "k").on("x"), None), Ok(()));
    assert_eq!(code(set.on("")), Code::Topic);
    assert_eq!(code(Event { key: "", ..set }), Code::NotARow);
    assert_eq!(code(Event { value: None, ..set }), Code::NotARow);
    let action = Action::Other("sync");
    assert_eq!(code(Event { action, ..set }), Code::NotARow);
}

#[test]
fn a_hole_is_seen() {
    assert_eq!(hole(None, 1, 1), None);
    assert_eq!(hole(None, 1, 257), Some(1), "an earlier request was lost");
    assert_eq!(hole(None, 257, 257), None, "the service lost its state");
    assert_eq!(hole(Some(10), 5, 11), None);
    assert_eq!(hole(Some(10), 5, 7), None);
    assert_eq!(hole(Some(10), 5, 12), Some(11));
    assert_eq!(hole(Some(10), 20, 20), None);
}

fn replies() -> impl Strategy<Value = Reply> {
    let reason = "[a-zß ]{0,60}";
    let code = (7u8..).prop_map(Code::Other).boxed();
    let code = prop_oneof![Just(Code::Older), Just(Code::TooLarge), code];
    let refusal = (any::<u64>(), code, reason).prop_map(|(number, code, reason)| Refusal {
        number,
        code,
        reason,
    });
    prop_oneof![
        (any::<u64>(), vec(refusal, 0..5))
            .prop_map(|(upto, refused)| Reply::Accepted { upto, refused }),
        any::<u64>().prop_map(|number| Reply::Expect { number }),
        (any::<u32>(), reason).prop_map(|(retry_after_ms, reason)| Reply::Busy {
            retry_after_ms,
            reason
        }),
        vec(any::<u8>(), 0..5).prop_map(|versions| Reply::Unsupported { versions }),
        reason.prop_map(|reason| Reply::Malformed { reason }),
    ]
}

proptest! {
    #[test]
    fn requests_come_out_as_they_went_in(
        tag: u32, producer: Producer, floor in 1..1u64 << 40, ahead in 0..1u64 << 40,
        events in vec((any::<u64>(), vec(any::<u8>(), 0..50)), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let head = Head { tag, producer, floor, first: floor + ahead };
        let items: Vec<_> = events
            .iter()
            .map(|(version, payload)| Item { version: Some(*version).filter(|v| *v > 0), payload })
            .collect();
        let (bytes, taken) = write(&head, &items, MAX_REQUEST);
        prop_assert_eq!(taken, items.len());
        let request = Request::decode(&bytes).unwrap();
        prop_assert_eq!(request.head, head);
        prop_assert_eq!(request.count(), items.len());
        prop_assert_eq!(request.upto(), head.first + items.len() as u64 - 1);
        prop_assert_eq!(request.items().collect::<Vec<_>>(), items);
        prop_assert!(Request::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn answers_come_out_as_they_went_in(
        tag: u32, first: u64, reply in replies(), cut in any::<prop::sample::Index>(),
    ) {
        let answer = Answer { tag, first, reply };
        let mut bytes = Vec::new();
        answer.encode(&mut bytes);
        prop_assert_eq!(Answer::decode(&bytes), Ok(answer));
        prop_assert!(Answer::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn garbage_is_an_error_and_nothing_worse(
        mut bytes in vec(any::<u8>(), 0..120), first in 0u8..3, kind in 0u8..8,
    ) {
        let _ = Request::peek(&bytes);
        let _ = Request::decode(&bytes).map(|request| request.items().count());
        let _ = Answer::decode(&bytes);
        for (slot, byte) in bytes.iter_mut().zip([first, kind]) {
            *slot = byte;
        }
        let _ = Answer::decode(&bytes);
        if bytes.len() > 39 {
            // A head that is good, so that the events are come to.
            bytes[5..39].fill(0);
            (bytes[0], bytes[28], bytes[36], bytes[38]) = (1, 1, 1, kind);
            if let Ok(request) = Request::decode(&bytes) {
                prop_assert_eq!(request.items().count(), request.count());
            }
        }
    }

    #[test]
    fn long_reasons_are_cut(reason in "[aß]{150,300}") {
        let mut bytes = Vec::new();
        let reply = Reply::Malformed { reason: reason.clone() };
        Answer { tag: 1, first: 1, reply }.encode(&mut bytes);
        match Answer::decode(&bytes).unwrap().reply {
            Reply::Malformed { reason: cut } => prop_assert!(reason.starts_with(&cut)),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
