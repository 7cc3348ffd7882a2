//! `.removed`: the blobs that a pack of the file beside has found unneeded.
//! They are removed once the packed file is in place. Source: ZODB `fspack.py`;
//! the format is the same, a line of hex for each: the oid, or the oid and the tid.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use super::{BlobDirectory, OldBlobs};
use crate::disk::{Access, DiskFile, OpenMode};
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

const LIST: &str = ".removed";
/// Lines are collected up to this size before they are written.
const WRITE_BYTES: usize = 64 << 10;
/// The list is read in pieces of this size.
const READ_BYTES: usize = 64 << 10;
const OID_DIGITS: usize = 16;
const OID_AND_TID_DIGITS: usize = 32;

/// A list that is being written.
#[derive(Debug)]
pub struct RemovalList {
    file: Arc<dyn DiskFile>,
    position: u64,
    lines: Vec<u8>,
}

impl RemovalList {
    /// The object is garbage.
    pub fn object(&mut self, oid: Oid) -> Result<()> {
        self.line(&format!("{:016x}\n", oid.to_u64()))
    }

    /// One revision is not needed any more.
    pub fn revision(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.line(&format!("{:016x}{:016x}\n", oid.to_u64(), serial.to_u64()))
    }

    /// Makes the list durable. To be done before the packed file is put in place.
    pub fn finish(&mut self) -> Result<()> {
        self.flush()?;
        self.file
            .sync()
            .map_err(StorageError::io("syncing the list of removed blobs"))
    }

    fn line(&mut self, line: &str) -> Result<()> {
        self.lines.extend_from_slice(line.as_bytes());
        if self.lines.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file
            .write_at(&[IoSlice::new(&self.lines)], self.position)
            .map_err(StorageError::no_space_or_io(
                self.lines.len() as u64,
                "writing the list of removed blobs",
            ))?;
        self.position += self.lines.len() as u64;
        self.lines.clear();
        Ok(())
    }
}

impl BlobDirectory {
    fn list_path(&self) -> PathBuf {
        self.path.join(LIST)
    }

    /// Begins a list; one that was there is forgotten.
    pub fn begin_removals(&self) -> Result<RemovalList> {
        self.check_writable()?;
        let file = self
            .disk
            .open(&self.list_path(), OpenMode::Truncate)
            .map_err(StorageError::io("beginning the list of removed blobs"))?;
        self.sync_directory(&self.path)?;
        Ok(RemovalList {
            file,
            position: 0,
            lines: Vec::new(),
        })
    }

    /// Did a pack leave a list? Then it was interrupted, before or after the
    /// packed file was put in place.
    pub fn has_removals(&self) -> bool {
        self.disk.exists(&self.list_path())
    }

    /// Forgets the list, of a pack that did not get so far.
    pub fn forget_removals(&self) -> Result<()> {
        self.disk
            .remove(&self.list_path())
            .map_err(StorageError::io("removing the list of removed blobs"))
    }

    /// Removes what is in the list, or moves it to `old`, and removes the list.
    /// The number of revisions.
    ///
    /// Only revisions that are not `needed` are touched, so this can be called
    /// for any list that was found, and as often as need be.
    pub fn apply_removals(
        &self,
        needed: &dyn Fn(Oid, Tid) -> Result<bool>,
        through: Tid,
        old: Option<&OldBlobs>,
    ) -> Result<usize> {
        let mut removed = 0;
        self.read_list(&mut |oid, serial| {
            let serials = match serial {
                Some(serial) => vec![serial],
                None => self.revisions(oid)?,
            };
            for serial in serials {
                if serial <= through && !needed(oid, serial)? {
                    removed += usize::from(self.remove_revision(oid, serial, old)?);
                }
            }
            Ok(())
        })?;
        if let Some(old) = old {
            self.keep_rest(old)?;
        }
        self.forget_removals()?;
        Ok(removed)
    }

    fn read_list(&self, visit: &mut dyn FnMut(Oid, Option<Tid>) -> Result<()>) -> Result<()> {
        let reading = || StorageError::io("reading the list of removed blobs");
        let file = self
            .disk
            .open(&self.list_path(), OpenMode::Read)
            .map_err(reading())?;
        let mut line = Vec::with_capacity(OID_AND_TID_DIGITS);
        let mut piece = vec![0; READ_BYTES];
        let mut position = 0;
        loop {
            let count = file
                .read_at(&mut piece, position, Access::Wait)
                .map_err(reading())?;
            if count == 0 && line.is_empty() {
                return Ok(());
            }
            for &byte in piece.get(..count).unwrap_or_default() {
                if byte != b'\n' && line.len() < OID_AND_TID_DIGITS {
                    line.push(byte);
                    continue;
                }
                let entry = (byte == b'\n').then(|| parse(&line)).flatten();
                let (oid, serial) = entry.ok_or_else(|| self.bad_list(position))?;
                visit(oid, serial)?;
                line.clear();
            }
            if count == 0 {
                return Err(self.bad_list(position));
            }
            position += count as u64;
        }
    }

    fn bad_list(&self, position: u64) -> StorageError {
        StorageError::Corrupt {
            file: self.list_path().display().to_string(),
            problem: "a line that names neither an object nor a revision".to_owned(),
            position,
        }
    }
}

fn parse(line: &[u8]) -> Option<(Oid, Option<Tid>)> {
    let text = std::str::from_utf8(line).ok()?;
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let oid = Oid::from_u64(number(text.get(..OID_DIGITS)?)?);
    match text.len() {
        OID_DIGITS => Some((oid, None)),
        OID_AND_TID_DIGITS => {
            let serial = number(text.get(OID_DIGITS..)?)?;
            Some((oid, Some(Tid::from_u64(serial))))
        }
        _ => None,
    }
}
