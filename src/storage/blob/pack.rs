//! Removes revisions that a pack has found unneeded, or moves them to
//! `<blob directory>.old`. Source: ZODB `FileStorage.py`,
//! `_remove_blob_files_tagged_for_removal_during_pack`, and `blob.py`, `BlobStorage`.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::layout::{MARKER, REVISION_SUFFIX};
use super::upload::remove_tree;
use super::{BlobDirectory, open::make_directory};
use crate::disk::FileKind;
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// `<blob directory>.old`: the blobs as they were before a pack.
#[derive(Debug)]
pub struct OldBlobs {
    root: PathBuf,
}

/// Called for each object; see [`BlobDirectory::for_each_object`].
type Visit<'a> = dyn FnMut(Oid) -> Result<()> + 'a;

impl BlobDirectory {
    /// Where a pack keeps what it removes.
    fn old_path(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".old");
        PathBuf::from(name)
    }

    /// Removes the blobs that an earlier pack kept; with `keep`, begins anew.
    pub fn begin_old(&self, keep: bool) -> Result<Option<OldBlobs>> {
        let root = self.old_path();
        remove_tree(&*self.disk, &root)?;
        if !keep {
            return Ok(None);
        }
        make_directory(&*self.disk, &root)?;
        self.link_or_copy(&self.path.join(MARKER), &root.join(MARKER))
            .map_err(StorageError::io(format!("making {}", root.display())))?;
        Ok(Some(OldBlobs { root }))
    }

    /// The old blobs that an interrupted pack was about to keep.
    pub fn resume_old(&self) -> Option<OldBlobs> {
        let root = self.old_path();
        self.disk.exists(&root).then_some(OldBlobs { root })
    }

    /// Removes one revision, or moves it to `old`; false where it was gone.
    /// Directories that are empty then are removed.
    pub fn remove_revision(&self, oid: Oid, serial: Tid, old: Option<&OldBlobs>) -> Result<bool> {
        let path = self.revision_path(oid, serial);
        if !self.disk.exists(&path) {
            return Ok(false);
        }
        let doing = || format!("packing {}", path.display());
        match old {
            None => self.disk.remove(&path),
            Some(old) => {
                let to = self.place_in_old(&path, old)?;
                self.move_or_copy(&path, &to)
            }
        }
        .map_err(StorageError::io(doing()))?;
        self.remove_empty(&self.object_path(oid))
            .map_err(StorageError::io(doing()))?;
        Ok(true)
    }

    /// Removes all revisions of an object up to `through`, which is to be the
    /// last transaction that the pack has seen: what is being committed at the
    /// same time stays. The number of them.
    pub fn remove_object(&self, oid: Oid, through: Tid, old: Option<&OldBlobs>) -> Result<usize> {
        let mut count = 0;
        for serial in self.revisions(oid)? {
            if serial <= through {
                count += usize::from(self.remove_revision(oid, serial, old)?);
            }
        }
        Ok(count)
    }

    /// Gives the revisions that a pack has left a second name in `old`, so that
    /// it is whole.
    pub fn keep_rest(&self, old: &OldBlobs) -> Result<()> {
        self.for_each_object(&mut |oid| {
            for serial in self.revisions(oid)? {
                let path = self.revision_path(oid, serial);
                let to = self.place_in_old(&path, old)?;
                match self.link_or_copy(&path, &to) {
                    // Gone meanwhile, or kept already by a pack that was interrupted.
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
                        ) => {}
                    result => {
                        result.map_err(StorageError::io(format!("keeping {}", path.display())))?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Removes the revisions up to `through` that are not `needed`. For
    /// storages with undo that know nothing of blobs; reads the whole directory.
    pub fn pack_by_need(
        &self,
        through: Tid,
        needed: &dyn Fn(Oid, Tid) -> Result<bool>,
    ) -> Result<usize> {
        let mut removed = 0;
        self.for_each_object(&mut |oid| {
            for serial in self.revisions(oid)? {
                if serial <= through && !needed(oid, serial)? {
                    removed += usize::from(self.remove_revision(oid, serial, None)?);
                }
            }
            Ok(())
        })?;
        Ok(removed)
    }

    /// Keeps the newest revision up to `through` of objects that `exist`, and
    /// none of the others. For storages without undo.
    pub fn pack_to_newest(
        &self,
        through: Tid,
        exists: &dyn Fn(Oid) -> Result<bool>,
    ) -> Result<usize> {
        let mut removed = 0;
        self.for_each_object(&mut |oid| {
            let mut revisions = self.revisions(oid)?;
            revisions.retain(|&serial| serial <= through);
            if exists(oid)? {
                revisions.pop();
            }
            for serial in revisions {
                removed += usize::from(self.remove_revision(oid, serial, None)?);
            }
            Ok(())
        })?;
        Ok(removed)
    }

    /// Goes through the objects that have a directory, by oid in the bushy layout.
    pub fn for_each_object(&self, visit: &mut Visit<'_>) -> Result<()> {
        self.walk(Path::new(""), self.layout.depth(), visit)
    }

    fn walk(&self, relative: &Path, depth: usize, visit: &mut Visit<'_>) -> Result<()> {
        if depth == 0 {
            return match self.layout.object_of(relative) {
                Some(oid) => visit(oid),
                None => Ok(()),
            };
        }
        let path = self.path.join(relative);
        let doing = || format!("reading {}", path.display());
        let names = match self.disk.read_directory(&path) {
            // An empty directory that a pack has just removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names.map_err(StorageError::io(doing()))?,
        };
        let names: io::Result<Vec<OsString>> = names.collect();
        let mut names = names.map_err(StorageError::io(doing()))?;
        names.sort_unstable();
        for name in names {
            // All directories of objects begin so; `tmp` and markers do not.
            let is_part = name.as_encoded_bytes().starts_with(b"0x");
            let below = relative.join(&name);
            if is_part && self.is_directory(&self.path.join(&below)) {
                self.walk(&below, depth - 1, visit)?;
            }
        }
        Ok(())
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.disk
            .status(path)
            .is_ok_and(|status| status.kind == FileKind::Directory)
    }

    /// Where a revision goes in `old`; its directory is made.
    fn place_in_old(&self, path: &Path, old: &OldBlobs) -> Result<PathBuf> {
        debug_assert!(
            path.to_string_lossy().ends_with(REVISION_SUFFIX),
            "only revisions are packed"
        );
        let relative = path.strip_prefix(&self.path).unwrap_or(path);
        let to = old.root.join(relative);
        if let Some(parent) = to.parent() {
            for ancestor in relative
                .ancestors()
                .skip(1)
                .collect::<Vec<_>>()
                .iter()
                .rev()
            {
                let directory = old.root.join(ancestor);
                self.disk
                    .create_directory(&directory)
                    .map_err(StorageError::io(format!("making {}", parent.display())))?;
            }
        }
        Ok(to)
    }

    /// Removes an object's directory and those above it as far as they are empty.
    fn remove_empty(&self, object: &Path) -> io::Result<()> {
        let _held = self.directories.lock();
        for directory in object.ancestors() {
            if directory == self.path {
                break;
            }
            match self.disk.remove_directory(directory) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }
}
