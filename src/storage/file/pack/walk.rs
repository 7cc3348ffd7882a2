//! Goes through transactions and their records, and believes nothing: what
//! ZODB checks before a pack is checked here, so that a damaged file is never
//! packed.

use super::window::Window;
use crate::storage::Result;
use crate::storage::file::format::{
    DataHeader, NUMBER_BYTES, STATUS_COMMITTED, STATUS_PACKED, STATUS_UNDONE,
    TRANSACTION_HEADER_BYTES, TransactionHeader,
};
use crate::types::Tid;

/// A transaction in the file.
#[derive(Clone, Copy, Debug)]
pub struct Transaction {
    /// Where it begins.
    pub position: u64,
    /// Its header.
    pub header: TransactionHeader,
}

/// A record in the file.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Where it begins.
    pub position: u64,
    /// Its header.
    pub header: DataHeader,
    /// The record that holds the data; 0 where this one does, or none.
    pub back: u64,
}

impl Transaction {
    /// Reads the header at `position`; nothing of it is checked yet.
    pub fn read(window: &mut Window<'_>, position: u64) -> Result<Self> {
        let bytes = window.array::<TRANSACTION_HEADER_BYTES>(position)?;
        Ok(Self {
            position,
            header: TransactionHeader::parse(&bytes),
        })
    }

    /// Where its records begin.
    pub fn records(&self) -> u64 {
        self.position + self.header.header_bytes()
    }

    /// Where its records end.
    pub fn records_end(&self) -> u64 {
        self.position.saturating_add(self.header.length)
    }

    /// Where the next transaction begins.
    pub fn end(&self) -> u64 {
        self.records_end().saturating_add(NUMBER_BYTES as u64)
    }

    /// Refuses a header that cannot follow one of `last`.
    pub fn check(&self, window: &Window<'_>, last: Tid) -> Result<()> {
        let TransactionHeader {
            tid,
            status,
            length,
            ..
        } = self.header;
        let problem = if tid <= last {
            format!("transaction {tid} does not come after the one before it, {last}")
        } else if !matches!(status, STATUS_COMMITTED | STATUS_PACKED | STATUS_UNDONE) {
            format!(
                "a transaction of the unknown status {:?}",
                char::from(status)
            )
        } else if length < self.header.header_bytes() {
            "a transaction shorter than its header".to_owned()
        } else {
            return Ok(());
        };
        Err(window.corrupt(self.position, problem))
    }

    /// Calls `visit` with each record, then compares the two lengths.
    pub fn for_each_record(
        &self,
        window: &mut Window<'_>,
        mut visit: impl FnMut(&mut Window<'_>, Record) -> Result<()>,
    ) -> Result<()> {
        let mut position = self.records();
        while position < self.records_end() {
            let record = self.record(window, position)?;
            visit(window, record)?;
            position += record.header.record_bytes();
        }
        if window.number(position)? == self.header.length {
            Ok(())
        } else {
            Err(window.corrupt(self.position, "a transaction whose two lengths differ"))
        }
    }

    /// Reads the record at `position`.
    pub fn record(&self, window: &mut Window<'_>, position: u64) -> Result<Record> {
        let head = window.head(position)?;
        let header = head.header;
        let problem = if header.transaction != self.position {
            "a record that names another transaction as its own"
        } else if position.saturating_add(header.record_bytes()) > self.records_end() {
            "a record that reaches beyond its transaction"
        } else if header.previous >= position || head.back >= position {
            "a pointer forwards"
        } else {
            return Ok(Record {
                position,
                header,
                back: head.back,
            });
        };
        Err(window.corrupt(position, problem))
    }
}

/// The place of the data that a back pointer leads to: position and length.
/// None: the object does not exist there.
pub fn resolve(window: &mut Window<'_>, back: u64) -> Result<Option<(u64, u64)>> {
    let mut position = back;
    while position != 0 {
        let head = window.head(position)?;
        if head.header.data_bytes > 0 {
            let at = position + crate::storage::file::format::DATA_HEADER_BYTES as u64;
            return Ok(Some((at, head.header.data_bytes)));
        }
        if head.back >= position {
            return Err(window.corrupt(position, "a pointer forwards"));
        }
        position = head.back;
    }
    Ok(None)
}
