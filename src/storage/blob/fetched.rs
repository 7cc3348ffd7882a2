use super::{BlobDirectory, PendingBlob};
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

impl BlobDirectory {
    /// Puts a file that was fetched from where the storage is into place as a
    /// committed revision. It is not synced: what is lost is fetched again, and
    /// what a crash leaves unfinished is in `tmp`.
    pub fn keep_revision(&self, oid: Oid, serial: Tid, mut fetched: PendingBlob) -> Result<()> {
        self.check_writable()?;
        let Some(from) = fetched.path.clone() else {
            return Ok(());
        };
        let directory = self.object_path(oid);
        let _held = self.directories.lock();
        self.ensure_directory(&directory)?;
        let path = self.revision_path(oid, serial);
        self.set_committed_mode(&from, &directory)
            .and_then(|()| self.disk.rename(&from, &path))
            .map_err(StorageError::io(format!("keeping {}", path.display())))?;
        // It has its name; nothing is left to be removed.
        fetched.path = None;
        Ok(())
    }
}
