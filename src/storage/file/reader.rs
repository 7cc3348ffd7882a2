//! Reads records of a `Data.fs` by position, and follows their pointers.

use std::ops::Range;
use std::sync::Arc;

use super::format::{
    DATA_HEADER_BYTES, DataHeader, NUMBER_BYTES, TRANSACTION_HEADER_BYTES, TransactionHeader,
};
use crate::disk::{Access, DiskFile, read_exact_at};
use crate::storage::{Result, Revision, StorageError};
use crate::types::{Oid, Tid, TransactionMeta};

/// A load reads this much at a record's position in the hope that it is the
/// whole record: one system call instead of two for most objects.
const GUESSED_RECORD_BYTES: usize = 2048;

/// Longest record that is believed; a longer one means that its header is garbage.
const MAX_RECORD_BYTES: u64 = 1 << 40;

/// An open `Data.fs` with the name that errors show.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// The open file.
    pub file: Arc<dyn DiskFile>,
    /// Its path, for errors and the log.
    pub name: Arc<str>,
}

/// A data record's header, with what follows where there is no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// The header.
    pub header: DataHeader,
    /// Position of the record that holds the data; 0 where this one does, or none.
    pub back: u64,
}

impl RecordHead {
    /// The object exists with this record.
    pub fn exists(&self) -> bool {
        self.header.data_bytes > 0 || self.back > 0
    }
}

/// A record as far as one read brought it.
#[derive(Clone, Copy, Debug)]
struct ReadRecord {
    head: RecordHead,
    /// So much of it, from its header on, is in the buffer (or more than it is long).
    bytes_in_buffer: usize,
}

/// A transaction's header with its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionHead {
    /// The fixed part.
    pub header: TransactionHeader,
    /// The texts; `tid` and `status` are those of the header.
    pub meta: TransactionMeta,
}

impl DataFile {
    /// Reads the revision of `oid` that was current just before `before`,
    /// starting from its newest record at `newest`.
    pub fn load_before(
        &self,
        oid: Oid,
        newest: u64,
        before: Tid,
        access: Access,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Revision>> {
        let mut position = newest;
        let mut end = None;
        let (record, serial) = loop {
            let record = self.read_record(oid, position, access, buffer)?;
            let header = record.head.header;
            if header.tid < before {
                break (record, header.tid);
            }
            end = Some(header.tid);
            match header.previous {
                0 => return Ok(None),
                previous => position = self.earlier(previous, position)?,
            }
        };
        let data = self.data_of(oid, record, position, access, buffer)?;
        Ok(Some(Revision { data, serial, end }))
    }

    /// Reads the data of the revision `serial` of `oid`, from its newest record on.
    pub fn load_serial(
        &self,
        oid: Oid,
        newest: u64,
        serial: Tid,
        access: Access,
    ) -> Result<Vec<u8>> {
        let mut buffer = Vec::new();
        let mut position = newest;
        loop {
            let record = self.read_record(oid, position, access, &mut buffer)?;
            let header = record.head.header;
            if header.tid == serial {
                let data = self.data_of(oid, record, position, access, &mut buffer)?;
                return Ok(buffer.get(data).unwrap_or_default().to_vec());
            }
            // Only older ones follow, so the first older one ends the search.
            if header.tid < serial || header.previous == 0 {
                return Err(StorageError::no_such_object(oid));
            }
            position = self.earlier(header.previous, position)?;
        }
    }

    /// The serial of the oldest record of `oid`, whose newest is at `newest`.
    pub fn oldest_serial(&self, oid: Oid, newest: u64, access: Access) -> Result<Tid> {
        let mut position = newest;
        loop {
            let header = self.read_head_of(oid, position, access)?.header;
            match header.previous {
                0 => return Ok(header.tid),
                previous => position = self.earlier(previous, position)?,
            }
        }
    }

    /// Reads the head of the record at `position`.
    pub fn read_head(&self, position: u64, access: Access) -> Result<RecordHead> {
        // The back pointer is read with the header: a record is never shorter than both.
        let mut bytes = [0; DATA_HEADER_BYTES + NUMBER_BYTES];
        read_exact_at(&*self.file, &mut bytes, position, access)
            .map_err(|error| self.read_error(position, error))?;
        self.parse_head(&bytes, position)
    }

    /// As [`Self::read_head`], for a record that has to be one of `oid`.
    pub fn read_head_of(&self, oid: Oid, position: u64, access: Access) -> Result<RecordHead> {
        let head = self.read_head(position, access)?;
        self.check_oid(&head, oid, position)?;
        Ok(head)
    }

    /// Reads the data that the record at `position` has, or points to. None:
    /// the object does not exist.
    pub fn read_data(&self, oid: Oid, position: u64, access: Access) -> Result<Option<Vec<u8>>> {
        let mut buffer = Vec::new();
        let record = self.read_record(oid, position, access, &mut buffer)?;
        match self.data_of(oid, record, position, access, &mut buffer) {
            Ok(data) => Ok(Some(buffer.get(data).unwrap_or_default().to_vec())),
            Err(StorageError::NoSuchObject { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the header and the texts of the transaction at `position`.
    pub fn read_transaction(&self, position: u64, access: Access) -> Result<TransactionHead> {
        let mut bytes = [0; TRANSACTION_HEADER_BYTES];
        read_exact_at(&*self.file, &mut bytes, position, access)
            .map_err(|error| self.read_error(position, error))?;
        let header = TransactionHeader::parse(&bytes);
        let mut texts = vec![0; usize::try_from(header.metadata_bytes()).unwrap_or(0)];
        let texts_at = position + TRANSACTION_HEADER_BYTES as u64;
        read_exact_at(&*self.file, &mut texts, texts_at, access)
            .map_err(|error| self.read_error(texts_at, error))?;
        let extension =
            texts.split_off(usize::from(header.user_bytes) + usize::from(header.description_bytes));
        let description = texts.split_off(usize::from(header.user_bytes));
        let meta = TransactionMeta {
            tid: Some(header.tid),
            status: header.status,
            user: texts,
            description,
            extension,
        };
        Ok(TransactionHead { header, meta })
    }

    /// Reads the number at `position`.
    pub fn read_number(&self, position: u64, access: Access) -> Result<u64> {
        let mut bytes = [0; NUMBER_BYTES];
        read_exact_at(&*self.file, &mut bytes, position, access)
            .map_err(|error| self.read_error(position, error))?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// Where the transaction begins that ends at `end`, by its closing number.
    pub fn transaction_before(&self, end: u64, access: Access) -> Result<u64> {
        let closing = end.saturating_sub(NUMBER_BYTES as u64);
        let length = self.read_number(closing, access)?;
        closing
            .checked_sub(length)
            .filter(|&start| start >= super::format::FIRST_TRANSACTION && length > 0)
            .ok_or_else(|| self.corrupt(closing, format!("impossible transaction length {length}")))
    }

    /// An error that names this file.
    pub fn corrupt(&self, position: u64, problem: impl Into<String>) -> StorageError {
        StorageError::Corrupt {
            file: self.name.to_string(),
            problem: problem.into(),
            position,
        }
    }

    /// Reads the head of the record at `position`, and with luck all of the
    /// record into `buffer`.
    fn read_record(
        &self,
        oid: Oid,
        position: u64,
        access: Access,
        buffer: &mut Vec<u8>,
    ) -> Result<ReadRecord> {
        if buffer.len() < GUESSED_RECORD_BYTES {
            buffer.resize(GUESSED_RECORD_BYTES, 0);
        }
        let guess = buffer.get_mut(..GUESSED_RECORD_BYTES).unwrap_or_default();
        let record = match self.file.read_at(guess, position, access) {
            Ok(count) => match guess.get(..count).and_then(<[u8]>::first_chunk) {
                Some(bytes) => ReadRecord {
                    head: self.parse_head(bytes, position)?,
                    bytes_in_buffer: count,
                },
                None => return Err(self.corrupt(position, "the file ends within a record")),
            },
            // What lies behind the record may be what is not in memory.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => ReadRecord {
                head: self.read_head(position, access)?,
                bytes_in_buffer: 0,
            },
            Err(error) => return Err(self.read_error(position, error)),
        };
        self.check_oid(&record.head, oid, position)?;
        Ok(record)
    }

    /// The data of the record that [`Self::read_record`] just read, or that
    /// its back pointers lead to.
    fn data_of(
        &self,
        oid: Oid,
        record: ReadRecord,
        position: u64,
        access: Access,
        buffer: &mut Vec<u8>,
    ) -> Result<Range<usize>> {
        let mut record = record;
        let mut position = position;
        while record.head.header.data_bytes == 0 {
            if record.head.back == 0 {
                return Err(StorageError::no_such_object(oid));
            }
            position = self.earlier(record.head.back, position)?;
            record = self.read_record(oid, position, access, buffer)?;
        }
        let length = usize::try_from(record.head.header.data_bytes)
            .map_err(|_| self.corrupt(position, "the record does not fit into memory"))?;
        let record_bytes = DATA_HEADER_BYTES.saturating_add(length);
        if record_bytes > record.bytes_in_buffer {
            self.complete_record(record_bytes, position, access, buffer)?;
        }
        Ok(DATA_HEADER_BYTES..record_bytes)
    }

    /// Makes sure that `buffer` holds all of a record.
    fn complete_record(
        &self,
        record_bytes: usize,
        position: u64,
        access: Access,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        if record_bytes as u64 > MAX_RECORD_BYTES {
            return Err(self.corrupt(position, format!("impossible record length {record_bytes}")));
        }
        if buffer.len() < record_bytes {
            let left = self
                .file
                .len()
                .map_err(StorageError::io("reading the file's length"))?;
            if left.saturating_sub(position) < record_bytes as u64 {
                return Err(self.corrupt(position, "the file ends within a record"));
            }
            buffer.resize(record_bytes, 0);
        }
        let rest = buffer
            .get_mut(DATA_HEADER_BYTES..record_bytes)
            .unwrap_or_default();
        let data_at = position + DATA_HEADER_BYTES as u64;
        read_exact_at(&*self.file, rest, data_at, access)
            .map_err(|error| self.read_error(data_at, error))
    }

    /// The head of a record, from its bytes.
    pub fn parse_head(
        &self,
        bytes: &[u8; DATA_HEADER_BYTES + NUMBER_BYTES],
        position: u64,
    ) -> Result<RecordHead> {
        let (header, rest) = bytes
            .split_first_chunk()
            .unwrap_or((&[0; DATA_HEADER_BYTES], &[]));
        let header = DataHeader::parse(header)
            .ok_or_else(|| self.corrupt(position, "a record with a version"))?;
        let back = match rest.first_chunk() {
            Some(number) if header.data_bytes == 0 => u64::from_be_bytes(*number),
            _ => 0,
        };
        Ok(RecordHead { header, back })
    }

    fn check_oid(&self, head: &RecordHead, oid: Oid, position: u64) -> Result<()> {
        if head.header.oid == oid {
            Ok(())
        } else {
            let found = head.header.oid;
            Err(self.corrupt(
                position,
                format!("a record of {found} where one of {oid} should be"),
            ))
        }
    }

    /// Pointers go backwards only; one that does not would lead in a circle.
    fn earlier(&self, pointer: u64, position: u64) -> Result<u64> {
        if pointer < position {
            Ok(pointer)
        } else {
            Err(self.corrupt(position, format!("a pointer forwards, to {pointer}")))
        }
    }

    /// What a failed read of this file at `position` means.
    pub fn read_error(&self, position: u64, error: std::io::Error) -> StorageError {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self.corrupt(position, "the file ends too early"),
            _ => StorageError::io(format!("reading {} at {position}", self.name))(error),
        }
    }
}
