use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::blob::StagedBlobs;
use crate::types::{Oid, Tid, TransactionMeta};

/// Before the data of each record lies a gap of this size, into which
/// FileStorage writes the record's header, so that a transaction goes to the
/// disk from the buffer that it arrived in. See `storage::file::format`.
pub const RECORD_GAP_BYTES: usize = 42;

/// The records of one transaction, checked and ready to be written.
#[derive(Debug, Default)]
pub struct Staged {
    /// The transaction's metadata; its `tid` is set where the client prescribes one.
    pub meta: TransactionMeta,
    /// What it changes, in the client's order. One oid can occur several times; the last counts.
    pub records: Vec<StagedRecord>,
    /// The data of the records.
    pub body: StagedBody,
    /// The blobs that belong to the records.
    pub blobs: StagedBlobs,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedRecord {
    /// The object.
    pub oid: Oid,
    /// The place of the data in the body, without the gap before it.
    pub data: Range<u64>,
    /// What happens to the object.
    pub kind: StagedRecordKind,
}

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StagedRecordKind {
    /// A new revision.
    Store,
    /// The object is deleted.
    Delete,
    /// The object gets back the state that it had after transaction `to`; None:
    /// it ceases to exist. There is no data.
    Undo {
        /// The transaction that wrote that state.
        to: Option<Tid>,
    },
    /// A revision copied from another storage.
    Restore {
        /// The revision's own serial.
        serial: Tid,
        /// Is there data? Otherwise the object ceases to exist.
        has_data: bool,
        /// A hint: the transaction that holds the same data.
        previous: Option<Tid>,
    },
}

impl StagedRecord {
    /// Length of the data.
    pub fn data_bytes(&self) -> u64 {
        self.data.end - self.data.start
    }
}

/// Where the data of a transaction waits for its end.
#[derive(Debug)]
pub enum StagedBody {
    /// Each record's data behind a gap of [`RECORD_GAP_BYTES`].
    Memory(Vec<u8>),
    /// The same layout in a temporary file without a name.
    File(File),
}

impl Default for StagedBody {
    fn default() -> Self {
        Self::Memory(Vec::new())
    }
}

impl StagedBody {
    /// Copies the bytes of `range` into `buffer`, replacing what it held.
    pub fn read(&self, range: &Range<u64>, buffer: &mut Vec<u8>) -> io::Result<()> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        buffer.clear();
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(range.start).map_err(io::Error::other)?;
                let piece = bytes
                    .get(start..start + length)
                    .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
                buffer.extend_from_slice(piece);
                Ok(())
            }
            Self::File(file) => {
                buffer.resize(length, 0);
                file.read_exact_at(buffer, range.start)
            }
        }
    }
}

impl Staged {
    /// Bytes of data over all records.
    pub fn data_bytes(&self) -> u64 {
        self.records.iter().map(StagedRecord::data_bytes).sum()
    }
}
