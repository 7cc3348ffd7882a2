//! Goes through a `Data.fs` transaction by transaction.

use super::format::{FIRST_TRANSACTION, NUMBER_BYTES, STATUS_UNDONE};
use super::reader::{DataFile, TransactionHead};
use crate::disk::Access;
use crate::storage::{DataRecord, RecordIterator, Result, StorageError, TransactionIterator};
use crate::types::{Tid, TransactionMeta};

/// The transactions from a tid to a tid, both included.
#[derive(Debug)]
pub struct FileIterator {
    data: DataFile,
    position: u64,
    end: u64,
    stop: Tid,
    /// The transaction given last: its position and its header.
    current: Option<(u64, TransactionHead)>,
}

impl FileIterator {
    /// Over the transactions that end at or before `end` in the file.
    pub fn new(data: DataFile, end: u64, start: Option<Tid>, stop: Option<Tid>) -> Result<Self> {
        let position = match start {
            Some(start) if end > FIRST_TRANSACTION => find_start(&data, end, start)?,
            _ => FIRST_TRANSACTION,
        };
        Ok(Self {
            data,
            position,
            end,
            stop: stop.unwrap_or(Tid::MAX),
            current: None,
        })
    }

    /// From the transaction at `position` on.
    pub fn at(data: DataFile, position: u64, end: u64) -> Self {
        Self {
            data,
            position,
            end,
            stop: Tid::MAX,
            current: None,
        }
    }
}

/// The position of the first transaction at or after `start`, from the end of
/// the file that is nearer in time.
pub(super) fn find_start(data: &DataFile, end: u64, start: Tid) -> Result<u64> {
    let tid_at =
        |position| Ok::<_, StorageError>(data.read_transaction(position, Access::Wait)?.header);
    let first = tid_at(FIRST_TRANSACTION)?.tid;
    if start <= first {
        return Ok(FIRST_TRANSACTION);
    }
    let last = tid_at(data.transaction_before(end, Access::Wait)?)?.tid;
    if start > last {
        return Ok(end);
    }
    let from_first = start
        .to_time_since_epoch()
        .saturating_sub(first.to_time_since_epoch());
    let to_last = last
        .to_time_since_epoch()
        .saturating_sub(start.to_time_since_epoch());
    if from_first < to_last {
        let mut position = FIRST_TRANSACTION;
        loop {
            let header = tid_at(position)?;
            if header.tid >= start {
                return Ok(position);
            }
            position += header.length + NUMBER_BYTES as u64;
        }
    }
    let mut found = end;
    while found > FIRST_TRANSACTION {
        let before = data.transaction_before(found, Access::Wait)?;
        if tid_at(before)?.tid < start {
            break;
        }
        found = before;
    }
    Ok(found)
}

impl TransactionIterator for FileIterator {
    fn next_transaction(&mut self) -> Result<Option<TransactionMeta>> {
        while self.position < self.end {
            let position = self.position;
            let head = self.data.read_transaction(position, Access::Wait)?;
            let next = position
                .checked_add(head.header.length)
                .and_then(|next| next.checked_add(NUMBER_BYTES as u64))
                .filter(|&next| {
                    next <= self.end && head.header.length >= head.header.header_bytes()
                })
                .ok_or_else(|| self.data.corrupt(position, "impossible transaction length"))?;
            if head.header.tid > self.stop {
                self.position = self.end;
                break;
            }
            self.position = next;
            if head.header.status == STATUS_UNDONE {
                continue;
            }
            let meta = head.meta.clone();
            self.current = Some((position, head));
            return Ok(Some(meta));
        }
        self.current = None;
        Ok(None)
    }

    fn records(&self) -> Result<Box<dyn RecordIterator>> {
        let Some((transaction, head)) = &self.current else {
            return Err(self
                .data
                .corrupt(self.position, "no transaction to read records of"));
        };
        Ok(Box::new(FileRecords {
            data: self.data.clone(),
            transaction: *transaction,
            position: transaction + head.header.header_bytes(),
            end: transaction + head.header.length,
        }))
    }
}

#[derive(Debug)]
struct FileRecords {
    data: DataFile,
    transaction: u64,
    position: u64,
    end: u64,
}

impl RecordIterator for FileRecords {
    fn next_record(&mut self) -> Result<Option<DataRecord>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let head = self.data.read_head(position, Access::Wait)?;
        let next = position.saturating_add(head.header.record_bytes());
        if next > self.end || head.header.transaction != self.transaction {
            return Err(self
                .data
                .corrupt(position, "a record that reaches beyond its transaction"));
        }
        self.position = next;
        let oid = head.header.oid;
        let data_txn = match head.back {
            0 => None,
            back => Some(self.data.read_head_of(oid, back, Access::Wait)?.header.tid),
        };
        let data = if head.exists() {
            self.data.read_data(oid, position, Access::Wait)?
        } else {
            None
        };
        Ok(Some(DataRecord {
            oid,
            tid: head.header.tid,
            data,
            data_txn,
        }))
    }
}
