//! Reads a `Data.fs` from some position to its end: fills the index, and cuts
//! off what a crash left half-written.

use std::collections::HashMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::format::{
    DATA_HEADER_BYTES, DataHeader, NUMBER_BYTES, STATUS_COMMITTED, STATUS_PACKED, STATUS_UNDONE,
    STATUS_VOTED, TRANSACTION_HEADER_BYTES, TransactionHeader,
};
use super::index::Index;
use super::reader::DataFile;
use crate::disk::{Access, Disk, DiskFile, OpenMode};
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// So much is read at once.
const WINDOW_BYTES: usize = 4 << 20;
/// How often a long scan says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Where the good part of a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Position behind the last transaction.
    pub end: u64,
    /// The last transaction.
    pub last_tid: Tid,
}

/// Why a scan stopped before the end of the file.
struct Stop {
    position: u64,
    problem: String,
}

/// Reads all transactions from `from` (whose last predecessor is `from.last_tid`)
/// and enters their records into `index`.
///
/// A file that ends in an incomplete transaction is cut back to the one before;
/// the cut bytes are kept in a file beside it (`.tr0`, `.tr1`, …, as ZODB does).
/// With `read_only` nothing is cut, the incomplete transaction is just not seen.
/// Damage that good transactions follow is an error: nothing may be thrown away there.
pub fn scan(
    disk: &dyn Disk,
    data: &DataFile,
    path: &Path,
    index: &Index,
    from: Scanned,
    read_only: bool,
) -> Result<Scanned> {
    let length = data
        .file
        .len()
        .map_err(StorageError::io("reading the file's length"))?;
    let mut scan = Scan {
        window: Window {
            data,
            start: 0,
            bytes: Vec::new(),
        },
        data,
        index,
        length,
        positions: HashMap::new(),
        told: Instant::now(),
    };
    let mut good = from;
    while good.end < length {
        match scan.transaction(good)? {
            Ok(next) => good = next,
            Err(stop) => {
                scan.refuse_damage_in_the_middle(&good, &stop)?;
                if read_only {
                    tracing::warn!(
                        "{}: {} at {}; the rest is not seen",
                        data.name,
                        stop.problem,
                        stop.position
                    );
                } else {
                    cut(disk, data, path, good.end, length, &stop)?;
                }
                break;
            }
        }
    }
    Ok(good)
}

struct Scan<'a> {
    window: Window<'a>,
    data: &'a DataFile,
    index: &'a Index,
    length: u64,
    /// The records of the transaction being read.
    positions: HashMap<Oid, u64>,
    told: Instant,
}

impl Scan<'_> {
    /// Reads the transaction at `before.end`.
    fn transaction(&mut self, before: Scanned) -> Result<std::result::Result<Scanned, Stop>> {
        let position = before.end;
        let stop = |problem: &str| {
            Ok(Err(Stop {
                position,
                problem: problem.to_owned(),
            }))
        };
        let Some(bytes) = self.window.get::<TRANSACTION_HEADER_BYTES>(position)? else {
            return stop("the file ends within a transaction's header");
        };
        let header = TransactionHeader::parse(bytes);
        let whole = header.length.checked_add(NUMBER_BYTES as u64);
        let Some(end) = whole.and_then(|whole| position.checked_add(whole)) else {
            return stop("a transaction of impossible length");
        };
        if header.status == STATUS_VOTED {
            return stop("a transaction that was voted and never finished");
        }
        if end > self.length {
            return stop("the file ends within a transaction");
        }
        if header.length < header.header_bytes() {
            return stop("a transaction shorter than its header");
        }
        let records_end = end - NUMBER_BYTES as u64;
        if header.status != STATUS_UNDONE
            && let Some(problem) = self.records(position, &header, records_end)?
        {
            return stop(&problem);
        }
        let closing = self
            .window
            .get::<NUMBER_BYTES>(records_end)?
            .map(|n| u64::from_be_bytes(*n));
        if closing != Some(header.length) {
            return stop("a transaction whose two lengths differ");
        }
        self.note_oddities(position, &header, before.last_tid);
        for (oid, record) in self.positions.drain() {
            self.index.set(oid, record);
        }
        self.tell_progress(end);
        Ok(Ok(Scanned {
            end,
            last_tid: header.tid,
        }))
    }

    /// Collects the records of a transaction; what is wrong with them.
    fn records(
        &mut self,
        transaction: u64,
        header: &TransactionHeader,
        records_end: u64,
    ) -> Result<Option<String>> {
        self.positions.clear();
        let mut position = transaction + header.header_bytes();
        while position < records_end {
            let Some(record) = self
                .window
                .get::<DATA_HEADER_BYTES>(position)?
                .and_then(DataHeader::parse)
            else {
                return Ok(Some(format!("a damaged record (at {position})")));
            };
            let next = position.saturating_add(record.record_bytes());
            if next > records_end || record.transaction != transaction {
                return Ok(Some(format!(
                    "a record that reaches beyond it (at {position})"
                )));
            }
            if self.index.get(record.oid).unwrap_or(0) != record.previous {
                tracing::debug!(
                    "{}: the record of {} at {position} names {} as the one before it",
                    self.data.name,
                    record.oid,
                    record.previous
                );
            }
            self.positions.insert(record.oid, position);
            position = next;
        }
        Ok(None)
    }

    fn note_oddities(&self, position: u64, header: &TransactionHeader, last_tid: Tid) {
        let name = &self.data.name;
        if header.tid <= last_tid {
            tracing::warn!(
                "{name}: transaction {} at {position} is not later than the one before",
                header.tid
            );
        }
        if !matches!(
            header.status,
            STATUS_COMMITTED | STATUS_PACKED | STATUS_UNDONE
        ) {
            tracing::warn!(
                "{name}: transaction at {position} has the unknown status {:?}",
                char::from(header.status)
            );
        }
    }

    fn tell_progress(&mut self, end: u64) {
        if self.told.elapsed() >= PROGRESS_INTERVAL {
            self.told = Instant::now();
            let percent = end
                .saturating_mul(100)
                .checked_div(self.length)
                .unwrap_or(100);
            tracing::info!("{}: {percent} % read for the index", self.data.name);
        }
    }

    /// A crash damages the end of a file only. Goes back from the end: where a
    /// whole transaction lies behind the damage, this is something else.
    fn refuse_damage_in_the_middle(&self, good: &Scanned, stop: &Stop) -> Result<()> {
        let last = self.data.transaction_before(self.length, Access::Wait);
        let Ok(start) = last else { return Ok(()) };
        if start <= stop.position {
            return Ok(());
        }
        match self.data.read_transaction(start, Access::Wait) {
            Ok(head)
                if head.header.length == self.length - NUMBER_BYTES as u64 - start
                    && head.header.status != STATUS_VOTED
                    && head.header.tid > good.last_tid =>
            {
                Err(self.data.corrupt(
                    stop.position,
                    format!(
                        "{}, and good transactions follow (the last at {start}). \
                         The file is damaged and is left as it is; \
                         restore it from a backup or repair it with ZODB's fsrecover",
                        stop.problem
                    ),
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Cuts `data` back to `end`, after saving what lies behind it.
fn cut(
    disk: &dyn Disk,
    data: &DataFile,
    path: &Path,
    end: u64,
    length: u64,
    stop: &Stop,
) -> Result<()> {
    let kept = free_name(disk, path);
    let saved = disk
        .open(&kept, OpenMode::Truncate)
        .map_err(StorageError::io(format!("making {}", kept.display())))?;
    copy(data, &*saved, end, length).map_err(StorageError::io(format!(
        "saving cut bytes to {}",
        kept.display()
    )))?;
    tracing::warn!(
        "{}: {} at {}; cut back to {end} bytes, the {} bytes behind are kept in {}",
        data.name,
        stop.problem,
        stop.position,
        length - end,
        kept.display()
    );
    data.file
        .set_len(end)
        .and_then(|()| data.file.sync())
        .map_err(StorageError::io(format!("cutting {} back", data.name)))
}

fn free_name(disk: &dyn Disk, path: &Path) -> PathBuf {
    let mut number = 0_u32;
    loop {
        let name = super::beside(path, &format!(".tr{number}"));
        if !disk.exists(&name) {
            return name;
        }
        number += 1;
    }
}

fn copy(from: &DataFile, to: &dyn DiskFile, start: u64, end: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; WINDOW_BYTES];
    let mut position = start;
    while position < end {
        let count = from.file.read_at(&mut buffer, position, Access::Wait)?;
        let piece = buffer.get(..count).filter(|piece| !piece.is_empty());
        let Some(piece) = piece else { break };
        to.write_at(&[IoSlice::new(piece)], position - start)?;
        position += count as u64;
    }
    to.sync()
}

/// A piece of the file in memory, moved forwards as the scan goes.
struct Window<'a> {
    data: &'a DataFile,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// The `N` bytes at `position`; None where the file ends before.
    fn get<const N: usize>(&mut self, position: u64) -> Result<Option<&[u8; N]>> {
        let offset = position
            .checked_sub(self.start)
            .and_then(|offset| usize::try_from(offset).ok());
        let inside = offset.filter(|offset| offset.saturating_add(N) <= self.bytes.len());
        let offset = if let Some(offset) = inside {
            offset
        } else {
            self.bytes.resize(WINDOW_BYTES, 0);
            let count = self
                .data
                .file
                .read_at(&mut self.bytes, position, Access::Wait)
                .map_err(StorageError::io(format!("reading {}", self.data.name)))?;
            self.bytes.truncate(count);
            self.start = position;
            0
        };
        Ok(self.bytes.get(offset..).and_then(<[u8]>::first_chunk))
    }
}
