//! Brings blobs into place with their transaction.
//!
//! | step | when | what | a crash after it leaves |
//! |---|---|---|---|
//! | 1 | vote | the intent is written and synced: which objects get a blob (`intent.rs`) | uploads in `tmp/`, the intent |
//! | 2 | vote | the objects' directories are made and synced | these, too; the next start syncs them once more |
//! | 3 | vote | the files are moved there under names of our own, made read-only, synced | these, too |
//! | 4 | append | they are renamed to `<tid>.blob`, the directories synced | blobs of a transaction that is not in `Data.fs` |
//! | 5 | append | the records are written and synced: **the transaction is durable** | an intent that says nothing any more |
//! | 6 | afterwards | the intent is removed | nothing |
//!
//! Everything that takes long (the blob's data, new directories) is done at
//! vote, outside the committer, whose share is one rename for each blob and one
//! sync for each directory. The next start goes through the objects that the
//! intents name, and nothing else: what has a name of our own is removed, and
//! so is a revision later than the storage's last transaction.
//!
//! When step 4 fails nothing is in `Data.fs` yet: the files are taken back, the
//! batch fails, the storage goes on. When step 5 fails, nobody knows whether the
//! transaction is on the disk, so files and intent stay for the next start,
//! which will know.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::upload::{PendingBlob, UPLOAD_SUFFIX};
use super::{BlobDirectory, intent};
use crate::disk::OpenMode;
use crate::storage::{Committing, Result, StorageError};
use crate::types::{Oid, Tid};

/// The blobs of one transaction. Dropped before they are in place, they are removed.
#[derive(Debug, Default)]
pub struct StagedBlobs {
    /// One for each object; the last that the client sent.
    blobs: BTreeMap<Oid, PendingBlob>,
    intent: Option<PathBuf>,
    directory: Option<Arc<BlobDirectory>>,
    fate: Fate,
    placed: Vec<PathBuf>,
}

/// What is known of the transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    /// Nothing of it is in place.
    #[default]
    Open,
    /// The blobs are in place; the records are perhaps on the disk.
    Placed,
    /// It is durable.
    Durable,
}

impl StagedBlobs {
    /// Adds a blob. One that the object had already is dropped.
    pub fn insert(&mut self, oid: Oid, blob: PendingBlob) {
        self.directory = Some(Arc::clone(&blob.directory));
        self.blobs.insert(oid, blob);
    }

    /// Drops the blob of an object, if it has one.
    pub fn remove(&mut self, oid: Oid) {
        self.blobs.remove(&oid);
    }

    /// Has the transaction no blob?
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// The blobs, by their objects.
    pub fn pending(&self) -> impl Iterator<Item = (Oid, &PendingBlob)> + '_ {
        self.blobs.iter().map(|(oid, blob)| (*oid, blob))
    }

    /// The objects that get a blob.
    pub fn oids(&self) -> impl Iterator<Item = Oid> + '_ {
        self.blobs.keys().copied()
    }

    /// Steps 1 to 3: all that can be done before the transaction has its id,
    /// which comes after `last_tid`. Waits for the disk.
    pub fn prepare(&mut self, last_tid: Tid) -> Result<()> {
        let Some(directory) = self.directory.clone().filter(|_| !self.is_empty()) else {
            return Ok(());
        };
        directory.check_writable()?;
        if self.intent.is_none() {
            let oids: Vec<Oid> = self.oids().collect();
            let path = directory
                .temporary_path()
                .join(directory.temporary_name(intent::SUFFIX));
            self.intent = Some(path.clone());
            directory.write_intent(&path, last_tid, &oids)?;
        }
        for (&oid, blob) in &mut self.blobs {
            directory.bring_near(oid, blob)?;
        }
        Ok(())
    }

    /// Step 4. After an error nothing of it is left in place.
    fn place(&mut self, tid: Tid) -> Result<BTreeSet<PathBuf>> {
        let mut changed = BTreeSet::new();
        let Some(directory) = self.directory.clone() else {
            return Ok(changed);
        };
        directory.check_writable()?;
        self.fate = Fate::Placed;
        for (&oid, blob) in &mut self.blobs {
            let Some(from) = blob.path.clone() else {
                continue;
            };
            let to = directory.revision_path(oid, tid);
            // Noted before, for the error is no proof that nothing happened.
            self.placed.push(to.clone());
            directory
                .disk
                .move_file(&from, &to)
                .map_err(StorageError::no_space_or_io(
                    0,
                    format!("moving a blob to {}", to.display()),
                ))?;
            blob.path = None;
            changed.insert(directory.object_path(oid));
        }
        Ok(changed)
    }

    /// Removes what [`Self::place`] put there. Where that fails the intent
    /// stays, so that the next start does it.
    fn take_back(&mut self) {
        let Some(directory) = self.directory.clone() else {
            return;
        };
        let placed = std::mem::take(&mut self.placed);
        let parents: BTreeSet<PathBuf> = placed
            .iter()
            .filter_map(|path| path.parent().map(PathBuf::from))
            .collect();
        let mut result = Ok(());
        for path in &placed {
            result = result.and(directory.disk.remove(path));
        }
        for parent in &parents {
            result = result.and(directory.disk.sync_directory(parent));
        }
        match result {
            Ok(()) => self.fate = Fate::Open,
            Err(error) => tracing::warn!(
                "blobs of a failed transaction stay until the next start ({error}): {placed:?}"
            ),
        }
    }
}

impl Drop for StagedBlobs {
    fn drop(&mut self) {
        let mut is_clean = self.fate != Fate::Placed;
        for blob in self.blobs.values_mut() {
            is_clean &= blob.remove();
        }
        // What stays is for the next start, which the intent tells of it.
        if is_clean
            && let (Some(intent), Some(directory)) = (self.intent.take(), &self.directory)
            && let Err(error) = directory.disk.remove(&intent)
        {
            tracing::warn!("removing {}: {error}", intent.display());
        }
    }
}

impl BlobDirectory {
    /// Moves a blob into its object's directory under a name of our own, so
    /// that what is left to do is a rename that needs no other volume and no
    /// new directory. (A directory with a file in it is not removed by a pack.)
    pub(super) fn bring_near(&self, oid: Oid, blob: &mut PendingBlob) -> Result<()> {
        let object = self.object_path(oid);
        let near = object.join(self.temporary_name(UPLOAD_SUFFIX));
        let doing = || format!("moving a blob to {}", object.display());
        let Some(from) = blob.path.clone() else {
            return Ok(());
        };
        let other_volume = {
            let _held = self.directories.lock();
            self.ensure_directory(&object)?;
            match self.disk.move_file(&from, &near) {
                Ok(()) => None,
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    // The new file keeps the directory while the copy is made.
                    let file = self.disk.open(&near, OpenMode::New);
                    Some(file.map_err(StorageError::no_space_or_io(0, doing()))?)
                }
                Err(error) => return Err(StorageError::no_space_or_io(0, doing())(error)),
            }
        };
        blob.path = Some(near.clone());
        if let Some(target) = other_volume {
            // Removes the first file, whatever becomes of the copy.
            let _source = PendingBlob {
                directory: Arc::clone(&blob.directory),
                path: Some(from.clone()),
            };
            self.copy_content(&from, &*target)
                .map_err(StorageError::no_space_or_io(0, doing()))?;
        }
        self.finish_file(&near, &object)
            .map_err(StorageError::no_space_or_io(0, doing()))
    }

    fn finish_file(&self, path: &Path, directory: &Path) -> io::Result<()> {
        // A client that shares the directory could have exchanged the file
        // meanwhile; under this name it is ours.
        if !self.is_regular_file(path)? {
            return Err(io::Error::other("it is no regular file any more"));
        }
        self.set_committed_mode(path, directory)?;
        self.disk.open(path, OpenMode::Read)?.sync()
    }
}

/// Step 4 for a batch, before anything of it is written elsewhere. After an
/// error nothing is left in place, and the storage can go on.
pub fn place_batch(batch: &mut [Committing]) -> Result<()> {
    let mut result = Ok(());
    let mut changed: BTreeMap<PathBuf, Arc<BlobDirectory>> = BTreeMap::new();
    for Committing { tid, staged } in batch.iter_mut() {
        let Some(directory) = staged.blobs.directory.clone() else {
            continue;
        };
        match staged.blobs.place(*tid) {
            Ok(paths) => {
                changed.extend(paths.into_iter().map(|path| (path, Arc::clone(&directory))));
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    if result.is_ok() {
        result = changed
            .iter()
            .try_for_each(|(path, directory)| directory.sync_directory(path));
    }
    if result.is_err() {
        for Committing { staged, .. } in batch.iter_mut() {
            staged.blobs.take_back();
        }
    }
    result
}

/// Step 6 for a batch that is durable: the intents go when it is dropped.
pub fn settle_batch(batch: &mut [Committing]) {
    for Committing { staged, .. } in batch {
        staged.blobs.fate = Fate::Durable;
    }
}
