//! The layout of `Data.fs`, written once. Source: ZODB's
//! `FileStorage/format.py`. All numbers are big-endian.
//!
//! ```text
//! file         magic (4), transaction*
//! transaction  tid (8), length (8), status (1), lengths of user, description
//!              and extension (2 each), these three, data record*, length (8)
//! data record  oid (8), tid (8), previous (8), transaction (8), zero (2),
//!              data length (8), then the data, or for length 0: back (8)
//! ```
//!
//! A transaction's length is that of the whole record without the 8 bytes of
//! its second length. `previous` is the position of the object's record before
//! this one, `transaction` the position of the transaction that the record is
//! in, `back` that of an older record that holds the data (0: the object does
//! not exist from here on).

use crate::storage::staged::RECORD_GAP_BYTES;
use crate::types::{Oid, Tid};

/// Files that Python 3 writes begin with this.
pub const MAGIC_PYTHON3: [u8; 4] = *b"FS30";
/// Files that Python 2 wrote begin with this.
pub const MAGIC_PYTHON2: [u8; 4] = *b"FS21";
/// Where the first transaction begins.
pub const FIRST_TRANSACTION: u64 = MAGIC_PYTHON3.len() as u64;

/// Length of a transaction's header without user, description and extension.
pub const TRANSACTION_HEADER_BYTES: usize = 8 + 8 + 1 + 2 + 2 + 2;
/// Length of a data record's header.
pub const DATA_HEADER_BYTES: usize = 8 + 8 + 8 + 8 + 2 + 8;
/// Length of the number that closes a transaction, and of a back pointer.
pub const NUMBER_BYTES: usize = 8;

const _: () = assert!(TRANSACTION_HEADER_BYTES == 23);
const _: () = assert!(DATA_HEADER_BYTES == 42);
const _: () = assert!(DATA_HEADER_BYTES == RECORD_GAP_BYTES);

/// A committed transaction.
pub const STATUS_COMMITTED: u8 = b' ';
/// A transaction that was packed.
pub const STATUS_PACKED: u8 = b'p';
/// A transaction that was voted and not finished (Python writes it so).
pub const STATUS_VOTED: u8 = b'c';
/// A transaction undone in a way of old; to be skipped.
pub const STATUS_UNDONE: u8 = b'u';

/// The fixed part of a transaction's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionHeader {
    /// The id.
    pub tid: Tid,
    /// Length of the record without the closing number.
    pub length: u64,
    /// One of the `STATUS_…`.
    pub status: u8,
    /// Length of the user name.
    pub user_bytes: u16,
    /// Length of the description.
    pub description_bytes: u16,
    /// Length of the extension.
    pub extension_bytes: u16,
}

impl TransactionHeader {
    /// Reads the fixed part.
    pub fn parse(bytes: &[u8; TRANSACTION_HEADER_BYTES]) -> Self {
        let mut fields = Fields(bytes);
        Self {
            tid: Tid(fields.take()),
            length: u64::from_be_bytes(fields.take()),
            status: u8::from_be_bytes(fields.take()),
            user_bytes: u16::from_be_bytes(fields.take()),
            description_bytes: u16::from_be_bytes(fields.take()),
            extension_bytes: u16::from_be_bytes(fields.take()),
        }
    }

    /// Appends the fixed part to `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tid.0);
        out.extend_from_slice(&self.length.to_be_bytes());
        out.push(self.status);
        out.extend_from_slice(&self.user_bytes.to_be_bytes());
        out.extend_from_slice(&self.description_bytes.to_be_bytes());
        out.extend_from_slice(&self.extension_bytes.to_be_bytes());
    }

    /// Length of user, description and extension together.
    pub fn metadata_bytes(&self) -> u64 {
        u64::from(self.user_bytes)
            + u64::from(self.description_bytes)
            + u64::from(self.extension_bytes)
    }

    /// Where the data records begin, counted from the transaction's position.
    pub fn header_bytes(&self) -> u64 {
        TRANSACTION_HEADER_BYTES as u64 + self.metadata_bytes()
    }
}

/// A data record's header, and its back pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// The object.
    pub oid: Oid,
    /// The revision.
    pub tid: Tid,
    /// Position of the object's record before this one; 0 where there is none.
    pub previous: u64,
    /// Position of the transaction that this record is in.
    pub transaction: u64,
    /// Length of the data; 0 means that a back pointer follows.
    pub data_bytes: u64,
}

impl DataHeader {
    /// Reads a header; None where the version length, which is always zero now, is not.
    pub fn parse(bytes: &[u8; DATA_HEADER_BYTES]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let oid = Oid(fields.take());
        let tid = Tid(fields.take());
        let previous = u64::from_be_bytes(fields.take());
        let transaction = u64::from_be_bytes(fields.take());
        let version_bytes = u16::from_be_bytes(fields.take());
        let data_bytes = u64::from_be_bytes(fields.take());
        (version_bytes == 0).then_some(Self {
            oid,
            tid,
            previous,
            transaction,
            data_bytes,
        })
    }

    /// The header as it stands on disk.
    pub fn to_bytes(self) -> [u8; DATA_HEADER_BYTES] {
        let mut bytes = [0; DATA_HEADER_BYTES];
        let fields: [&[u8]; 6] = [
            &self.oid.0,
            &self.tid.0,
            &self.previous.to_be_bytes(),
            &self.transaction.to_be_bytes(),
            &[0; 2],
            &self.data_bytes.to_be_bytes(),
        ];
        let mut rest = bytes.as_mut_slice();
        for field in fields {
            let (place, after) = rest.split_at_mut(field.len());
            place.copy_from_slice(field);
            rest = after;
        }
        bytes
    }

    /// Length of the whole record.
    pub fn record_bytes(&self) -> u64 {
        let tail = if self.data_bytes == 0 {
            NUMBER_BYTES as u64
        } else {
            self.data_bytes
        };
        (DATA_HEADER_BYTES as u64).saturating_add(tail)
    }
}

/// Takes fixed-size fields off the front of a header whose size is the sum of theirs.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_round_trip() {
        let header = DataHeader {
            oid: Oid::from_u64(7),
            tid: Tid::from_u64(9),
            previous: 11,
            transaction: 4,
            data_bytes: 100,
        };
        assert_eq!(DataHeader::parse(&header.to_bytes()), Some(header));
        assert_eq!(header.record_bytes(), 142);

        let header = TransactionHeader {
            tid: Tid::from_u64(5),
            length: 300,
            status: STATUS_COMMITTED,
            user_bytes: 1,
            description_bytes: 2,
            extension_bytes: 3,
        };
        let mut bytes = Vec::new();
        header.put(&mut bytes);
        let bytes: [u8; TRANSACTION_HEADER_BYTES] = bytes.try_into().unwrap();
        assert_eq!(TransactionHeader::parse(&bytes), header);
    }

    #[test]
    fn a_version_length_is_refused() {
        let mut bytes = [0; DATA_HEADER_BYTES];
        bytes[33] = 1;
        assert_eq!(DataHeader::parse(&bytes), None);
    }
}
