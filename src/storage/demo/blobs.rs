//! Where a DemoStorage puts blobs.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::disk::Disk;
use crate::storage::{BlobDirectory, Result, StorageError};

/// How the names of temporary directories begin.
const PREFIX: &str = "zeod";
/// How they end, as in the reference.
const SUFFIX: &str = ".demoblobs";

/// Where new blobs go.
#[derive(Debug)]
pub enum Blobs {
    /// Wherever the changes put them.
    OfChanges,
    /// Into a directory that goes with the storage.
    Temporary(TemporaryBlobs),
    /// Into the directory of the `<blobstorage>` around.
    Around(Arc<BlobDirectory>),
}

/// A directory that is made for the first blob, and removed at the stop.
#[derive(Debug)]
pub struct TemporaryBlobs {
    disk: Arc<dyn Disk>,
    /// None: it could not be made, which was told in the log.
    directory: OnceLock<Option<Arc<BlobDirectory>>>,
    /// Removes it when dropped.
    removal: Mutex<Option<TempDir>>,
}

impl TemporaryBlobs {
    /// Nothing is made yet.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            directory: OnceLock::new(),
            removal: Mutex::new(None),
        }
    }

    /// The directory; made where it is not there. None where that fails: then
    /// blobs are not supported, until the next start.
    pub fn make(&self) -> Option<&Arc<BlobDirectory>> {
        let make = || match self.try_make() {
            Ok(directory) => Some(directory),
            Err(error) => {
                tracing::error!("blobs of a <demostorage> are refused: {error}");
                None
            }
        };
        self.directory.get_or_init(make).as_ref()
    }

    /// The directory, where there was a blob.
    pub fn made(&self) -> Option<&Arc<BlobDirectory>> {
        self.directory.get()?.as_ref()
    }

    /// Removes it with all blobs.
    pub fn remove(&self) {
        let Some(removal) = self.removal.lock().take() else {
            return;
        };
        let path = removal.path().display().to_string();
        if let Err(error) = removal.close() {
            tracing::warn!("temporary blobs stay in {path}: {error}");
        }
    }

    fn try_make(&self) -> Result<Arc<BlobDirectory>> {
        let made = tempfile::Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            .tempdir()
            .map_err(StorageError::io("making a temporary directory"))?;
        let directory = BlobDirectory::open(Arc::clone(&self.disk), made.path(), false)?;
        *self.removal.lock() = Some(made);
        Ok(directory)
    }
}
