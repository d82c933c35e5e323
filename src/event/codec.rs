//! The wire form of an event: frame 1, a MessagePack map (what Dragonflow's drivers pack and
//! unpack).
//!
//! The map has the keys `table key action value topic`, all strings or nil, and from a Fanfare
//! sender one more, `stamp`: bin of 56 bytes. A reader also accepts what other writers send: any
//! order of keys, unknown keys, texts as fixstr, str 8/16/32 or bin, map 16/32.
//!
//! The reader is written by hand on `rmp`'s markers: a serde reader would accept arrays for maps
//! and trailing bytes, recurses, and costs twice the time.

use std::convert::Infallible;

use rmp::Marker;
use rmp::encode::{ByteBuf, ValueWriteError, write_bin, write_map_len, write_nil, write_str};

use super::hello::BadHello;
use super::stamp::STAMP_LEN;
use super::{Action, Event, Stamp};

/// Deepest nesting of a message; the event's own map is the first level.
pub const MAX_DEPTH: usize = 8;

/// Why a message is no event. Each is counted under its [`Malformed::reason`]; none of them closes
/// a connection or causes a resync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Not exactly two frames.
    #[error("the message has not exactly two frames")]
    FrameCount,
    /// Frame 0 or frame 1 is empty.
    #[error("the {0} frame is empty")]
    EmptyFrame(&'static str),
    /// More bytes than `max_message_size`.
    #[error("the message is larger than the limit")]
    TooLarge,
    /// The bytes end inside a value, or a length is larger than what is there.
    #[error("the message is cut short, or a length in it is too large")]
    Truncated,
    /// The message is not a map.
    #[error("the message is not a map")]
    NotAMap,
    /// A known key has a value of the wrong type.
    #[error("`{0}` has a value of the wrong type")]
    WrongType(&'static str),
    /// A required key is not there.
    #[error("`{0}` is missing")]
    MissingKey(&'static str),
    /// A text is not UTF-8.
    #[error("`{0}` is not UTF-8")]
    InvalidUtf8(&'static str),
    /// Bytes follow the map.
    #[error("bytes follow the message")]
    TrailingBytes,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// The byte 0xc1, which MessagePack never uses.
    #[error("a byte that MessagePack never uses")]
    InvalidMarker,
    /// A message on the topic of hellos that is none.
    #[error("{0}")]
    Hello(BadHello),
}

impl Malformed {
    /// The reasons as they stand in metrics.
    pub const REASONS: [&'static str; 12] = [
        "frame_count",
        "empty_frame",
        "too_large",
        "truncated",
        "not_a_map",
        "wrong_type",
        "missing_key",
        "invalid_utf8",
        "trailing_bytes",
        "too_deep",
        "invalid_marker",
        "hello",
    ];

    /// The place of this reason in [`Malformed::REASONS`].
    pub fn index(self) -> usize {
        match self {
            Malformed::FrameCount => 0,
            Malformed::EmptyFrame(_) => 1,
            Malformed::TooLarge => 2,
            Malformed::Truncated => 3,
            Malformed::NotAMap => 4,
            Malformed::WrongType(_) => 5,
            Malformed::MissingKey(_) => 6,
            Malformed::InvalidUtf8(_) => 7,
            Malformed::TrailingBytes => 8,
            Malformed::TooDeep => 9,
            Malformed::InvalidMarker => 10,
            Malformed::Hello(_) => 11,
        }
    }

    /// The reason's stable name.
    pub fn reason(self) -> &'static str {
        Self::REASONS[self.index()]
    }
}

/// Reads frame 1. The event borrows from `payload`; nothing is allocated.
pub fn decode(payload: &[u8]) -> Result<Event<'_>, Malformed> {
    if payload.is_empty() {
        return Err(Malformed::EmptyFrame("payload"));
    }
    let mut reader = Reader { rest: payload };
    let pairs = reader.map_len()?;
    let (mut table, mut key, mut action, mut value, mut topic) = (None, None, None, None, None);
    let mut stamp = None;
    for _ in 0..pairs {
        match reader.key()? {
            b"table" => table = Some(reader.text("table")?),
            b"key" => key = Some(reader.text("key")?),
            b"action" => action = Some(reader.action()?),
            b"value" => value = Some(reader.text("value")?),
            b"topic" => topic = Some(reader.text("topic")?),
            b"stamp" => stamp = Some(reader.stamp()?),
            _ => reader.skip()?,
        }
    }
    if !reader.rest.is_empty() {
        return Err(Malformed::TrailingBytes);
    }
    Ok(Event {
        table: table.ok_or(Malformed::MissingKey("table"))?.unwrap_or(""),
        key: key.ok_or(Malformed::MissingKey("key"))?.unwrap_or(""),
        action: action.ok_or(Malformed::MissingKey("action"))?,
        value: value.ok_or(Malformed::MissingKey("value"))?,
        topic: topic.ok_or(Malformed::MissingKey("topic"))?,
        stamp,
    })
}

/// Writes frame 1 into `out`, which is emptied first and keeps its memory.
pub fn encode(event: &Event<'_>, out: &mut Vec<u8>) {
    out.clear();
    let mut buf = ByteBuf::from_vec(std::mem::take(out));
    done(write_map_len(
        &mut buf,
        if event.stamp.is_some() { 6 } else { 5 },
    ));
    let fields = [
        ("table", Some(event.table)),
        ("key", Some(event.key)),
        ("action", Some(event.action.as_str())),
        ("value", event.value),
        ("topic", event.topic),
    ];
    for (name, text) in fields {
        done(write_str(&mut buf, name));
        match text {
            Some(text) => done(write_str(&mut buf, text)),
            None => done(write_nil(&mut buf).map_err(ValueWriteError::InvalidMarkerWrite)),
        };
    }
    if let Some(stamp) = event.stamp {
        done(write_str(&mut buf, "stamp"));
        done(write_bin(&mut buf, &stamp.to_bytes()));
    }
    *out = buf.into_vec();
}

/// Writing to memory cannot fail; this says so to the compiler.
fn done<T>(result: Result<T, ValueWriteError<Infallible>>) {
    match result {
        Ok(_) => {}
        Err(ValueWriteError::InvalidMarkerWrite(never)) => match never {},
        Err(ValueWriteError::InvalidDataWrite(never)) => match never {},
    }
}

/// The marker of a text of at most 31 bytes, and the bits of it that are its length.
const FIXSTR: u8 = 0xa0;
const FIXSTR_LEN: u8 = 0x1f;

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next text if it is a short one, as every key and most tables, keys and topics are.
    /// Marker by marker these would cost half of the whole decoding.
    #[inline]
    fn short_text(&mut self) -> Option<&'a [u8]> {
        let (&byte, rest) = self.rest.split_first()?;
        if byte & !FIXSTR_LEN != FIXSTR {
            return None;
        }
        let (text, rest) = rest.split_at_checked(usize::from(byte & FIXSTR_LEN))?;
        self.rest = rest;
        Some(text)
    }

    #[inline]
    fn marker(&mut self) -> Result<Marker, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(Marker::from_u8(byte))
    }

    /// A big-endian length of `N` bytes.
    fn len<const N: usize>(&mut self) -> Result<usize, Malformed> {
        let bytes = self.take(N)?;
        Ok(bytes
            .iter()
            .fold(0, |len, &byte| (len << 8) | usize::from(byte)))
    }

    fn map_len(&mut self) -> Result<usize, Malformed> {
        match self.marker()? {
            Marker::FixMap(len) => Ok(len.into()),
            Marker::Map16 => self.len::<2>(),
            Marker::Map32 => self.len::<4>(),
            _ => Err(Malformed::NotAMap),
        }
    }

    /// The bytes of a text or bin that begins with `marker`; `None` for any other type.
    fn bytes(&mut self, marker: Marker) -> Result<Option<&'a [u8]>, Malformed> {
        let len = match marker {
            Marker::FixStr(len) => len.into(),
            Marker::Str8 | Marker::Bin8 => self.len::<1>()?,
            Marker::Str16 | Marker::Bin16 => self.len::<2>()?,
            Marker::Str32 | Marker::Bin32 => self.len::<4>()?,
            _ => return Ok(None),
        };
        self.take(len).map(Some)
    }

    /// A key of the map. One that is no text is no known key; it is passed over.
    #[inline]
    fn key(&mut self) -> Result<&'a [u8], Malformed> {
        if let Some(name) = self.short_text() {
            return Ok(name);
        }
        let marker = self.marker()?;
        match self.bytes(marker)? {
            Some(name) => Ok(name),
            None => {
                self.skip_from(marker)?;
                Ok(b"")
            }
        }
    }

    /// A text or nil.
    #[inline]
    fn text(&mut self, name: &'static str) -> Result<Option<&'a str>, Malformed> {
        let bytes = match self.short_text() {
            Some(text) => text,
            None => match self.marker()? {
                Marker::Null => return Ok(None),
                marker => self.bytes(marker)?.ok_or(Malformed::WrongType(name))?,
            },
        };
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Malformed::InvalidUtf8(name)),
        }
    }

    /// An action; nil reads as the empty one.
    fn action(&mut self) -> Result<Action<'a>, Malformed> {
        let before = self.rest;
        match self.short_text() {
            Some(b"set") => Ok(Action::Set),
            Some(b"create") => Ok(Action::Create),
            Some(b"delete") => Ok(Action::Delete),
            _ => {
                self.rest = before;
                Ok(Action::parse(self.text("action")?.unwrap_or("")))
            }
        }
    }

    fn stamp(&mut self) -> Result<Stamp, Malformed> {
        match self.marker()? {
            Marker::Bin8 if self.len::<1>()? == STAMP_LEN => self.take(STAMP_LEN),
            _ => return Err(Malformed::WrongType("stamp")),
        }
        .and_then(|bytes| Stamp::from_bytes(bytes).ok_or(Malformed::WrongType("stamp")))
    }

    fn skip(&mut self) -> Result<(), Malformed> {
        let marker = self.marker()?;
        self.skip_from(marker)
    }

    /// Passes over the value that begins with `marker`, without recursion.
    fn skip_from(&mut self, marker: Marker) -> Result<(), Malformed> {
        // How many values are still to come on each open level below the event's own map.
        let mut open = [0usize; MAX_DEPTH - 1];
        let mut depth = 0;
        let mut marker = marker;
        loop {
            let children = self.skip_one(marker)?;
            if let Some(children) = children {
                *open.get_mut(depth).ok_or(Malformed::TooDeep)? = children;
                depth += 1;
            }
            while depth > 0 && open[depth - 1] == 0 {
                depth -= 1;
            }
            if depth == 0 {
                return Ok(());
            }
            open[depth - 1] -= 1;
            marker = self.marker()?;
        }
    }

    /// Passes over one value's own bytes; a container's number of values is returned.
    fn skip_one(&mut self, marker: Marker) -> Result<Option<usize>, Malformed> {
        let plain = match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => {
                0
            }
            Marker::U8 | Marker::I8 => 1,
            Marker::U16 | Marker::I16 => 2,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::FixExt1 => 2,
            Marker::FixExt2 => 3,
            Marker::FixExt4 => 5,
            Marker::FixExt8 => 9,
            Marker::FixExt16 => 17,
            Marker::Ext8 => self.len::<1>()? + 1,
            Marker::Ext16 => self.len::<2>()? + 1,
            Marker::Ext32 => self.len::<4>()? + 1,
            Marker::FixArray(len) => return Ok(Some(len.into())),
            Marker::Array16 => return self.len::<2>().map(Some),
            Marker::Array32 => return self.len::<4>().map(Some),
            Marker::FixMap(len) => return Ok(Some(2 * usize::from(len))),
            Marker::Map16 => return Ok(Some(2 * self.len::<2>()?)),
            Marker::Map32 => return Ok(Some(2 * self.len::<4>()?)),
            Marker::Reserved => return Err(Malformed::InvalidMarker),
            text => return self.bytes(text).map(|_| None),
        };
        self.take(plain).map(|_| None)
    }
}

#[cfg(test)]
mod tests;
