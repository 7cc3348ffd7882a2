use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use thiserror::Error;

use crate::storage::blob::{PendingBlob, StagedBlobs};
use crate::storage::{
    RECORD_GAP_BYTES, Staged, StagedBody, StagedRecord, StagedRecordKind, StorageError,
    UndoneRecord,
};
use crate::types::{Oid, Tid, TransactionMeta};

/// A transaction whose data is longer than this waits in a temporary file.
pub const SPILL_BYTES: u64 = 4 << 20;
/// More operations than this are refused; each takes about 64 bytes of memory.
pub const MAX_OPERATIONS: usize = 4_000_000;
/// So many a transaction can have when memory is short.
const MAX_OPERATIONS_SHORT_OF_MEMORY: usize = 20_000;

/// Why an operation could not be added.
#[derive(Debug, Error)]
pub enum BufferError {
    /// See [`MAX_OPERATIONS`].
    #[error("a transaction can have {MAX_OPERATIONS} operations at most")]
    TooManyOperations,
    /// The transaction is larger than the server takes.
    #[error(
        "the transaction's records take more than {max_bytes} bytes; max-transaction-size in the \
         server's <zeod> section sets that (blobs do not count)"
    )]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// There is no memory for what cannot go to a file.
    #[error(
        "the server has no memory for {operations} operations in one transaction now; \
         memory-budget in its <zeod> section sets that"
    )]
    NoMemory {
        /// So many there are.
        operations: usize,
    },
    /// The temporary file could not be written.
    #[error("writing a large transaction to a temporary file: {0}")]
    Spill(#[from] io::Error),
    /// A blob of the transaction could not be written.
    #[error(transparent)]
    Blob(Box<StorageError>),
}

/// What a client asked for in a transaction, before its vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new revision of an object that the client saw at `serial`.
    Store {
        /// The object.
        oid: Oid,
        /// The revision that the client changed.
        serial: Tid,
        /// Where the data is; see [`TransactionBuffer::data`].
        data: Range<u64>,
    },
    /// The object is to go.
    Delete {
        /// The object.
        oid: Oid,
        /// The revision that the client saw.
        serial: Tid,
        /// Empty; its place is that of the record's header.
        data: Range<u64>,
    },
    /// The object must stay as the client saw it.
    Check {
        /// The object.
        oid: Oid,
        /// The revision that the client saw.
        serial: Tid,
    },
    /// A transaction is to be undone.
    Undo {
        /// The transaction.
        tid: Tid,
    },
    /// A revision of another storage.
    Restore {
        /// The object.
        oid: Oid,
        /// The revision's own serial.
        serial: Tid,
        /// Where the data is.
        data: Range<u64>,
        /// Is there data? Otherwise the object ceases to exist.
        has_data: bool,
        /// A hint: the transaction that holds the same data.
        previous: Option<Tid>,
    },
}

/// Collects a transaction between `tpc_begin` and `vote`: small ones in memory,
/// large ones in a temporary file without a name.
#[derive(Debug)]
pub struct TransactionBuffer {
    /// What the transaction says of itself; a prescribed id is in its `tid`.
    pub meta: TransactionMeta,
    operations: Vec<Operation>,
    body: StagedBody,
    body_bytes: u64,
    /// By the number of the store that each belongs to.
    blobs: Vec<(usize, Oid, PendingBlob)>,
    max_body_bytes: u64,
    refusal: Option<BufferError>,
}

impl TransactionBuffer {
    /// An empty transaction.
    pub fn new(meta: TransactionMeta) -> Self {
        Self {
            meta,
            operations: Vec::new(),
            body: StagedBody::default(),
            body_bytes: 0,
            blobs: Vec::new(),
            max_body_bytes: u64::MAX,
            refusal: None,
        }
    }

    /// With no more data than this, blobs apart.
    #[must_use]
    pub fn with_max_bytes(mut self, max_body_bytes: u64) -> Self {
        self.max_body_bytes = max_body_bytes;
        self
    }

    /// Gives the transaction up, and back what it took. Its vote is to fail with
    /// `why`: only then is there a way to tell the client.
    pub fn refuse(&mut self, why: BufferError) {
        self.operations = Vec::new();
        self.body = StagedBody::default();
        self.body_bytes = 0;
        self.blobs = Vec::new();
        self.refusal = Some(why);
    }

    /// Why it was given up, if it was. It takes no more changes then.
    pub fn refusal(&self) -> Option<&BufferError> {
        self.refusal.as_ref()
    }

    /// Memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        let body = match &self.body {
            StagedBody::Memory(bytes) => bytes.capacity(),
            StagedBody::File(_) => 0,
        };
        body + self.operations.capacity() * size_of::<Operation>()
    }

    /// Moves the data to a temporary file, whatever its size. If that is not
    /// enough, or not possible, the transaction is given up.
    pub fn save_memory(&mut self) {
        let operations = self.operations.len();
        if operations > MAX_OPERATIONS_SHORT_OF_MEMORY {
            self.refuse(BufferError::NoMemory { operations });
        } else if let Err(error) = self.spill() {
            self.refuse(error.into());
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        if let StagedBody::Memory(bytes) = &self.body {
            let file = tempfile::tempfile()?;
            file.write_all_at(bytes, 0)?;
            self.body = StagedBody::File(file);
        }
        Ok(())
    }

    /// The operations so far, in order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Bytes that the operations' data takes.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Adds a store.
    pub fn store(&mut self, oid: Oid, serial: Tid, data: &[u8]) -> Result<(), BufferError> {
        let data = self.put(data)?;
        self.operations.push(Operation::Store { oid, serial, data });
        Ok(())
    }

    /// Adds a store with the blob that belongs to it.
    pub fn store_blob(
        &mut self,
        oid: Oid,
        serial: Tid,
        data: &[u8],
        blob: PendingBlob,
    ) -> Result<(), BufferError> {
        let number = self.operations.len();
        self.store(oid, serial, data)?;
        self.blobs.push((number, oid, blob));
        Ok(())
    }

    /// Has the transaction blobs? Then its vote waits for the disk.
    pub fn has_blobs(&self) -> bool {
        !self.blobs.is_empty()
    }

    /// The blob that belongs to the operation of this number.
    pub fn blob(&self, number: usize) -> Option<&PendingBlob> {
        let own = self.blobs.iter().find(|(of, _, _)| *of == number);
        own.map(|(_, _, blob)| blob)
    }

    /// Adds a deletion.
    pub fn delete(&mut self, oid: Oid, serial: Tid) -> Result<(), BufferError> {
        let data = self.put(&[])?;
        self.operations
            .push(Operation::Delete { oid, serial, data });
        Ok(())
    }

    /// Adds a check that an object stays as it is.
    pub fn check(&mut self, oid: Oid, serial: Tid) -> Result<(), BufferError> {
        self.check_room()?;
        self.operations.push(Operation::Check { oid, serial });
        Ok(())
    }

    /// Adds the undoing of a transaction.
    pub fn undo(&mut self, tid: Tid) -> Result<(), BufferError> {
        self.check_room()?;
        self.operations.push(Operation::Undo { tid });
        Ok(())
    }

    /// Does it undo something?
    pub fn undoes(&self) -> bool {
        self.operations
            .iter()
            .any(|operation| matches!(operation, Operation::Undo { .. }))
    }

    /// Adds a revision of another storage; without data the object ceases to exist.
    pub fn restore(
        &mut self,
        oid: Oid,
        serial: Tid,
        data: Option<&[u8]>,
        previous: Option<Tid>,
    ) -> Result<(), BufferError> {
        let has_data = data.is_some();
        let data = self.put(data.unwrap_or_default())?;
        self.operations.push(Operation::Restore {
            oid,
            serial,
            data,
            has_data,
            previous,
        });
        Ok(())
    }

    /// Reads the data of an operation back.
    pub fn data(&self, range: &Range<u64>) -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        self.body.read(range, &mut data)?;
        Ok(data)
    }

    /// The records to write: those of all operations that change something, but
    /// those whose numbers are in `dropped` (sorted), which conflicted and were
    /// stored anew; `undone` has what each undo does, in order.
    pub fn into_staged(self, dropped: &[usize], undone: Vec<Vec<UndoneRecord>>) -> Staged {
        let mut undone = undone.into_iter();
        let mut records = Vec::with_capacity(self.operations.len());
        for (number, operation) in self.operations.into_iter().enumerate() {
            let (oid, data, kind) = match operation {
                Operation::Store { oid, data, .. } => (oid, data, StagedRecordKind::Store),
                Operation::Delete { oid, data, .. } => (oid, data, StagedRecordKind::Delete),
                Operation::Check { .. } => continue,
                Operation::Undo { .. } => {
                    records.extend(
                        undone
                            .next()
                            .unwrap_or_default()
                            .into_iter()
                            .map(undone_record),
                    );
                    continue;
                }
                Operation::Restore {
                    oid,
                    serial,
                    data,
                    has_data,
                    previous,
                } => (
                    oid,
                    data,
                    StagedRecordKind::Restore {
                        serial,
                        has_data,
                        previous,
                    },
                ),
            };
            if dropped.binary_search(&number).is_err() {
                records.push(StagedRecord { oid, data, kind });
            }
        }
        let mut blobs = StagedBlobs::default();
        for (number, oid, blob) in self.blobs {
            if dropped.binary_search(&number).is_err() {
                blobs.insert(oid, blob);
            }
        }
        Staged {
            meta: self.meta,
            records,
            body: self.body,
            blobs,
        }
    }

    fn check_room(&self) -> Result<(), BufferError> {
        if self.operations.len() < MAX_OPERATIONS {
            Ok(())
        } else {
            Err(BufferError::TooManyOperations)
        }
    }

    /// Appends a gap and `data` to the body; the place of the data.
    fn put(&mut self, data: &[u8]) -> Result<Range<u64>, BufferError> {
        const GAP: [u8; RECORD_GAP_BYTES] = [0; RECORD_GAP_BYTES];
        self.check_room()?;
        let start = self.body_bytes + RECORD_GAP_BYTES as u64;
        let end = start + data.len() as u64;
        if end > self.max_body_bytes {
            let max_bytes = self.max_body_bytes;
            return Err(BufferError::TooLarge { max_bytes });
        }
        if end > SPILL_BYTES {
            self.spill()?;
        }
        match &mut self.body {
            StagedBody::Memory(bytes) => {
                bytes.extend_from_slice(&GAP);
                bytes.extend_from_slice(data);
            }
            StagedBody::File(file) => put_at(file, data, start)?,
        }
        self.body_bytes = end;
        Ok(start..end)
    }
}

fn undone_record(UndoneRecord { oid, to, .. }: UndoneRecord) -> StagedRecord {
    StagedRecord {
        oid,
        data: 0..0,
        kind: StagedRecordKind::Undo { to },
    }
}

/// Writes data to the temporary file; the gap before it becomes a hole.
fn put_at(file: &File, data: &[u8], start: u64) -> io::Result<()> {
    if data.is_empty() {
        // So that the gap exists, whatever comes after it.
        return file.set_len(start);
    }
    file.write_all_at(data, start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_transaction_moves_to_a_file_and_keeps_its_data() {
        let mut buffer = TransactionBuffer::new(TransactionMeta::default());
        let data = vec![5_u8; 1 << 20];
        for oid in 0..6 {
            buffer.store(Oid::from_u64(oid), Tid::ZERO, &data).unwrap();
            buffer.delete(Oid::from_u64(100 + oid), Tid::ZERO).unwrap();
        }
        buffer.check(Oid::from_u64(3), Tid::ZERO).unwrap();
        assert!(matches!(buffer.body, StagedBody::File(_)));
        assert_eq!(buffer.operations().len(), 13);
        let staged = buffer.into_staged(&[0], vec![]);
        assert_eq!(staged.records.len(), 11);
        let mut read = Vec::new();
        for record in staged
            .records
            .iter()
            .filter(|r| r.kind == StagedRecordKind::Store)
        {
            staged.body.read(&record.data, &mut read).unwrap();
            assert_eq!(read, data);
        }
    }
}
