//! `Data.fs.index`: the index as it was when the file ended at some position,
//! so that the next start need not read the whole file.
//!
//! The format is ZODB's (`fsIndex.save`): pickles one behind the other, first
//! the position, then for each page (6 bytes that its oids begin with, a bucket:
//! the last 2 bytes of all its oids, then the 6-byte positions), then None.

use std::io::{self, IoSlice, Read};
use std::path::Path;

use serde_pickle::{DeOptions, Deserializer};

use super::format::FIRST_TRANSACTION;
use super::index::Index;
use super::reader::DataFile;
use crate::disk::{Access, Disk, DiskFile, OpenMode};
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

const PREFIX_BYTES: usize = 6;
const SUFFIX_BYTES: usize = 2;
const POSITION_BYTES: usize = 6;
const ENTRY_BYTES: usize = SUFFIX_BYTES + POSITION_BYTES;

/// How many records at the file's end must agree with a saved index before it
/// is believed; as many as ZODB looks at.
const RECORDS_CHECKED: usize = 5;

/// An index that was read back, and where the file ended then.
#[derive(Debug)]
pub struct SavedIndex {
    /// The index.
    pub index: Index,
    /// Position behind the last transaction that it knows.
    pub end: u64,
    /// That transaction.
    pub last_tid: Tid,
}

/// Saves `index` for the file as it is up to `end`.
///
/// Commits may go on meanwhile: where the index already knows a record behind
/// `end`, the object's record before it is saved in its place.
pub fn save(disk: &dyn Disk, path: &Path, data: &DataFile, index: &Index, end: u64) -> Result<()> {
    let index_path = super::beside(path, ".index");
    let temporary = super::beside(&index_path, ".index_tmp");
    let doing = || format!("saving the index to {}", index_path.display());
    let file = disk
        .open(&temporary, OpenMode::Truncate)
        .map_err(StorageError::io(doing()))?;
    let mut out = Out {
        file: &*file,
        written: 0,
        buffer: Vec::new(),
    };
    out.put_position(end);
    index.for_each_page(|prefix, entries| {
        let mut suffixes = Vec::with_capacity(entries.len() * ENTRY_BYTES);
        let mut positions = Vec::with_capacity(entries.len() * POSITION_BYTES);
        for &(suffix, position) in entries {
            if let Some(position) = position_before(data, position, end)? {
                let [_, _, position @ ..] = position.to_be_bytes();
                suffixes.extend_from_slice(&suffix.to_be_bytes());
                positions.extend_from_slice(&position);
            }
        }
        suffixes.append(&mut positions);
        if !suffixes.is_empty() {
            out.put_page(prefix, &suffixes);
        }
        out.flush_if_full().map_err(StorageError::io(doing()))
    })?;
    out.buffer.extend_from_slice(b"\x80\x03N.");
    out.flush()
        .and_then(|()| file.sync())
        .and_then(|()| disk.rename(&temporary, &index_path))
        .map_err(StorageError::io(doing()))
}

/// Goes back from the record at `position` to the object's last record before `end`.
fn position_before(data: &DataFile, position: u64, end: u64) -> Result<Option<u64>> {
    let mut position = position;
    while position >= end {
        position = data.read_head(position, Access::Wait)?.header.previous;
    }
    Ok((position > 0).then_some(position))
}

/// Reads the saved index. None where there is none, or none that can be
/// believed; the reason is logged.
pub fn load(disk: &dyn Disk, path: &Path, data: &DataFile) -> Result<Option<SavedIndex>> {
    let index_path = super::beside(path, ".index");
    if !disk.exists(&index_path) {
        return Ok(None);
    }
    let file = disk
        .open(&index_path, OpenMode::Read)
        .map_err(StorageError::io(format!(
            "opening {}",
            index_path.display()
        )))?;
    let unusable = |why: String| {
        tracing::warn!(
            "ignoring {}: {why}; the file is read instead",
            index_path.display()
        );
        Ok(None)
    };
    let (index, end) = match parse(&*file) {
        Ok(parsed) => parsed,
        Err(why) => return unusable(why),
    };
    match check(data, &index, end)? {
        Ok(last_tid) => Ok(Some(SavedIndex {
            index,
            end,
            last_tid,
        })),
        Err(why) => unusable(why),
    }
}

fn parse(file: &dyn DiskFile) -> std::result::Result<(Index, u64), String> {
    let mut pickles = Deserializer::new(FileReader { file, position: 0 }, DeOptions::new());
    let mut next = || -> std::result::Result<serde_pickle::Value, String> {
        let value = pickles
            .deserialize_value()
            .map_err(|error| error.to_string())?;
        pickles.reset_memo();
        Ok(value)
    };
    let serde_pickle::Value::I64(end) = next()? else {
        return Err("it has a form that is no longer written".into());
    };
    let end = u64::try_from(end).map_err(|_| "its position is negative".to_owned())?;
    let index = Index::default();
    loop {
        match next()? {
            serde_pickle::Value::None => return Ok((index, end)),
            serde_pickle::Value::Tuple(page) => match page.as_slice() {
                [
                    serde_pickle::Value::Bytes(prefix),
                    serde_pickle::Value::Bytes(bucket),
                ] => {
                    read_page(&index, prefix, bucket, end)?;
                }
                _ => return Err("it has a page that is no pair of bytes".into()),
            },
            _ => return Err("it has something that is no page".into()),
        }
    }
}

fn read_page(
    index: &Index,
    prefix: &[u8],
    bucket: &[u8],
    end: u64,
) -> std::result::Result<(), String> {
    if prefix.len() != PREFIX_BYTES {
        return Err(format!("a page's prefix has {} bytes", prefix.len()));
    }
    if !bucket.len().is_multiple_of(ENTRY_BYTES) {
        return Err(format!("a page has {} bytes", bucket.len()));
    }
    let (suffixes, positions) = bucket.split_at(bucket.len() / ENTRY_BYTES * SUFFIX_BYTES);
    let (suffixes, _) = suffixes.as_chunks::<SUFFIX_BYTES>();
    let (positions, _) = positions.as_chunks::<POSITION_BYTES>();
    for (suffix, position) in suffixes.iter().zip(positions) {
        let position = big_endian(position);
        if !(FIRST_TRANSACTION..end).contains(&position) {
            return Err(format!(
                "it names position {position}, the file ended at {end}"
            ));
        }
        let oid = (big_endian(prefix) << (8 * SUFFIX_BYTES)) | big_endian(suffix);
        index.set(Oid::from_u64(oid), position);
    }
    Ok(())
}

/// The number that at most 8 bytes are.
fn big_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, &byte| (number << 8) | u64::from(byte))
}

/// Does the index agree with the file's last records before `end`? The last
/// transaction's id, or what speaks against it.
fn check(data: &DataFile, index: &Index, end: u64) -> Result<std::result::Result<Tid, String>> {
    let file_length = data
        .file
        .len()
        .map_err(StorageError::io("reading the file's length"))?;
    if end > file_length {
        return Ok(Err(format!(
            "it is for {end} bytes, the file has {file_length}"
        )));
    }
    let mut last_tid = None;
    let mut checked = 0;
    let mut position = end;
    while checked < RECORDS_CHECKED && position > FIRST_TRANSACTION {
        let transaction_end = position;
        let head = match data
            .transaction_before(transaction_end, Access::Wait)
            .and_then(|start| Ok((start, data.read_transaction(start, Access::Wait)?)))
        {
            Ok((start, head)) => {
                position = start;
                head
            }
            Err(StorageError::Corrupt {
                problem, position, ..
            }) => {
                return Ok(Err(format!("{problem} at {position}")));
            }
            Err(error) => return Err(error),
        };
        if position + head.header.length + 8 != transaction_end {
            return Ok(Err(format!("no transaction ends at {transaction_end}")));
        }
        last_tid.get_or_insert(head.header.tid);
        let mut record = position + head.header.header_bytes();
        while record < transaction_end - 8 && checked < RECORDS_CHECKED {
            let header = match data.read_head(record, Access::Wait) {
                Ok(head) => head.header,
                Err(StorageError::Corrupt { problem, .. }) => return Ok(Err(problem)),
                Err(error) => return Err(error),
            };
            if header.transaction != position || index.get(header.oid).is_none_or(|at| at < record)
            {
                return Ok(Err(format!("it does not know the record at {record}")));
            }
            checked += 1;
            record = record.saturating_add(header.record_bytes());
        }
    }
    match last_tid {
        Some(tid) => Ok(Ok(tid)),
        None => Ok(Err("it is for an empty file".into())),
    }
}

/// Collects pickles and writes them in large pieces.
struct Out<'a> {
    file: &'a dyn DiskFile,
    written: u64,
    buffer: Vec<u8>,
}

/// Written once so many bytes have been collected.
const OUT_BYTES: usize = 1 << 20;

impl Out<'_> {
    fn put_position(&mut self, position: u64) {
        // LONG1 with 8 bytes; positions are below 2^48, so the sign bit is free.
        self.buffer.extend_from_slice(b"\x80\x03\x8a\x08");
        self.buffer.extend_from_slice(&position.to_le_bytes());
        self.buffer.push(b'.');
    }

    fn put_page(&mut self, prefix: [u8; 6], bucket: &[u8]) {
        self.buffer.extend_from_slice(b"\x80\x03C\x06");
        self.buffer.extend_from_slice(&prefix);
        // BINBYTES; a bucket has at most 65536 * 8 bytes.
        self.buffer.push(b'B');
        let length = u32::try_from(bucket.len()).unwrap_or(u32::MAX);
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.extend_from_slice(bucket);
        self.buffer.extend_from_slice(b"\x86.");
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < OUT_BYTES {
            Ok(())
        } else {
            self.flush()
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file
            .write_at(&[IoSlice::new(&self.buffer)], self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Reads a [`DiskFile`] from its start, buffered.
struct FileReader<'a> {
    file: &'a dyn DiskFile,
    position: u64,
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position, Access::Wait)?;
        self.position += count as u64;
        Ok(count)
    }
}
