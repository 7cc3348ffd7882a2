//! Object ids that are never given out twice.
//!
//! Clients fetch oids in batches and keep what is left over a restart of the
//! server. So the server notes on disk, ahead, up to where it may have given
//! out oids, and begins behind that after a restart. The note lies in
//! `Data.fs.oids` beside the file: one line, the reserved oid in hex and a
//! checksum. Python's server neither has nor needs it.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use crate::disk::{Access, Disk, OpenMode, read_exact_at};
use crate::storage::{Result, StorageError};
use crate::types::Oid;

/// So many oids are reserved at once: each reservation costs a sync, each
/// crash skips at most this many numbers.
const RESERVED_AHEAD: u64 = 16_384;

/// Where there is no note, the database may come from a server that kept none
/// while its clients still hold oids of it, 100 each: so many are skipped.
const SKIPPED_WITHOUT_NOTE: u64 = 16_384;

/// Gives out oids.
///
/// Invariant: no oid above `reserved` was ever given out, and the note on disk
/// says `reserved`.
#[derive(Debug)]
pub struct OidSource {
    path: PathBuf,
    last: u64,
    reserved: u64,
}

impl OidSource {
    /// For a database whose greatest oid is `max_oid` (None: it is empty).
    pub fn open(disk: &dyn Disk, data_path: &Path, max_oid: Option<Oid>) -> Result<Self> {
        let path = super::beside(data_path, ".oids");
        let in_use = max_oid.map_or(0, Oid::to_u64);
        let last = match read_note(disk, &path)? {
            Note::Reserved(oid) => oid.to_u64().max(in_use),
            Note::None if max_oid.is_none_or(|oid| oid == Oid::ROOT) => in_use,
            Note::None => in_use.saturating_add(SKIPPED_WITHOUT_NOTE),
            Note::Damaged => {
                tracing::warn!(
                    "{} is damaged; object ids go on {SKIPPED_WITHOUT_NOTE} after the greatest in use",
                    path.display()
                );
                in_use.saturating_add(SKIPPED_WITHOUT_NOTE)
            }
        };
        Ok(Self {
            path,
            last,
            reserved: last,
        })
    }

    /// `count` oids in order, none of them given out before.
    pub fn take(&mut self, disk: &dyn Disk, count: usize) -> Result<Vec<Oid>> {
        let last = self.last.saturating_add(count as u64);
        if last > self.reserved {
            let reserved = last.saturating_add(RESERVED_AHEAD);
            write_note(disk, &self.path, Oid::from_u64(reserved))?;
            self.reserved = reserved;
        }
        let oids = (self.last + 1..=last).map(Oid::from_u64).collect();
        self.last = last;
        Ok(oids)
    }

    /// Notes that an object with this oid was stored: later oids come after it.
    pub fn saw(&mut self, oid: Oid) {
        self.last = self.last.max(oid.to_u64());
    }

    /// Up to this oid they may have been given out.
    pub fn reserved(&self) -> Oid {
        Oid::from_u64(self.reserved.max(self.last))
    }

    /// Notes that oids up to `upto` may be given out by others.
    pub fn reserve(&mut self, disk: &dyn Disk, upto: Oid) -> Result<()> {
        let upto = upto.to_u64();
        if upto > self.reserved {
            write_note(disk, &self.path, Oid::from_u64(upto))?;
            self.reserved = upto;
        }
        self.last = self.last.max(upto);
        Ok(())
    }

    /// At a clean stop: what was not given out is free again.
    pub fn close(&mut self, disk: &dyn Disk) -> Result<()> {
        if self.reserved > self.last {
            write_note(disk, &self.path, Oid::from_u64(self.last))?;
            self.reserved = self.last;
        }
        Ok(())
    }
}

/// Notes for a database that is not open that oids up to `oid` may have been
/// given out.
pub fn reserve_up_to(disk: &dyn Disk, data_path: &Path, oid: Oid) -> Result<()> {
    let path = super::beside(data_path, ".oids");
    match read_note(disk, &path)? {
        Note::Reserved(noted) if noted >= oid => Ok(()),
        Note::Reserved(_) | Note::None | Note::Damaged => write_note(disk, &path, oid),
    }
}

enum Note {
    None,
    Damaged,
    Reserved(Oid),
}

/// `zeod-oids 0123456789abcdef 89abcdef\n`: name, oid, CRC-32 of what stands before it.
const NOTE_BYTES: usize = 10 + 16 + 1 + 8 + 1;

fn note(oid: Oid) -> String {
    let text = format!("zeod-oids {:016x} ", oid.to_u64());
    let checksum = crc32fast::hash(text.as_bytes());
    format!("{text}{checksum:08x}\n")
}

fn read_note(disk: &dyn Disk, path: &Path) -> Result<Note> {
    if !disk.exists(path) {
        return Ok(Note::None);
    }
    let doing = || format!("reading {}", path.display());
    let file = disk
        .open(path, OpenMode::Read)
        .map_err(StorageError::io(doing()))?;
    let mut bytes = [0; NOTE_BYTES];
    if let Err(error) = read_exact_at(&*file, &mut bytes, 0, Access::Wait) {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Ok(Note::Damaged),
            _ => Err(StorageError::io(doing())(error)),
        };
    }
    let oid = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.get(10..26))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .map(Oid::from_u64);
    Ok(match oid {
        Some(oid) if note(oid).as_bytes() == bytes => Note::Reserved(oid),
        _ => Note::Damaged,
    })
}

fn write_note(disk: &dyn Disk, path: &Path, oid: Oid) -> Result<()> {
    let doing = || format!("noting given out object ids in {}", path.display());
    let temporary = super::beside(path, ".tmp");
    let file = disk
        .open(&temporary, OpenMode::Truncate)
        .map_err(StorageError::io(doing()))?;
    file.write_at(&[IoSlice::new(note(oid).as_bytes())], 0)
        .and_then(|()| file.sync())
        .and_then(|()| disk.rename(&temporary, path))
        .map_err(StorageError::io(doing()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn take(source: &mut OidSource, count: usize) -> Vec<u64> {
        source
            .take(&RealDisk, count)
            .unwrap()
            .into_iter()
            .map(Oid::to_u64)
            .collect()
    }

    #[test]
    fn after_a_crash_no_oid_comes_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Data.fs");
        let mut source = OidSource::open(&RealDisk, &path, None).unwrap();
        assert_eq!(take(&mut source, 3), [1, 2, 3]);
        drop(source);
        let mut source = OidSource::open(&RealDisk, &path, Some(Oid::from_u64(2))).unwrap();
        assert!(take(&mut source, 1)[0] > 3);
    }

    #[test]
    fn a_clean_stop_skips_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Data.fs");
        let mut source = OidSource::open(&RealDisk, &path, None).unwrap();
        take(&mut source, 7);
        source.close(&RealDisk).unwrap();
        let mut source = OidSource::open(&RealDisk, &path, Some(Oid::ROOT)).unwrap();
        assert_eq!(take(&mut source, 1), [8]);
        source.saw(Oid::from_u64(1 << 40));
        assert_eq!(take(&mut source, 1), [(1 << 40) + 1]);
    }

    #[test]
    fn a_lost_or_damaged_note_skips_ahead() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Data.fs");
        let mut source = OidSource::open(&RealDisk, &path, Some(Oid::from_u64(9))).unwrap();
        assert_eq!(take(&mut source, 1), [9 + SKIPPED_WITHOUT_NOTE + 1]);
        std::fs::write(directory.path().join("Data.fs.oids"), "zeod-oids 00").unwrap();
        let mut source = OidSource::open(&RealDisk, &path, Some(Oid::from_u64(9))).unwrap();
        assert_eq!(take(&mut source, 1), [9 + SKIPPED_WITHOUT_NOTE + 1]);
    }
}
