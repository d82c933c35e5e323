use super::*;
use proptest::prelude::*;

/// A writer of single MessagePack values, by the specification and not by the code under test.
fn fixstr(text: &str) -> Vec<u8> {
    [&[0xa0 | text.len() as u8], text.as_bytes()].concat()
}

/// The five pairs with `value` replaced by the given bytes.
fn with_value(value: &[u8]) -> Vec<u8> {
    let mut out = vec![0x85];
    for (name, text) in [("table", "lport"), ("key", "p1"), ("action", "set")] {
        out.extend([fixstr(name), fixstr(text)].concat());
    }
    out.extend(fixstr("value"));
    out.extend(value);
    out.extend([fixstr("topic"), vec![0xc0]].concat());
    out
}

/// The five pairs and `extra` bytes as a sixth pair.
fn with_extra(extra: &[u8]) -> Vec<u8> {
    let mut out = with_value(&[0xc0]);
    out[0] = 0x86;
    out.extend(extra);
    out
}

#[test]
fn every_text_form_is_read() {
    let text = "x".repeat(40);
    let forms: [(&str, Vec<u8>); 6] = [
        ("str8", vec![0xd9, 40]),
        ("raw16 of old writers, str16", vec![0xda, 0, 40]),
        ("str32", vec![0xdb, 0, 0, 0, 40]),
        ("bin8", vec![0xc4, 40]),
        ("bin16", vec![0xc5, 0, 40]),
        ("bin32", vec![0xc6, 0, 0, 0, 40]),
    ];
    for (form, header) in forms {
        let payload = with_value(&[&header, text.as_bytes()].concat());
        let event = decode(&payload).unwrap_or_else(|e| panic!("{form}: {e}"));
        assert_eq!(event.value, Some(text.as_str()), "{form}");
        assert_eq!(
            (event.table, event.key, event.action),
            ("lport", "p1", Action::Set)
        );
        assert_eq!((event.topic, event.topic_or_all()), (None, "D"));
    }
}

#[test]
fn unknown_keys_are_ignored() {
    let extras: [&[u8]; 5] = [
        &[0xa1, b'x', 0x01],
        &[
            0xa1, b'x', 0x93, 1, 0xc0, 0x81, 0xa1, b'y', 0xcb, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        &[0xa1, b'x', 0xc7, 2, 9, 0, 0],
        // A key that is no text at all.
        &[0x07, 0xa1, b'x'],
        // Eight levels with the event's own map.
        &[0xa1, b'x', 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0xc0],
    ];
    for extra in extras {
        assert!(decode(&with_extra(extra)).is_ok(), "{extra:x?}");
    }
}

#[test]
fn every_malformed_input_is_told_apart() {
    let mut missing = with_value(&[0xc0]);
    missing[0] = 0x84;
    missing.truncate(missing.len() - fixstr("topic").len() - 1);
    let cases: [(Vec<u8>, Malformed); 16] = [
        (vec![], Malformed::EmptyFrame("payload")),
        (vec![0x93, 1, 2, 3], Malformed::NotAMap),
        (vec![0xc1], Malformed::NotAMap),
        (missing, Malformed::MissingKey("topic")),
        (vec![0x80], Malformed::MissingKey("table")),
        (with_value(&[0x01]), Malformed::WrongType("value")),
        (
            with_value(&[0x81, 0xa1, b'a', 0xc0]),
            Malformed::WrongType("value"),
        ),
        (
            with_value(&[0xa2, 0xff, 0xfe]),
            Malformed::InvalidUtf8("value"),
        ),
        (
            with_value(&[0xc4, 1, 0xff]),
            Malformed::InvalidUtf8("value"),
        ),
        (
            [with_value(&[0xc0]), vec![0]].concat(),
            Malformed::TrailingBytes,
        ),
        (
            with_value(&[0xdb, 0xff, 0xff, 0xff, 0xff]),
            Malformed::Truncated,
        ),
        (vec![0xdf, 0xff, 0xff, 0xff, 0xff], Malformed::Truncated),
        (
            with_extra(&[
                0xa1, b'x', 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0xc0,
            ]),
            Malformed::TooDeep,
        ),
        (with_extra(&[0xa1, b'x', 0xc1]), Malformed::InvalidMarker),
        (
            with_extra(&[0xa5, b's', b't', b'a', b'm', b'p', 0xc4, 3, 1, 2, 3]),
            Malformed::WrongType("stamp"),
        ),
        (
            with_extra(&[0xa1, b'x', 0xdd, 0xff, 0xff, 0xff, 0xff]),
            Malformed::Truncated,
        ),
    ];
    for (payload, expected) in cases {
        assert_eq!(decode(&payload), Err(expected), "{payload:x?}");
    }
}

#[test]
fn a_hundred_thousand_levels_do_not_overflow_the_stack() {
    let mut payload = with_extra(&[0xa1, b'x']);
    payload.extend(std::iter::repeat_n(0x91, 100_000));
    assert_eq!(decode(&payload), Err(Malformed::TooDeep));
}

#[test]
fn what_is_encoded_is_the_contract() {
    let mut out = Vec::new();
    encode(&Event::delete("lport", "p1").on("t1"), &mut out);
    let expected = [
        vec![0x85],
        fixstr("table"),
        fixstr("lport"),
        fixstr("key"),
        fixstr("p1"),
        fixstr("action"),
        fixstr("delete"),
        fixstr("value"),
        vec![0xc0],
        fixstr("topic"),
        fixstr("t1"),
    ]
    .concat();
    assert_eq!(out, expected);
}

#[test]
fn reasons_are_distinct_and_in_place() {
    let mut seen: Vec<_> = Malformed::REASONS.to_vec();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), Malformed::REASONS.len());
    assert_eq!(Malformed::InvalidMarker.reason(), "invalid_marker");
    assert_eq!(Malformed::TooLarge.reason(), "too_large");
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        table in ".{0,40}", key in ".{0,300}", action in "create|set|delete|other",
        value in proptest::option::of(".{0,400}"), topic in proptest::option::of(".{0,40}"),
        numbers in proptest::option::of(proptest::array::uniform5(any::<u64>())),
    ) {
        let stamp = numbers.map(|[incarnation, seq, prev, version, unix_micros]| Stamp {
            publisher: *b"0123456789abcdef", incarnation, seq, prev, version, unix_micros,
        });
        let event = Event {
            table: &table, key: &key, action: Action::parse(&action),
            value: value.as_deref(), topic: topic.as_deref(), stamp,
        };
        let mut out = Vec::new();
        encode(&event, &mut out);
        prop_assert_eq!(decode(&out), Ok(event));
        for cut in 0..out.len() {
            prop_assert!(decode(&out[..cut]).is_err());
        }
    }

    #[test]
    fn no_bytes_bring_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = decode(&with_extra(&bytes));
    }
}
