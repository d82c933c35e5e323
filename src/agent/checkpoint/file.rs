//! The checkpoint file: what an agent knows, so that the next one asks only for what it missed.
//!
//! ```text
//! 8  "FANFCKPT"
//! 4  version, 1
//!    then sections, each: 1 kind, 4 length, the content
//!      1 positions   publisher 16, incarnation 8, then per topic: length 1, topic, seq 8
//!      2 rows        per row: length 4, its event in wire form, stamped; a delete is a tombstone
//!      3 end         number of rows 8
//! 4  CRC-32 of all before it
//! ```
//!
//! Numbers are big-endian. The file is used as a whole or not at all: rows without their positions
//! would be harmless, positions without their rows would hide a loss.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::agent::recovery::{Life, Positions};
use crate::event::{Event, EventBatch, codec};
use crate::util::reader::Reader;

const MAGIC: &[u8; 8] = b"FANFCKPT";
const VERSION: u32 = 1;

const POSITIONS: u8 = 1;
const ROWS: u8 = 2;
const END: u8 = 3;

/// With so many bytes, or more, a section of rows ends.
const SECTION: usize = 1 << 20;

/// A section that claims to be longer is damaged: it would be one of rows, before the last of which
/// there is less than [`SECTION`], and no message is longer than 1 GiB.
const MAX_SECTION: u32 = (1 << 30) + (SECTION as u32);

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum BadCheckpoint {
    /// There is none.
    #[error("there is none")]
    Missing,
    /// The system cannot read it.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
    /// Another program's file.
    #[error("it is no checkpoint")]
    Foreign,
    /// Written by a later version, or an earlier one.
    #[error("it is of version {0}, this is version {VERSION}")]
    Version(u32),
    /// Its checksum or its structure does not hold.
    #[error("it is damaged")]
    Damaged,
}

impl From<io::Error> for BadCheckpoint {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => BadCheckpoint::Missing,
            io::ErrorKind::UnexpectedEof => BadCheckpoint::Damaged,
            _ => BadCheckpoint::Io(error),
        }
    }
}

/// Writes one checkpoint.
pub struct Writer<'a> {
    out: &'a mut dyn Write,
    sum: crc32fast::Hasher,
    rows: u64,
    section: Vec<u8>,
    payload: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Begins a file.
    pub fn new(out: &'a mut dyn Write) -> io::Result<Self> {
        let mut writer = Writer {
            out,
            sum: crc32fast::Hasher::new(),
            rows: 0,
            section: Vec::new(),
            payload: Vec::new(),
        };
        writer.put(MAGIC)?;
        writer.put(&VERSION.to_be_bytes())?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.out.write_all(bytes)
    }

    fn end_section(&mut self, kind: u8) -> io::Result<()> {
        let section = std::mem::take(&mut self.section);
        let len = u32::try_from(section.len()).ok();
        let len = len.filter(|len| *len <= MAX_SECTION);
        let len = len.ok_or_else(|| io::Error::other("a section is too long"))?;
        self.put(&[kind])?;
        self.put(&len.to_be_bytes())?;
        self.put(&section)?;
        self.section = section;
        self.section.clear();
        Ok(())
    }

    /// Writes how far one publisher was followed.
    pub fn positions(&mut self, positions: &Positions) -> io::Result<()> {
        self.section.extend(positions.life.publisher);
        self.section
            .extend(positions.life.incarnation.to_be_bytes());
        for (topic, seq) in &positions.topics {
            // A topic has at most 240 bytes.
            let Ok(len) = u8::try_from(topic.len()) else {
                continue;
            };
            self.section.push(len);
            self.section.extend(topic.as_bytes());
            self.section.extend(seq.to_be_bytes());
        }
        self.end_section(POSITIONS)
    }

    /// Writes rows, each with its stamp.
    pub fn rows<'e>(&mut self, rows: impl Iterator<Item = Event<'e>>) -> io::Result<()> {
        for row in rows {
            codec::encode(&row, &mut self.payload);
            self.section
                .extend((self.payload.len() as u32).to_be_bytes());
            self.section.extend(&self.payload);
            self.rows += 1;
            if self.section.len() >= SECTION {
                self.end_section(ROWS)?;
            }
        }
        match self.section.is_empty() {
            true => Ok(()),
            false => self.end_section(ROWS),
        }
    }

    /// Ends the file.
    pub fn finish(mut self) -> io::Result<()> {
        self.section.extend(self.rows.to_be_bytes());
        self.end_section(END)?;
        let sum = self.sum.clone().finalize();
        self.out.write_all(&sum.to_be_bytes())
    }
}

/// Reads the file at `path`.
pub fn read(path: &Path, rows: impl FnMut(EventBatch)) -> Result<Vec<Positions>, BadCheckpoint> {
    read_from(&mut File::open(path)?, rows)
}

/// Reads a checkpoint: first all of it for the checksum, then again for what it holds, so that
/// nothing of a damaged one is given to `rows`.
pub fn read_from(
    file: &mut (impl Read + Seek),
    mut rows: impl FnMut(EventBatch),
) -> Result<Vec<Positions>, BadCheckpoint> {
    let length = check(file)?;
    file.rewind()?;
    let mut file = BufReader::new(file.take(length));
    let mut head = [0; 12];
    file.read_exact(&mut head)?;
    let (mut positions, mut count) = (Vec::new(), 0);
    let mut left = length.saturating_sub(12);
    let mut section = Vec::new();
    loop {
        let mut head = [0; 5];
        file.read_exact(&mut head)?;
        let [kind, len @ ..] = head;
        let len = u32::from_be_bytes(len);
        // No memory is taken for what is not there.
        let after = left.checked_sub(5 + u64::from(len));
        left = after.ok_or(BadCheckpoint::Damaged)?;
        if len > MAX_SECTION {
            return Err(BadCheckpoint::Damaged);
        }
        section.resize(len as usize, 0);
        file.read_exact(&mut section)?;
        match kind {
            POSITIONS => positions.push(read_positions(&section)?),
            ROWS => {
                let batch = read_rows(&section)?;
                count += batch.len() as u64;
                rows(batch);
            }
            END if left == 0 && section == count.to_be_bytes() => return Ok(positions),
            _ => return Err(BadCheckpoint::Damaged),
        }
    }
}

/// Checks magic, version and checksum; gives the length of what the checksum covers.
fn check(file: &mut (impl Read + Seek)) -> Result<u64, BadCheckpoint> {
    let length = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let covered = length.checked_sub(4).ok_or(BadCheckpoint::Foreign)?;
    let mut file = BufReader::with_capacity(1 << 16, file);
    let mut head = [0; 12];
    file.read_exact(&mut head)
        .map_err(|_| BadCheckpoint::Foreign)?;
    let (magic, version) = head.split_at(8);
    if magic != MAGIC {
        return Err(BadCheckpoint::Foreign);
    }
    let version = u32::from_be_bytes([version[0], version[1], version[2], version[3]]);
    if version != VERSION {
        return Err(BadCheckpoint::Version(version));
    }
    let mut sum = crc32fast::Hasher::new();
    sum.update(&head);
    let mut rest = (&mut file).take(covered.saturating_sub(12));
    let mut buffer = vec![0; 1 << 16];
    loop {
        match rest.read(&mut buffer)? {
            0 => break,
            read => sum.update(&buffer[..read]),
        }
    }
    let mut kept = [0; 4];
    file.read_exact(&mut kept)?;
    match sum.finalize().to_be_bytes() == kept {
        true => Ok(covered),
        false => Err(BadCheckpoint::Damaged),
    }
}

fn read_positions(section: &[u8]) -> Result<Positions, BadCheckpoint> {
    let mut reader = Reader::new(section);
    let damaged = |_| BadCheckpoint::Damaged;
    let life = Life {
        publisher: reader.array().map_err(damaged)?,
        incarnation: reader.u64().map_err(damaged)?,
    };
    let mut topics = Vec::new();
    while !reader.rest.is_empty() {
        let topic = reader.short_text().map_err(damaged)?;
        topics.push((topic.into(), reader.u64().map_err(damaged)?));
    }
    Ok(Positions { life, topics })
}

fn read_rows(section: &[u8]) -> Result<EventBatch, BadCheckpoint> {
    let mut reader = Reader::new(section);
    let damaged = |_| BadCheckpoint::Damaged;
    let mut batch = EventBatch::new();
    while !reader.rest.is_empty() {
        let len = reader.u32().map_err(damaged)?;
        let payload = reader.take(len as usize).map_err(damaged)?;
        let event = codec::decode(payload).map_err(|_| BadCheckpoint::Damaged)?;
        if event.stamp.is_none() || !batch.push(&event) {
            return Err(BadCheckpoint::Damaged);
        }
    }
    Ok(batch)
}
