//! Topics as they stand in frame 0.
//!
//! Fanfare ends a topic with one NUL byte, so that a subscription to `tenant1` (a prefix, to
//! ZeroMQ) does not receive `tenant10`. Legacy senders end it with nothing. Both are read here.

/// The topic of events that go to every subscriber.
pub const SEND_ALL: &str = "D";

/// Longest topic, bytes. libzmq silently never delivers on topics of 246–255 bytes; 240 leaves
/// room for the NUL and for a batch mark.
pub const MAX_TOPIC_LEN: usize = 240;

/// The topic a publisher's heartbeat goes to; topics that begin with byte 0x01 are reserved.
pub const HELLO: &str = "\u{1}hello";

/// Why a text cannot be a topic that a user subscribes to or publishes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The empty prefix would subscribe to everything.
    #[error("a topic must not be empty")]
    Empty,
    /// See [`MAX_TOPIC_LEN`].
    #[error("a topic has at most {MAX_TOPIC_LEN} bytes, this one has {0}")]
    TooLong(usize),
    /// NUL ends a topic on the wire.
    #[error("a topic must not contain NUL")]
    Nul,
    /// Topics that begin with byte 0x01 are the system's own.
    #[error("topics that begin with byte 0x01 are reserved")]
    Reserved,
}

/// Checks a topic that a user names.
pub fn check(topic: &str) -> Result<(), TopicError> {
    match topic.as_bytes() {
        [] => Err(TopicError::Empty),
        [1, ..] => Err(TopicError::Reserved),
        bytes if bytes.len() > MAX_TOPIC_LEN => Err(TopicError::TooLong(bytes.len())),
        bytes if bytes.contains(&0) => Err(TopicError::Nul),
        _ => Ok(()),
    }
}

/// Frame 0 taken apart: the topic and whether the sender ended it with NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFrame<'a> {
    /// The topic without its end mark.
    pub topic: &'a [u8],
    /// Whether the sender ended it with NUL, as Fanfare does.
    pub terminated: bool,
}

impl<'a> TopicFrame<'a> {
    /// Takes frame 0 apart.
    pub fn parse(frame: &'a [u8]) -> Self {
        match frame {
            [topic @ .., 0] => TopicFrame {
                topic,
                terminated: true,
            },
            topic => TopicFrame {
                topic,
                terminated: false,
            },
        }
    }
}

/// Writes frame 0 as Fanfare sends it: the topic, then NUL.
pub fn write_frame(topic: &str, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(topic.as_bytes());
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_topics_are_checked() {
        assert_eq!(check("tenant1"), Ok(()));
        assert_eq!(check(""), Err(TopicError::Empty));
        assert_eq!(check(HELLO), Err(TopicError::Reserved));
        assert_eq!(check("a\0b"), Err(TopicError::Nul));
        assert_eq!(check(&"x".repeat(240)), Ok(()));
        assert_eq!(check(&"x".repeat(241)), Err(TopicError::TooLong(241)));
    }

    #[test]
    fn both_end_marks_are_read() {
        let fanfare = TopicFrame::parse(b"t1\0");
        assert_eq!((fanfare.topic, fanfare.terminated), (&b"t1"[..], true));
        let legacy = TopicFrame::parse(b"t1");
        assert_eq!((legacy.topic, legacy.terminated), (&b"t1"[..], false));
    }
}
