//! Lays transactions out in a new file, as commits and packs do.

use std::path::Path;

use super::content::{Body, Head, Previous, Record, Reference, Visitor};
use super::draft::{Built, Draft};
use super::places::Places;
use crate::disk::{Access, Disk, OpenMode, Precedence};
use crate::storage::file::format::{
    DATA_HEADER_BYTES, DataHeader, FIRST_TRANSACTION, NUMBER_BYTES,
};
use crate::storage::file::pack::{BLOB_PROBE_BYTES, is_blob_record};
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// The beginning of every transaction that lies so far behind the last one
/// noted is noted, so that transactions are found by their id.
const NOTED_EVERY_BYTES: u64 = 64 << 10;

/// Writes a file transaction by transaction. Memory: the index of the new
/// file, 16 bytes for each 64 kB of it, 16 bytes per blob.
#[derive(Debug)]
pub struct Builder<'a> {
    draft: Draft<'a>,
    noted: Vec<(Tid, u64)>,
    places: Places,
    /// Of the transaction at hand: its id, where it begins and where its
    /// records are to end.
    tid: Tid,
    start: u64,
    records_end: u64,
    is_raw: bool,
    data_left: u64,
}

impl<'a> Builder<'a> {
    /// Begins the file at `path`, over what was there.
    pub fn new(
        disk: &dyn Disk,
        path: &Path,
        magic: [u8; 4],
        precedence: &'a Precedence,
        with_blobs: bool,
    ) -> Result<Self> {
        let mode = OpenMode::Truncate;
        let draft = Draft::open(disk, path, mode, Tid::ZERO, precedence, with_blobs)?;
        let mut builder = Self {
            places: Places::new(draft.data.clone(), 0),
            draft,
            noted: Vec::new(),
            tid: Tid::ZERO,
            start: 0,
            records_end: 0,
            is_raw: false,
            data_left: 0,
        };
        builder.draft.put(&magic)?;
        Ok(builder)
    }

    /// Where the next transaction will begin.
    pub fn position(&self) -> u64 {
        self.draft.out.position()
    }

    /// When nothing more comes: what came is of use to the next attempt.
    pub fn give_up(self) {
        self.draft.give_up();
    }

    /// Makes all of it durable but for the file's name.
    pub fn finish(self) -> Result<Built> {
        self.draft.finish()
    }

    fn bad(&self, problem: &str) -> StorageError {
        let problem = format!("transaction {} as it was received: {problem}", self.tid);
        self.draft.data.corrupt(self.draft.out.position(), problem)
    }

    /// Where the record is that is called so.
    fn position_of(&mut self, reference: Reference) -> Result<u64> {
        if reference.tid == self.tid {
            let number = usize::try_from(reference.number).unwrap_or(usize::MAX);
            let record = self.draft.written.get(number);
            return record
                .map(|(_, position)| *position)
                .ok_or_else(|| self.bad("a pointer to a record that is not there"));
        }
        self.draft.out.flush()?;
        self.places.end = self.draft.out.position();
        let after = self.noted.partition_point(|(tid, _)| *tid <= reference.tid);
        let mut position = match after.checked_sub(1).and_then(|last| self.noted.get(last)) {
            Some((_, position)) => *position,
            None => return Err(self.bad("a pointer to a transaction that is not there")),
        };
        while position < self.start {
            let header = self
                .draft
                .data
                .read_transaction(position, Access::Wait)?
                .header;
            if header.tid == reference.tid {
                return self.places.position(position, reference.number);
            }
            position = position
                .saturating_add(header.length)
                .saturating_add(NUMBER_BYTES as u64);
        }
        Err(self.bad("a pointer to a transaction that is not there"))
    }

    /// A record that points to a blob's is a blob's.
    fn probe_back(&mut self, oid: Oid, back: u64) -> Result<()> {
        if self.draft.blobs.is_none() {
            return Ok(());
        }
        self.draft.out.flush()?;
        let data = self.draft.data.read_data(oid, back, Access::Wait)?;
        let beginning = data.as_deref().unwrap_or_default();
        let beginning = beginning.get(..BLOB_PROBE_BYTES).unwrap_or(beginning);
        if let Some(probe) = &mut self.draft.blobs
            && is_blob_record(beginning)
        {
            probe.note_blob();
        }
        Ok(())
    }
}

impl Visitor for Builder<'_> {
    fn begin(&mut self, head: &Head) -> Result<()> {
        let header = &head.header;
        self.start = self.draft.out.position();
        self.tid = header.tid;
        self.is_raw = head.is_raw();
        self.records_end = self.start.saturating_add(header.length);
        if header.tid <= self.draft.last_tid {
            return Err(self.bad("it does not come after the one before it"));
        }
        if header.length < header.header_bytes() {
            return Err(self.bad("it is shorter than its header"));
        }
        let is_far = |(_, last): &(Tid, u64)| self.start - last >= NOTED_EVERY_BYTES;
        if self.noted.last().is_none_or(is_far) {
            self.noted.push((header.tid, self.start));
        }
        let mut bytes = Vec::with_capacity(head.texts.len() + 32);
        header.put(&mut bytes);
        bytes.extend_from_slice(&head.texts);
        self.draft.put(&bytes)
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        if self.data_left > 0 {
            return Err(self.bad("a record is shorter than it says"));
        }
        let position = self.draft.out.position();
        let bytes = (DATA_HEADER_BYTES as u64).saturating_add(record.body.bytes());
        if position.saturating_add(bytes) > self.records_end {
            return Err(self.bad("a record reaches beyond it"));
        }
        let previous = match record.previous {
            Previous::Newest => self.draft.index.get(record.oid).unwrap_or(0),
            Previous::None => 0,
            Previous::Record(reference) => self.position_of(reference)?,
        };
        let (data_bytes, back) = match record.body {
            Body::Data(bytes) => (bytes, 0),
            Body::Nothing => (0, 0),
            Body::SameAs(reference) => (0, self.position_of(reference)?),
        };
        if let Some(probe) = &mut self.draft.blobs {
            probe.record(record.oid, record.tid, data_bytes);
        }
        if back > 0 {
            self.probe_back(record.oid, back)?;
        }
        let header = DataHeader {
            oid: record.oid,
            tid: record.tid,
            previous,
            transaction: self.start,
            data_bytes,
        };
        self.draft.put(&header.to_bytes())?;
        if data_bytes == 0 {
            self.draft.put(&back.to_be_bytes())?;
        }
        self.data_left = data_bytes;
        self.draft.written.push((record.oid, position));
        Ok(())
    }

    fn data(&mut self, piece: &[u8]) -> Result<()> {
        if self.is_raw {
            return self.draft.put(piece);
        }
        let left = self.data_left.checked_sub(piece.len() as u64);
        self.data_left = left.ok_or_else(|| self.bad("a record is longer than it says"))?;
        if let Some(probe) = &mut self.draft.blobs {
            probe.data(piece);
        }
        self.draft.put(piece)
    }

    fn end(&mut self) -> Result<()> {
        if self.draft.out.position() != self.records_end || self.data_left > 0 {
            return Err(self.bad("its records do not add up to its length"));
        }
        self.draft
            .put(&(self.records_end - self.start).to_be_bytes())?;
        self.draft.close_transaction(self.tid);
        Ok(())
    }
}

const _: () = assert!(FIRST_TRANSACTION == 4, "a file begins with its magic");
