//! What blobs add to undo and pack: an undone blob's file gets a second name, and
//! the files of packed revisions go.

use super::append::record_in_transaction;
use super::pack::{BLOB_PROBE_BYTES, PackOptions, RemovedBlob, is_blob_record};
use super::{FileStorage, Generation};
use crate::disk::Access;
use crate::storage::blob::BlobDirectory;
use crate::storage::{PackOutcome, Result, UndoneRecord};
use crate::types::{Oid, Tid};

impl FileStorage {
    /// Notes for each object whose state comes back whether that is a blob, and
    /// where its file is.
    pub(super) fn with_blobs_of(
        &self,
        generation: &Generation,
        undone: Vec<UndoneRecord>,
    ) -> Result<Vec<UndoneRecord>> {
        if self.blobs.is_none() {
            return Ok(undone);
        }
        let note = |record: UndoneRecord| {
            let blob = match record.to {
                Some(to) => blob_of(generation, record.oid, to)?,
                None => None,
            };
            Ok(UndoneRecord { blob, ..record })
        };
        undone.into_iter().map(note).collect()
    }

    /// Packs the file, and then the blobs that it no longer needs.
    pub(super) fn pack_with_blobs(
        &self,
        stop: Tid,
        gc: Option<bool>,
        until: Option<Tid>,
    ) -> Result<PackOutcome> {
        let Some(blobs) = &self.blobs else {
            return self.pack_with(
                stop,
                PackOptions {
                    gc,
                    until,
                    on_removed_blob: None,
                },
            );
        };
        if self.packing.is_running() {
            return Err(crate::storage::StorageError::AlreadyPacking);
        }
        let mut list = blobs.begin_removals()?;
        let mut note = |removed| match removed {
            RemovedBlob::Object(oid) => list.object(oid),
            RemovedBlob::Revision(oid, serial) => list.revision(oid, serial),
            RemovedBlob::NoMore => list.finish(),
        };
        let packed = self.pack_with(
            stop,
            PackOptions {
                gc,
                until,
                on_removed_blob: Some(&mut note),
            },
        );
        match packed {
            Ok(PackOutcome::Packed { .. }) => {
                let old = blobs.begin_old(self.options.pack_keep_old)?;
                let needs = |oid, serial| self.needs(oid, serial);
                let removed = blobs.apply_removals(&needs, stop, old.as_ref())?;
                tracing::info!("{}: {removed} blobs packed away", self.description.name);
            }
            Ok(PackOutcome::Nothing) | Err(_) => blobs.forget_removals()?,
        }
        packed
    }

    /// Goes on with the blobs of a pack that a crash interrupted.
    pub(super) fn finish_packing_blobs(&self, blobs: &BlobDirectory) -> Result<()> {
        if self.options.read_only || !blobs.has_removals() {
            return Ok(());
        }
        let old = match blobs.resume_old() {
            Some(old) => Some(old),
            None => blobs.begin_old(self.options.pack_keep_old)?,
        };
        let last = crate::storage::Storage::last_tid(self);
        let removed =
            blobs.apply_removals(&|oid, serial| self.needs(oid, serial), last, old.as_ref())?;
        tracing::info!(
            "{}: {removed} blobs of an interrupted pack packed away",
            self.description.name
        );
        Ok(())
    }

    /// Has the file a record of this revision?
    pub(super) fn needs(&self, oid: Oid, serial: Tid) -> Result<bool> {
        let generation = self.generation.load();
        let record = record_in_transaction(oid, serial, &generation.index, &generation.data)?;
        Ok(record.is_some())
    }
}

/// The serial under which the blob lies that the state of `oid` after `to` is;
/// None where it is no blob.
fn blob_of(generation: &Generation, oid: Oid, to: Tid) -> Result<Option<Tid>> {
    let data = &generation.data;
    let mut position = record_in_transaction(oid, to, &generation.index, data)?;
    while let Some(at) = position {
        let record = data.read_head_of(oid, at, Access::Wait)?;
        if record.header.data_bytes > 0 {
            let record_data = data.read_data(oid, at, Access::Wait)?.unwrap_or_default();
            let probe = record_data.get(..BLOB_PROBE_BYTES).unwrap_or(&record_data);
            return Ok(is_blob_record(probe).then_some(record.header.tid));
        }
        position = (record.back > 0 && record.back < at).then_some(record.back);
    }
    Ok(None)
}
