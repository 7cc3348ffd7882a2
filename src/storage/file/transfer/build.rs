//! Lays transactions out in a new file, as commits and packs do.

use std::path::Path;
use std::sync::Arc;

use super::content::{Body, Head, Previous, Record, Reference, Visitor};
use super::places::Places;
use crate::disk::{Access, Disk, OpenMode, Precedence};
use crate::storage::file::format::{
    DATA_HEADER_BYTES, DataHeader, FIRST_TRANSACTION, NUMBER_BYTES,
};
use crate::storage::file::index::Index;
use crate::storage::file::pack::window::Output;
use crate::storage::file::pack::{BLOB_PROBE_BYTES, is_blob_record};
use crate::storage::file::reader::DataFile;
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// The beginning of every transaction that lies so far behind the last one
/// noted is noted, so that transactions are found by their id.
const NOTED_EVERY_BYTES: u64 = 64 << 10;

/// A file that is complete and synced, and not in place yet.
#[derive(Debug)]
pub struct Built {
    /// Where the newest record of each object is in it.
    pub(super) index: Index,
    /// The open file.
    pub(super) data: DataFile,
    /// Its length.
    pub end: u64,
    /// The last transaction in it.
    pub last_tid: Tid,
    /// The CRC-32 of all of it.
    pub crc: u32,
    /// The revisions that are blobs, where they were asked for.
    pub blobs: Vec<(Oid, Tid)>,
}

/// Writes a file transaction by transaction. Memory: the index of the new
/// file, 16 bytes for each 64 kB of it, 16 bytes per blob.
#[derive(Debug)]
pub struct Builder<'a> {
    out: Output<'a>,
    data: DataFile,
    crc: crc32fast::Hasher,
    index: Index,
    noted: Vec<(Tid, u64)>,
    places: Places,
    last_tid: Tid,
    /// Of the transaction at hand: its id, where it begins and where its
    /// records are to end, and those that were written.
    tid: Tid,
    start: u64,
    records_end: u64,
    is_raw: bool,
    written: Vec<(Oid, u64)>,
    data_left: u64,
    blobs: Option<Probe>,
}

/// Looks for blobs among the records.
#[derive(Debug, Default)]
pub(super) struct Probe {
    pub found: Vec<(Oid, Tid)>,
    /// The record at hand.
    record: (Oid, Tid),
    beginning: Vec<u8>,
    wanted: usize,
}

impl Probe {
    pub fn data(&mut self, piece: &[u8]) {
        if self.wanted == 0 {
            return;
        }
        let count = self.wanted.min(piece.len());
        self.beginning
            .extend_from_slice(piece.get(..count).unwrap_or_default());
        self.wanted -= count;
        if self.wanted == 0 && is_blob_record(&self.beginning) {
            self.found.push(self.record);
        }
    }

    pub fn record(&mut self, oid: Oid, tid: Tid, data_bytes: u64) {
        self.record = (oid, tid);
        self.beginning.clear();
        let bytes = usize::try_from(data_bytes).unwrap_or(usize::MAX);
        self.wanted = bytes.min(BLOB_PROBE_BYTES);
    }
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
        let name: Arc<str> = path.display().to_string().into();
        let file = disk
            .open(path, OpenMode::Truncate)
            .map_err(StorageError::io(format!("making {name}")))?;
        let data = DataFile {
            file: Arc::clone(&file),
            name: Arc::clone(&name),
        };
        let mut builder = Self {
            out: Output::new(file, name.to_string(), precedence),
            places: Places::new(data.clone(), 0),
            data,
            crc: crc32fast::Hasher::new(),
            index: Index::default(),
            noted: Vec::new(),
            last_tid: Tid::ZERO,
            tid: Tid::ZERO,
            start: 0,
            records_end: 0,
            is_raw: false,
            written: Vec::new(),
            data_left: 0,
            blobs: with_blobs.then(Probe::default),
        };
        builder.put(&magic)?;
        Ok(builder)
    }

    /// Where the next transaction will begin.
    pub fn position(&self) -> u64 {
        self.out.position()
    }

    /// When nothing more comes: what came is of use to the next attempt.
    pub fn give_up(mut self) {
        let _ = self.out.flush();
    }

    /// Makes all of it durable but for the file's name.
    pub fn finish(mut self) -> Result<Built> {
        self.out.sync()?;
        Ok(Built {
            end: self.out.position(),
            index: self.index,
            data: self.data,
            last_tid: self.last_tid,
            crc: self.crc.finalize(),
            blobs: self.blobs.map(|probe| probe.found).unwrap_or_default(),
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.out.put(bytes)
    }

    fn bad(&self, problem: &str) -> StorageError {
        let problem = format!("transaction {} as it was received: {problem}", self.tid);
        self.data.corrupt(self.out.position(), problem)
    }

    /// Where the record is that is called so.
    fn position_of(&mut self, reference: Reference) -> Result<u64> {
        if reference.tid == self.tid {
            let number = usize::try_from(reference.number).unwrap_or(usize::MAX);
            let record = self.written.get(number);
            return record
                .map(|(_, position)| *position)
                .ok_or_else(|| self.bad("a pointer to a record that is not there"));
        }
        self.out.flush()?;
        self.places.end = self.out.position();
        let after = self.noted.partition_point(|(tid, _)| *tid <= reference.tid);
        let mut position = match after.checked_sub(1).and_then(|last| self.noted.get(last)) {
            Some((_, position)) => *position,
            None => return Err(self.bad("a pointer to a transaction that is not there")),
        };
        while position < self.start {
            let header = self.data.read_transaction(position, Access::Wait)?.header;
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
        if self.blobs.is_none() {
            return Ok(());
        }
        self.out.flush()?;
        let data = self.data.read_data(oid, back, Access::Wait)?;
        let beginning = data.as_deref().unwrap_or_default();
        let beginning = beginning.get(..BLOB_PROBE_BYTES).unwrap_or(beginning);
        if let Some(probe) = &mut self.blobs
            && is_blob_record(beginning)
        {
            probe.found.push(probe.record);
        }
        Ok(())
    }
}

impl Visitor for Builder<'_> {
    fn begin(&mut self, head: &Head) -> Result<()> {
        let header = &head.header;
        self.start = self.out.position();
        self.tid = header.tid;
        self.is_raw = head.is_raw();
        self.records_end = self.start.saturating_add(header.length);
        if header.tid <= self.last_tid {
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
        self.put(&bytes)
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        if self.data_left > 0 {
            return Err(self.bad("a record is shorter than it says"));
        }
        let position = self.out.position();
        let bytes = (DATA_HEADER_BYTES as u64).saturating_add(record.body.bytes());
        if position.saturating_add(bytes) > self.records_end {
            return Err(self.bad("a record reaches beyond it"));
        }
        let previous = match record.previous {
            Previous::Newest => self.index.get(record.oid).unwrap_or(0),
            Previous::None => 0,
            Previous::Record(reference) => self.position_of(reference)?,
        };
        let (data_bytes, back) = match record.body {
            Body::Data(bytes) => (bytes, 0),
            Body::Nothing => (0, 0),
            Body::SameAs(reference) => (0, self.position_of(reference)?),
        };
        if let Some(probe) = &mut self.blobs {
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
        self.put(&header.to_bytes())?;
        if data_bytes == 0 {
            self.put(&back.to_be_bytes())?;
        }
        self.data_left = data_bytes;
        self.written.push((record.oid, position));
        Ok(())
    }

    fn data(&mut self, piece: &[u8]) -> Result<()> {
        if self.is_raw {
            return self.put(piece);
        }
        let left = self.data_left.checked_sub(piece.len() as u64);
        self.data_left = left.ok_or_else(|| self.bad("a record is longer than it says"))?;
        if let Some(probe) = &mut self.blobs {
            probe.data(piece);
        }
        self.put(piece)
    }

    fn end(&mut self) -> Result<()> {
        if self.out.position() != self.records_end || self.data_left > 0 {
            return Err(self.bad("its records do not add up to its length"));
        }
        self.put(&(self.records_end - self.start).to_be_bytes())?;
        for (oid, position) in self.written.drain(..) {
            self.index.set(oid, position);
        }
        self.last_tid = self.tid;
        Ok(())
    }
}

const _: () = assert!(FIRST_TRANSACTION == 4, "a file begins with its magic");
