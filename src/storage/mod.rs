//! Where objects are kept. The [`Storage`] trait is what a transaction and a
//! session see; [`file`] is ZODB's FileStorage, [`mapping`] keeps all in memory,
//! [`demo`] puts one storage for changes on top of another, [`blob`] is the
//! directory of large files that each can have.
//!
//! No storage knows the wire or a runtime; every call can be made from any thread.

pub mod blob;
mod demo;
mod error;
pub mod file;
mod mapping;
mod staged;
pub mod staging;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

pub use blob::{BlobDirectory, BlobFile};
pub use demo::DemoStorage;
pub use error::{Result, StorageError, UndoFailure};
pub use file::pack::{PackOutcome, PackPhase, PackProgress};
pub use mapping::MappingStorage;
pub use staged::{RECORD_GAP_BYTES, Staged, StagedBody, StagedRecord, StagedRecordKind};

use crate::disk::Access;
use crate::stats::Observed;
use crate::types::{Oid, Tid, TransactionMeta};

/// What a client is told of a storage when it connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// As ZODB's `getName()` gives it: the path as configured, for a file.
    pub name: String,
    /// Does it keep what undo needs?
    pub supports_undo: bool,
    /// Can it enumerate its objects (`record_iternext`)?
    pub supports_record_iternext: bool,
    /// The ZODB interfaces that a client may rely on: module and name.
    pub interfaces: Vec<(&'static str, &'static str)>,
}

/// One revision of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Where in the caller's buffer the object's record is: two pickles.
    pub data: Range<usize>,
    /// The transaction that wrote it.
    pub serial: Tid,
    /// The transaction that replaced it. None: it is the current one.
    pub end: Option<Tid>,
}

/// What a vote checks against: the newest committed record of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentSerial {
    /// The transaction that wrote it.
    pub serial: Tid,
    /// False where that record says that the object was deleted, or its creation undone.
    pub exists: bool,
}

/// One line of an object's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The transaction that wrote this revision.
    pub meta: TransactionMeta,
    /// That transaction's id.
    pub tid: Tid,
    /// Length of the record's data; 0 where it only points to older data.
    pub size_bytes: u64,
    /// MappingStorage's form: the extension under a key of its own, and a key `serial`.
    pub is_mapping_form: bool,
}

/// One record of a transaction, as an iteration gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRecord {
    /// The object.
    pub oid: Oid,
    /// The transaction.
    pub tid: Tid,
    /// None: the object was deleted, or its creation undone.
    pub data: Option<Vec<u8>>,
    /// The transaction that the data was copied from (by undo).
    pub data_txn: Option<Tid>,
}

/// One object of an enumeration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentRecord {
    /// The object.
    pub oid: Oid,
    /// Its newest serial.
    pub serial: Tid,
    /// Its newest data.
    pub data: Vec<u8>,
    /// The oid to go on with. None: this was the last.
    pub next: Option<Oid>,
}

/// A transaction that `undoLog` lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoableTransaction {
    /// The transaction; its `tid` is always there.
    pub meta: TransactionMeta,
    /// Length of its record in the file.
    pub size_bytes: u64,
}

/// What undoing a transaction does to one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndoneRecord {
    /// The object.
    pub oid: Oid,
    /// It gets back the state that this transaction wrote; None: it ceases to exist.
    pub to: Option<Tid>,
    /// That state is a blob, whose file lies under this serial.
    pub blob: Option<Tid>,
}

/// What the same transaction did to an object before it undoes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PendingRecord {
    /// It stored this.
    Data(Vec<u8>),
    /// It gave it back the state that this transaction wrote.
    StateOf(Tid),
    /// It ended it.
    Nothing,
}

/// Goes through the transactions of a storage in order. What is committed
/// after it was made is not seen.
pub trait TransactionIterator: Send + fmt::Debug {
    /// The next transaction. Its `tid` is always there.
    fn next_transaction(&mut self) -> Result<Option<TransactionMeta>>;
    /// The records of the transaction that was given last.
    fn records(&self) -> Result<Box<dyn RecordIterator>>;
}

/// Goes through the records of one transaction in order.
pub trait RecordIterator: Send + fmt::Debug {
    /// The next record.
    fn next_record(&mut self) -> Result<Option<DataRecord>>;
}

/// What there is to see of a storage for whoever watches the server.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// As the section of the configuration is called, `filestorage` for example.
    pub kind: &'static str,
    /// Its file; that of the changes where it stands on another storage.
    pub path: Option<PathBuf>,
    /// What keeps it from taking changes since an error, in words.
    pub stopped: Option<String>,
    /// Memory that its index takes.
    pub index_bytes: u64,
    /// How long syncs of its file took, in nanoseconds.
    pub sync_times: Option<Observed>,
}

/// A transaction on its way to the disk: voted, its locks held.
#[derive(Debug)]
pub struct Committing {
    /// The id it commits under; later than all before.
    pub tid: Tid,
    /// Its metadata and records.
    pub staged: Staged,
}

/// Space on the disk that a voted transaction can count on. Given back when dropped.
pub trait Reservation: Send + fmt::Debug {}

/// A named storage.
///
/// Reads take an [`Access`]: with [`Access::Cached`] they fail with
/// [`StorageError::WouldBlock`] rather than wait for a device, and are then to
/// be asked again, with [`Access::Wait`], on a thread that may wait.
pub trait Storage: Send + Sync + fmt::Debug {
    /// What a client is told.
    fn description(&self) -> &Description;
    /// Where new blobs go; made where it is not there. None: it takes none.
    fn blobs(&self) -> Option<&Arc<BlobDirectory>> {
        None
    }
    /// Opens a committed blob.
    fn open_blob(&self, oid: Oid, serial: Tid) -> Result<BlobFile> {
        let blobs = self.blobs().ok_or(StorageError::BlobsNotSupported)?;
        blobs.open_revision(oid, serial)
    }
    /// Does it refuse changes?
    fn is_read_only(&self) -> bool;
    /// The last committed transaction; [`Tid::ZERO`] where there is none.
    fn last_tid(&self) -> Tid;
    /// Number of objects, deleted ones that were not packed away included.
    fn object_count(&self) -> u64;
    /// Size in bytes, as the client is shown it.
    fn size_bytes(&self) -> u64;

    /// The revision of `oid` that was current just before `before`. None: the
    /// object did not exist yet. Its data is read into `buffer`.
    fn load_before(
        &self,
        oid: Oid,
        before: Tid,
        access: Access,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Revision>>;
    /// The data of one revision.
    fn load_serial(&self, oid: Oid, serial: Tid, access: Access) -> Result<Vec<u8>>;
    /// The newest record of `oid`; None where it was never stored.
    fn current_serial(&self, oid: Oid, access: Access) -> Result<Option<CurrentSerial>>;
    /// The serial of the oldest record of `oid`; None where it was never stored.
    fn oldest_serial(&self, oid: Oid, access: Access) -> Result<Option<Tid>> {
        let _ = access;
        match self.history(oid, u64::MAX) {
            Ok(entries) => Ok(entries.last().map(|entry| entry.tid)),
            Err(StorageError::NoSuchObject { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
    /// The newest `size` revisions of `oid`, newest first.
    fn history(&self, oid: Oid, size: u64) -> Result<Vec<HistoryEntry>>;
    /// The first object at or after `from` that exists.
    fn next_record(&self, from: Option<Oid>) -> Result<Option<CurrentRecord>>;
    /// The transactions from `start` to `stop`, both included.
    fn iterate(
        &self,
        start: Option<Tid>,
        stop: Option<Tid>,
    ) -> Result<Box<dyn TransactionIterator>>;
    /// The ids of the last `count` transactions with the objects that they
    /// wrote, oldest first.
    fn last_invalidations(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>>;

    /// Lists the transactions that can be undone, newest first; `visit` says
    /// whether to go on.
    fn undo_log(&self, visit: &mut dyn FnMut(UndoableTransaction) -> bool) -> Result<()> {
        let _ = visit;
        Ok(())
    }
    /// The objects that undoing transaction `tid` writes.
    fn undo_objects(&self, tid: Tid) -> Result<Vec<Oid>> {
        let _ = tid;
        Err(self.unsupported("undo"))
    }
    /// What undoing transaction `tid` does, after what the same transaction did
    /// (`pending`). The objects are locked, so it stays true until the commit.
    fn undo(&self, tid: Tid, pending: &HashMap<Oid, PendingRecord>) -> Result<Vec<UndoneRecord>> {
        let _ = (tid, pending);
        Err(self.unsupported("undo"))
    }
    /// The error for what this storage cannot do.
    fn unsupported(&self, operation: &'static str) -> StorageError {
        StorageError::Unsupported {
            storage: self.description().name.clone(),
            operation,
        }
    }

    /// `count` oids that were never given out, also not before a restart.
    fn new_oids(&self, count: usize) -> Result<Vec<Oid>>;
    /// Checks at vote time all that could make [`Storage::append`] fail for a
    /// reason that is known now, and reserves the space.
    fn prepare(&self, staged: &Staged) -> Result<Box<dyn Reservation>>;
    /// Writes the transactions in order and makes them durable. Nothing of them
    /// is seen yet. After an error the storage takes no more changes.
    /// Called by one thread at a time.
    fn append(&self, batch: &mut [Committing]) -> Result<()>;
    /// Makes seen what the last [`Storage::append`] wrote. Cannot fail.
    fn publish(&self, batch: &[Committing]);
    /// Drops the revisions that were no longer current at the time `stop`, and
    /// with `gc` (None: as configured) the objects that nothing led to then.
    /// What leads to an object is looked for up to transaction `until` (None: to
    /// the end). Everything else goes on meanwhile; it takes as long as it takes.
    fn pack(&self, stop: Tid, gc: Option<bool>, until: Option<Tid>) -> Result<PackOutcome> {
        let _ = (stop, gc, until);
        Err(self.unsupported("pack"))
    }
    /// How far a pack is; None where none can run.
    fn pack_progress(&self) -> Option<PackProgress> {
        None
    }
    /// What there is to see of it for whoever watches the server.
    fn condition(&self) -> Condition;
    /// Saves what makes the next start quick. Commits go on meanwhile.
    fn checkpoint(&self) -> Result<()> {
        Ok(())
    }
    /// Saves what makes the next start quick, and closes. No change is taken afterwards.
    fn close(&self) -> Result<()>;
}
