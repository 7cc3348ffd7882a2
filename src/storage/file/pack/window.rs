//! Reads a `Data.fs` in large pieces, and writes one.

use std::io::IoSlice;
use std::sync::Arc;

use super::progress::Progress;
use crate::disk::{Access, DiskFile, First, Precedence, read_exact_at};
use crate::storage::file::format::{DATA_HEADER_BYTES, NUMBER_BYTES};
use crate::storage::file::reader::{DataFile, RecordHead};
use crate::storage::{Result, StorageError};

/// A pass through the whole file reads so much at once.
pub const PASS_BYTES: usize = 1 << 20;
/// Written once so much has been collected, or less where less is synced at once.
const OUT_BYTES: usize = 256 << 10;
/// Each so often it is asked how much is to be synced at once.
const LOOK_BYTES: u64 = 64 << 10;
/// A buffer that one large record made longer than this is given back.
const KEPT_BYTES: usize = 4 << 20;

/// A piece of the file in memory.
#[derive(Debug)]
pub struct Window<'a> {
    data: &'a DataFile,
    progress: &'a Progress,
    /// Nothing is read behind this: what lies there is not committed yet.
    end: u64,
    size: usize,
    start: u64,
    filled: usize,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    /// On the file up to `end`, with reads of `size` bytes.
    pub fn new(data: &'a DataFile, progress: &'a Progress, end: u64, size: usize) -> Self {
        Self {
            data,
            progress,
            end,
            size,
            start: 0,
            filled: 0,
            buffer: Vec::new(),
        }
    }

    /// The end of what may be read.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Exactly `length` bytes at `position`.
    pub fn get(&mut self, position: u64, length: usize) -> Result<&[u8]> {
        if !self.holds(position, length) {
            if self.end.saturating_sub(position) < length as u64 {
                return Err(self.data.corrupt(position, "the file ends too early"));
            }
            self.fill(position, self.size.max(length))?;
        }
        let offset = self.offset(position);
        Ok(self
            .buffer
            .get(offset..offset.saturating_add(length))
            .unwrap_or_default())
    }

    /// As [`Self::get`], for a length that is part of the format.
    pub fn array<const N: usize>(&mut self, position: u64) -> Result<[u8; N]> {
        let bytes = self.get(position, N)?;
        Ok(bytes.first_chunk().copied().unwrap_or([0; N]))
    }

    /// The bytes at `position` that are in memory after at most one read: at
    /// least one, at most `limit`.
    pub fn some(&mut self, position: u64, limit: u64) -> Result<&[u8]> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if !self.holds(position, 1) {
            self.get(position, 1)?;
        }
        let offset = self.offset(position);
        let until = self.filled.min(offset.saturating_add(limit));
        Ok(self.buffer.get(offset..until).unwrap_or_default())
    }

    /// Reads `length` bytes at `position` in one go, as far as the file goes.
    pub fn prefetch(&mut self, position: u64, length: usize) -> Result<()> {
        if self.holds(position, length) {
            return Ok(());
        }
        self.fill(position, length)
    }

    /// Is this much in memory?
    pub fn holds(&self, position: u64, length: usize) -> bool {
        position >= self.start && self.offset(position).saturating_add(length) <= self.filled
    }

    /// The head of the record at `position`, with its back pointer.
    pub fn head(&mut self, position: u64) -> Result<RecordHead> {
        // A record is never shorter than a header and a number.
        let bytes = self.array::<{ DATA_HEADER_BYTES + NUMBER_BYTES }>(position)?;
        self.data.parse_head(&bytes, position)
    }

    /// The number at `position`.
    pub fn number(&mut self, position: u64) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array(position)?))
    }

    /// An error that names the file.
    pub fn corrupt(&self, position: u64, problem: impl Into<String>) -> StorageError {
        self.data.corrupt(position, problem)
    }

    fn offset(&self, position: u64) -> usize {
        usize::try_from(position.saturating_sub(self.start)).unwrap_or(usize::MAX)
    }

    fn fill(&mut self, position: u64, length: usize) -> Result<()> {
        self.progress.check()?;
        let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let length = length.min(left);
        if self.buffer.len() > KEPT_BYTES && length < KEPT_BYTES {
            self.buffer.truncate(KEPT_BYTES);
            self.buffer.shrink_to_fit();
        }
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        self.filled = 0;
        let piece = self.buffer.get_mut(..length).unwrap_or_default();
        read_exact_at(&*self.data.file, piece, position, Access::Wait)
            .map_err(|error| self.data.read_error(position, error))?;
        self.start = position;
        self.filled = length;
        Ok(())
    }
}

/// The file that is being written, from its start to its end.
#[derive(Debug)]
pub struct Output<'a> {
    file: Arc<dyn DiskFile>,
    name: String,
    /// Where the buffer will stand.
    start: u64,
    buffer: Vec<u8>,
    synced: u64,
    next_look: u64,
    precedence: &'a Precedence,
    /// Commits wait for it.
    first: Option<First<'a>>,
}

impl<'a> Output<'a> {
    /// Writes `file` from its start, in pieces that commits go before.
    pub fn new(file: Arc<dyn DiskFile>, name: String, precedence: &'a Precedence) -> Self {
        Self {
            file,
            name,
            start: 0,
            buffer: Vec::with_capacity(OUT_BYTES),
            synced: 0,
            next_look: LOOK_BYTES,
            precedence,
            first: None,
        }
    }

    /// From now on commits wait for it, so it goes first as they do, until it is
    /// dropped, and in one piece.
    pub fn hurry(&mut self) {
        self.first = Some(self.precedence.first());
    }

    /// The position behind what was written.
    pub fn position(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// Writes behind the rest. One sync at the end would make the commits that
    /// go on meanwhile wait behind all of it, so there is one behind each piece.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.position() < self.next_look {
            return Ok(());
        }
        self.next_look = self.position() + LOOK_BYTES;
        let piece_bytes = self.precedence.piece_bytes();
        if self.first.is_none() && self.position() - self.synced >= piece_bytes {
            self.sync()
        } else if self.buffer.len() >= OUT_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Writes over what was written before.
    pub fn patch(&mut self, position: u64, bytes: &[u8]) -> Result<()> {
        let place = position
            .checked_sub(self.start)
            .and_then(|offset| usize::try_from(offset).ok())
            .and_then(|offset| self.buffer.get_mut(offset..offset + bytes.len()));
        if let Some(place) = place {
            place.copy_from_slice(bytes);
            return Ok(());
        }
        // It may reach over the edge of what was written out.
        self.flush()?;
        self.file
            .write_at(&[IoSlice::new(bytes)], position)
            .map_err(StorageError::io(format!("writing to {}", self.name)))
    }

    /// Hands everything to the system.
    pub fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file
            .write_at(&[IoSlice::new(&self.buffer)], self.start)
            .map_err(StorageError::io(format!("writing to {}", self.name)))?;
        self.start += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes everything durable.
    pub fn sync(&mut self) -> Result<()> {
        self.flush()?;
        let synced = match &self.first {
            Some(_) => self.file.sync(),
            None => self
                .precedence
                .later(self.start - self.synced, || self.file.sync()),
        };
        synced.map_err(StorageError::io(format!("syncing {}", self.name)))?;
        self.synced = self.start;
        Ok(())
    }

    /// The file.
    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// Copies `length` bytes from `position` of another file.
    pub fn copy(&mut self, from: &mut Window<'_>, position: u64, length: u64) -> Result<()> {
        let mut position = position;
        let mut left = length;
        while left > 0 {
            let piece = from.some(position, left)?;
            let count = piece.len() as u64;
            self.put(piece)?;
            position += count;
            left = left.saturating_sub(count.max(1));
        }
        Ok(())
    }
}
