//! An open storage goes over to a received state, while it is read.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::draft::Built;
use super::install::{add_tail, forget_index};
use super::{Intent, Kind, Paths};
use crate::disk::Access;
use crate::storage::file::index::Index;
use crate::storage::file::reader::DataFile;
use crate::storage::file::{Append, FileStorage, Generation};
use crate::storage::{BlobDirectory, Result, Storage, StorageError};
use crate::types::{Oid, Tid};

/// Bytes are compared in pieces of this size.
const COMPARED_BYTES: u64 = 256 << 10;

/// A transaction and the objects that it wrote.
pub type Change = (Tid, Vec<Oid>);

impl FileStorage {
    /// Makes a pack that runs stop, and waits until it has. To be called
    /// before the intent is written.
    pub fn stop_packing(&self) {
        self.packing.stop();
    }

    /// Step 4 while the storage is open; see `install.rs`. Reads go on; those
    /// under way end in the old file. Afterwards the storage is what
    /// `intent.state` says, and the owner tells its clients what has changed.
    ///
    /// After an error that came before the exchange everything is as it was,
    /// and the next start carries the intent out.
    pub fn install(&self, intent: &Intent, built: Built) -> Result<()> {
        self.check_writable()?;
        self.packing.stop();
        let _no_pack = self.packing.begin()?;
        let saving = self.saving.lock();
        let append = self.pause_commits();
        if append.closed {
            return Err(StorageError::WritingStopped {
                cause: "the storage is closed".into(),
            });
        }
        match intent.kind {
            Kind::Whole => self.go_over(append, intent, built)?,
            Kind::Tail { from, .. } => self.go_on(append, intent, from, &built)?,
        }
        drop(saving);
        let state = &intent.state;
        self.oids
            .lock()
            .reserve(&*self.disk, Oid::from_u64(state.reserved_oid))?;
        // A start without a saved index reads the file.
        if let Err(error) = self.checkpoint() {
            tracing::warn!(
                "{}: the index was not saved: {error}",
                self.description.name
            );
        }
        tracing::info!(
            "{}: is at the state of another node: {} bytes, last transaction {}",
            self.description.name,
            state.length,
            state.last_tid
        );
        Ok(())
    }

    /// The incoming file takes the place of the one that is open.
    fn go_over(
        &self,
        mut append: MutexGuard<'_, Append>,
        intent: &Intent,
        built: Built,
    ) -> Result<()> {
        let path: &Path = &self.options.path;
        let incoming = self.paths().incoming();
        if built.end != intent.state.length {
            return Err(not_as_intended(&incoming, "its length"));
        }
        forget_index(&*self.disk, path)?;
        self.saved_end.store(0, Ordering::Release);
        let old = self.generation.load_full();
        let mut space = self.space.lock();
        let promised = space.promise_in(&*built.data.file, built.end)?;
        let renamed = self.disk.rename(&incoming, path);
        let data = DataFile {
            file: built.data.file,
            name: Arc::clone(&old.data.name),
        };
        if let Err(source) = renamed {
            let error = StorageError::Io {
                doing: format!("putting {} in place", incoming.display()),
                source,
            };
            if self.check_in_place(&data).is_err() {
                return Err(error);
            }
            // After a crash the old file may be back; the intent stays for that.
            tracing::error!(
                "{}: {error}. The received file is in place, but a crash may bring the old one \
                 back; no more changes are taken. Repair the disk, then restart the server",
                data.name
            );
            let _ = self.stopped.set(error.to_string());
        }
        space.moved(promised);
        append.end = built.end;
        self.oids
            .lock()
            .saw(built.index.max_oid().unwrap_or(Oid::ROOT));
        self.generation.store(Arc::new(Generation {
            data,
            index: built.index,
            end: built.end.into(),
        }));
        let last_tid = intent.state.last_tid.to_u64();
        self.last_tid.store(last_tid, Ordering::Release);
        Ok(())
    }

    /// The incoming bytes go behind those that are there.
    fn go_on(
        &self,
        mut append: MutexGuard<'_, Append>,
        intent: &Intent,
        from: u64,
        built: &Built,
    ) -> Result<()> {
        let generation = self.generation.load_full();
        let length = intent.state.length;
        let tail = self.paths().tail();
        if from + built.end != length {
            return Err(not_as_intended(&tail, "its length"));
        }
        self.check_untouched(&generation.data, append.end)?;
        // What was committed since the transfer began is part of what came.
        let known = append.end.min(length);
        if append.end < from || !is_same(&generation.data, built, from, known)? {
            return Err(not_as_intended(&tail, "the file before it"));
        }
        add_tail(
            &*self.disk,
            &self.paths(),
            &*generation.data.file,
            from,
            length,
        )
        .inspect_err(|error| {
            // Bytes may lie behind the end that are no transaction.
            let _ = self.stopped.set(error.to_string());
        })?;
        if append.end < length {
            self.publish_tail(&generation, &built.index);
            generation.end.store(length, Ordering::Release);
            append.end = length;
            let last_tid = intent.state.last_tid.to_u64();
            self.last_tid.fetch_max(last_tid, Ordering::AcqRel);
        }
        Ok(())
    }

    fn publish_tail(&self, generation: &Generation, index: &Index) {
        let mut next = index.first_from(Oid::ROOT);
        while let Some((oid, position)) = next {
            generation.index.set(oid, position);
            next = oid
                .to_u64()
                .checked_add(1)
                .and_then(|number| index.first_from(Oid::from_u64(number)));
        }
        self.oids.lock().saw(index.max_oid().unwrap_or(Oid::ROOT));
    }

    /// Where a transfer puts its files.
    pub fn paths(&self) -> Paths {
        Paths {
            data: self.options.path.clone(),
        }
    }

    /// The ids of the transactions behind `tid` with the objects that they
    /// wrote, oldest first: what clients that know the state of `tid` have to
    /// be told. None: there are more than `limit`.
    pub fn changes_since(&self, tid: Tid, limit: usize) -> Result<Option<Vec<Change>>> {
        let mut transactions = self.iterate(Some(tid.next()), None)?;
        let mut changes = Vec::new();
        while let Some(meta) = transactions.next_transaction()? {
            if changes.len() >= limit {
                return Ok(None);
            }
            let mut records = transactions.records()?;
            let mut oids = Vec::new();
            while let Some(record) = records.next_record()? {
                oids.push(record.oid);
            }
            changes.push((meta.tid.unwrap_or_default(), oids));
        }
        Ok(Some(changes))
    }

    /// Removes the blobs that the file does not need any more after the switch;
    /// those of later transactions stay. Reads the whole blob directory.
    pub fn remove_unneeded_blobs(&self, blobs: &BlobDirectory) -> Result<usize> {
        let through = self.last_tid();
        blobs.pack_by_need(through, &|oid, serial| self.needs(oid, serial))
    }
}

/// Is what came up to `end` what the file has there?
fn is_same(data: &DataFile, built: &Built, from: u64, end: u64) -> Result<bool> {
    let mut at = from;
    while at < end {
        let count = usize::try_from((end - at).min(COMPARED_BYTES)).unwrap_or_default();
        let (mut ours, mut theirs) = (vec![0; count], vec![0; count]);
        crate::disk::read_exact_at(&*data.file, &mut ours, at, Access::Wait)
            .map_err(|error| data.read_error(at, error))?;
        crate::disk::read_exact_at(&*built.data.file, &mut theirs, at - from, Access::Wait)
            .map_err(|error| built.data.read_error(at - from, error))?;
        if ours != theirs {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
}

fn not_as_intended(path: &Path, what: &str) -> StorageError {
    StorageError::ChangedOutside {
        file: path.display().to_string(),
        what: format!("{what} is not as it was when the state of another node was received"),
    }
}
