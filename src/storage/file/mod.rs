//! ZODB's FileStorage: one append-only file, `Data.fs`, with an index in memory.
//!
//! Either this or Python's FileStorage can open what the other wrote.

mod append;
mod blobs;
pub mod format;
mod index;
mod index_file;
mod interface;
mod iterator;
mod lock;
mod oids;
mod open;
pub mod pack;
mod reader;
mod recover;
mod replicated;
mod space;
pub mod transfer;
mod undo;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use append::Layout;
use index::Index;
use lock::Lock;
use oids::OidSource;
use pack::Packing;
use reader::DataFile;
use space::Space;
use undo::UndoGate;

pub use replicated::{Ledger, SyncedState};

use super::blob::BlobDirectory;
use super::{Committing, Description, Result, StorageError};
use crate::disk::{Disk, Precedence};
use crate::stats::Histogram;
use crate::types::{Oid, Tid};

/// How a file is to be opened.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of the configuration"
)]
pub struct FileOptions {
    /// `Data.fs`; the names of the files beside it come from it.
    pub path: PathBuf,
    /// Where blobs lie, where the storage has some.
    pub blob_dir: Option<PathBuf>,
    /// Take no changes, and need no lock.
    pub read_only: bool,
    /// Begin with an empty file, whatever was there.
    pub create: bool,
    /// The file may not grow beyond this.
    pub quota_bytes: Option<u64>,
    /// A pack drops objects that cannot be reached.
    pub pack_gc: bool,
    /// A pack leaves the former file as `.old`.
    pub pack_keep_old: bool,
    /// What makes its transactions durable.
    pub durability: Durability,
}

/// What makes transactions durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Each is synced before it is acknowledged.
    #[default]
    Synced,
    /// A log has them; see `replicated.rs`.
    Logged {
        /// So long the file was when it was synced last; what lies behind is cut
        /// off. None: it was closed cleanly, or never written to.
        synced_bytes: Option<u64>,
    },
}

impl FileOptions {
    /// The defaults for a file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            blob_dir: None,
            read_only: false,
            create: false,
            quota_bytes: None,
            pack_gc: true,
            pack_keep_old: true,
            durability: Durability::Synced,
        }
    }
}

/// A `Data.fs`.
///
/// Invariants: what `generation` shows was synced before; `last_tid` names the
/// last transaction of what it shows. Positions mean nothing beyond the
/// generation that they come from: every read loads it once and keeps to it.
///
/// Locks are taken in this order: `saving`, `append`, `space`.
#[derive(Debug)]
pub struct FileStorage {
    disk: Arc<dyn Disk>,
    options: FileOptions,
    description: Description,
    generation: ArcSwap<Generation>,
    last_tid: AtomicU64,
    /// The end for which the index was saved last.
    saved_end: AtomicU64,
    blobs: Option<Arc<BlobDirectory>>,
    /// Held while the index is saved, so that it is saved for the file that is there.
    saving: Mutex<()>,
    append: Mutex<Append>,
    /// Told when what was appended has been published.
    published: Condvar,
    space: Arc<Mutex<Space>>,
    oids: Mutex<OidSource>,
    packing: Packing,
    undos: Arc<UndoGate>,
    /// The first error of a write; nothing is written after it.
    stopped: OnceLock<String>,
    /// How long syncs took.
    sync_times: Histogram,
    /// Commits before packs and uploads.
    precedence: Arc<Precedence>,
    /// Is told of packs where a log makes transactions durable.
    ledger: OnceLock<Arc<dyn Ledger>>,
    /// Keeps other processes out; None where the storage is read-only.
    lock: Mutex<Option<Lock>>,
}

/// The file and its index, exchanged together when a pack is done.
#[derive(Debug)]
struct Generation {
    data: DataFile,
    index: Index,
    /// Position behind the last published transaction.
    end: AtomicU64,
}

impl Generation {
    /// The position of the newest record of `oid`.
    fn newest(&self, oid: Oid) -> Result<u64> {
        self.index
            .get(oid)
            .ok_or_else(|| StorageError::no_such_object(oid))
    }
}

/// What the committer alone touches.
#[derive(Debug)]
struct Append {
    /// Position behind the last synced transaction.
    end: u64,
    /// Synced and not yet published.
    unpublished: Vec<(Oid, u64)>,
    closed: bool,
}

impl FileStorage {
    fn check_writable(&self) -> Result<()> {
        if self.options.read_only {
            return Err(StorageError::ReadOnly);
        }
        match self.stopped.get() {
            Some(cause) => Err(StorageError::WritingStopped {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Is the file at the path still the one that is open here?
    fn check_in_place(&self, data: &DataFile) -> Result<()> {
        let open = data
            .file
            .identity()
            .map_err(StorageError::io("looking at the open file"))?;
        match self.disk.identity(&self.options.path) {
            Ok(found) if found == open => Ok(()),
            Ok(_) => Err(StorageError::ChangedOutside {
                file: data.name.to_string(),
                what: "another file was put in its place".to_owned(),
            }),
            Err(error) => Err(StorageError::ChangedOutside {
                file: data.name.to_string(),
                what: format!("it is no longer at its place ({error})"),
            }),
        }
    }

    /// Has nobody else written to the file?
    fn check_untouched(&self, data: &DataFile, end: u64) -> Result<()> {
        self.check_in_place(data)?;
        let length = data
            .file
            .len()
            .map_err(StorageError::io("reading the file's length"))?;
        if length == end {
            return Ok(());
        }
        Err(StorageError::ChangedOutside {
            file: data.name.to_string(),
            what: format!("it has {length} bytes, {end} were written here"),
        })
    }

    fn append_synced(&self, append: &mut Append, batch: &mut [Committing]) -> Result<()> {
        let generation = self.generation.load();
        let data = &generation.data;
        self.check_untouched(data, append.end)?;
        let layout = Layout::new(batch, append.end, &generation.index, data)?;
        layout
            .write(batch, append.end, &*data.file)
            .map_err(StorageError::io(format!("writing to {}", data.name)))?;
        if self.options.durability == Durability::Synced {
            let begun = Instant::now();
            data.file
                .sync()
                .map_err(StorageError::io(format!("syncing {}", data.name)))?;
            self.sync_times.observe_time(begun.elapsed());
        }
        append.end = layout.end;
        append.unpublished = layout.positions;
        Ok(())
    }
}

/// The path of a file beside `path`: its name with `suffix` behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Seconds by which `tid` lies in the future, if it does.
fn seconds_ahead(tid: Tid, now: SystemTime) -> Option<u64> {
    let now = Tid::from_time(now).to_time_since_epoch();
    let ahead = tid.to_time_since_epoch().checked_sub(now)?.as_secs();
    (ahead > 0).then_some(ahead)
}

#[cfg(test)]
mod tests;
