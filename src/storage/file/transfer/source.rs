//! A `Data.fs` as a source of transactions: its whole content in one pass, and
//! single transactions after that.

use std::collections::HashMap;

use super::HeldFile;
use super::content::{Body, DataDigests, Head, Previous, Record, Visitor};
use super::places::Places;
use crate::storage::file::format::{
    DATA_HEADER_BYTES, FIRST_TRANSACTION, NUMBER_BYTES, TRANSACTION_HEADER_BYTES,
};
use crate::storage::file::index::Index;
use crate::storage::file::pack::progress::Progress;
use crate::storage::file::pack::walk::{self, Transaction};
use crate::storage::file::pack::window::{PASS_BYTES, Window};
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// A transaction that a source gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Where it begins in the source's file.
    pub position: u64,
    /// Where the next one begins.
    pub end: u64,
    /// Its id.
    pub tid: Tid,
    /// Its status, which no digest covers.
    pub status: u8,
}

/// A file up to a fixed end.
///
/// Memory: 8 bytes per object in the first pass; afterwards what
/// [`MAX_UNUSUAL`] bounds.
#[derive(Debug)]
pub struct Source<'a> {
    held: &'a HeldFile,
    window: Window<'a>,
    places: Places,
    /// Of the first pass: where each object's newest record is so far.
    newest: Index,
    /// The first pass has come so far.
    position: u64,
    last_tid: Tid,
    /// Records that do not name the newest record before them.
    unusual: HashMap<u64, Previous>,
    crc: crc32fast::Hasher,
    is_first_pass: bool,
    /// Go on where a pointer leads nowhere?
    is_lenient: bool,
    /// The records of the transaction at hand.
    written: Vec<(Oid, u64)>,
}

/// A file with more records that name another one than usual is copied as it
/// is. A packed file has few: those that an undo led to.
const MAX_UNUSUAL: usize = 1 << 20;

impl<'a> Source<'a> {
    /// Reads `held`, until `progress` is told to stop.
    pub fn new(held: &'a HeldFile, progress: &'a Progress) -> Self {
        let (data, end) = (&held.data, held.end);
        Self {
            held,
            window: Window::new(data, progress, end, PASS_BYTES),
            places: Places::new(data.clone(), end),
            newest: Index::default(),
            position: FIRST_TRANSACTION,
            last_tid: Tid::ZERO,
            unusual: HashMap::new(),
            crc: crc32fast::Hasher::new_with_initial(crc32fast::hash(&held.magic)),
            is_first_pass: true,
            is_lenient: false,
            written: Vec::new(),
        }
    }

    /// From a file that may be damaged. What a pointer leads to that leads
    /// nowhere is told wrongly, so that the digest is not that of a sound
    /// transaction.
    pub fn lenient(held: &'a HeldFile, progress: &'a Progress) -> Self {
        Self {
            is_lenient: true,
            ..Self::new(held, progress)
        }
    }

    /// After damage: goes on behind it, as far as that can be told.
    pub fn skip_damage(&mut self) {
        self.written.clear();
        self.position = behind_damage(self.held, self.position).unwrap_or(self.held.end);
    }

    /// The next transaction of the first pass; None at the end.
    pub fn next(&mut self, visitor: &mut dyn Visitor) -> Result<Option<Passed>> {
        if self.position >= self.held.end {
            return Ok(None);
        }
        self.written.clear();
        let transaction = Transaction::read(&mut self.window, self.position)?;
        transaction.check(&self.window, self.last_tid)?;
        let passed = self.walk(&transaction, visitor)?;
        for (oid, position) in self.written.drain(..) {
            self.newest.set(oid, position);
        }
        self.position = passed.end;
        self.last_tid = passed.tid;
        Ok(Some(passed))
    }

    /// The id of the transaction that [`Self::next`] gives next.
    pub fn next_tid(&mut self) -> Result<Option<Tid>> {
        if self.position >= self.held.end {
            return Ok(None);
        }
        let transaction = Transaction::read(&mut self.window, self.position)?;
        let end = transaction.end();
        // A damaged id would let all that follows wait for its time to come.
        if self.is_lenient
            && (self.window.number(transaction.records_end())? != transaction.header.length
                || (end < self.held.end
                    && Transaction::read(&mut self.window, end)?.header.tid
                        <= transaction.header.tid))
        {
            let problem = "a transaction that is not before the next one";
            return Err(self.window.corrupt(self.position, problem));
        }
        Ok(Some(transaction.header.tid))
    }

    /// Where the first pass is.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Ends the first pass: afterwards single transactions are visited. The
    /// CRC-32 of the file up to there.
    pub fn end_first_pass(&mut self) -> u32 {
        self.is_first_pass = false;
        self.newest = Index::default();
        std::mem::take(&mut self.crc).finalize()
    }

    /// What is needed of [`Self::next`] where only positions count.
    pub fn look_at(&mut self, position: u64) -> Result<Passed> {
        let transaction = Transaction::read(&mut self.window, position)?;
        Ok(passed(&transaction))
    }

    /// Visits the transaction at `position`, which the first pass has given.
    pub fn visit(&mut self, position: u64, visitor: &mut dyn Visitor) -> Result<Passed> {
        let transaction = Transaction::read(&mut self.window, position)?;
        self.walk(&transaction, visitor)
    }

    /// The digests of the data of a transaction's records.
    pub fn data_digests(&mut self, position: u64) -> Result<DataDigests> {
        let mut digests = DataDigests::default();
        self.visit(position, &mut digests)?;
        Ok(digests)
    }

    /// Where the data of a transaction's records is: position and length, None
    /// for records without data of their own.
    pub fn data_places(&mut self, position: u64) -> Result<Vec<Option<(u64, u64)>>> {
        let transaction = Transaction::read(&mut self.window, position)?;
        let mut places = Vec::new();
        transaction.for_each_record(&mut self.window, |_, record| {
            let bytes = record.header.data_bytes;
            places.push((bytes > 0).then_some((record.position + DATA_HEADER_BYTES as u64, bytes)));
            Ok(())
        })?;
        Ok(places)
    }

    /// Hands on `bytes` of the file.
    pub fn pieces(
        &mut self,
        position: u64,
        bytes: u64,
        mut visit: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let (mut at, end) = (position, position.saturating_add(bytes));
        while at < end {
            let piece = self.window.some(at, end - at)?;
            at += piece.len().max(1) as u64;
            visit(piece)?;
        }
        Ok(())
    }

    fn walk(&mut self, transaction: &Transaction, visitor: &mut dyn Visitor) -> Result<Passed> {
        let passed = passed(transaction);
        if passed.end > self.held.end
            || transaction.header.length < transaction.header.header_bytes()
        {
            return Err(self
                .window
                .corrupt(transaction.position, "a transaction of impossible length"));
        }
        let header_bytes = usize::try_from(transaction.header.header_bytes()).unwrap_or(usize::MAX);
        let bytes = self.window.get(transaction.position, header_bytes)?;
        self.crc.update(bytes);
        let head = Head {
            header: transaction.header,
            texts: bytes
                .get(TRANSACTION_HEADER_BYTES..)
                .unwrap_or_default()
                .to_vec(),
        };
        visitor.begin(&head)?;
        if head.is_raw() {
            let bytes = transaction.records_end() - transaction.records();
            self.hand_on(transaction.records(), bytes, visitor)?;
        } else {
            let mut position = transaction.records();
            while position < transaction.records_end() {
                let record = transaction.record(&mut self.window, position)?;
                self.record(&record, visitor)?;
                position += record.header.record_bytes();
            }
        }
        let closing = self
            .window
            .array::<NUMBER_BYTES>(transaction.records_end())?;
        if u64::from_be_bytes(closing) != transaction.header.length {
            return Err(self.window.corrupt(
                transaction.position,
                "a transaction whose two lengths differ",
            ));
        }
        self.crc.update(&closing);
        visitor.end()?;
        Ok(passed)
    }

    fn record(&mut self, record: &walk::Record, visitor: &mut dyn Visitor) -> Result<()> {
        let header = record.header;
        let previous = self.previous(record)?;
        let body = match (header.data_bytes, record.back) {
            (0, 0) => Body::Nothing,
            (0, back) => match self.places.reference(back, header.oid) {
                Err(error) if self.is_lenient && is_damage(&error) => Body::Nothing,
                reference => Body::SameAs(reference?),
            },
            (bytes, _) => Body::Data(bytes),
        };
        visitor.record(&Record {
            oid: header.oid,
            tid: header.tid,
            previous,
            body,
        })?;
        let data = record.position + DATA_HEADER_BYTES as u64;
        if self.is_first_pass {
            self.written.push((header.oid, record.position));
            self.crc.update(&header.to_bytes());
            if header.data_bytes == 0 {
                self.crc.update(&record.back.to_be_bytes());
            }
        }
        self.hand_on(data, header.data_bytes, visitor)
    }

    fn hand_on(&mut self, position: u64, bytes: u64, visitor: &mut dyn Visitor) -> Result<()> {
        let (mut at, end) = (position, position.saturating_add(bytes));
        while at < end {
            let piece = self.window.some(at, end - at)?;
            at += piece.len().max(1) as u64;
            if self.is_first_pass {
                self.crc.update(piece);
            }
            visitor.data(piece)?;
        }
        Ok(())
    }

    fn previous(&mut self, record: &walk::Record) -> Result<Previous> {
        if !self.is_first_pass {
            let unusual = self.unusual.get(&record.position);
            return Ok(unusual.copied().unwrap_or(Previous::Newest));
        }
        let header = &record.header;
        if self.newest.get(header.oid).unwrap_or(0) == header.previous {
            return Ok(Previous::Newest);
        }
        let previous = match header.previous {
            0 => Previous::None,
            at => match self.places.reference(at, header.oid) {
                Err(error) if self.is_lenient && is_damage(&error) => Previous::None,
                reference => Previous::Record(reference?),
            },
        };
        if self.unusual.len() >= MAX_UNUSUAL {
            return Err(self
                .window
                .corrupt(record.position, "too many unusual pointers"));
        }
        self.unusual.insert(record.position, previous);
        Ok(previous)
    }
}

fn passed(transaction: &Transaction) -> Passed {
    Passed {
        position: transaction.position,
        end: transaction.end(),
        tid: transaction.header.tid,
        status: transaction.header.status,
    }
}

/// Where a file goes on after damage at `damage`: the first transaction behind
/// it, found by going back from the end. None: nothing behind it can be told.
pub fn behind_damage(held: &HeldFile, damage: u64) -> Option<u64> {
    use crate::disk::Access::Wait;
    let mut position = held.end;
    let mut later = Tid::MAX;
    while position > damage {
        let Ok(before) = held.data.transaction_before(position, Wait) else {
            break;
        };
        let sound = held.data.read_transaction(before, Wait).is_ok_and(|head| {
            head.header.length == position - NUMBER_BYTES as u64 - before && head.header.tid < later
        });
        if before <= damage || !sound {
            break;
        }
        if let Ok(head) = held.data.read_transaction(before, Wait) {
            later = head.header.tid;
        }
        position = before;
    }
    (position < held.end).then_some(position)
}

/// Is this an error of the file rather than of the disk?
pub fn is_damage(error: &StorageError) -> bool {
    matches!(error, StorageError::Corrupt { .. })
}
