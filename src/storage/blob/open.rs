//! Opens a blob directory, and makes it where there is none.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::layout::{self, Layout, MARKER};
use super::{BlobDirectory, TEMPORARY, upload};
use crate::disk::{Disk, OpenMode};
use crate::storage::{Result, StorageError};

impl BlobDirectory {
    /// Opens the directory at `path`; makes it, its `tmp` and its marker where
    /// they are missing. The layout is the one that it has; a new one is bushy.
    /// As with ZODB, the process's umask decides who may read it.
    ///
    /// A read-only directory is taken as it is, and nothing is made.
    /// [`Self::clean_after_crash`] is to be called before the first upload.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, read_only: bool) -> Result<Arc<Self>> {
        let path = std::path::absolute(path).map_err(StorageError::io("the blob directory"))?;
        let layout = layout::choose(&*disk, &path)?;
        if layout == Layout::Lawn {
            tracing::warn!(
                "blob directory {}: the lawn layout is deprecated, some file systems are slow \
                 with it; consider moving to the bushy layout",
                path.display()
            );
        }
        let directory = Self {
            disk,
            path,
            layout,
            read_only,
            next_temporary: AtomicU64::new(0),
            directories: Mutex::new(()),
            stopped: OnceLock::new(),
            precedence: Arc::default(),
        };
        if !read_only {
            directory.make()?;
        }
        Ok(Arc::new(directory))
    }

    fn make(&self) -> Result<()> {
        make_directory(&*self.disk, &self.path)?;
        make_directory(&*self.disk, &self.path.join(TEMPORARY))?;
        let marker = self.path.join(MARKER);
        if self.disk.exists(&marker) {
            return Ok(());
        }
        // First beside it, so that no crash leaves an empty marker.
        let new = self.path.join(self.temporary_name(".layout"));
        let doing = || format!("writing {}", marker.display());
        self.disk
            .remove(&new)
            .and_then(|()| self.disk.open(&new, OpenMode::Create))
            .and_then(|file| {
                file.write_at(&[IoSlice::new(self.layout.name().as_bytes())], 0)?;
                file.sync()
            })
            .and_then(|()| self.disk.rename(&new, &marker))
            .map_err(StorageError::io(doing()))
    }

    /// Removes a blob directory with all that is in it, for a storage that is to begin anew.
    pub fn erase(disk: &dyn Disk, path: &Path) -> Result<()> {
        upload::remove_tree(disk, path)
    }
}

/// Makes a directory with all that lead to it, durably.
pub fn make_directory(disk: &dyn Disk, path: &Path) -> Result<()> {
    let missing: Vec<PathBuf> = path
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !disk.exists(ancestor))
        .map(Path::to_path_buf)
        .collect();
    for directory in missing.iter().rev() {
        let doing = || format!("making {}", directory.display());
        let made = disk
            .create_directory(directory)
            .map_err(StorageError::io(doing()))?;
        if let Some(parent) = directory.parent() {
            // That of a bare name is the working directory.
            let is_bare = parent.as_os_str().is_empty();
            disk.sync_directory(if is_bare { Path::new(".") } else { parent })
                .map_err(StorageError::io(doing()))?;
        }
        if made {
            tracing::info!("made the directory {}", directory.display());
        }
    }
    Ok(())
}
