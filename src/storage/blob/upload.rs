//! Blobs before their transaction's vote: files that go away again when they
//! are dropped.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::BlobDirectory;
use crate::disk::{Access, Disk, DiskFile, FileKind, OpenMode};
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// How the names of uploads end.
pub const UPLOAD_SUFFIX: &str = ".upload";
/// After so many bytes a copy is written to the device, so that no sync has to
/// wait for gigabytes.
const WRITE_BACK_BYTES: u64 = 16 << 20;
/// Files are copied in pieces of this size.
const COPY_BYTES: usize = 1 << 20;
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
        link_or_copy(&*self.disk, &from, &path)
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

/// Gives a file a second name, or copies it where that cannot be.
pub fn link_or_copy(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    match disk.link(from, to) {
        Err(error) if is_not_possible(&error) => copy(disk, from, to),
        result => result,
    }
}

/// Moves a file, by copying it where it goes to another volume.
pub fn move_or_copy(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    match disk.move_file(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy(disk, from, to)?;
            disk.remove(from)
        }
        result => result,
    }
}

/// Other volumes, file systems without links, files of other users
/// (`protected_hardlinks`), too many links.
fn is_not_possible(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::CrossesDevices
            | io::ErrorKind::Unsupported
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TooManyLinks
    )
}

/// Copies a file with its mode to a new one, durably (but for its name).
fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    let mode = disk.status(from)?.mode;
    let target = disk.open(to, OpenMode::New)?;
    disk.set_mode(to, mode)
        .and_then(|()| copy_content(disk, from, &*target))
        .inspect_err(|_| {
            let _ = disk.remove(to);
        })
}

/// Copies what is in a file to an empty one, durably.
pub fn copy_content(disk: &dyn Disk, from: &Path, target: &dyn DiskFile) -> io::Result<()> {
    let source = disk.open(from, OpenMode::Read)?;
    let mut buffer = vec![0; COPY_BYTES];
    let (mut position, mut unwritten) = (0, 0);
    loop {
        let count = source.read_at(&mut buffer, position, Access::Wait)?;
        let piece = buffer.get(..count).unwrap_or_default();
        if piece.is_empty() {
            return target.sync();
        }
        target.write_at(&[IoSlice::new(piece)], position)?;
        position += count as u64;
        unwritten += count as u64;
        if unwritten >= WRITE_BACK_BYTES {
            unwritten = 0;
            target.sync()?;
        }
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
