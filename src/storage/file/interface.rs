//! FileStorage as the [`Storage`] trait wants it: each call finds the file and
//! the index of one moment, and hands on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::append;
use super::format::FIRST_TRANSACTION;
use super::iterator::FileIterator;
use super::undo::{self, UndoHold};
use super::{Durability, FileStorage, index_file, space};
use crate::disk::Access;
use crate::storage::blob::{self, BlobDirectory};
use crate::storage::{
    Committing, Condition, CurrentRecord, CurrentSerial, Description, HistoryEntry, PackOutcome,
    PackProgress, PendingRecord, Reservation, Result, Revision, Staged, Storage, StorageError,
    TransactionIterator, UndoableTransaction, UndoneRecord,
};
use crate::types::{Oid, Tid};

/// What a voted transaction counts on.
#[derive(Debug)]
struct Prepared {
    _space: space::Reserved,
    /// No pack takes away what it undoes to.
    _undo: Option<UndoHold>,
}

impl Reservation for Prepared {}

impl Storage for FileStorage {
    fn description(&self) -> &Description {
        &self.description
    }

    fn blobs(&self) -> Option<&Arc<BlobDirectory>> {
        self.blobs.as_ref()
    }

    fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    fn last_tid(&self) -> Tid {
        Tid::from_u64(self.last_tid.load(Ordering::Acquire))
    }

    fn object_count(&self) -> u64 {
        self.generation.load().index.len()
    }

    fn size_bytes(&self) -> u64 {
        self.generation.load().end.load(Ordering::Acquire)
    }

    fn load_before(
        &self,
        oid: Oid,
        before: Tid,
        access: Access,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Revision>> {
        let generation = self.generation.load();
        let newest = generation.newest(oid)?;
        generation
            .data
            .load_before(oid, newest, before, access, buffer)
    }

    fn load_serial(&self, oid: Oid, serial: Tid, access: Access) -> Result<Vec<u8>> {
        let generation = self.generation.load();
        let newest = generation.newest(oid)?;
        generation.data.load_serial(oid, newest, serial, access)
    }

    fn current_serial(&self, oid: Oid, access: Access) -> Result<Option<CurrentSerial>> {
        let generation = self.generation.load();
        let Some(position) = generation.index.get(oid) else {
            return Ok(None);
        };
        let head = generation.data.read_head_of(oid, position, access)?;
        Ok(Some(CurrentSerial {
            serial: head.header.tid,
            exists: head.exists(),
        }))
    }

    fn oldest_serial(&self, oid: Oid, access: Access) -> Result<Option<Tid>> {
        let generation = self.generation.load();
        match generation.index.get(oid) {
            Some(newest) => generation.data.oldest_serial(oid, newest, access).map(Some),
            None => Ok(None),
        }
    }

    fn history(&self, oid: Oid, size: u64) -> Result<Vec<HistoryEntry>> {
        let generation = self.generation.load();
        let mut position = generation.newest(oid)?;
        let mut entries = Vec::new();
        while (entries.len() as u64) < size {
            let header = generation
                .data
                .read_head_of(oid, position, Access::Wait)?
                .header;
            let transaction = generation
                .data
                .read_transaction(header.transaction, Access::Wait)?;
            entries.push(HistoryEntry {
                meta: transaction.meta,
                tid: header.tid,
                size_bytes: header.data_bytes,
                is_mapping_form: false,
            });
            if header.previous == 0 {
                break;
            }
            if header.previous >= position {
                return Err(generation.data.corrupt(position, "a pointer forwards"));
            }
            position = header.previous;
        }
        Ok(entries)
    }

    fn next_record(&self, from: Option<Oid>) -> Result<Option<CurrentRecord>> {
        let generation = self.generation.load();
        let Some((oid, position)) = generation.index.first_from(from.unwrap_or(Oid::ROOT)) else {
            return Ok(None);
        };
        let head = generation.data.read_head_of(oid, position, Access::Wait)?;
        let data = generation
            .data
            .read_data(oid, position, Access::Wait)?
            .ok_or_else(|| StorageError::no_such_object(oid))?;
        let next = oid
            .to_u64()
            .checked_add(1)
            .and_then(|number| generation.index.first_from(Oid::from_u64(number)))
            .map(|(oid, _)| oid);
        Ok(Some(CurrentRecord {
            oid,
            serial: head.header.tid,
            data,
            next,
        }))
    }

    fn iterate(
        &self,
        start: Option<Tid>,
        stop: Option<Tid>,
    ) -> Result<Box<dyn TransactionIterator>> {
        let generation = self.generation.load();
        let end = generation.end.load(Ordering::Acquire);
        Ok(Box::new(FileIterator::new(
            generation.data.clone(),
            end,
            start,
            stop,
        )?))
    }

    fn last_invalidations(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>> {
        let generation = self.generation.load();
        let end = generation.end.load(Ordering::Acquire);
        let mut position = end;
        for _ in 0..count {
            if position <= FIRST_TRANSACTION {
                break;
            }
            position = generation.data.transaction_before(position, Access::Wait)?;
        }
        let mut transactions = FileIterator::at(generation.data.clone(), position, end);
        let mut invalidations = Vec::new();
        while let Some(meta) = transactions.next_transaction()? {
            let mut records = transactions.records()?;
            let mut oids = Vec::new();
            while let Some(record) = records.next_record()? {
                oids.push(record.oid);
            }
            invalidations.push((meta.tid.unwrap_or_default(), oids));
        }
        Ok(invalidations)
    }

    fn undo_log(&self, visit: &mut dyn FnMut(UndoableTransaction) -> bool) -> Result<()> {
        self.check_not_packing()?;
        let generation = self.generation.load();
        undo::for_each_undoable(&generation, visit)
    }

    fn undo_objects(&self, tid: Tid) -> Result<Vec<Oid>> {
        let generation = self.generation.load();
        undo::objects_of(&generation, tid)
    }

    fn undo(&self, tid: Tid, pending: &HashMap<Oid, PendingRecord>) -> Result<Vec<UndoneRecord>> {
        self.check_not_packing()?;
        let generation = self.generation.load();
        let undone = undo::undo(&generation, tid, pending)?;
        self.with_blobs_of(&generation, undone)
    }

    fn new_oids(&self, count: usize) -> Result<Vec<Oid>> {
        self.check_writable()?;
        self.oids.lock().take(&*self.disk, count)
    }

    fn prepare(&self, staged: &Staged) -> Result<Box<dyn Reservation>> {
        self.check_writable()?;
        append::check_lengths(staged)?;
        // A pack exchanges the file; what it is doing is looked at when the
        // transaction is written, with commits in one line.
        if !self.packing.is_running() {
            let generation = self.generation.load_full();
            let in_place = self.check_in_place(&generation.data);
            if !self.packing.is_running() && Arc::ptr_eq(&generation, &self.generation.load_full())
            {
                in_place?;
            }
        }
        let needed = append::transaction_bytes(staged);
        let quota = self.options.quota_bytes;
        if quota.is_some_and(|quota| self.size_bytes().saturating_add(needed) > quota) {
            return Err(StorageError::QuotaExceeded);
        }
        let reserved = space::reserve(&self.space, needed, || {
            let generation = self.generation.load();
            let end = generation.end.load(Ordering::Acquire);
            (Arc::clone(&generation.data.file), end)
        })?;
        let undo = self.hold_for_undo(staged)?;
        Ok(Box::new(Prepared {
            _space: reserved,
            _undo: undo,
        }))
    }

    fn append(&self, batch: &mut [Committing]) -> Result<()> {
        self.check_writable()?;
        let mut append = self.append.lock();
        if append.closed {
            return Err(StorageError::WritingStopped {
                cause: "the storage is closed".into(),
            });
        }
        debug_assert!(
            append.unpublished.is_empty(),
            "a batch is published before the next"
        );
        debug_assert!(
            batch
                .windows(2)
                .all(|pair| matches!(pair, [a, b] if a.tid < b.tid)),
            "tids strictly increase"
        );
        let _first = self.precedence.first();
        // Nothing is in the file yet, so when this fails writing can go on.
        blob::place_batch(batch)?;
        let result = self.append_synced(&mut append, batch);
        if result.is_ok() {
            blob::settle_batch(batch);
        }
        if result.is_err() && self.options.durability != Durability::Synced {
            // The log has it, and it will be written again in the same place.
            let data = &self.generation.load().data;
            if let Err(error) = data.file.set_len(append.end) {
                tracing::warn!("{}: {error}", self.description.name);
            }
        } else if let Err(error) = &result {
            // What a failed write or sync left on the disk is unknown, so
            // nothing may be built on it; and a sync that failed once may
            // succeed the next time without the data being there.
            let cause = error.to_string();
            tracing::error!(
                "{}: {cause}. The storage takes no more changes; reads go on. \
                 Free or repair the disk, then restart the server",
                self.description.name
            );
            let _ = self.stopped.set(cause);
        }
        result
    }

    fn publish(&self, batch: &[Committing]) {
        let mut append = self.append.lock();
        let generation = self.generation.load();
        let mut greatest = Oid::ROOT;
        for (oid, position) in std::mem::take(&mut append.unpublished) {
            generation.index.set(oid, position);
            greatest = greatest.max(oid);
        }
        self.oids.lock().saw(greatest);
        generation.end.store(append.end, Ordering::Release);
        if let Some(last) = batch.last() {
            self.last_tid.store(last.tid.to_u64(), Ordering::Release);
        }
        self.published.notify_all();
    }

    fn pack(&self, stop: Tid, gc: Option<bool>, until: Option<Tid>) -> Result<PackOutcome> {
        self.pack_with_blobs(stop, gc, until)
    }

    fn pack_progress(&self) -> Option<PackProgress> {
        Some(self.packing.progress().get())
    }

    fn condition(&self) -> Condition {
        let of_blobs = self.blobs.as_ref().and_then(|blobs| blobs.stopped());
        Condition {
            kind: "filestorage",
            path: Some(self.options.path.clone()),
            stopped: self
                .stopped
                .get()
                .map(String::as_str)
                .or(of_blobs)
                .map(str::to_owned),
            index_bytes: self.generation.load().index.memory_bytes(),
            sync_times: Some(self.sync_times.observed()),
        }
    }

    fn checkpoint(&self) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        let _saving = self.saving.lock();
        let generation = self.generation.load_full();
        let end = generation.end.load(Ordering::Acquire);
        if self.saved_end.swap(end, Ordering::AcqRel) == end {
            return Ok(());
        }
        index_file::save(
            &*self.disk,
            &self.options.path,
            &generation.data,
            &generation.index,
            end,
        )
    }

    fn close(&self) -> Result<()> {
        {
            let mut append = self.append.lock();
            if append.closed || self.options.read_only {
                return Ok(());
            }
            append.closed = true;
            if self.stopped.get().is_none() {
                // Gives reserved space back, and what an unfinished write left.
                let file = Arc::clone(&self.generation.load().data.file);
                file.set_len(append.end)
                    .map_err(StorageError::io("giving back reserved space"))?;
            }
        }
        self.packing.stop();
        let saved = self.checkpoint();
        let noted = self.oids.lock().close(&*self.disk);
        self.lock.lock().take();
        saved.and(noted)
    }
}
