//! ZODB's DemoStorage: changes on top of a base that stays as it is. Source:
//! ZODB `DemoStorage.py`.
//!
//! Whatever is asked for is looked for in the changes first, then in the base.
//! Either can be any storage, another DemoStorage included. Of an object that
//! the changes say does not exist (its first change was undone) the base's
//! state is seen again, also by votes.
//!
//! Deletions and restored transactions are refused, as in the reference: the
//! changes could not tell a deleted object of the base from one that they never
//! had.

mod blobs;
mod iterator;
mod name;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

use super::blob::BlobFile;
use super::{
    BlobDirectory, Committing, Condition, CurrentRecord, CurrentSerial, Description, HistoryEntry,
    MappingStorage, PackOutcome, PackProgress, PendingRecord, Reservation, Result, Revision,
    Staged, StagedRecordKind, Storage, StorageError, TransactionIterator, UndoableTransaction,
    UndoneRecord,
};
use crate::disk::{Access, Disk};
use crate::types::{Oid, Tid};
use blobs::{Blobs, TemporaryBlobs};
use iterator::BothIterator;

const BLOB_STORAGE: (&str, &str) = ("ZODB.interfaces", "IBlobStorage");
/// What the reference calls the storages that it makes by itself.
const DEFAULT_PART: &str = "MappingStorage";

/// A base that is only read, and a storage for the changes.
///
/// Invariant: what the base holds does not change, so that an answer made of
/// two reads is one of one state.
#[derive(Debug)]
pub struct DemoStorage {
    description: Description,
    base: Arc<dyn Storage>,
    changes: Arc<dyn Storage>,
    blobs: Blobs,
    /// The next oid to give out, where it is free. Only goes up.
    next_oid: Mutex<u64>,
}

impl DemoStorage {
    /// Puts `changes` on top of `base`. Where one is None, it is an empty
    /// MappingStorage; without `changes` blobs go into a temporary directory on
    /// `disk`. Without `name` it is made from those of both.
    pub fn new(
        disk: Arc<dyn Disk>,
        name: Option<String>,
        base: Option<Arc<dyn Storage>>,
        changes: Option<Arc<dyn Storage>>,
    ) -> Self {
        let blobs = match changes {
            Some(_) => Blobs::OfChanges,
            None => Blobs::Temporary(TemporaryBlobs::new(disk)),
        };
        let base = base.unwrap_or_else(default_part);
        let changes = changes.unwrap_or_else(default_part);
        Self {
            description: describe(name, &*base, &*changes, &blobs),
            base,
            changes,
            blobs,
            next_oid: Mutex::new(random_oid()),
        }
    }

    /// With a directory for blobs around it (`<blobstorage>`). What ZODB
    /// reports of that is the directory alone, and blobs of the base are not
    /// seen. To be asked for only where [`Self::has_blobs`] says no.
    #[must_use]
    pub fn with_blobs(mut self, blobs: Arc<BlobDirectory>) -> Self {
        blobs.clean_after_crash(self.last_tid());
        self.description.interfaces = vec![BLOB_STORAGE, ("zope.interface", "Interface")];
        self.blobs = Blobs::Around(blobs);
        self
    }

    /// Does it take blobs by itself?
    pub fn has_blobs(&self) -> bool {
        self.description.interfaces.contains(&BLOB_STORAGE)
    }

    /// Drops the blobs of revisions that a pack has dropped, where the changes
    /// do not know of them.
    fn pack_blobs(&self, stop: Tid) -> Result<()> {
        if let Some(directory) = self.own_blobs() {
            let needed = |oid, serial| {
                let data = self.changes.load_serial(oid, serial, Access::Wait);
                Ok(known(data)?.is_some())
            };
            directory.pack_by_need(stop, &needed)?;
        }
        Ok(())
    }

    /// The directory of blobs that is not that of the changes.
    fn own_blobs(&self) -> Option<&Arc<BlobDirectory>> {
        match &self.blobs {
            Blobs::OfChanges => None,
            Blobs::Temporary(temporary) => temporary.made(),
            Blobs::Around(directory) => Some(directory),
        }
    }

    fn is_in_use(&self, oid: Oid) -> Result<bool> {
        let in_changes = self.changes.current_serial(oid, Access::Wait)?;
        Ok(in_changes.is_some() || self.base.current_serial(oid, Access::Wait)?.is_some())
    }
}

fn default_part() -> Arc<dyn Storage> {
    Arc::new(MappingStorage::new(DEFAULT_PART))
}

fn describe(
    name: Option<String>,
    base: &dyn Storage,
    changes: &dyn Storage,
    blobs: &Blobs,
) -> Description {
    let made_name = || {
        let base = name::python_repr(&base.description().name);
        let changes = name::python_repr(&changes.description().name);
        format!("DemoStorage({base}, {changes})")
    };
    let changes = changes.description();
    let mut interfaces = Vec::new();
    if matches!(blobs, Blobs::Temporary(_)) || changes.interfaces.contains(&BLOB_STORAGE) {
        interfaces.push(BLOB_STORAGE);
    }
    if changes.supports_undo {
        interfaces.push(("ZODB.interfaces", "IStorageUndoable"));
    }
    interfaces.extend([
        ("ZODB.interfaces", "IStorage"),
        ("ZODB.interfaces", "IStorageIteration"),
        ("zope.interface", "Interface"),
    ]);
    Description {
        name: name.unwrap_or_else(made_name),
        supports_undo: changes.supports_undo,
        supports_record_iternext: false,
        interfaces,
    }
}

/// Where oids begin: anywhere in 2^62, as in the reference. Clients keep oids
/// over a restart, and changes in memory do not, so no counter could go on.
fn random_oid() -> u64 {
    (RandomState::new().build_hasher().finish() >> 2) + 1
}

/// No record where the object is not known.
fn known<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(StorageError::NoSuchObject { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Storage for DemoStorage {
    fn description(&self) -> &Description {
        &self.description
    }

    fn blobs(&self) -> Option<&Arc<BlobDirectory>> {
        match &self.blobs {
            Blobs::OfChanges => self.changes.blobs(),
            Blobs::Temporary(temporary) => temporary.make(),
            Blobs::Around(directory) => Some(directory),
        }
    }

    fn open_blob(&self, oid: Oid, serial: Tid) -> Result<BlobFile> {
        let absent = || StorageError::NoSuchObject {
            oid,
            serial: Some(serial),
        };
        let found = match &self.blobs {
            Blobs::OfChanges => self.changes.open_blob(oid, serial),
            Blobs::Temporary(temporary) => match temporary.made() {
                Some(directory) => directory.open_revision(oid, serial),
                None => Err(absent()),
            },
            Blobs::Around(directory) => return directory.open_revision(oid, serial),
        };
        match found {
            Err(StorageError::NoSuchBlob { .. } | StorageError::NoSuchObject { .. }) => {
                match self.base.open_blob(oid, serial) {
                    Err(StorageError::BlobsNotSupported) => Err(absent()),
                    found => found,
                }
            }
            Err(StorageError::BlobsNotSupported) => self.base.open_blob(oid, serial),
            found => found,
        }
    }

    fn is_read_only(&self) -> bool {
        self.changes.is_read_only()
    }

    fn last_tid(&self) -> Tid {
        match self.changes.last_tid() {
            Tid::ZERO => self.base.last_tid(),
            tid => tid,
        }
    }

    fn object_count(&self) -> u64 {
        self.changes.object_count()
    }

    fn size_bytes(&self) -> u64 {
        self.changes.size_bytes()
    }

    fn load_before(
        &self,
        oid: Oid,
        before: Tid,
        access: Access,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Revision>> {
        match known(self.changes.load_before(oid, before, access, buffer))? {
            Some(Some(revision)) => Ok(Some(revision)),
            Some(None) => {
                let below = known(self.base.load_before(oid, before, access, buffer))?.flatten();
                let Some(mut revision) = below else {
                    return Ok(None);
                };
                // What is current in the base was replaced by the first change.
                if revision.end.is_none() {
                    revision.end = self.changes.oldest_serial(oid, access)?;
                }
                Ok(Some(revision))
            }
            None => self.base.load_before(oid, before, access, buffer),
        }
    }

    fn load_serial(&self, oid: Oid, serial: Tid, access: Access) -> Result<Vec<u8>> {
        match known(self.changes.load_serial(oid, serial, access))? {
            Some(data) => Ok(data),
            None => self.base.load_serial(oid, serial, access),
        }
    }

    fn current_serial(&self, oid: Oid, access: Access) -> Result<Option<CurrentSerial>> {
        let above = self.changes.current_serial(oid, access)?;
        if above.is_some_and(|current| current.exists) {
            return Ok(above);
        }
        // What was deleted in the base can be stored anew with any serial.
        let below = self.base.current_serial(oid, access)?;
        Ok(below.filter(|current| current.exists).or(above))
    }

    fn oldest_serial(&self, oid: Oid, access: Access) -> Result<Option<Tid>> {
        match self.base.oldest_serial(oid, access)? {
            None => self.changes.oldest_serial(oid, access),
            oldest => Ok(oldest),
        }
    }

    fn history(&self, oid: Oid, size: u64) -> Result<Vec<HistoryEntry>> {
        let above = known(self.changes.history(oid, size))?;
        let mut entries = above.unwrap_or_default();
        let rest = size.saturating_sub(entries.len() as u64);
        if rest > 0 {
            match known(self.base.history(oid, rest))? {
                Some(below) => entries.extend(below),
                None if entries.is_empty() => return Err(StorageError::no_such_object(oid)),
                None => {}
            }
        }
        Ok(entries)
    }

    fn next_record(&self, _from: Option<Oid>) -> Result<Option<CurrentRecord>> {
        Err(self.unsupported("record_iternext"))
    }

    fn iterate(
        &self,
        start: Option<Tid>,
        stop: Option<Tid>,
    ) -> Result<Box<dyn TransactionIterator>> {
        Ok(Box::new(BothIterator::new(
            self.base.iterate(start, stop)?,
            self.changes.iterate(start, stop)?,
        )))
    }

    /// The reference leaves the base out, and has clients drop their caches
    /// that were up to date with it.
    fn last_invalidations(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>> {
        let above = self.changes.last_invalidations(count)?;
        let rest = count.saturating_sub(above.len());
        let mut invalidations = self.base.last_invalidations(rest)?;
        let is_before = |&(tid, _): &(Tid, Vec<Oid>)| above.first().is_none_or(|f| tid < f.0);
        // A base that went on after the changes began is no part of their past.
        if !invalidations.last().is_none_or(is_before) {
            invalidations.clear();
        }
        invalidations.extend(above);
        Ok(invalidations)
    }

    fn undo_log(&self, visit: &mut dyn FnMut(UndoableTransaction) -> bool) -> Result<()> {
        self.changes.undo_log(visit)
    }

    fn undo_objects(&self, tid: Tid) -> Result<Vec<Oid>> {
        self.changes.undo_objects(tid)
    }

    fn undo(&self, tid: Tid, pending: &HashMap<Oid, PendingRecord>) -> Result<Vec<UndoneRecord>> {
        self.changes.undo(tid, pending)
    }

    fn new_oids(&self, count: usize) -> Result<Vec<Oid>> {
        if self.is_read_only() {
            return Err(StorageError::ReadOnly);
        }
        let mut next = self.next_oid.lock();
        let mut oids = Vec::with_capacity(count);
        while oids.len() < count {
            let oid = Oid::from_u64(*next);
            if !self.is_in_use(oid)? {
                oids.push(oid);
            }
            *next += 1;
        }
        Ok(oids)
    }

    fn prepare(&self, staged: &Staged) -> Result<Box<dyn Reservation>> {
        for record in &staged.records {
            match record.kind {
                StagedRecordKind::Store | StagedRecordKind::Undo { .. } => {}
                StagedRecordKind::Delete => return Err(self.unsupported("deleteObject")),
                StagedRecordKind::Restore { .. } => return Err(self.unsupported("restore")),
            }
        }
        self.changes.prepare(staged)
    }

    fn append(&self, batch: &mut [Committing]) -> Result<()> {
        self.changes.append(batch)
    }

    fn publish(&self, batch: &[Committing]) {
        self.changes.publish(batch);
    }

    /// Packs the changes. What is reachable only the base could tell, so without
    /// one alone garbage is collected; the reference does it, to its harm, also
    /// when the changes are temporary.
    fn pack(&self, stop: Tid, gc: Option<bool>, until: Option<Tid>) -> Result<PackOutcome> {
        let is_alone = self.base.last_tid() == Tid::ZERO;
        let gc = match (&self.blobs, gc) {
            (Blobs::Temporary(_), gc) if is_alone => gc,
            (_, Some(true)) => return Err(self.unsupported("pack with garbage collection")),
            _ => Some(false),
        };
        let outcome = self.changes.pack(stop, gc, until)?;
        self.pack_blobs(stop)?;
        Ok(outcome)
    }

    fn pack_progress(&self) -> Option<PackProgress> {
        self.changes.pack_progress()
    }

    /// That of the changes; the index is both.
    fn condition(&self) -> Condition {
        let changes = self.changes.condition();
        let of_blobs = self.own_blobs().and_then(|blobs| blobs.stopped());
        Condition {
            kind: "demostorage",
            stopped: changes.stopped.or_else(|| of_blobs.map(str::to_owned)),
            index_bytes: changes.index_bytes + self.base.condition().index_bytes,
            ..changes
        }
    }

    fn checkpoint(&self) -> Result<()> {
        let base = self.base.checkpoint();
        base.and(self.changes.checkpoint())
    }

    fn close(&self) -> Result<()> {
        let base = self.base.close();
        let changes = self.changes.close();
        if let Blobs::Temporary(temporary) = &self.blobs {
            temporary.remove();
        }
        base.and(changes)
    }
}

#[cfg(test)]
mod tests;
