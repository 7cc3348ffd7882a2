//! Undo: which transactions can be undone, and what that writes.
//!
//! Undoing a transaction writes, for each of its records, one that points back
//! to what the object was before. That goes where the object's current state is
//! the one that the transaction left; otherwise the states would have to be
//! merged. Source of the rules: ZODB's `FileStorage._transactionalUndoRecord`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{Condvar, Mutex};

use super::append::record_in_transaction;
use super::format::{FIRST_TRANSACTION, NUMBER_BYTES, STATUS_COMMITTED, STATUS_PACKED};
use super::iterator::find_start;
use super::reader::{DataFile, RecordHead, TransactionHead};
use super::{FileStorage, Generation};
use crate::disk::Access;
use crate::storage::{
    PendingRecord, Result, Staged, StagedRecord, StagedRecordKind, StorageError, UndoFailure,
    UndoableTransaction, UndoneRecord,
};
use crate::types::{Oid, Tid};

/// The transactions that `undoLog` lists, newest first, up to the last pack.
/// `visit` sees each and says whether to go on.
pub fn for_each_undoable(
    generation: &Generation,
    mut visit: impl FnMut(UndoableTransaction) -> bool,
) -> Result<()> {
    let data = &generation.data;
    let mut position = generation.end.load(Ordering::Acquire);
    while position > FIRST_TRANSACTION {
        position = data.transaction_before(position, Access::Wait)?;
        let head = data.read_transaction(position, Access::Wait)?;
        match head.header.status {
            STATUS_PACKED => break,
            STATUS_COMMITTED => {
                let size_bytes = head.header.length;
                if !visit(UndoableTransaction {
                    meta: head.meta,
                    size_bytes,
                }) {
                    break;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The objects that undoing `tid` would write.
pub fn objects_of(generation: &Generation, tid: Tid) -> Result<Vec<Oid>> {
    let mut oids = Vec::new();
    for_each_record(generation, tid, |_, record| {
        oids.push(record.header.oid);
        Ok(())
    })?;
    Ok(oids)
}

/// What undoing transaction `tid` writes, on top of what the same transaction
/// wrote before (`pending`).
pub fn undo(
    generation: &Generation,
    tid: Tid,
    pending: &HashMap<Oid, PendingRecord>,
) -> Result<Vec<UndoneRecord>> {
    let undo = Undo {
        generation,
        pending,
    };
    let mut failures = BTreeMap::new();
    let mut undone = Vec::new();
    for_each_record(generation, tid, |position, record| {
        let oid = record.header.oid;
        // An object can occur several times; its last record decides.
        failures.remove(&oid);
        match undo.record(position, &record)? {
            Ok(to) => undone.push(UndoneRecord {
                oid,
                to,
                blob: None,
            }),
            Err(reason) => {
                failures.insert(oid, reason);
            }
        }
        Ok(())
    })?;
    if failures.is_empty() {
        return Ok(undone);
    }
    let failures = failures
        .into_iter()
        .map(|(oid, reason)| UndoFailure { oid, reason });
    Err(StorageError::CannotUndo {
        failures: failures.collect(),
    })
}

/// Calls `visit` with the position and head of each record of transaction `tid`.
fn for_each_record(
    generation: &Generation,
    tid: Tid,
    mut visit: impl FnMut(u64, RecordHead) -> Result<()>,
) -> Result<()> {
    let data = &generation.data;
    let end = generation.end.load(Ordering::Acquire);
    let (transaction, head) = find(data, end, tid)?;
    let records_end = transaction + head.header.length;
    let mut position = transaction + head.header.header_bytes();
    while position < records_end {
        let record = data.read_head(position, Access::Wait)?;
        let next = position.saturating_add(record.header.record_bytes());
        if next > records_end {
            return Err(StorageError::NotUndoable {
                reason: "non-undoable transaction",
            });
        }
        visit(position, record)?;
        position = next;
    }
    Ok(())
}

fn find(data: &DataFile, end: u64, tid: Tid) -> Result<(u64, TransactionHead)> {
    let invalid = || StorageError::NotUndoable {
        reason: "Invalid transaction id",
    };
    if end <= FIRST_TRANSACTION {
        return Err(invalid());
    }
    let position = find_start(data, end, tid)?;
    if position + (NUMBER_BYTES as u64) > end {
        return Err(invalid());
    }
    let head = data.read_transaction(position, Access::Wait)?;
    if head.header.tid != tid {
        return Err(invalid());
    }
    if head.header.status != STATUS_COMMITTED {
        return Err(StorageError::NotUndoable {
            reason: "non-undoable transaction",
        });
    }
    Ok((position, head))
}

/// Voted transactions that undo something. What they undo to must stay in the
/// file until they are finished.
#[derive(Debug, Default)]
pub struct UndoGate {
    count: Mutex<usize>,
    none: Condvar,
}

/// Held by one of them.
#[derive(Debug)]
pub struct UndoHold(Arc<UndoGate>);

impl UndoGate {
    /// One more.
    pub fn hold(self: &Arc<Self>) -> UndoHold {
        *self.count.lock() += 1;
        UndoHold(Arc::clone(self))
    }

    /// Waits until there are none.
    pub fn wait(&self) {
        let mut count = self.count.lock();
        while *count > 0 {
            self.none.wait(&mut count);
        }
    }
}

impl Drop for UndoHold {
    fn drop(&mut self) {
        *self.0.count.lock() -= 1;
        self.0.none.notify_all();
    }
}

impl FileStorage {
    /// No undo while a pack runs: it takes away what one undoes to. Nor between the log's order of
    /// a pack and its begin: the undo's entry would wait for the pack, and the pack for the undo.
    pub(super) fn check_not_packing(&self) -> Result<()> {
        let is_due = self.ledger.get().is_some_and(|ledger| ledger.is_pack_due());
        if is_due || self.packing.is_running() {
            return Err(StorageError::NotUndoable {
                reason: "Undo is currently disabled for database maintenance.<p>",
            });
        }
        Ok(())
    }

    /// Keeps a pack from exchanging the file until the transaction is over, if
    /// it undoes something.
    pub(super) fn hold_for_undo(&self, staged: &Staged) -> Result<Option<UndoHold>> {
        let undone = |record: &StagedRecord| match record.kind {
            StagedRecordKind::Undo { to: Some(to) } => Some((record.oid, to)),
            _ => None,
        };
        let mut undone = staged.records.iter().filter_map(undone).peekable();
        if undone.peek().is_none() {
            return Ok(None);
        }
        // First the hold, then the look whether a pack has begun meanwhile, or
        // has even been and gone.
        let hold = self.undos.hold();
        self.check_not_packing()?;
        let generation = self.generation.load();
        for (oid, to) in undone {
            if record_in_transaction(oid, to, &generation.index, &generation.data)?.is_none() {
                return Err(StorageError::NotUndoable {
                    reason: "non-undoable transaction",
                });
            }
        }
        Ok(Some(hold))
    }
}

struct Undo<'a> {
    generation: &'a Generation,
    pending: &'a HashMap<Oid, PendingRecord>,
}

/// The state that an object is in now.
enum Current {
    /// The data that the record at this position has or points to (0: none).
    At(u64),
    /// Data that is not in the file yet.
    Data(Vec<u8>),
}

impl Undo<'_> {
    /// What undoing the record at `position` leads to: the transaction whose
    /// state of the object comes back (None: there was none), or why it cannot
    /// be undone.
    fn record(
        &self,
        position: u64,
        record: &RecordHead,
    ) -> Result<std::result::Result<Option<Tid>, String>> {
        let data = &self.generation.data;
        let oid = record.header.oid;
        let previous = record.header.previous;
        let newest = self.generation.index.get(oid).unwrap_or(0);
        let is_current = newest == position && !self.pending.contains_key(&oid);
        if !is_current && let Some(reason) = self.differs(oid, position, newest, previous)? {
            return Ok(Err(reason));
        }
        if previous == 0 {
            return Ok(Ok(None));
        }
        let to = data.read_head_of(oid, previous, Access::Wait)?.header.tid;
        Ok(Ok(Some(to)))
    }

    /// Later changes of the object: why they stand against undoing the record
    /// at `position`. None where they led back to the same state.
    fn differs(
        &self,
        oid: Oid,
        position: u64,
        newest: u64,
        previous: u64,
    ) -> Result<Option<String>> {
        let data = &self.generation.data;
        let current = self.current(oid, newest)?;
        if matches!(current, Current::At(at) if at == position) {
            return Ok(None);
        }
        let undone_data = data.read_data(oid, position, Access::Wait)?;
        let current_data = match current {
            Current::At(0) => None,
            Current::At(at) => data.read_data(oid, at, Access::Wait)?,
            Current::Data(bytes) => Some(bytes),
        };
        let (Some(undone_data), Some(current_data)) = (undone_data, current_data) else {
            return Ok(Some("_loadBack() failed".to_owned()));
        };
        if undone_data == current_data {
            return Ok(None);
        }
        // Here the states would be merged: what the object was before the
        // undone transaction, with what it became after it.
        let reason = if previous == 0 {
            "Can't undo an add transaction followed by conflicting transactions."
        } else {
            "Some data were modified by a later transaction"
        };
        Ok(Some(reason.to_owned()))
    }

    fn current(&self, oid: Oid, newest: u64) -> Result<Current> {
        match self.pending.get(&oid) {
            Some(PendingRecord::Data(bytes)) => Ok(Current::Data(bytes.clone())),
            Some(PendingRecord::Nothing) => Ok(Current::At(0)),
            Some(PendingRecord::StateOf(tid)) => {
                let at = record_in_transaction(
                    oid,
                    *tid,
                    &self.generation.index,
                    &self.generation.data,
                )?;
                Ok(Current::At(at.unwrap_or(0)))
            }
            None => {
                let head = self
                    .generation
                    .data
                    .read_head_of(oid, newest, Access::Wait)?;
                let has_data = head.header.data_bytes > 0;
                Ok(Current::At(if has_data { newest } else { head.back }))
            }
        }
    }
}
