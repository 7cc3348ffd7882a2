//! Orders as bytes: the layout of what entries carry.

use super::command::{Commit, Commits, Order, Payload, Record};
use super::entry_codec::{DecodeError, Layout, Reader, put_length, put_u64};
use crate::storage::StagedRecordKind;
use crate::storage::staging::FileDigest;
use crate::transaction::Remote;
use crate::types::{Oid, Tid, TransactionMeta};

const COMMIT: u8 = 0;
const PACK: u8 = 1;
const RESERVE_OIDS: u8 = 2;

const INLINE: u8 = 0;
const STAGED: u8 = 1;

const STORE: u8 = 0;
const DELETE: u8 = 1;
const UNDO_CREATION: u8 = 2;
const UNDO: u8 = 3;
const RESTORE: u8 = 4;
const RESTORE_FROM: u8 = 5;
const RESTORE_NOTHING: u8 = 6;
const RESTORE_NOTHING_FROM: u8 = 7;

/// Tid, remote, status, three texts, two counts, kind and length of the payload.
const SMALLEST_COMMIT: u64 = 8 + 16 + 8 + 1 + 24 + 16 + 9;
/// Oid, kind, start, length.
const SMALLEST_RECORD: u64 = 8 + 1 + 16;
const BLOB_BYTES: u64 = 8 + 32 + 8;

impl Layout for Order {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Commit(commits) => {
                out.push(COMMIT);
                put_u64(commits.term, out);
                put_u64(commits.proposer, out);
                put_u64(commits.batch, out);
                put_length(commits.transactions.len(), out);
                for commit in &commits.transactions {
                    commit.put(out);
                }
            }
            Self::Pack { stop, gc } => {
                out.push(PACK);
                put_u64(stop.to_u64(), out);
                out.push(u8::from(*gc));
            }
            Self::ReserveOids { term, upto } => {
                out.push(RESERVE_OIDS);
                put_u64(*term, out);
                put_u64(upto.to_u64(), out);
            }
        }
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        match from.u8("an order")? {
            COMMIT => {
                let term = from.u64("a term")?;
                let proposer = from.u64("a proposer")?;
                let batch = from.u64("a batch")?;
                let count = from.count(SMALLEST_COMMIT, "transactions")?;
                let transactions = (0..count)
                    .map(|_| Commit::take(from))
                    .collect::<Result<_, _>>()?;
                Ok(Self::Commit(Commits {
                    term,
                    proposer,
                    batch,
                    transactions,
                }))
            }
            PACK => Ok(Self::Pack {
                stop: Tid::from_u64(from.u64("a pack time")?),
                gc: from.u8("garbage collection")? != 0,
            }),
            RESERVE_OIDS => Ok(Self::ReserveOids {
                term: from.u64("a term")?,
                upto: Oid::from_u64(from.u64("an oid")?),
            }),
            other => Err(DecodeError::Value {
                what: "an order",
                value: other.into(),
            }),
        }
    }

    fn size_hint(&self) -> usize {
        match self {
            Self::Commit(commits) => commits.transactions.iter().map(Commit::size_hint).sum(),
            _ => 0,
        }
    }
}

impl Layout for Commit {
    fn put(&self, out: &mut Vec<u8>) {
        put_u64(self.tid.to_u64(), out);
        let remote = self.remote.unwrap_or(NO_REMOTE);
        put_u64(remote.node, out);
        put_u64(remote.session, out);
        put_u64(self.pack_orders, out);
        out.push(self.meta.status);
        for text in [
            &self.meta.user,
            &self.meta.description,
            &self.meta.extension,
        ] {
            put_length(text.len(), out);
            out.extend_from_slice(text);
        }
        put_length(self.records.len(), out);
        for record in &self.records {
            record.put(out);
        }
        put_length(self.blobs.len(), out);
        for (oid, digest) in &self.blobs {
            put_u64(oid.to_u64(), out);
            digest.put(out);
        }
        match &self.payload {
            Payload::Inline(data) => {
                out.push(INLINE);
                put_length(data.len(), out);
                out.extend_from_slice(data);
            }
            Payload::Staged(digest) => {
                out.push(STAGED);
                digest.put(out);
            }
        }
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        let tid = Tid::from_u64(from.u64("a tid")?);
        let remote = Remote {
            node: from.u64("a node")?,
            session: from.u64("a session")?,
        };
        let pack_orders = from.u64("a number of packs")?;
        let status = from.u8("a status")?;
        let mut text = || {
            let length = from.u64("a text's length")?;
            from.bytes(length, "a text").map(Vec::from)
        };
        let meta = TransactionMeta {
            tid: None,
            status,
            user: text()?,
            description: text()?,
            extension: text()?,
        };
        let count = from.count(SMALLEST_RECORD, "records")?;
        let records = (0..count)
            .map(|_| Record::take(from))
            .collect::<Result<_, _>>()?;
        let count = from.count(BLOB_BYTES, "blobs")?;
        let mut blobs = Vec::with_capacity(count);
        for _ in 0..count {
            let oid = Oid::from_u64(from.u64("a blob's oid")?);
            blobs.push((oid, FileDigest::take(from)?));
        }
        let payload = match from.u8("a payload")? {
            INLINE => {
                let length = from.u64("a payload's length")?;
                Payload::Inline(from.bytes(length, "a payload")?)
            }
            STAGED => Payload::Staged(FileDigest::take(from)?),
            other => {
                return Err(DecodeError::Value {
                    what: "a payload",
                    value: other.into(),
                });
            }
        };
        Ok(Self {
            tid,
            remote: (remote != NO_REMOTE).then_some(remote),
            meta,
            records,
            payload,
            pack_orders,
            blobs,
        })
    }

    fn size_hint(&self) -> usize {
        let data = match &self.payload {
            Payload::Inline(data) => data.len(),
            Payload::Staged(_) => 0,
        };
        data + self.records.len() * 32 + 256
    }
}

const NO_REMOTE: Remote = Remote {
    node: 0,
    session: 0,
};

impl Layout for Record {
    fn put(&self, out: &mut Vec<u8>) {
        put_u64(self.oid.to_u64(), out);
        match self.kind {
            StagedRecordKind::Store => out.push(STORE),
            StagedRecordKind::Delete => out.push(DELETE),
            StagedRecordKind::Undo { to: None } => out.push(UNDO_CREATION),
            StagedRecordKind::Undo { to: Some(to) } => {
                out.push(UNDO);
                put_u64(to.to_u64(), out);
            }
            StagedRecordKind::Restore {
                serial,
                has_data,
                previous,
            } => {
                out.push(match (has_data, previous) {
                    (true, None) => RESTORE,
                    (true, Some(_)) => RESTORE_FROM,
                    (false, None) => RESTORE_NOTHING,
                    (false, Some(_)) => RESTORE_NOTHING_FROM,
                });
                put_u64(serial.to_u64(), out);
                if let Some(previous) = previous {
                    put_u64(previous.to_u64(), out);
                }
            }
        }
        put_u64(self.start, out);
        put_u64(self.length, out);
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        let oid = Oid::from_u64(from.u64("an oid")?);
        let kind = match from.u8("a record")? {
            STORE => StagedRecordKind::Store,
            DELETE => StagedRecordKind::Delete,
            UNDO_CREATION => StagedRecordKind::Undo { to: None },
            UNDO => StagedRecordKind::Undo {
                to: Some(Tid::from_u64(from.u64("a tid")?)),
            },
            restore @ RESTORE..=RESTORE_NOTHING_FROM => StagedRecordKind::Restore {
                serial: Tid::from_u64(from.u64("a serial")?),
                has_data: matches!(restore, RESTORE | RESTORE_FROM),
                previous: match restore {
                    RESTORE_FROM | RESTORE_NOTHING_FROM => Some(Tid::from_u64(from.u64("a tid")?)),
                    _ => None,
                },
            },
            other => {
                return Err(DecodeError::Value {
                    what: "a record",
                    value: other.into(),
                });
            }
        };
        Ok(Self {
            oid,
            kind,
            start: from.u64("a record's start")?,
            length: from.u64("a record's length")?,
        })
    }
}

impl Layout for FileDigest {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.sha256);
        put_u64(self.length, out);
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        let bytes = from.bytes(32, "a digest")?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(&bytes);
        Ok(Self {
            sha256,
            length: from.u64("a length")?,
        })
    }
}
