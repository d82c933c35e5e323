//! Z85, ZeroMQ's text form of keys: 32 bytes as 40 characters.
//!
//! Not libzmq's: its binding copies what it converts into memory that nobody wipes.

use zeroize::Zeroizing;

/// Characters of a key.
pub const TEXT: usize = 40;

const ALPHABET: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// The text of a key.
pub fn encode(key: &[u8; 32]) -> Zeroizing<[u8; TEXT]> {
    let mut text = Zeroizing::new([0; TEXT]);
    for (block, out) in key.chunks_exact(4).zip(text.chunks_exact_mut(5)) {
        let mut number = block
            .iter()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        for place in out.iter_mut().rev() {
            *place = ALPHABET[(number % 85) as usize];
            number /= 85;
        }
    }
    text
}

/// The key of a text; `None` for anything else than 40 characters that stand for 32 bytes.
pub fn decode(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if text.len() != TEXT {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    for (block, out) in text.chunks_exact(5).zip(key.chunks_exact_mut(4)) {
        let mut number = 0u64;
        for byte in block {
            let digit = ALPHABET.iter().position(|known| known == byte)?;
            number = number * 85 + digit as u64;
        }
        out.copy_from_slice(&u32::try_from(number).ok()?.to_be_bytes());
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_libzmqs() {
        for seed in 0..50 {
            let mut key = [0; 32];
            fastrand::Rng::with_seed(seed).fill(&mut key);
            let text = encode(&key);
            assert_eq!(&text[..], zmq::z85_encode(&key).unwrap().as_bytes());
            assert_eq!(*decode(&text[..]).unwrap(), key);
        }
    }

    #[test]
    fn nothing_else_is_a_key() {
        assert!(decode(&[b'0'; 39]).is_none());
        assert!(decode(&[b'0'; 41]).is_none());
        assert!(decode(&[b' '; 40]).is_none());
        // More than four bytes hold.
        assert!(decode(&[b'#'; 40]).is_none());
    }
}
