//! Takes a piece of another node's `Data.fs` as it is, and checks what comes
//! by the rules of the format.

use std::io::BufRead;
use std::path::Path;

use super::HeldFile;
use super::codec::{for_each_piece, malformed, receiving};
use super::draft::{Built, Draft, Probe};
use crate::disk::{Access, Disk, OpenMode, Precedence};
use crate::storage::file::format::{
    DATA_HEADER_BYTES, DataHeader, FIRST_TRANSACTION, NUMBER_BYTES, STATUS_COMMITTED,
    STATUS_PACKED, STATUS_UNDONE, TRANSACTION_HEADER_BYTES, TransactionHeader,
};
use crate::storage::file::pack::{BLOB_PROBE_BYTES, is_blob_record};
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// Where what comes belongs.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// It is a whole file.
    Whole,
    /// It goes on where this one ends.
    Behind(&'a HeldFile),
}

/// Writes what comes to a file of its own. Memory: for a whole file its index;
/// 16 bytes per blob.
#[derive(Debug)]
pub struct RawCopy<'a> {
    place: Place<'a>,
    draft: Draft<'a>,
    /// The position in the finished file at which the draft begins.
    begin: u64,
}

impl<'a> RawCopy<'a> {
    /// Writes to the file at `path`, over what was there.
    pub fn new(
        disk: &dyn Disk,
        path: &Path,
        place: Place<'a>,
        precedence: &'a Precedence,
        with_blobs: bool,
    ) -> Result<Self> {
        let (begin, last_tid) = match place {
            Place::Whole => (0, Tid::ZERO),
            Place::Behind(held) => (held.end, held.last_tid),
        };
        let mode = OpenMode::Create;
        Ok(Self {
            place,
            draft: Draft::open(disk, path, mode, last_tid, precedence, with_blobs)?,
            begin,
        })
    }

    /// Where what comes next belongs.
    pub fn position(&self) -> u64 {
        self.begin + self.draft.out.position()
    }

    /// The magic of a whole file.
    pub fn magic(&mut self, magic: [u8; 4]) -> Result<()> {
        self.draft.put(&magic)
    }

    /// The next transaction.
    pub fn transaction(&mut self, input: &mut dyn BufRead) -> Result<()> {
        let start = self.position();
        let bytes = read::<TRANSACTION_HEADER_BYTES>(input)?;
        let header = TransactionHeader::parse(&bytes);
        self.check(&header, start)?;
        self.draft.put(&bytes)?;
        self.pass_on(input, header.metadata_bytes())?;
        let records_end = start + header.length;
        if header.status == STATUS_UNDONE {
            self.pass_on(input, records_end - self.position())?;
        }
        while self.position() < records_end {
            self.record(input, start, records_end)?;
        }
        let closing = read::<NUMBER_BYTES>(input)?;
        if u64::from_be_bytes(closing) != header.length {
            return Err(bad(start, "a transaction whose two lengths differ"));
        }
        self.draft.put(&closing)?;
        self.draft.close_transaction(header.tid);
        Ok(())
    }

    fn check(&self, header: &TransactionHeader, start: u64) -> Result<()> {
        let is_known = matches!(
            header.status,
            STATUS_COMMITTED | STATUS_PACKED | STATUS_UNDONE
        );
        if header.length < header.header_bytes()
            || start
                .checked_add(header.length)
                .and_then(|end| end.checked_add(NUMBER_BYTES as u64))
                .is_none()
        {
            return Err(bad(start, "a transaction of impossible length"));
        }
        if !is_known || header.tid <= self.draft.last_tid {
            // Old files can be so; they are served, and copied.
            tracing::warn!(
                "{}: transaction {} at {start} is of an unknown status or not later than the \
                 one before",
                self.draft.data.name,
                header.tid
            );
        }
        Ok(())
    }

    fn record(&mut self, input: &mut dyn BufRead, start: u64, records_end: u64) -> Result<()> {
        let position = self.position();
        let bytes = read::<DATA_HEADER_BYTES>(input)?;
        let header = DataHeader::parse(&bytes).ok_or_else(|| bad(position, "a damaged record"))?;
        if header.transaction != start
            || header.previous >= position
            || position.saturating_add(header.record_bytes()) > records_end
        {
            return Err(bad(position, "a record that does not belong there"));
        }
        self.draft.put(&bytes)?;
        self.draft.written.push((header.oid, position));
        if let Some(probe) = &mut self.draft.blobs {
            probe.record(header.oid, header.tid, header.data_bytes);
        }
        if header.data_bytes > 0 {
            return self.pass_on(input, header.data_bytes);
        }
        let back = read::<NUMBER_BYTES>(input)?;
        self.draft.put(&back)?;
        let back = u64::from_be_bytes(back);
        if back >= position {
            return Err(bad(position, "a pointer forwards"));
        }
        if back > 0 && self.draft.blobs.is_some() && self.leads_to_blob(header.oid, back)? {
            self.draft.blobs.iter_mut().for_each(Probe::note_blob);
        }
        Ok(())
    }

    /// Does a pointer end at a blob's record?
    fn leads_to_blob(&mut self, oid: Oid, back: u64) -> Result<bool> {
        self.draft.out.flush()?;
        let mut position = back;
        loop {
            let (data, at) = match self.place {
                Place::Behind(held) if position < self.begin => (&held.data, position),
                _ => (&self.draft.data, position.saturating_sub(self.begin)),
            };
            let head = data.read_head_of(oid, at, Access::Wait)?;
            if head.header.data_bytes > 0 {
                let mut beginning = [0; BLOB_PROBE_BYTES];
                let limit = usize::try_from(head.header.data_bytes).unwrap_or(usize::MAX);
                let beginning = beginning
                    .get_mut(..limit.min(BLOB_PROBE_BYTES))
                    .unwrap_or_default();
                crate::disk::read_exact_at(
                    &*data.file,
                    beginning,
                    at + DATA_HEADER_BYTES as u64,
                    Access::Wait,
                )
                .map_err(|error| data.read_error(at, error))?;
                return Ok(is_blob_record(beginning));
            }
            if head.back == 0 || head.back >= position {
                return Ok(false);
            }
            position = head.back;
        }
    }

    fn pass_on(&mut self, input: &mut dyn BufRead, bytes: u64) -> Result<()> {
        for_each_piece(input, bytes, |piece| {
            if let Some(probe) = &mut self.draft.blobs {
                probe.data(piece);
            }
            self.draft.put(piece)
        })
    }

    /// When nothing more comes: what came is of use to the next attempt.
    pub fn give_up(self) {
        self.draft.give_up();
    }

    /// Makes all of it durable but for the file's name. Of the piece of a file,
    /// length and CRC are those of the piece.
    pub fn finish(mut self) -> Result<Built> {
        self.draft.out.flush()?;
        // An earlier attempt may have left more.
        self.draft
            .data
            .file
            .set_len(self.draft.out.position())
            .map_err(StorageError::io(format!(
                "cutting {}",
                self.draft.data.name
            )))?;
        self.draft.finish()
    }
}

const _: () = assert!(FIRST_TRANSACTION == 4, "a file begins with its magic");

fn read<const N: usize>(input: &mut dyn BufRead) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map_err(receiving)?;
    Ok(bytes)
}

fn bad(position: u64, problem: &str) -> StorageError {
    malformed(format!("{problem}, at byte {position}"))
}
