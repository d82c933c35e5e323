//! One key.

use std::fmt;
use std::io;

use zeroize::Zeroizing;

use super::z85;

/// What the text of a public key begins with.
const PUBLIC: &str = "public:";

/// What the text of a secret key begins with.
const SECRET: &str = "secret:";

/// Why a text is not the key that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not say what it is.
    #[error("is no key: it begins neither with public: nor with secret:")]
    NoKey,
    /// Its length is wrong.
    #[error("has {0} characters where a key has 40")]
    Length(usize),
    /// It holds what no key holds.
    #[error("holds characters that are in no key")]
    Characters,
    /// A public key where a secret one is wanted.
    #[error("is a public key, and the secret one is wanted (its file ends in .key_secret)")]
    IsPublic,
    /// A secret key where a public one is wanted.
    #[error(
        "is a SECRET key, and the public one is wanted (its file ends in .key); whoever has read it must be taken to know it, so that a new pair is needed"
    )]
    IsSecret,
}

fn bytes(text: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    match text.len() {
        z85::TEXT => z85::decode(text.as_bytes()).ok_or(KeyError::Characters),
        other => Err(KeyError::Length(other)),
    }
}

/// A public key. As text `public:` and 40 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        PublicKey(bytes)
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        match text.strip_prefix(PUBLIC) {
            Some(text) => bytes(text).map(|bytes| PublicKey(*bytes)),
            None if text.starts_with(SECRET) => Err(KeyError::IsSecret),
            None => Err(KeyError::NoKey),
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = z85::encode(&self.0);
        write!(f, "{PUBLIC}{}", String::from_utf8_lossy(&text[..]))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A secret key. Wiped from memory when dropped, though libzmq's copies of it are not; it has no `Display`, and
/// `Debug` shows nothing of it.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; 32]>);

impl SecretKey {
    /// A new one, from the system's random numbers.
    ///
    /// # Errors
    /// What the system says; nothing weaker stands in.
    pub fn random() -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        let mut filled = 0;
        while filled < key.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            filled += rustix::rand::getrandom(&mut key[filled..], flags)?;
        }
        Ok(SecretKey(key))
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        match text.strip_prefix(SECRET) {
            Some(text) => bytes(text).map(SecretKey),
            None if text.starts_with(PUBLIC) => Err(KeyError::IsPublic),
            None => Err(KeyError::NoKey),
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its 40 characters, without what says that it is secret.
    pub fn z85(&self) -> Zeroizing<[u8; z85::TEXT]> {
        z85::encode(&self.0)
    }

    /// Its text form, for its file.
    pub(super) fn text(&self) -> Zeroizing<Vec<u8>> {
        // Allocated once: growing would leave copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(SECRET.len() + z85::TEXT));
        text.extend_from_slice(SECRET.as_bytes());
        text.extend_from_slice(&self.z85()[..]);
        text
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        let secret = SecretKey::random().unwrap();
        let text = String::from_utf8(secret.text().to_vec()).unwrap();
        assert_eq!(
            SecretKey::parse(&text).unwrap().as_bytes(),
            secret.as_bytes()
        );
        assert_eq!(PublicKey::parse(&text).unwrap_err(), KeyError::IsSecret);
        let public = PublicKey::new([7; 32]);
        assert_eq!(PublicKey::parse(&public.to_string()), Ok(public));
        let as_secret = SecretKey::parse(&public.to_string());
        assert_eq!(as_secret.unwrap_err(), KeyError::IsPublic);
        let bare = text.trim_start_matches(SECRET);
        assert_eq!(PublicKey::parse(bare).unwrap_err(), KeyError::NoKey);
        assert_eq!(
            PublicKey::parse("public:abc").unwrap_err(),
            KeyError::Length(3)
        );
    }

    /// Does not compile unless it is wiped when it is dropped.
    #[test]
    fn a_secret_is_wiped() {
        fn is_wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        let SecretKey(bytes) = &SecretKey::random().unwrap();
        is_wiped(bytes);
        is_wiped(&SecretKey(bytes.clone()).z85());
        is_wiped(&SecretKey(bytes.clone()).text());
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = SecretKey::random().unwrap();
        assert_eq!(
            format!("{secret:?} {:#?}", Some(&secret))
                .matches('…')
                .count(),
            2
        );
        let text = String::from_utf8(secret.z85().to_vec()).unwrap();
        assert!(!format!("{secret:?} {:#?}", Some(&secret)).contains(&text[..5]));
    }
}
