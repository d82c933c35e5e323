//! The stamp: who sent an event and where it stands.

/// Length of an encoded stamp, bytes.
pub const STAMP_LEN: usize = 56;

/// Who sent an event and where it stands in that publisher's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Stamp {
    /// The publisher's identity; stays the same over restarts.
    pub publisher: [u8; 16],
    /// Number of the publisher's unbroken life; rises whenever continuity cannot be proved.
    pub incarnation: u64,
    /// The publisher's running number of this event, over all topics; the first is 1.
    pub seq: u64,
    /// `seq` of the previous event on the same topic; 0 when this is the first.
    pub prev: u64,
    /// Total order of the states of one object across all publishers; higher wins.
    pub version: u64,
    /// When it was stamped, microseconds since the Unix epoch.
    pub unix_micros: u64,
}

impl Stamp {
    /// The wire form: publisher id 16 | incarnation | seq | prev | version | unix microseconds,
    /// the numbers big-endian u64.
    pub fn to_bytes(&self) -> [u8; STAMP_LEN] {
        let mut out = [0; STAMP_LEN];
        out[..16].copy_from_slice(&self.publisher);
        let numbers = [
            self.incarnation,
            self.seq,
            self.prev,
            self.version,
            self.unix_micros,
        ];
        for (slot, number) in out[16..].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_be_bytes());
        }
        out
    }

    /// Reads the wire form; `None` unless `bytes` is exactly [`STAMP_LEN`] long.
    pub fn from_bytes(bytes: &[u8]) -> Option<Stamp> {
        let bytes: &[u8; STAMP_LEN] = bytes.try_into().ok()?;
        let (publisher, numbers) = bytes.split_first_chunk::<16>()?;
        let (numbers, _) = numbers.as_chunks::<8>();
        let number = |i: usize| u64::from_be_bytes(numbers[i]);
        Some(Stamp {
            publisher: *publisher,
            incarnation: number(0),
            seq: number(1),
            prev: number(2),
            version: number(3),
            unix_micros: number(4),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_the_contract() {
        let stamp = Stamp {
            publisher: *b"0123456789abcdef",
            incarnation: 1,
            seq: 2,
            prev: 3,
            version: 4,
            unix_micros: 5,
        };
        let bytes = stamp.to_bytes();
        assert_eq!(&bytes[..16], b"0123456789abcdef");
        assert_eq!(bytes[23], 1);
        assert_eq!(bytes[55], 5);
        assert_eq!(Stamp::from_bytes(&bytes), Some(stamp));
        assert_eq!(Stamp::from_bytes(&bytes[1..]), None);
    }
}
