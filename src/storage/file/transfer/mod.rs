//! Brings a `Data.fs` to the state of another node's: what is compared and
//! moved, and how the result takes the place of the file that is there.
//!
//! ```text
//! content   what a transaction says, whatever its position; digests of it
//! codec     transactions on their way between nodes
//! source    a file as a source of transactions
//! places    what pointers lead to
//! build     a file laid out anew from transactions; equal, byte for byte
//! raw       a piece of a file as it is, checked
//! draft     what both of these write
//! install   the durable intent, and what is made of one that a crash left
//! switch    an open storage goes over to the new file
//! ```
//!
//! Who talks to whom, and over what, is told in `replication::catch_up`.

pub mod build;
pub mod codec;
pub mod content;
mod draft;
pub mod install;
mod places;
pub mod raw;
pub mod source;
mod switch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use super::pack::progress::Progress;
pub use draft::Built;
pub use install::{Intent, Kind, State, carry_out, pending};
pub use switch::Change;

use super::format::{FIRST_TRANSACTION, MAGIC_PYTHON3};
use super::reader::DataFile;
use super::{FileStorage, beside};
use crate::disk::{Access, Disk, OpenMode, Precedence, read_exact_at};
use crate::storage::{BlobDirectory, Result, StorageError};
use crate::types::Tid;

/// The file that another node's is received in.
pub const INCOMING_SUFFIX: &str = ".incoming";
/// The same, where only what is missing at the end comes.
pub const TAIL_SUFFIX: &str = ".incoming-tail";
/// What an earlier attempt received of a whole file, while a new one uses it.
pub const PARTIAL_SUFFIX: &str = ".incoming-partial";

/// Pieces of a file are read in this size.
pub const PIECE_BYTES: usize = 256 << 10;
/// Whether one file begins another is looked at in so many places …
const PROBES: u64 = 64;
/// … of so many bytes each, and in the last of them.
const PROBE_BYTES: u64 = 4 << 10;
const LAST_PROBE_BYTES: u64 = 256 << 10;

/// A file up to a fixed end. It stays readable, whatever packs and commits do.
#[derive(Clone, Debug)]
pub struct HeldFile {
    data: DataFile,
    end: u64,
    last_tid: Tid,
    magic: [u8; 4],
}

impl HeldFile {
    /// The file at `path`, up to its end. What it holds is believed only as
    /// far as it is sound.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let name: Arc<str> = path.display().to_string().into();
        let doing = || format!("opening {name}");
        let file = disk
            .open(path, OpenMode::Read)
            .map_err(StorageError::io(doing()))?;
        let end = file.len().map_err(StorageError::io(doing()))?;
        Self::of(DataFile { file, name }, end)
    }

    fn of(data: DataFile, end: u64) -> Result<Self> {
        let mut magic = MAGIC_PYTHON3;
        if end >= FIRST_TRANSACTION {
            read_exact_at(&*data.file, &mut magic, 0, Access::Wait)
                .map_err(|error| data.read_error(0, error))?;
        }
        let mut held = Self {
            data,
            end: end.max(FIRST_TRANSACTION),
            last_tid: Tid::ZERO,
            magic,
        };
        held.last_tid = held.tid_before(end).unwrap_or_default();
        Ok(held)
    }

    /// Its length.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Its last transaction; [`Tid::ZERO`] where there is none.
    pub fn last_tid(&self) -> Tid {
        self.last_tid
    }

    /// Is there no transaction in it?
    pub fn is_empty(&self) -> bool {
        self.end <= FIRST_TRANSACTION
    }

    /// Its first bytes.
    pub fn magic(&self) -> [u8; 4] {
        self.magic
    }

    /// Makes it durable, where a log did that so far.
    pub fn sync(&self) -> Result<()> {
        self.data
            .file
            .sync()
            .map_err(StorageError::io(format!("syncing {}", self.data.name)))
    }

    /// Is it still what is found at `path`? A pack exchanges the file.
    pub fn is_in_place(&self, disk: &dyn Disk, path: &Path) -> bool {
        matches!(
            (disk.identity(path), self.data.file.identity()),
            (Ok(found), Ok(own)) if found == own
        )
    }

    /// The transaction that ends at `end`; None where none does.
    pub fn tid_before(&self, end: u64) -> Option<Tid> {
        if end <= FIRST_TRANSACTION || end > self.end {
            return None;
        }
        let start = self.data.transaction_before(end, Access::Wait).ok()?;
        let head = self.data.read_transaction(start, Access::Wait).ok()?;
        let ends = start + head.header.length + super::format::NUMBER_BYTES as u64;
        (ends == end).then_some(head.header.tid)
    }

    /// A checksum of some places of the first `length` bytes: of files that
    /// differ there it differs, most probably.
    pub fn probe(&self, length: u64) -> Result<u32> {
        let mut crc = crc32fast::Hasher::new();
        let step = (length / PROBES).max(PROBE_BYTES);
        let mut at = 0;
        while at < length {
            let end = length.min(at + PROBE_BYTES);
            self.pieces(at, end, |piece| {
                crc.update(piece);
                Ok(())
            })?;
            at += step;
        }
        self.pieces(length.saturating_sub(LAST_PROBE_BYTES), length, |piece| {
            crc.update(piece);
            Ok(())
        })?;
        Ok(crc.finalize())
    }

    /// The CRC-32 of the bytes from `from` to `to`.
    pub fn crc(&self, from: u64, to: u64) -> Result<u32> {
        let mut crc = crc32fast::Hasher::new();
        self.pieces(from, to, |piece| {
            crc.update(piece);
            Ok(())
        })?;
        Ok(crc.finalize())
    }

    /// Hands on the bytes from `from` to `to`.
    pub fn pieces(
        &self,
        from: u64,
        to: u64,
        mut visit: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut buffer = vec![0; PIECE_BYTES];
        let mut at = from;
        while at < to {
            let left = usize::try_from(to - at).unwrap_or(usize::MAX);
            let wanted = buffer.len().min(left);
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            read_exact_at(&*self.data.file, piece, at, Access::Wait)
                .map_err(|error| self.data.read_error(at, error))?;
            visit(piece)?;
            at += wanted as u64;
        }
        Ok(())
    }
}

impl FileStorage {
    /// The file as it is now, for another node to copy. Waits until what is
    /// being committed is published.
    pub fn hold(&self) -> Result<HeldFile> {
        let append = self.pause_commits();
        let data = self.generation.load().data.clone();
        HeldFile::of(data, append.end)
    }

    /// What a transfer to this storage needs to know.
    pub fn target(&self) -> Result<Target> {
        self.check_writable()?;
        Ok(Target {
            disk: Arc::clone(&self.disk),
            paths: self.paths(),
            own: self.hold()?,
            blobs: self.blobs.clone(),
            precedence: Arc::clone(&self.precedence),
        })
    }
}

/// Where a state is received.
#[derive(Clone, Debug)]
pub struct Target {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The files.
    pub paths: Paths,
    /// What is there.
    pub own: HeldFile,
    /// Where blobs go, where the storage has some.
    pub blobs: Option<Arc<BlobDirectory>>,
    /// Commits go first.
    pub precedence: Arc<Precedence>,
}

/// The files of a transfer, beside `Data.fs`.
#[derive(Clone, Debug)]
pub struct Paths {
    /// `Data.fs`.
    pub data: PathBuf,
}

impl Paths {
    /// Where a whole file is received.
    pub fn incoming(&self) -> PathBuf {
        beside(&self.data, INCOMING_SUFFIX)
    }

    /// Where the end of a file is received.
    pub fn tail(&self) -> PathBuf {
        beside(&self.data, TAIL_SUFFIX)
    }

    /// What an earlier attempt has left.
    pub fn partial(&self) -> PathBuf {
        beside(&self.data, PARTIAL_SUFFIX)
    }
}
