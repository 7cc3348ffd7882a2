//! A file that is one of several equal ones: what makes its transactions
//! durable is the log that all of them are written from. So they are not synced
//! one by one; what the file holds beyond the last sync is thrown away after a
//! crash and written again from the log.

use std::fmt;
use std::sync::atomic::Ordering;

use super::FileStorage;
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// Notes on the disk what a file holds for sure.
pub trait Ledger: fmt::Debug + Send + Sync {
    /// A pack is about to put a file of `packed_length` bytes in the place of one
    /// of `state`, both synced and with the same last transaction. After a crash
    /// either can be there.
    fn before_switch(&self, state: SyncedState, packed_length: u64) -> Result<()>;

    /// The packed file is in place, or (None) nothing has changed.
    fn after_switch(&self, state: Option<SyncedState>);

    /// Is a pack to be done that may not have begun yet?
    fn is_pack_due(&self) -> bool;
}

/// What is on the disk for sure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncedState {
    /// The last transaction, also where a pack has dropped it.
    pub last_tid: Tid,
    /// Length of the file.
    pub length: u64,
}

impl FileStorage {
    /// Tells `ledger` of packs from now on.
    pub fn keep_ledger(&self, ledger: std::sync::Arc<dyn Ledger>) {
        let _ = self.ledger.set(ledger);
    }

    /// Makes durable all that is published; afterwards that is there whatever happens.
    pub fn sync(&self) -> Result<SyncedState> {
        let append = self.pause_commits();
        let generation = self.generation.load_full();
        let state = SyncedState {
            last_tid: Tid::from_u64(self.last_tid.load(Ordering::Acquire)),
            length: append.end,
        };
        drop(append);
        // What is appended meanwhile may be synced, too, and is not counted.
        self.check_writable()?;
        if let Err(source) = generation.data.file.sync() {
            let error = StorageError::io(format!("syncing {}", generation.data.name))(source);
            let _ = self.stopped.set(error.to_string());
            return Err(error);
        }
        Ok(state)
    }

    /// The last transaction that the log has for this file, where a pack may
    /// have dropped it.
    pub fn note_last_tid(&self, tid: Tid) {
        self.last_tid.fetch_max(tid.to_u64(), Ordering::AcqRel);
    }

    /// Commits before uploads and packs.
    pub fn precedence(&self) -> std::sync::Arc<crate::disk::Precedence> {
        std::sync::Arc::clone(&self.precedence)
    }

    /// The greatest oid that was stored or given out by this file's log.
    pub fn last_oid(&self) -> Oid {
        self.oids.lock().reserved()
    }

    /// Notes on the disk that oids up to `upto` may be given out by somebody.
    pub fn reserve_oids(&self, upto: Oid) -> Result<()> {
        self.oids.lock().reserve(&*self.disk, upto)
    }
}
