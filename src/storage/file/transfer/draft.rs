//! A file that is being received, whichever way.

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, OpenMode, Precedence};
use crate::storage::file::index::Index;
use crate::storage::file::pack::window::Output;
use crate::storage::file::pack::{BLOB_PROBE_BYTES, is_blob_record};
use crate::storage::file::reader::DataFile;
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// A file that is complete and synced, and not in place yet.
#[derive(Debug)]
pub struct Built {
    /// Where the newest record of each object is in it.
    pub(super) index: Index,
    /// The open file.
    pub(super) data: DataFile,
    /// Its length.
    pub end: u64,
    /// The CRC-32 of all of it.
    pub crc: u32,
    /// The revisions that are blobs, where they were asked for.
    pub blobs: Vec<(Oid, Tid)>,
}

/// What is written of it, and what is known of that.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub out: Output<'a>,
    pub data: DataFile,
    crc: crc32fast::Hasher,
    pub index: Index,
    /// The last transaction that is complete.
    pub last_tid: Tid,
    /// The records of the one at hand, and where they are in the finished file.
    pub written: Vec<(Oid, u64)>,
    pub blobs: Option<Probe>,
}

impl<'a> Draft<'a> {
    /// Begins, or with [`OpenMode::Create`] begins to write over, the file at
    /// `path`, whose transactions come after `last_tid`.
    pub fn open(
        disk: &dyn Disk,
        path: &Path,
        mode: OpenMode,
        last_tid: Tid,
        precedence: &'a Precedence,
        with_blobs: bool,
    ) -> Result<Self> {
        let name: Arc<str> = path.display().to_string().into();
        let file = disk
            .open(path, mode)
            .map_err(StorageError::io(format!("making {name}")))?;
        Ok(Self {
            out: Output::new(Arc::clone(&file), name.to_string(), precedence),
            data: DataFile { file, name },
            crc: crc32fast::Hasher::new(),
            index: Index::default(),
            last_tid,
            written: Vec::new(),
            blobs: with_blobs.then(Probe::default),
        })
    }

    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.out.put(bytes)
    }

    /// All of transaction `tid` is written.
    pub fn close_transaction(&mut self, tid: Tid) {
        for (oid, position) in self.written.drain(..) {
            self.index.set(oid, position);
        }
        self.last_tid = tid;
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
            crc: self.crc.finalize(),
            blobs: self.blobs.map(|probe| probe.found).unwrap_or_default(),
        })
    }
}

/// Looks for blobs among the records.
#[derive(Debug, Default)]
pub(super) struct Probe {
    found: Vec<(Oid, Tid)>,
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
            self.note_blob();
        }
    }

    /// The record at hand is a blob's.
    pub fn note_blob(&mut self) {
        self.found.push(self.record);
    }

    pub fn record(&mut self, oid: Oid, tid: Tid, data_bytes: u64) {
        self.record = (oid, tid);
        self.beginning.clear();
        let bytes = usize::try_from(data_bytes).unwrap_or(usize::MAX);
        self.wanted = bytes.min(BLOB_PROBE_BYTES);
    }
}
