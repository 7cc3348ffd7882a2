//! What a power cut leaves of files: all that was synced, and of the rest what chance likes.
//!
//! The shim writes down how long each file was when it was synced. What was written behind that since is
//! cut off, or zero, or there in parts. Files that are overwritten in place are left alone: the log's,
//! which are synced before anything is told to anyone.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::chance::Chance;

/// Device, inode and length, 8 bytes each, of the machine's own order.
const RECORD_BYTES: usize = 24;
/// What a disk writes at once.
const PAGE: u64 = 4096;
/// Not the log, and not what is empty anyway.
const LEFT_ALONE: [&str; 3] = ["raft", ".lock", "filler"];

/// Takes from the files below `directory` what was not synced, as `synced`, the shim's notes, tell.
pub fn cut(directory: &Path, synced: &Path, chance: &mut Chance) -> io::Result<()> {
    let synced = synced_lengths(&fs::read(synced)?);
    each_file(directory, &mut |path| {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let status = file.metadata()?;
        let safe = synced.get(&(status.dev(), status.ino()));
        let safe = safe.copied().unwrap_or_default();
        if safe < status.len() {
            lose(&file, safe, status.len(), chance)?;
        }
        Ok(())
    })
}

/// So long was the file with this number when it was synced, be it this one or one before
/// it: numbers of files that are gone are given to new ones.
pub fn synced_length(path: &Path, synced: &Path) -> io::Result<u64> {
    let status = fs::metadata(path)?;
    let lengths = synced_lengths(&fs::read(synced)?);
    let length = lengths.get(&(status.dev(), status.ino()));
    Ok(length.copied().unwrap_or_default())
}

fn synced_lengths(notes: &[u8]) -> HashMap<(u64, u64), u64> {
    let mut lengths = HashMap::new();
    for record in notes.chunks_exact(RECORD_BYTES) {
        let number = |at: usize| u64::from_ne_bytes(record[at..at + 8].try_into().unwrap());
        lengths.insert((number(0), number(8)), number(16));
    }
    lengths
}

fn each_file(directory: &Path, work: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    // In an order that chance can repeat.
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if LEFT_ALONE.iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            each_file(&entry.path(), work)?;
        } else if entry.file_type()?.is_file() {
            work(&entry.path())?;
        }
    }
    Ok(())
}

/// What is between `safe` and `length` may be there, or not.
fn lose(file: &File, safe: u64, length: u64, chance: &mut Chance) -> io::Result<()> {
    let from = safe + chance.below(length - safe + 1);
    match chance.below(4) {
        0 => Ok(()),
        1 => file.set_len(from),
        2 => {
            file.set_len(from)?;
            file.set_len(length)
        }
        _ => {
            // Written in any order.
            let mut start = safe;
            while start < length {
                let end = length.min((start / PAGE + 1) * PAGE);
                if chance.below(2) == 0 {
                    let zeros = vec![0; usize::try_from(end - start).unwrap()];
                    file.write_all_at(&zeros, start)?;
                }
                start = end;
            }
            Ok(())
        }
    }
}
