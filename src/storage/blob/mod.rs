//! The blob directory of a storage: large files beside the records that belong
//! to them, as ZODB's `blob.py` lays them out.
//!
//! - [`BlobUpload`] takes a client's chunks into `tmp/`; a client that shares
//!   the directory names a file of its own instead ([`BlobDirectory::adopt`]).
//! - [`StagedBlobs`] brings them into place with their transaction; the steps
//!   and what a crash after each leaves are told in `commit.rs`.
//! - [`BlobDirectory::open_revision`] gives a file to be read in pieces. No blob
//!   is ever in memory as a whole.
//!
//! Files of zeod's own begin with [`OWN_PREFIX`]. Clients that share the
//! directory keep files in `tmp/` and in the objects' directories, too; those
//! are never touched, unless they were handed over.

mod commit;
mod copies;
mod fetched;
mod intent;
mod layout;
mod open;
mod pack;
mod received;
mod removals;
mod upload;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

pub use commit::{StagedBlobs, place_batch, settle_batch};
pub use intent::Cleaned;
pub use layout::Layout;
pub use open::make_directory;
pub use pack::OldBlobs;
pub use removals::RemovalList;
pub use upload::{BlobUpload, PendingBlob};

use super::{Result, StorageError};
use crate::disk::{Access, Disk, DiskFile, FileKind, OpenMode, Precedence};
use crate::types::{Oid, Tid};

/// How the names of zeod's own files begin. ZODB takes the last name of a
/// sorted listing for the newest revision, so it has to sort before `0x`.
pub const OWN_PREFIX: &str = ".zeod-";
/// Where uncommitted files wait.
const TEMPORARY: &str = "tmp";

/// The blob directory of one storage.
#[derive(Debug)]
pub struct BlobDirectory {
    disk: Arc<dyn Disk>,
    /// Absolute.
    path: PathBuf,
    layout: Layout,
    read_only: bool,
    /// Makes the names of temporary files differ.
    next_temporary: AtomicU64,
    /// Held while directories of objects are made and filled, and while empty
    /// ones are removed. Who finds a directory there finds it durable.
    directories: Mutex<()>,
    /// The first failed sync of a directory; no blob is taken after it.
    stopped: OnceLock<String>,
    precedence: Arc<Precedence>,
}

/// A committed revision, opened for reading.
#[derive(Debug)]
pub struct BlobFile {
    /// The open file; it stays readable when the revision is packed away.
    pub file: Arc<dyn DiskFile>,
    /// Its length.
    pub length_bytes: u64,
}

impl BlobFile {
    /// Replaces what `buffer` held by up to `limit_bytes` from `position` on;
    /// empty at the end.
    pub fn read_piece(
        &self,
        position: u64,
        limit_bytes: usize,
        access: Access,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let rest = self.length_bytes.saturating_sub(position);
        let wanted = usize::try_from(rest).map_or(limit_bytes, |rest| rest.min(limit_bytes));
        buffer.resize(wanted, 0);
        let count = self
            .file
            .read_at(buffer, position, access)
            .map_err(StorageError::io("reading a blob"))?;
        if count < wanted {
            return Err(StorageError::Io {
                doing: "reading a blob".to_owned(),
                source: io::ErrorKind::UnexpectedEof.into(),
            });
        }
        Ok(())
    }
}

impl BlobDirectory {
    /// Where it is; absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Uploads wait for the commits that are announced here.
    pub fn precedence(&self) -> &Arc<Precedence> {
        &self.precedence
    }

    /// How it is laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Where uncommitted files wait, also those of clients that share the directory.
    pub fn temporary_path(&self) -> PathBuf {
        self.path.join(TEMPORARY)
    }

    /// The directory of an object's revisions.
    pub fn object_path(&self, oid: Oid) -> PathBuf {
        self.path.join(self.layout.object_path(oid))
    }

    /// The file of one revision.
    pub fn revision_path(&self, oid: Oid, serial: Tid) -> PathBuf {
        let mut path = self.object_path(oid);
        path.push(layout::revision_name(serial));
        path
    }

    /// Opens a committed revision.
    pub fn open_revision(&self, oid: Oid, serial: Tid) -> Result<BlobFile> {
        let path = self.revision_path(oid, serial);
        let doing = || format!("opening the blob {}", path.display());
        let file = match self.disk.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StorageError::NoSuchBlob {
                    oid,
                    serial,
                    path: path.display().to_string(),
                });
            }
            file => file.map_err(StorageError::io(doing()))?,
        };
        let length_bytes = file.len().map_err(StorageError::io(doing()))?;
        Ok(BlobFile { file, length_bytes })
    }

    /// The committed revisions of an object, oldest first. Empty where it has none.
    pub fn revisions(&self, oid: Oid) -> Result<Vec<Tid>> {
        let path = self.object_path(oid);
        let doing = || format!("reading {}", path.display());
        let names = match self.disk.read_directory(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names.map_err(StorageError::io(doing()))?,
        };
        let mut revisions = Vec::new();
        for name in names {
            let name = name.map_err(StorageError::io(doing()))?;
            revisions.extend(layout::revision_of(&name));
        }
        revisions.sort_unstable();
        Ok(revisions)
    }

    /// The error after which no blob is taken any more, if there was one.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.get().map(String::as_str)
    }

    fn check_writable(&self) -> Result<()> {
        if self.read_only {
            return Err(StorageError::ReadOnly);
        }
        match self.stopped.get() {
            Some(cause) => Err(StorageError::WritingStopped {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    /// A name that no file of this directory has yet.
    fn temporary_name(&self, suffix: &str) -> String {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        format!("{OWN_PREFIX}{}-{number}{suffix}", std::process::id())
    }

    /// Makes the entries of a directory durable. After a failure no blob is
    /// taken any more: what the system has lost it does not tell a second time.
    fn sync_directory(&self, path: &Path) -> Result<()> {
        self.disk.sync_directory(path).map_err(|source| {
            let error = StorageError::Io {
                doing: format!("syncing {}", path.display()),
                source,
            };
            tracing::error!(
                "{error}. No more blobs are taken; all else goes on. \
                 Repair the disk, then restart the server"
            );
            let _ = self.stopped.set(error.to_string());
            error
        })
    }

    /// Makes a directory below the blob directory with all that lead to it,
    /// durably. To be called with `directories` locked.
    fn ensure_directory(&self, path: &Path) -> Result<()> {
        let mut missing = Vec::new();
        for ancestor in path.ancestors() {
            if ancestor == self.path || self.disk.exists(ancestor) {
                break;
            }
            missing.push(ancestor);
        }
        for directory in missing.into_iter().rev() {
            self.disk
                .create_directory(directory)
                .map_err(StorageError::no_space_or_io(
                    0,
                    format!("making {}", directory.display()),
                ))?;
            if let Some(parent) = directory.parent() {
                self.sync_directory(parent)?;
            }
        }
        Ok(())
    }

    /// The mode of a committed file: not writable, and readable for whom its
    /// directory is. Source: ZODB `blob.py`, `set_not_writable`.
    fn set_committed_mode(&self, path: &Path, directory: &Path) -> io::Result<()> {
        const WRITE: u32 = 0o222;
        const READ: u32 = 0o444;
        let mode = self.disk.status(path)?.mode;
        let wanted = (mode & !WRITE) | (self.disk.status(directory)?.mode & READ);
        // A client that shares the directory has done it already, maybe as
        // another user, whose file could not be changed here.
        if wanted == mode {
            return Ok(());
        }
        self.disk.set_mode(path, wanted)
    }

    fn is_regular_file(&self, path: &Path) -> io::Result<bool> {
        Ok(self.disk.status(path)?.kind == FileKind::File)
    }
}

/// Reads a file that has to be short.
fn read_short(disk: &dyn Disk, path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    let doing = || format!("reading {}", path.display());
    let file = disk
        .open(path, OpenMode::Read)
        .map_err(StorageError::io(doing()))?;
    let length = file.len().map_err(StorageError::io(doing()))?;
    let length = usize::try_from(length.min(limit_bytes)).unwrap_or(0);
    let mut bytes = vec![0; length];
    let count = file
        .read_at(&mut bytes, 0, Access::Wait)
        .map_err(StorageError::io(doing()))?;
    bytes.truncate(count);
    Ok(bytes)
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
