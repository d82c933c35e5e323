//! Reads numbers and texts off bytes that may end anywhere.

/// What is left to read of a message.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// The bytes that were not read yet.
    pub rest: &'a [u8],
}

/// Why bytes are not what was to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The bytes end too early.
    #[error("the message is cut short, or a length in it is too large")]
    Truncated,
    /// Bytes follow what was to be read.
    #[error("bytes follow the message")]
    TrailingBytes,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    InvalidUtf8,
}

impl<'a> Reader<'a> {
    /// Begins with the first of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], ReadError> {
        let split = self.rest.split_at_checked(len);
        let (head, rest) = split.ok_or(ReadError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let split = self.rest.split_first_chunk();
        let (head, rest) = split.ok_or(ReadError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// A number of one byte.
    pub fn u8(&mut self) -> Result<u8, ReadError> {
        self.array().map(u8::from_be_bytes)
    }

    /// A number of two bytes, big-endian.
    pub fn u16(&mut self) -> Result<u16, ReadError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A number of four bytes, big-endian.
    pub fn u32(&mut self) -> Result<u32, ReadError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A number of eight bytes, big-endian.
    pub fn u64(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A text after its length of one byte.
    pub fn short_text(&mut self) -> Result<String, ReadError> {
        let len = self.u8()?;
        let text = std::str::from_utf8(self.take(len.into())?);
        text.map(str::to_owned).map_err(|_| ReadError::InvalidUtf8)
    }

    /// Demands that everything was read.
    pub fn end(&self) -> Result<(), ReadError> {
        match self.rest {
            [] => Ok(()),
            _ => Err(ReadError::TrailingBytes),
        }
    }
}
