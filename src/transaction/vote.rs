use std::collections::{BTreeMap, HashMap};
use std::io;

use thiserror::Error;

use super::buffer::{Operation, TransactionBuffer};
use super::object_locks::LockRequest;
use crate::disk::Access;
use crate::storage::blob::PendingBlob;
use crate::storage::staging::FileDigest;
use crate::storage::{PendingRecord, Reservation, Staged, Storage, StorageError, UndoneRecord};
use crate::types::{Oid, Tid};

/// A transaction that nothing known now can keep from finishing.
#[derive(Debug)]
pub struct Voted {
    /// What is to be written.
    pub staged: Staged,
    /// The disk space for it.
    pub reservation: Box<dyn Reservation>,
    /// The objects that undone transactions change; the client does not know them.
    pub undone: Vec<Oid>,
    /// What other nodes were given of it already.
    pub attached: Attached,
}

/// Files of a transaction that lie ready on other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Its data, where that is large.
    pub payload: Option<FileDigest>,
    /// Its blobs.
    pub blobs: Vec<(Oid, FileDigest)>,
    /// Packs that had been asked for when it was voted.
    pub pack_orders: u64,
}

impl Attached {
    /// All of them.
    pub fn files(&self) -> Vec<FileDigest> {
        let blobs = self.blobs.iter().map(|(_, digest)| *digest);
        self.payload.into_iter().chain(blobs).collect()
    }
}

/// An object that was changed by somebody else since the client read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The object.
    pub oid: Oid,
    /// Its newest serial.
    pub committed: Tid,
    /// The serial that the client read.
    pub read: Tid,
    /// What the client wanted to store; None for a deletion.
    pub data: Option<Vec<u8>>,
}

/// How a vote went.
#[derive(Debug)]
pub enum VoteOutcome {
    /// It can be finished.
    Voted(Voted),
    /// The client is to resolve these, store the results and vote again.
    Conflicts(TransactionBuffer, Vec<Conflict>),
    /// It takes a read that would wait; vote again with [`Access::Wait`].
    WouldWait(TransactionBuffer),
}

/// Why a vote failed. The transaction is over.
#[derive(Debug, Error)]
pub enum VoteError {
    /// An object was changed meanwhile.
    #[error("conflict on {}: read at {}, now {}", .0.oid, .0.read, .0.committed)]
    Conflict(Conflict),
    /// An object that had to stay was changed.
    #[error("{oid} had to stay at {read} and is at {committed}")]
    ReadConflict {
        /// The object.
        oid: Oid,
        /// Its newest serial.
        committed: Tid,
        /// The serial that the client read.
        read: Tid,
    },
    /// The storage refuses.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The transaction's temporary file cannot be read.
    #[error("reading a large transaction's temporary file: {0}")]
    Spill(#[from] io::Error),
}

impl TransactionBuffer {
    /// The locks that the transaction needs from its vote to its end. Reads the
    /// transactions that it undoes.
    pub fn locks(&self, storage: &dyn Storage) -> LockRequest {
        if self.meta.tid.is_some() {
            return LockRequest::Everything;
        }
        let mut changed = Vec::new();
        let mut checked = Vec::new();
        for operation in self.operations() {
            match operation {
                Operation::Store { oid, .. }
                | Operation::Delete { oid, .. }
                | Operation::Restore { oid, .. } => changed.push(*oid),
                Operation::Check { oid, .. } => checked.push(*oid),
                // One that cannot be undone fails when the vote is taken.
                Operation::Undo { tid } => {
                    changed.extend(storage.undo_objects(*tid).unwrap_or_default());
                }
            }
        }
        // The same object twice, and each object's place before its check.
        changed.sort_unstable();
        changed.dedup();
        LockRequest::Objects { changed, checked }
    }
}

/// What the serials say, before anything is decided.
#[derive(Debug, Default)]
struct Checked {
    /// Numbers of the operations that conflict, in order.
    conflicting: Vec<usize>,
    /// The objects whose last store conflicts.
    conflicts: BTreeMap<Oid, usize>,
    /// What each undo does, in order.
    undone: Vec<Vec<UndoneRecord>>,
}

/// Checks a transaction whose locks are held against the storage.
///
/// With `hand_back`, conflicting stores go back to the client to be resolved;
/// without, the first one is an error.
pub fn vote(
    storage: &dyn Storage,
    buffer: TransactionBuffer,
    hand_back: bool,
    access: Access,
) -> Result<VoteOutcome, VoteError> {
    if access == Access::Cached && (buffer.undoes() || buffer.has_blobs()) {
        return Ok(VoteOutcome::WouldWait(buffer));
    }
    let checked = match check(storage, &buffer, hand_back, access) {
        Err(VoteError::Storage(StorageError::WouldBlock)) => {
            return Ok(VoteOutcome::WouldWait(buffer));
        }
        checked => checked?,
    };
    if !checked.conflicts.is_empty() {
        let operations = checked
            .conflicts
            .values()
            .filter_map(|&at| buffer.operations().get(at));
        let conflicts: Result<Vec<_>, _> = operations
            .map(|operation| conflict(storage, &buffer, operation))
            .collect();
        return conflicts.map(|conflicts| VoteOutcome::Conflicts(buffer, conflicts));
    }
    let undone = checked
        .undone
        .iter()
        .flatten()
        .map(|record| record.oid)
        .collect();
    let undone_blobs = undone_blobs(storage, &buffer, &checked)?;
    let mut staged = buffer.into_staged(&checked.conflicting, checked.undone);
    for (oid, blob) in undone_blobs {
        match blob {
            Some(blob) => staged.blobs.insert(oid, blob),
            None => staged.blobs.remove(oid),
        }
    }
    let reservation = storage.prepare(&staged)?;
    staged.blobs.prepare(storage.last_tid())?;
    Ok(VoteOutcome::Voted(Voted {
        staged,
        reservation,
        undone,
        attached: Attached::default(),
    }))
}

fn check(
    storage: &dyn Storage,
    buffer: &TransactionBuffer,
    hand_back: bool,
    access: Access,
) -> Result<Checked, VoteError> {
    if let Some(tid) = buffer.meta.tid {
        let last = storage.last_tid();
        if tid <= last {
            return Err(StorageError::TidNotLater { tid, last }.into());
        }
    }
    let mut checked = Checked::default();
    for (number, operation) in buffer.operations().iter().enumerate() {
        match *operation {
            Operation::Store { oid, serial, .. } => {
                let current = storage.current_serial(oid, access)?;
                if current.is_none_or(|current| current.serial == serial) {
                    checked.conflicts.remove(&oid);
                } else if hand_back {
                    checked.conflicting.push(number);
                    checked.conflicts.insert(oid, number);
                } else {
                    return Err(VoteError::Conflict(conflict(storage, buffer, operation)?));
                }
            }
            Operation::Delete { oid, serial, .. } => {
                let current = storage.current_serial(oid, access)?;
                let current = current.ok_or_else(|| StorageError::no_such_object(oid))?;
                if current.serial != serial {
                    return Err(VoteError::Conflict(conflict(storage, buffer, operation)?));
                }
            }
            Operation::Check { oid, serial } => {
                let current = storage
                    .current_serial(oid, access)?
                    .filter(|current| current.exists);
                let committed = current
                    .ok_or_else(|| StorageError::no_such_object(oid))?
                    .serial;
                if committed != serial {
                    return Err(VoteError::ReadConflict {
                        oid,
                        committed,
                        read: serial,
                    });
                }
            }
            Operation::Undo { tid } => {
                let undone = {
                    let pending = pending(buffer, &checked, number)?;
                    storage.undo(tid, &pending)?
                };
                checked.undone.push(undone);
            }
            Operation::Restore { .. } => {}
        }
    }
    Ok(checked)
}

/// For each object that ends as an undo leaves it: the file of its blob once
/// more; None where it has none now, whatever the transaction stored before.
fn undone_blobs(
    storage: &dyn Storage,
    buffer: &TransactionBuffer,
    checked: &Checked,
) -> Result<Vec<(Oid, Option<PendingBlob>)>, VoteError> {
    let mut last: BTreeMap<Oid, Option<Tid>> = BTreeMap::new();
    let mut undone = checked.undone.iter();
    for operation in buffer.operations() {
        match operation {
            Operation::Undo { .. } => {
                let records = undone.next().into_iter().flatten();
                last.extend(records.map(|record| (record.oid, record.blob)));
            }
            // What is stored later comes with a blob of its own.
            Operation::Store { oid, .. }
            | Operation::Delete { oid, .. }
            | Operation::Restore { oid, .. } => {
                last.remove(oid);
            }
            Operation::Check { .. } => {}
        }
    }
    // Asking for the directory can make it.
    let blobs = last
        .values()
        .any(Option::is_some)
        .then(|| storage.blobs())
        .flatten();
    let copies = last.into_iter().map(|(oid, serial)| {
        let copy = blobs.zip(serial);
        let copy = copy.map(|(blobs, serial)| blobs.copy_revision(oid, serial));
        Ok((oid, copy.transpose()?))
    });
    Ok(copies.collect::<Result<_, StorageError>>()?)
}

/// What the operations before number `until` did to each object.
fn pending(
    buffer: &TransactionBuffer,
    checked: &Checked,
    until: usize,
) -> Result<HashMap<Oid, PendingRecord>, VoteError> {
    let mut pending = HashMap::new();
    let mut undone = checked.undone.iter();
    for operation in buffer.operations().iter().take(until) {
        match operation {
            Operation::Store { oid, data, .. }
            | Operation::Restore {
                oid,
                data,
                has_data: true,
                ..
            } => {
                pending.insert(*oid, PendingRecord::Data(buffer.data(data)?));
            }
            Operation::Delete { oid, .. } | Operation::Restore { oid, .. } => {
                pending.insert(*oid, PendingRecord::Nothing);
            }
            Operation::Undo { .. } => {
                for record in undone.next().into_iter().flatten() {
                    let state = record
                        .to
                        .map_or(PendingRecord::Nothing, PendingRecord::StateOf);
                    pending.insert(record.oid, state);
                }
            }
            Operation::Check { .. } => {}
        }
    }
    Ok(pending)
}

fn conflict(
    storage: &dyn Storage,
    buffer: &TransactionBuffer,
    operation: &Operation,
) -> Result<Conflict, VoteError> {
    let (oid, read, data) = match operation {
        Operation::Store { oid, serial, data } => (*oid, *serial, Some(buffer.data(data)?)),
        Operation::Delete { oid, serial, .. }
        | Operation::Check { oid, serial }
        | Operation::Restore { oid, serial, .. } => (*oid, *serial, None),
        // An undo names no object; it fails with an error of its own.
        Operation::Undo { .. } => (Oid::ROOT, Tid::ZERO, None),
    };
    // Read already by the check, so this does not wait.
    let current = storage.current_serial(oid, Access::Wait)?;
    let committed = current.map(|current| current.serial).unwrap_or_default();
    Ok(Conflict {
        oid,
        committed,
        read,
        data,
    })
}
