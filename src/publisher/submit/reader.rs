//! Reads numbers off bytes that may end anywhere.

use super::SubmitError;

pub(super) struct Reader<'a> {
    pub rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], SubmitError> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(SubmitError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], SubmitError> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(SubmitError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, SubmitError> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, SubmitError> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, SubmitError> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, SubmitError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A text after its length of one byte.
    pub fn short_text(&mut self) -> Result<String, SubmitError> {
        let len = self.u8()?;
        let bytes = self.take(len.into())?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(SubmitError::InvalidUtf8),
        }
    }

    pub fn end(&self) -> Result<(), SubmitError> {
        match self.rest {
            [] => Ok(()),
            _ => Err(SubmitError::TrailingBytes),
        }
    }
}
