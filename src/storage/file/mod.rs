//! ZODB's FileStorage: one append-only file, `Data.fs`, with an index in memory.
//!
//! Either this or Python's FileStorage can open what the other wrote.

mod append;
pub mod format;
mod index;
mod index_file;
mod iterator;
mod lock;
mod oids;
mod open;
mod reader;
mod recover;
mod space;
mod undo;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use append::Layout;
use format::FIRST_TRANSACTION;
use index::Index;
use iterator::FileIterator;
use lock::Lock;
use oids::OidSource;
use reader::DataFile;
use space::Space;

use super::blob::{self, BlobDirectory};
use super::{
    Committing, CurrentRecord, CurrentSerial, Description, HistoryEntry, PendingRecord,
    Reservation, Result, Revision, Staged, Storage, StorageError, TransactionIterator,
    UndoableTransaction, UndoneRecord,
};
use crate::disk::{Access, Disk};
use crate::types::{Oid, Tid};

/// How a file is to be opened.
#[derive(Clone, Debug)]
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
        }
    }
}

/// A `Data.fs`.
///
/// Invariants: what `generation` shows was synced before; `end` and `last_tid`
/// name the end and the last transaction of what it shows.
#[derive(Debug)]
pub struct FileStorage {
    disk: Arc<dyn Disk>,
    options: FileOptions,
    description: Description,
    generation: ArcSwap<Generation>,
    /// Position behind the last published transaction.
    end: AtomicU64,
    last_tid: AtomicU64,
    /// The end for which the index was saved last.
    saved_end: AtomicU64,
    blobs: Option<Arc<BlobDirectory>>,
    append: Mutex<Append>,
    space: Arc<Mutex<Space>>,
    oids: Mutex<OidSource>,
    /// The first error of a write; nothing is written after it.
    stopped: OnceLock<String>,
    /// Keeps other processes out; None where the storage is read-only.
    lock: Mutex<Option<Lock>>,
}

/// The file and its index, exchanged together when a pack is done.
#[derive(Debug)]
struct Generation {
    data: DataFile,
    index: Index,
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
        data.file
            .sync()
            .map_err(StorageError::io(format!("syncing {}", data.name)))?;
        append.end = layout.end;
        append.unpublished = layout.positions;
        Ok(())
    }
}

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
        self.end.load(Ordering::Acquire)
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
        let end = self.end.load(Ordering::Acquire);
        Ok(Box::new(FileIterator::new(
            generation.data.clone(),
            end,
            start,
            stop,
        )?))
    }

    fn last_invalidations(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>> {
        let generation = self.generation.load();
        let end = self.end.load(Ordering::Acquire);
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
        let generation = self.generation.load();
        undo::for_each_undoable(&generation.data, self.end.load(Ordering::Acquire), visit)
    }

    fn undo_objects(&self, tid: Tid) -> Result<Vec<Oid>> {
        let generation = self.generation.load();
        undo::objects_of(&generation, self.end.load(Ordering::Acquire), tid)
    }

    fn undo(&self, tid: Tid, pending: &HashMap<Oid, PendingRecord>) -> Result<Vec<UndoneRecord>> {
        let generation = self.generation.load();
        undo::undo(&generation, self.end.load(Ordering::Acquire), tid, pending)
    }

    fn new_oids(&self, count: usize) -> Result<Vec<Oid>> {
        self.check_writable()?;
        self.oids.lock().take(&*self.disk, count)
    }

    fn prepare(&self, staged: &Staged) -> Result<Box<dyn Reservation>> {
        self.check_writable()?;
        append::check_lengths(staged)?;
        self.check_in_place(&self.generation.load().data)?;
        let needed = append::transaction_bytes(staged);
        let end = self.end.load(Ordering::Acquire);
        if self
            .options
            .quota_bytes
            .is_some_and(|quota| end.saturating_add(needed) > quota)
        {
            return Err(StorageError::QuotaExceeded);
        }
        let file = Arc::clone(&self.generation.load().data.file);
        let reserved = space::reserve(&self.space, &*file, end, needed)?;
        Ok(Box::new(reserved))
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
        // Nothing is in the file yet, so when this fails writing can go on.
        blob::place_batch(batch)?;
        let result = self.append_synced(&mut append, batch);
        if result.is_ok() {
            blob::settle_batch(batch);
        }
        if let Err(error) = &result {
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
        self.end.store(append.end, Ordering::Release);
        if let Some(last) = batch.last() {
            self.last_tid.store(last.tid.to_u64(), Ordering::Release);
        }
    }

    fn checkpoint(&self) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        let end = self.end.load(Ordering::Acquire);
        if self.saved_end.swap(end, Ordering::AcqRel) == end {
            return Ok(());
        }
        let generation = self.generation.load_full();
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
        let saved = self.checkpoint();
        let noted = self.oids.lock().close(&*self.disk);
        self.lock.lock().take();
        saved.and(noted)
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
