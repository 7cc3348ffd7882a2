//! Lays transactions out as they stand in the file, and writes them.

use std::io::{self, IoSlice};
use std::ops::Range;

use super::format::{
    DATA_HEADER_BYTES, DataHeader, NUMBER_BYTES, STATUS_COMMITTED, TransactionHeader,
};
use super::index::Index;
use super::reader::DataFile;
use crate::disk::{Access, DiskFile};
use crate::storage::{
    Committing, Result, Staged, StagedBody, StagedRecord, StagedRecordKind, StorageError,
};
use crate::types::{MAX_METADATA_BYTES, Oid, Tid};

/// A transaction that waits in a temporary file is copied in pieces of this size.
const COPY_BYTES: usize = 1 << 20;

/// A batch of transactions as it will stand in the file from `start` on.
#[derive(Debug, Default)]
pub struct Layout {
    /// Bytes that are not the client's: headers, lengths, pointers.
    own: Vec<u8>,
    pieces: Vec<Piece>,
    /// What goes into the gaps of bodies that are files: the transaction, the
    /// place in its body, and the header in `own`. In order.
    gaps: Vec<Gap>,
    /// Where each record will stand.
    pub positions: Vec<(Oid, u64)>,
    /// Position behind the batch.
    pub end: u64,
}

#[derive(Debug)]
struct Gap {
    transaction: usize,
    at: u64,
    header: Range<usize>,
}

#[derive(Debug)]
enum Piece {
    /// Bytes of `Layout::own`.
    Own(Range<usize>),
    /// Bytes of a transaction's body.
    Body {
        transaction: usize,
        range: Range<u64>,
    },
}

/// Bytes that a transaction takes in the file at most.
pub fn transaction_bytes(staged: &Staged) -> u64 {
    let meta = &staged.meta;
    let texts = meta.user.len() + meta.description.len() + meta.extension.len();
    let records: u64 = staged
        .records
        .iter()
        .map(|record| DATA_HEADER_BYTES as u64 + record.data_bytes().max(NUMBER_BYTES as u64))
        .sum();
    super::format::TRANSACTION_HEADER_BYTES as u64 + texts as u64 + records + NUMBER_BYTES as u64
}

/// Refuses what the format cannot hold, where ZODB has words for it in those.
pub fn check_lengths(staged: &Staged) -> Result<()> {
    let meta = &staged.meta;
    for (text, what) in [
        (&meta.user, "user name too long"),
        (&meta.description, "description too long"),
        (&meta.extension, "too much extension data"),
    ] {
        if text.len() > MAX_METADATA_BYTES {
            return Err(StorageError::MetadataTooLong { what });
        }
    }
    let is_empty =
        |record: &&StagedRecord| record.kind == StagedRecordKind::Store && record.data.is_empty();
    match staged.records.iter().find(is_empty) {
        Some(record) => Err(StorageError::EmptyRecord { oid: record.oid }),
        None => Ok(()),
    }
}

impl Layout {
    /// Lays out `batch` behind position `start`. Headers go into the gaps of
    /// the transactions' bodies; files are left as they are, others may have them, too.
    pub fn new(
        batch: &mut [Committing],
        start: u64,
        index: &Index,
        data: &DataFile,
    ) -> Result<Self> {
        let mut layout = Self {
            end: start,
            ..Self::default()
        };
        for (number, committing) in batch.iter_mut().enumerate() {
            layout.transaction(number, committing, index, data)?;
        }
        Ok(layout)
    }

    fn transaction(
        &mut self,
        number: usize,
        committing: &mut Committing,
        index: &Index,
        data: &DataFile,
    ) -> Result<()> {
        let Committing { tid, staged } = committing;
        let backs = find_backs(staged, index, data)?;
        let start = self.end;
        let meta = &staged.meta;
        let mut header = TransactionHeader {
            tid: *tid,
            length: 0,
            status: if meta.status == 0 {
                STATUS_COMMITTED
            } else {
                meta.status
            },
            user_bytes: text_length(&meta.user),
            description_bytes: text_length(&meta.description),
            extension_bytes: text_length(&meta.extension),
        };
        let records: u64 = staged
            .records
            .iter()
            .zip(&backs)
            .map(|(record, &back)| record_bytes(record, back))
            .sum();
        header.length = header.header_bytes() + records;
        let own_start = self.own.len();
        header.put(&mut self.own);
        for text in [&meta.user, &meta.description, &meta.extension] {
            self.own.extend_from_slice(text);
        }
        self.pieces.push(Piece::Own(own_start..self.own.len()));

        let mut position = start + header.header_bytes();
        for (record, &back) in staged.records.iter().zip(&backs) {
            self.positions.push((record.oid, position));
            let head = DataHeader {
                oid: record.oid,
                tid: serial(record, *tid),
                previous: index.get(record.oid).unwrap_or(0),
                transaction: start,
                data_bytes: written_data_bytes(record, back),
            };
            self.record(number, record, &head, back, &mut staged.body)?;
            position += head.record_bytes();
        }
        debug_assert_eq!(position, start + header.length, "the records add up");
        let own_start = self.own.len();
        self.own.extend_from_slice(&header.length.to_be_bytes());
        self.pieces.push(Piece::Own(own_start..self.own.len()));
        self.end = start + header.length + NUMBER_BYTES as u64;
        Ok(())
    }

    fn record(
        &mut self,
        transaction: usize,
        record: &StagedRecord,
        head: &DataHeader,
        back: u64,
        body: &mut StagedBody,
    ) -> Result<()> {
        if head.data_bytes == 0 {
            let own_start = self.own.len();
            self.own.extend_from_slice(&head.to_bytes());
            self.own.extend_from_slice(&back.to_be_bytes());
            self.pieces.push(Piece::Own(own_start..self.own.len()));
            return Ok(());
        }
        let range = record.data.start.saturating_sub(DATA_HEADER_BYTES as u64)..record.data.end;
        match body {
            StagedBody::Memory(bytes) => fill_gap(bytes, range.start, &head.to_bytes())
                .map_err(StorageError::io("laying a transaction out"))?,
            StagedBody::File(_) => {
                let own_start = self.own.len();
                self.own.extend_from_slice(&head.to_bytes());
                self.gaps.push(Gap {
                    transaction,
                    at: range.start,
                    header: own_start..self.own.len(),
                });
            }
        }
        match self.pieces.last_mut() {
            // Records that lie one behind the other are written in one piece.
            Some(Piece::Body {
                transaction: same,
                range: before,
            }) if *same == transaction && before.end == range.start => {
                before.end = range.end;
            }
            _ => self.pieces.push(Piece::Body { transaction, range }),
        }
        Ok(())
    }

    /// Writes the batch from `start` on, not yet durable.
    pub fn write(&self, batch: &[Committing], start: u64, file: &dyn DiskFile) -> io::Result<()> {
        let mut position = start;
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            match piece {
                Piece::Own(range) => {
                    slices.push(IoSlice::new(
                        self.own.get(range.clone()).unwrap_or_default(),
                    ));
                }
                Piece::Body { transaction, range } => {
                    match batch
                        .get(*transaction)
                        .map(|committing| &committing.staged.body)
                    {
                        Some(StagedBody::Memory(bytes)) => {
                            let range = as_usize(range.start)?..as_usize(range.end)?;
                            slices.push(IoSlice::new(bytes.get(range).unwrap_or_default()));
                        }
                        Some(body @ StagedBody::File(_)) => {
                            position = flush(file, &mut slices, position)?;
                            position = self.copy(*transaction, body, range, file, position)?;
                        }
                        None => return Err(io::Error::other("a piece of no transaction")),
                    }
                }
            }
        }
        position = flush(file, &mut slices, position)?;
        debug_assert_eq!(position, self.end, "what was laid out is what was written");
        Ok(())
    }

    /// Copies a piece of a file to `position`, with the headers in its gaps;
    /// the position behind it.
    fn copy(
        &self,
        transaction: usize,
        body: &StagedBody,
        range: &Range<u64>,
        file: &dyn DiskFile,
        position: u64,
    ) -> io::Result<u64> {
        let mut buffer = Vec::new();
        let mut from = range.start;
        let mut position = position;
        while from < range.end {
            let until = range.end.min(from + COPY_BYTES as u64);
            body.read(&(from..until), &mut buffer)?;
            self.fill_gaps(transaction, from, &mut buffer)?;
            file.write_at(&[IoSlice::new(&buffer)], position)?;
            position += buffer.len() as u64;
            from = until;
        }
        Ok(position)
    }

    /// Puts headers, or the parts of them that lie there, into a piece of a body.
    fn fill_gaps(&self, transaction: usize, from: u64, piece: &mut [u8]) -> io::Result<()> {
        let until = from + piece.len() as u64;
        let is_before =
            |gap: &Gap| (gap.transaction, gap.at + DATA_HEADER_BYTES as u64) <= (transaction, from);
        let first = self.gaps.partition_point(is_before);
        let gaps = self.gaps.get(first..).unwrap_or_default().iter();
        for gap in gaps.take_while(|gap| gap.transaction == transaction && gap.at < until) {
            let header = self.own.get(gap.header.clone()).unwrap_or_default();
            let skipped = as_usize(from.saturating_sub(gap.at))?;
            let place = as_usize(gap.at.saturating_sub(from))?;
            let rest = header.get(skipped..).unwrap_or_default();
            let count = rest.len().min(piece.len() - place);
            if let (Some(to), Some(part)) = (piece.get_mut(place..place + count), rest.get(..count))
            {
                to.copy_from_slice(part);
            }
        }
        Ok(())
    }
}

/// For each record, in order: where the older record stands whose data it
/// shares; 0 where it shares none.
type Backs = Vec<u64>;

fn find_backs(staged: &Staged, index: &Index, data: &DataFile) -> Result<Backs> {
    let back = |record: &StagedRecord| match record.kind {
        StagedRecordKind::Restore {
            previous: Some(previous),
            has_data,
            ..
        } => match record_in_transaction(record.oid, previous, index, data)? {
            Some(candidate) if same_data(staged, record, has_data, candidate, data)? => {
                Ok(candidate)
            }
            _ => Ok(0),
        },
        StagedRecordKind::Undo { to: Some(to) } => {
            record_in_transaction(record.oid, to, index, data)?.ok_or_else(|| {
                // Votes of undo keep a pack from taking it away.
                data.corrupt(0, format!("{} has lost its state of {to}", record.oid))
            })
        }
        _ => Ok(0),
    };
    staged.records.iter().map(back).collect()
}

/// The position of the record of `oid` in transaction `tid`. The hint that a
/// client gives may name a transaction that is not here.
pub(super) fn record_in_transaction(
    oid: Oid,
    tid: Tid,
    index: &Index,
    data: &DataFile,
) -> Result<Option<u64>> {
    let mut position = index.get(oid).unwrap_or(0);
    while position > 0 {
        let header = data.read_head_of(oid, position, Access::Wait)?.header;
        if header.tid <= tid {
            return Ok((header.tid == tid).then_some(position));
        }
        if header.previous >= position {
            return Err(data.corrupt(position, "a pointer forwards"));
        }
        position = header.previous;
    }
    Ok(None)
}

/// Does the record at `candidate` hold what `record` restores? One that itself
/// points back is believed, as ZODB does.
fn same_data(
    staged: &Staged,
    record: &StagedRecord,
    has_data: bool,
    candidate: u64,
    data: &DataFile,
) -> Result<bool> {
    let header = data
        .read_head_of(record.oid, candidate, Access::Wait)?
        .header;
    if header.data_bytes == 0 {
        return Ok(true);
    }
    if !has_data || header.data_bytes != record.data_bytes() {
        return Ok(false);
    }
    let mut restored = Vec::new();
    staged
        .body
        .read(&record.data, &mut restored)
        .map_err(StorageError::io("reading a transaction's temporary file"))?;
    Ok(data.read_data(record.oid, candidate, Access::Wait)? == Some(restored))
}

fn serial(record: &StagedRecord, tid: Tid) -> Tid {
    match record.kind {
        StagedRecordKind::Restore { serial, .. } => serial,
        StagedRecordKind::Store | StagedRecordKind::Delete | StagedRecordKind::Undo { .. } => tid,
    }
}

/// Length of the data that the record will have in the file; 0: a back pointer.
fn written_data_bytes(record: &StagedRecord, back: u64) -> u64 {
    match record.kind {
        StagedRecordKind::Store => record.data_bytes(),
        StagedRecordKind::Restore { has_data: true, .. } if back == 0 => record.data_bytes(),
        StagedRecordKind::Delete
        | StagedRecordKind::Undo { .. }
        | StagedRecordKind::Restore { .. } => 0,
    }
}

fn record_bytes(record: &StagedRecord, back: u64) -> u64 {
    let data_bytes = written_data_bytes(record, back);
    let tail = if data_bytes == 0 {
        NUMBER_BYTES as u64
    } else {
        data_bytes
    };
    DATA_HEADER_BYTES as u64 + tail
}

fn text_length(text: &[u8]) -> u16 {
    debug_assert!(text.len() <= MAX_METADATA_BYTES, "checked at vote");
    u16::try_from(text.len()).unwrap_or(u16::MAX)
}

/// Writes a record's header into the gap before its data.
fn fill_gap(body: &mut [u8], at: u64, header: &[u8; DATA_HEADER_BYTES]) -> io::Result<()> {
    let at = as_usize(at)?;
    let gap = body
        .get_mut(at..at + DATA_HEADER_BYTES)
        .ok_or_else(|| io::Error::other("a record outside its transaction"))?;
    gap.copy_from_slice(header);
    Ok(())
}

fn flush(file: &dyn DiskFile, slices: &mut Vec<IoSlice<'_>>, position: u64) -> io::Result<u64> {
    let length: usize = slices.iter().map(|slice| slice.len()).sum();
    file.write_at(slices, position)?;
    slices.clear();
    Ok(position + length as u64)
}

fn as_usize(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(io::Error::other)
}
