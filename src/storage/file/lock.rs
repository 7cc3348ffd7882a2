//! `Data.fs.lock`: one process writes a file at a time. Python's zc.lockfile
//! and zeod keep each other out.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::storage::{Result, StorageError};

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: Arc<dyn DiskFile>,
}

impl Lock {
    /// Takes the lock for the database `path`, and writes the process id into
    /// the lock file.
    pub fn take(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let lock_path = super::beside(path, ".lock");
        let doing = || format!("locking {}", lock_path.display());
        let file = disk
            .open(&lock_path, OpenMode::Create)
            .map_err(StorageError::io(doing()))?;
        if !file.try_lock().map_err(StorageError::io(doing()))? {
            return Err(StorageError::CannotOpen {
                file: path.display().to_string(),
                problem: format!(
                    "another process has it open (it holds {}); stop that one first",
                    lock_path.display()
                ),
            });
        }
        let pid = format!(" {}\n", std::process::id());
        file.set_len(0).map_err(StorageError::io(doing()))?;
        file.write_at(&[IoSlice::new(pid.as_bytes())], 0)
            .map_err(StorageError::io(doing()))?;
        Ok(Self { _file: file })
    }
}
