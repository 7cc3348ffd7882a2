//! Files that lie ready for transactions to come: data and blobs that are sent
//! to a node before it is told what they belong to. Each is named by what is in
//! it, so it can come from anyone, and twice.
//!
//! ```text
//! <directory>/<SHA-256 in hex>-<length>    complete, synced, its name too
//! <directory>/incoming-<process>-<number>  comes just now
//! ```
//!
//! A file stays until it is released: the transaction that it belongs to may
//! have to be written again after a crash. It is never written to.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::blob::{BlobDirectory, BlobFile, PendingBlob, make_directory};
use super::{Result, StagedBody, StorageError};
use crate::disk::{Access, Disk, DiskFile, OpenMode, Precedence};

/// The directory's name in the blob directory. Not in its `tmp`, which clients that share it
/// expect to have for themselves.
const IN_BLOB_DIRECTORY: &str = ".zeod-staged";
/// Behind the name of `Data.fs`, where there is no blob directory.
const BESIDE_DATA: &str = ".staged";
const INCOMING: &str = "incoming-";
/// Files are read and copied in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// Names a file by what is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileDigest {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// Length of the file.
    pub length: u64,
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.sha256 {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "-{}", self.length)
    }
}

impl FileDigest {
    fn parse(name: &OsStr) -> Option<Self> {
        let name = name.to_str()?;
        let (hex, length) = name.split_once('-')?;
        let mut sha256 = [0; 32];
        for (at, byte) in sha256.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        let length = length.parse().ok()?;
        let digest = Self { sha256, length };
        (digest.to_string() == name).then_some(digest)
    }
}

/// Where a storage keeps such files.
#[derive(Debug)]
pub struct StagingArea {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    precedence: Arc<Precedence>,
    next: AtomicU64,
    /// What is complete.
    files: Mutex<HashMap<FileDigest, Known>>,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Since when, or when it was last claimed.
    since: Instant,
    /// It was given for a transaction, and then for another one, of which the log may not tell yet.
    is_claimed_again: bool,
}

impl StagingArea {
    /// That of the storage in `data_path`: on the volume of its blobs, so that
    /// these need not be copied, or else beside the file.
    pub fn open(
        disk: Arc<dyn Disk>,
        data_path: &Path,
        blobs: Option<&BlobDirectory>,
        precedence: Arc<Precedence>,
    ) -> Result<Arc<Self>> {
        let path = if let Some(blobs) = blobs {
            blobs.path().join(IN_BLOB_DIRECTORY)
        } else {
            let mut name = data_path.as_os_str().to_owned();
            name.push(BESIDE_DATA);
            PathBuf::from(name)
        };
        make_directory(&*disk, &path)?;
        let area = Self {
            disk,
            path,
            precedence,
            next: AtomicU64::new(0),
            files: Mutex::default(),
        };
        area.look()?;
        Ok(Arc::new(area))
    }

    /// Finds what earlier runs left.
    fn look(&self) -> Result<()> {
        let doing = || format!("reading {}", self.path.display());
        let names = self
            .disk
            .read_directory(&self.path)
            .map_err(StorageError::io(doing()))?;
        let names: io::Result<Vec<_>> = names.collect();
        for name in names.map_err(StorageError::io(doing()))? {
            if let Some(digest) = FileDigest::parse(&name) {
                self.add(digest);
            } else if name.as_encoded_bytes().starts_with(INCOMING.as_bytes()) {
                self.remove(&self.path.join(name));
            }
        }
        Ok(())
    }

    /// Is it here, durably?
    pub fn has(&self, digest: &FileDigest) -> bool {
        self.files.lock().contains_key(digest)
    }

    /// Is it here, durably? Then a transaction to come counts on it.
    pub fn claim(&self, digest: &FileDigest) -> bool {
        let mut files = self.files.lock();
        let known = files.get_mut(digest);
        if let Some(known) = known {
            *known = Known {
                since: Instant::now(),
                is_claimed_again: true,
            };
            return true;
        }
        false
    }

    fn add(&self, digest: FileDigest) {
        if !self.claim(&digest) {
            let known = Known {
                since: Instant::now(),
                is_claimed_again: false,
            };
            self.files.lock().insert(digest, known);
        }
    }

    /// Bytes of all that is here.
    pub fn bytes(&self) -> u64 {
        self.files.lock().keys().map(|digest| digest.length).sum()
    }

    /// Opens a file; None where it is not here.
    pub fn open_file(&self, digest: &FileDigest) -> Result<Option<BlobFile>> {
        match self.disk.open(&self.path_of(digest), OpenMode::Read) {
            Ok(file) => Ok(Some(BlobFile {
                file,
                length_bytes: digest.length,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget(digest);
                Ok(None)
            }
            Err(error) => Err(self.error(digest)(error)),
        }
    }

    /// A file as the body of a transaction; None where it is not here.
    pub fn body(&self, digest: &FileDigest) -> Result<Option<StagedBody>> {
        match File::open(self.path_of(digest)) {
            Ok(file) => Ok(Some(StagedBody::File(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget(digest);
                Ok(None)
            }
            Err(error) => Err(self.error(digest)(error)),
        }
    }

    /// A file as a blob on its way to its place: a second name of it, or a copy.
    pub fn blob(
        &self,
        digest: &FileDigest,
        blobs: &Arc<BlobDirectory>,
    ) -> Result<Option<PendingBlob>> {
        let path = self.path_of(digest);
        if !self.disk.exists(&path) {
            self.forget(digest);
            return Ok(None);
        }
        blobs.pending_of(&path).map(Some)
    }

    /// Begins to take a file.
    pub fn receive(self: &Arc<Self>) -> Result<Receiving> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{INCOMING}{}-{number}", std::process::id());
        let path = self.path.join(name);
        let file = self
            .disk
            .open(&path, OpenMode::New)
            .map_err(StorageError::no_space_or_io(
                0,
                format!("making {}", path.display()),
            ))?;
        Ok(Receiving {
            area: Arc::clone(self),
            file,
            path: Some(path),
            hasher: Sha256::new(),
            length: 0,
            unsynced: 0,
        })
    }

    /// Takes the data of a transaction.
    pub fn take_body(self: &Arc<Self>, body: &StagedBody) -> Result<FileDigest> {
        let doing = "reading a transaction's data";
        let length = match body {
            StagedBody::Memory(bytes) => bytes.len() as u64,
            StagedBody::File(file) => file.metadata().map_err(StorageError::io(doing))?.len(),
        };
        let mut receiving = self.receive()?;
        let mut piece = Vec::new();
        let mut at = 0;
        while at < length {
            let end = length.min(at + PIECE_BYTES as u64);
            body.read(&(at..end), &mut piece)
                .map_err(StorageError::io(doing))?;
            receiving.write(&piece)?;
            at = end;
        }
        receiving.finish(None)
    }

    /// Takes a blob of a transaction: a second name of its file, which stays
    /// the transaction's, or a copy.
    pub fn take_blob(self: &Arc<Self>, blob: &PendingBlob) -> Result<FileDigest> {
        let Some(from) = blob.path() else {
            return Err(StorageError::Io {
                doing: "staging a blob".to_owned(),
                source: io::ErrorKind::NotFound.into(),
            });
        };
        let source = self
            .disk
            .open(from, OpenMode::Read)
            .map_err(StorageError::io(format!("opening {}", from.display())))?;
        let doing = format!("staging {}", from.display());
        let digest = digest_of(&*source).map_err(StorageError::io(doing.clone()))?;
        if self.claim(&digest) {
            return Ok(digest);
        }
        // What the client sent last may not be on the disk yet.
        self.precedence
            .later(digest.length.min(PIECE_BYTES as u64), || source.sync())
            .map_err(StorageError::no_space_or_io(digest.length, doing))?;
        match self.disk.link(from, &self.path_of(&digest)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                self.copy(&*source, digest)
            }
            // Where another transaction has given the same, its name need not be durable yet.
            _ => {
                self.disk
                    .sync_directory(&self.path)
                    .map_err(self.error(&digest))?;
                self.add(digest);
                Ok(digest)
            }
        }
    }

    fn copy(self: &Arc<Self>, source: &dyn DiskFile, digest: FileDigest) -> Result<FileDigest> {
        let mut receiving = self.receive()?;
        for_each_piece(source, |piece| receiving.write(piece)).map_err(self.error(&digest))??;
        receiving.finish(Some(digest))
    }

    /// Removes files that no entry of the log names any more. Those that may belong to a
    /// transaction to come are left to [`Self::clean`].
    pub fn release(&self, digests: &[FileDigest]) {
        self.remove_if(digests, |known| !known.is_claimed_again);
    }

    fn remove_if(&self, digests: &[FileDigest], is_needless: impl Fn(Known) -> bool) {
        for digest in digests {
            let mut files = self.files.lock();
            if files.get(digest).is_some_and(|known| is_needless(*known)) {
                files.remove(digest);
                drop(files);
                self.remove(&self.path_of(digest));
            }
        }
    }

    /// Removes what is not `live` and has been here for longer than `patience`
    /// (counted anew by each start): its transaction was given up. How many went.
    pub fn clean(&self, live: &HashSet<FileDigest>, patience: Duration) -> usize {
        let known: Vec<FileDigest> = self
            .files
            .lock()
            .iter()
            .filter(|(digest, known)| !live.contains(*digest) && known.since.elapsed() >= patience)
            .map(|(digest, _)| *digest)
            .collect();
        self.remove_if(&known, |known| known.since.elapsed() >= patience);
        known.len()
    }

    /// Somebody else has removed it: then it has to come from another node again.
    fn forget(&self, digest: &FileDigest) {
        if self.files.lock().remove(digest).is_some() {
            tracing::warn!("{} was removed", self.path_of(digest).display());
        }
    }

    fn path_of(&self, digest: &FileDigest) -> PathBuf {
        self.path.join(digest.to_string())
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = self.disk.remove(path) {
            tracing::warn!("{} stays: {error}", path.display());
        }
    }

    fn error(&self, digest: &FileDigest) -> impl FnOnce(io::Error) -> StorageError + use<> {
        let doing = format!("staging {}", self.path_of(digest).display());
        StorageError::no_space_or_io(digest.length, doing)
    }
}

/// A file that comes. Dropped, it goes.
#[derive(Debug)]
pub struct Receiving {
    area: Arc<StagingArea>,
    file: Arc<dyn DiskFile>,
    path: Option<PathBuf>,
    hasher: Sha256,
    length: u64,
    unsynced: u64,
}

impl Receiving {
    /// The next piece. Commits go first, as before uploads.
    pub fn write(&mut self, piece: &[u8]) -> Result<()> {
        let bytes = piece.len() as u64;
        self.hasher.update(piece);
        self.file
            .write_at(&[IoSlice::new(piece)], self.length)
            .map_err(StorageError::no_space_or_io(bytes, "staging a file"))?;
        self.length += bytes;
        self.unsynced += bytes;
        if self.unsynced >= self.area.precedence.piece_bytes() {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.unsynced);
        self.area
            .precedence
            .later(bytes, || self.file.sync())
            .map_err(StorageError::no_space_or_io(bytes, "staging a file"))
    }

    /// That was all: makes it durable under its name. It has to be `expected`,
    /// where that is given.
    pub fn finish(mut self, expected: Option<FileDigest>) -> Result<FileDigest> {
        let digest = FileDigest {
            sha256: std::mem::take(&mut self.hasher).finalize().into(),
            length: self.length,
        };
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(StorageError::Io {
                doing: format!("staging {expected}"),
                source: io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("what came is {digest}"),
                ),
            });
        }
        self.sync()?;
        if let Some(path) = self.path.take() {
            let area = &self.area;
            let renamed = area.disk.rename(&path, &area.path_of(&digest));
            if renamed.is_err() {
                area.remove(&path);
            }
            renamed.map_err(area.error(&digest))?;
            area.add(digest);
        }
        Ok(digest)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            self.area.remove(&path);
        }
    }
}

fn digest_of(file: &dyn DiskFile) -> io::Result<FileDigest> {
    let mut hasher = Sha256::new();
    let mut length = 0;
    for_each_piece(file, |piece| {
        hasher.update(piece);
        length += piece.len() as u64;
        Ok(())
    })?
    .map_err(io::Error::other)?;
    Ok(FileDigest {
        sha256: hasher.finalize().into(),
        length,
    })
}

/// The outer error is that of reading.
fn for_each_piece(
    file: &dyn DiskFile,
    mut visit: impl FnMut(&[u8]) -> Result<()>,
) -> io::Result<Result<()>> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut at = 0;
    loop {
        let count = file.read_at(&mut buffer, at, Access::Wait)?;
        if count == 0 {
            return Ok(Ok(()));
        }
        let visited = visit(buffer.get(..count).unwrap_or_default());
        if visited.is_err() {
            return Ok(visited);
        }
        at += count as u64;
    }
}

#[cfg(test)]
#[path = "staging_tests.rs"]
mod tests;
