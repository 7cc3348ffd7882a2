//! Blobs that come from another node, beside their transactions.

use std::path::Path;
use std::sync::Arc;

use super::upload::{PendingBlob, UPLOAD_SUFFIX};
use super::{BlobDirectory, Result, StorageError};
use crate::types::{Oid, Tid};

impl PendingBlob {
    /// Its file; None: that belongs to a transaction now.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl BlobDirectory {
    /// A blob for a transaction: a second name of a whole, synced file, or a copy.
    pub fn pending_of(self: &Arc<Self>, file: &Path) -> Result<PendingBlob> {
        self.check_writable()?;
        let path = self
            .temporary_path()
            .join(self.temporary_name(UPLOAD_SUFFIX));
        // Owned from here on, so that a copy that fails is removed.
        let pending = PendingBlob {
            directory: Arc::clone(self),
            path: Some(path.clone()),
        };
        self.link_or_copy(file, &path)
            .map_err(StorageError::no_space_or_io(0, "copying a blob"))?;
        Ok(pending)
    }

    /// Puts a blob in place as the revision `serial` of `oid`, durably, over
    /// what is there. The record that needs it may come later: a blob without
    /// one harms nobody, and the next pack removes it.
    pub fn place_received(&self, oid: Oid, serial: Tid, blob: PendingBlob) -> Result<()> {
        let mut blob = blob;
        self.check_writable()?;
        self.bring_near(oid, &mut blob)?;
        let to = self.revision_path(oid, serial);
        if let Some(from) = &blob.path {
            self.disk
                .move_file(from, &to)
                .map_err(StorageError::no_space_or_io(
                    0,
                    format!("moving a blob to {}", to.display()),
                ))?;
        }
        blob.path = None;
        self.sync_directory(&self.object_path(oid))
    }
}
