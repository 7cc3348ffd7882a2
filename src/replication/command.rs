//! What entries of the log carry: batches of transactions, packs, reservations
//! of oids. Nothing in them is a position in a file, so every node lays them out
//! for itself, with the same result.

use bytes::Bytes;

use super::entry_codec::{DecodeError, decode};
use super::types::{Command, NodeId};
use crate::storage::staging::FileDigest;
use crate::storage::{
    Committing, RECORD_GAP_BYTES, Staged, StagedBody, StagedRecord, StagedRecordKind,
};
use crate::transaction::{Attached, Remote, Term};
use crate::types::{Oid, Tid, TransactionMeta};

/// What an entry wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Transactions, in order.
    Commit(Commits),
    /// Pack as the storage is where this stands in the log.
    Pack {
        /// To this time.
        stop: Tid,
        /// Drop what cannot be reached.
        gc: bool,
    },
    /// Oids up to this one may be given out by whoever asked.
    ReserveOids {
        /// The leadership that chose them, as for a batch.
        term: Term,
        /// The last one.
        upto: Oid,
    },
}

/// A batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commits {
    /// The leadership that voted. If the entry was taken by another, nothing of it counts.
    pub term: Term,
    /// The node that made the batch …
    pub proposer: NodeId,
    /// … and its number for it.
    pub batch: u64,
    /// The transactions, with growing tids.
    pub transactions: Vec<Commit>,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub tid: Tid,
    /// The session of another node that asked for it.
    pub remote: Option<Remote>,
    /// What it says of itself; without `tid`.
    pub meta: TransactionMeta,
    /// What it changes.
    pub records: Vec<Record>,
    /// Where the records' data is.
    pub payload: Payload,
    /// Packs that the log had asked for when it was voted.
    pub pack_orders: u64,
    /// Its blobs, which every node has to have before it applies this.
    pub blobs: Vec<(Oid, FileDigest)>,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The object.
    pub oid: Oid,
    /// What happens to it.
    pub kind: StagedRecordKind,
    /// Where its data begins in the payload's file; nothing where that is in the entry.
    pub start: u64,
    /// Length of its data.
    pub length: u64,
}

/// Where a transaction's data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// In the entry: the data of all records, one behind the other.
    Inline(Bytes),
    /// In a file beside the log.
    Staged(FileDigest),
}

impl Order {
    /// What [`Command`] carries.
    pub fn encode(&self) -> Command {
        Command(super::entry_codec::encode(self).into())
    }

    /// The other way.
    pub fn decode(command: Command) -> Result<Self, DecodeError> {
        decode(command.0)
    }
}

impl Commit {
    /// For a transaction that was voted, with what was staged of it.
    pub fn of_voted(
        committing: &Committing,
        remote: Option<Remote>,
        attached: &Attached,
    ) -> std::io::Result<Self> {
        let mut commit = match attached.payload {
            Some(payload) => Self::staged(committing, remote, payload),
            None => Self::inline(committing, remote)?,
        };
        commit.blobs.clone_from(&attached.blobs);
        commit.pack_orders = attached.pack_orders;
        Ok(commit)
    }

    /// All files beside the log that it needs.
    pub fn files(&self) -> impl Iterator<Item = FileDigest> + '_ {
        let payload = match &self.payload {
            Payload::Inline(_) => None,
            Payload::Staged(digest) => Some(*digest),
        };
        let blobs = self.blobs.iter().map(|(_, digest)| *digest);
        payload.into_iter().chain(blobs)
    }

    /// For a transaction whose data goes into the entry.
    pub fn inline(committing: &Committing, remote: Option<Remote>) -> std::io::Result<Self> {
        let staged = &committing.staged;
        let mut data = Vec::with_capacity(usize::try_from(staged.data_bytes()).unwrap_or(0));
        let mut piece = Vec::new();
        let mut records = Vec::with_capacity(staged.records.len());
        for record in &staged.records {
            staged.body.read(&record.data, &mut piece)?;
            data.extend_from_slice(&piece);
            records.push(Record {
                oid: record.oid,
                kind: record.kind,
                start: 0,
                length: record.data_bytes(),
            });
        }
        let payload = Payload::Inline(data.into());
        Ok(Self::of(committing, remote, records, payload))
    }

    /// For a transaction whose data lies in a file of this digest, which is its body.
    pub fn staged(committing: &Committing, remote: Option<Remote>, payload: FileDigest) -> Self {
        let records = committing.staged.records.iter().map(|record| Record {
            oid: record.oid,
            kind: record.kind,
            start: record.data.start,
            length: record.data_bytes(),
        });
        let records = records.collect();
        Self::of(committing, remote, records, Payload::Staged(payload))
    }

    fn of(
        committing: &Committing,
        remote: Option<Remote>,
        records: Vec<Record>,
        payload: Payload,
    ) -> Self {
        Self {
            tid: committing.tid,
            remote,
            meta: TransactionMeta {
                tid: None,
                ..committing.staged.meta.clone()
            },
            records,
            payload,
            pack_orders: 0,
            blobs: Vec::new(),
        }
    }

    /// Does what it writes depend on what earlier transactions left in the file?
    pub fn looks_back(&self) -> bool {
        self.records.iter().any(|record| {
            matches!(
                record.kind,
                StagedRecordKind::Undo { to: Some(_) }
                    | StagedRecordKind::Restore {
                        previous: Some(_),
                        ..
                    }
            )
        })
    }

    /// The transaction as a storage takes it. `body` is the payload's file where
    /// it is not in the entry.
    pub fn into_committing(self, body: Option<StagedBody>) -> Result<Committing, DecodeError> {
        const GAP: [u8; RECORD_GAP_BYTES] = [0; RECORD_GAP_BYTES];
        let mut records = Vec::with_capacity(self.records.len());
        let body = match (self.payload, body) {
            (Payload::Staged(_), Some(body)) => {
                for record in &self.records {
                    records.push(staged_record(record, record.start));
                }
                body
            }
            (Payload::Staged(_), None) => return Err(DecodeError::Short("a staged payload")),
            (Payload::Inline(mut data), _) => {
                let mut bytes =
                    Vec::with_capacity(data.len() + self.records.len() * RECORD_GAP_BYTES);
                for record in &self.records {
                    bytes.extend_from_slice(&GAP);
                    records.push(staged_record(record, bytes.len() as u64));
                    let length = usize::try_from(record.length).unwrap_or(usize::MAX);
                    if length > data.len() {
                        return Err(DecodeError::Short("a record's data"));
                    }
                    bytes.extend_from_slice(&data.split_to(length));
                }
                if !data.is_empty() {
                    return Err(DecodeError::Trailing(data.len()));
                }
                StagedBody::Memory(bytes)
            }
        };
        Ok(Committing {
            tid: self.tid,
            staged: Staged {
                meta: self.meta,
                records,
                body,
                blobs: crate::storage::blob::StagedBlobs::default(),
            },
        })
    }
}

fn staged_record(record: &Record, start: u64) -> StagedRecord {
    StagedRecord {
        oid: record.oid,
        data: start..start.saturating_add(record.length),
        kind: record.kind,
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
