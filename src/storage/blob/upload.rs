//! Blobs before their transaction's vote: files that go away again when they
//! are dropped.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::BlobDirectory;
use crate::disk::{Disk, DiskFile, FileKind, OpenMode};
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// How the names of uploads end.
pub const UPLOAD_SUFFIX: &str = ".upload";
/// Directories in a blob directory are never nested deeper.
const MAX_DEPTH: usize = 16;

/// A blob that a client sends in chunks. Dropped, its file is removed.
#[derive(Debug)]
pub struct BlobUpload {
    pending: PendingBlob,
    file: Arc<dyn DiskFile>,
    length: u64,
    unwritten: u64,
    last_chunk_bytes: u64,
}

/// A whole blob that waits for its transaction. Dropped, its file is removed.
#[derive(Debug)]
pub struct PendingBlob {
    pub(super) directory: Arc<BlobDirectory>,
    /// None: the file belongs to a transaction now.
    pub(super) path: Option<PathBuf>,
}

impl PendingBlob {
    /// Opens the file to be read.
    pub fn open(&self) -> io::Result<Arc<dyn DiskFile>> {
        match &self.path {
            Some(path) => self.directory.disk.open(path, OpenMode::Read),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Removes the file; false where that failed.
    pub(super) fn remove(&mut self) -> bool {
        let Some(path) = self.path.take() else {
            return true;
        };
        let removed = self.directory.disk.remove(&path);
        if let Err(error) = &removed {
            tracing::warn!("an uncommitted blob stays at {}: {error}", path.display());
        }
        removed.is_ok()
    }
}

impl Drop for PendingBlob {
    fn drop(&mut self) {
        self.remove();
    }
}

impl BlobUpload {
    /// Appends a chunk. After an error the upload is to be dropped.
    pub fn write(&mut self, chunk: &[u8]) -> Result<()> {
        let bytes = chunk.len() as u64;
        let written = self.file.write_at(&[IoSlice::new(chunk)], self.length);
        self.length += bytes;
        self.unwritten += bytes;
        self.last_chunk_bytes = bytes;
        written.map_err(StorageError::no_space_or_io(bytes, "writing a blob"))
    }

    /// Is there so much to write to the device that this is to be done now?
    /// Else the vote would wait for all of it, and other commits' syncs with it.
    pub fn is_write_back_due(&self) -> bool {
        // With another chunk like the last it would be too much.
        let bytes = self.unwritten + self.last_chunk_bytes;
        bytes > self.pending.directory.precedence.piece_bytes()
    }

    /// Writes what came to the device. After an error the upload is to be dropped.
    pub fn write_back(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.unwritten);
        let precedence = &self.pending.directory.precedence;
        precedence
            .later(bytes, || self.file.sync())
            .map_err(StorageError::no_space_or_io(bytes, "writing a blob"))
    }

    /// Bytes so far.
    pub fn length_bytes(&self) -> u64 {
        self.length
    }

    /// The client has sent all.
    pub fn finish(self) -> PendingBlob {
        self.pending
    }
}

impl BlobDirectory {
    /// Begins to take a blob.
    pub fn upload(self: &Arc<Self>) -> Result<BlobUpload> {
        self.check_writable()?;
        let (path, file) = self.new_temporary()?;
        Ok(BlobUpload {
            pending: PendingBlob {
                directory: Arc::clone(self),
                path: Some(path),
            },
            file,
            length: 0,
            unwritten: 0,
            last_chunk_bytes: 0,
        })
    }

    /// Takes over a file that a client which shares the directory has put into
    /// the object's directory. Only a plain name of the form that clients give
    /// (`….tmp`, or that with one more character) of a regular file is accepted.
    pub fn adopt(self: &Arc<Self>, oid: Oid, name: &str) -> Result<PendingBlob> {
        self.check_writable()?;
        let refuse = |problem| {
            tracing::error!("refused a shared blob file {name:?} for {oid}: {problem}");
            Err(StorageError::BadBlobFile {
                name: name.to_owned(),
                problem,
            })
        };
        if let Err(problem) = check_shared_name(name) {
            return refuse(problem);
        }
        let path = self.object_path(oid).join(name);
        match self.is_regular_file(&path) {
            Ok(true) => Ok(PendingBlob {
                directory: Arc::clone(self),
                path: Some(path),
            }),
            Ok(false) => refuse("not a regular file"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => refuse("no such file"),
            Err(error) => Err(StorageError::Io {
                doing: format!("looking at {}", path.display()),
                source: error,
            }),
        }
    }

    /// A committed revision once more, for the transaction that undoes a later
    /// one. A second name of the same file where that can be, else a copy;
    /// committed files never change.
    pub fn copy_revision(self: &Arc<Self>, oid: Oid, serial: Tid) -> Result<PendingBlob> {
        self.check_writable()?;
        let from = self.revision_path(oid, serial);
        let path = self
            .temporary_path()
            .join(self.temporary_name(UPLOAD_SUFFIX));
        if !self.disk.exists(&from) {
            return Err(StorageError::NoSuchBlob {
                oid,
                serial,
                path: from.display().to_string(),
            });
        }
        // Owned from here on, so that a copy that fails is removed.
        let pending = PendingBlob {
            directory: Arc::clone(self),
            path: Some(path.clone()),
        };
        self.link_or_copy(&from, &path)
            .map_err(StorageError::no_space_or_io(0, "copying a blob"))?;
        Ok(pending)
    }

    /// A new file in `tmp`.
    pub(super) fn new_temporary(&self) -> Result<(PathBuf, Arc<dyn DiskFile>)> {
        /// Names are taken only by what another process left, which is cleaned at the start.
        const ATTEMPTS: usize = 100;
        let mut attempts = 0;
        loop {
            let name = self.temporary_name(UPLOAD_SUFFIX);
            let path = self.temporary_path().join(name);
            match self.disk.open(&path, OpenMode::New) {
                Ok(file) => return Ok((path, file)),
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && attempts < ATTEMPTS =>
                {
                    attempts += 1;
                }
                Err(error) => {
                    return Err(StorageError::no_space_or_io(0, "beginning a blob")(error));
                }
            }
        }
    }
}

/// The names that ZEO's client gives are of `mkstemp`'s making, plus a dash.
fn check_shared_name(name: &str) -> std::result::Result<(), &'static str> {
    /// How the name of a client's temporary file ends.
    const SUFFIX: &str = ".tmp";
    let mut shorter = name.chars();
    shorter.next_back();
    if name.contains('/') {
        Err("a path, not a name")
    } else if name.contains('\0') {
        Err("a name with a NUL")
    } else if name == "." || name == ".." {
        Err("the name of a directory")
    } else if name.ends_with(SUFFIX) || shorter.as_str().ends_with(SUFFIX) {
        Ok(())
    } else {
        Err("not the name of a temporary file")
    }
}

/// Removes a directory with all that is in it; links are not followed.
pub fn remove_tree(disk: &dyn Disk, path: &Path) -> Result<()> {
    remove_below(disk, path, MAX_DEPTH)
        .map_err(StorageError::io(format!("removing {}", path.display())))
}

fn remove_below(disk: &dyn Disk, path: &Path, depth: usize) -> io::Result<()> {
    let kind = match disk.status(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        status => status?.kind,
    };
    if kind != FileKind::Directory {
        return disk.remove(path);
    }
    if depth == 0 {
        return Err(io::Error::other("directories are nested too deep"));
    }
    for name in disk.read_directory(path)? {
        remove_below(disk, &path.join(name?), depth - 1)?;
    }
    disk.remove_directory(path)
}
