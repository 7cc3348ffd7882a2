use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;

use super::blob::{self, BlobDirectory};
use super::{
    Committing, Condition, CurrentRecord, CurrentSerial, DataRecord, Description, HistoryEntry,
    PackOutcome, RecordIterator, Reservation, Result, Revision, Staged, StagedRecordKind, Storage,
    StorageError, TransactionIterator,
};
use crate::disk::Access;
use crate::storage::file::pack::{STATUS_PACKED, Scanner};
use crate::types::{Oid, Tid, TransactionMeta};

/// How ZODB's MappingStorage estimates its size: so much for an object …
const OBJECT_BYTES: u64 = 50;
/// … and so much for each of its revisions, beside the data.
const REVISION_BYTES: u64 = 100;

/// Keeps everything in memory, and nothing over a restart.
#[derive(Debug)]
pub struct MappingStorage {
    description: Description,
    blobs: Option<Arc<BlobDirectory>>,
    state: Arc<RwLock<State>>,
}

#[derive(Debug, Default)]
struct State {
    objects: Objects,
    transactions: BTreeMap<Tid, Transaction>,
    last_tid: Tid,
    last_oid: u64,
    size_bytes: u64,
    /// The time of the last pack.
    last_pack: Tid,
    /// Written by the last `append`, and not published yet.
    unpublished: Vec<(Tid, Transaction)>,
}

#[derive(Clone, Debug)]
struct Transaction {
    meta: TransactionMeta,
    records: Vec<(Oid, Arc<[u8]>)>,
}

impl State {
    /// Drops what ZODB's MappingStorage drops: of each object the revisions
    /// before the one that was current at `stop`, then all objects that no
    /// revision of a reachable object refers to. After an error nothing is changed.
    fn pack(&mut self, stop: Tid, gc: bool) -> Result<PackOutcome> {
        let started = Instant::now();
        let before = (self.size_bytes, self.objects.len() as u64);
        // Copies the maps and not the data.
        let mut objects = self.objects.clone();
        for revisions in objects.values_mut() {
            let current = revisions.range(..=stop).next_back().map(|(&tid, _)| tid);
            if let Some(current) = current {
                *revisions = revisions.split_off(&current);
            }
        }
        if gc {
            objects = reachable(objects)?;
        }
        self.transactions.retain(|tid, transaction| {
            let count = transaction.records.len();
            transaction.records.retain(|(oid, _)| {
                objects
                    .get(oid)
                    .is_some_and(|revisions| revisions.contains_key(tid))
            });
            if transaction.records.len() < count {
                transaction.meta.status = STATUS_PACKED;
            }
            transaction.records.len() == count || !transaction.records.is_empty()
        });
        self.size_bytes = objects.values().map(size_bytes).sum();
        self.objects = objects;
        self.last_pack = stop;
        Ok(PackOutcome::Packed {
            bytes: (before.0, self.size_bytes),
            objects: (before.1, self.objects.len() as u64),
            took: started.elapsed(),
            paused: started.elapsed(),
        })
    }
}

type Objects = BTreeMap<Oid, BTreeMap<Tid, Arc<[u8]>>>;

fn size_bytes(revisions: &BTreeMap<Tid, Arc<[u8]>>) -> u64 {
    let revision = |data: &Arc<[u8]>| REVISION_BYTES + data.len() as u64;
    OBJECT_BYTES + revisions.values().map(revision).sum::<u64>()
}

/// The objects that the root leads to.
fn reachable(mut objects: Objects) -> Result<Objects> {
    let mut reached = Objects::new();
    let mut pending = vec![Oid::ROOT];
    let mut scanner = Scanner::default();
    while let Some(oid) = pending.pop() {
        if reached.contains_key(&oid) {
            continue;
        }
        let revisions = objects
            .remove(&oid)
            .ok_or(StorageError::DanglingReference { oid, position: 0 })?;
        for data in revisions.values() {
            scanner
                .for_each_reference(data, |oid| pending.push(oid))
                .map_err(|source| StorageError::UnknownReferences {
                    position: 0,
                    source,
                })?;
        }
        reached.insert(oid, revisions);
    }
    Ok(reached)
}

#[derive(Debug)]
struct NothingReserved;

impl Reservation for NothingReserved {}

impl MappingStorage {
    /// An empty storage.
    pub fn new(name: impl Into<String>) -> Self {
        let description = Description {
            name: name.into(),
            supports_undo: false,
            supports_record_iternext: false,
            interfaces: vec![
                ("ZODB.interfaces", "IStorage"),
                ("ZODB.interfaces", "IStorageIteration"),
                ("zope.interface", "Interface"),
            ],
        };
        Self {
            description,
            blobs: None,
            state: Arc::default(),
        }
    }

    /// An empty storage with a directory for blobs around it (`<blobstorage>`).
    /// What ZODB reports of that is the directory alone.
    pub fn with_blobs(name: impl Into<String>, blobs: Arc<BlobDirectory>) -> Self {
        blobs.clean_after_crash(Tid::ZERO);
        let mut storage = Self::new(name);
        storage.description.interfaces = vec![
            ("ZODB.interfaces", "IBlobStorage"),
            ("zope.interface", "Interface"),
        ];
        storage.blobs = Some(blobs);
        storage
    }
}

impl Storage for MappingStorage {
    fn description(&self) -> &Description {
        &self.description
    }

    fn blobs(&self) -> Option<&Arc<BlobDirectory>> {
        self.blobs.as_ref()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn last_tid(&self) -> Tid {
        self.state.read().last_tid
    }

    fn object_count(&self) -> u64 {
        self.state.read().objects.len() as u64
    }

    fn size_bytes(&self) -> u64 {
        self.state.read().size_bytes
    }

    fn load_before(
        &self,
        oid: Oid,
        before: Tid,
        _access: Access,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Revision>> {
        let state = self.state.read();
        let revisions = state
            .objects
            .get(&oid)
            .ok_or_else(|| StorageError::no_such_object(oid))?;
        let Some((&serial, data)) = revisions.range(..before).next_back() else {
            return Ok(None);
        };
        let end = revisions.range(before..).next().map(|(&tid, _)| tid);
        buffer.clear();
        buffer.extend_from_slice(data);
        Ok(Some(Revision {
            data: 0..buffer.len(),
            serial,
            end,
        }))
    }

    fn load_serial(&self, oid: Oid, serial: Tid, _access: Access) -> Result<Vec<u8>> {
        let state = self.state.read();
        let data = state
            .objects
            .get(&oid)
            .and_then(|revisions| revisions.get(&serial));
        data.map(|data| data.to_vec())
            .ok_or(StorageError::NoSuchObject {
                oid,
                serial: Some(serial),
            })
    }

    fn current_serial(&self, oid: Oid, _access: Access) -> Result<Option<CurrentSerial>> {
        let state = self.state.read();
        let newest = state
            .objects
            .get(&oid)
            .and_then(|revisions| revisions.last_key_value());
        Ok(newest.map(|(&serial, _)| CurrentSerial {
            serial,
            exists: true,
        }))
    }

    fn oldest_serial(&self, oid: Oid, _access: Access) -> Result<Option<Tid>> {
        let state = self.state.read();
        let oldest = state
            .objects
            .get(&oid)
            .and_then(|revisions| revisions.first_key_value());
        Ok(oldest.map(|(&serial, _)| serial))
    }

    fn history(&self, oid: Oid, size: u64) -> Result<Vec<HistoryEntry>> {
        let state = self.state.read();
        let revisions = state
            .objects
            .get(&oid)
            .ok_or_else(|| StorageError::no_such_object(oid))?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let entry = |(&tid, data): (&Tid, &Arc<[u8]>)| HistoryEntry {
            meta: state
                .transactions
                .get(&tid)
                .map(|t| t.meta.clone())
                .unwrap_or_default(),
            tid,
            size_bytes: data.len() as u64,
            is_mapping_form: true,
        };
        Ok(revisions.iter().rev().take(size).map(entry).collect())
    }

    fn next_record(&self, _from: Option<Oid>) -> Result<Option<CurrentRecord>> {
        Err(self.unsupported("record_iternext"))
    }

    fn iterate(
        &self,
        start: Option<Tid>,
        stop: Option<Tid>,
    ) -> Result<Box<dyn TransactionIterator>> {
        let start = start.map_or(Bound::Unbounded, Bound::Included);
        let last = stop.unwrap_or(Tid::MAX).min(self.last_tid());
        Ok(Box::new(MappingIterator {
            state: Arc::clone(&self.state),
            start,
            last,
            current: None,
        }))
    }

    fn last_invalidations(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>> {
        let state = self.state.read();
        let last = state.transactions.iter().rev().take(count);
        let mut invalidations: Vec<_> = last
            .map(|(&tid, transaction)| {
                (
                    tid,
                    transaction.records.iter().map(|&(oid, _)| oid).collect(),
                )
            })
            .collect();
        invalidations.reverse();
        Ok(invalidations)
    }

    fn new_oids(&self, count: usize) -> Result<Vec<Oid>> {
        let mut state = self.state.write();
        let first = state.last_oid + 1;
        state.last_oid += count as u64;
        Ok((first..=state.last_oid).map(Oid::from_u64).collect())
    }

    fn prepare(&self, staged: &Staged) -> Result<Box<dyn Reservation>> {
        for record in &staged.records {
            match record.kind {
                StagedRecordKind::Store => {}
                StagedRecordKind::Undo { .. } => return Err(self.unsupported("undo")),
                StagedRecordKind::Delete => return Err(self.unsupported("deleteObject")),
                StagedRecordKind::Restore { .. } => return Err(self.unsupported("restore")),
            }
        }
        Ok(Box::new(NothingReserved))
    }

    fn append(&self, batch: &mut [Committing]) -> Result<()> {
        let mut unpublished = Vec::with_capacity(batch.len());
        for Committing { tid, staged } in batch.iter() {
            let mut records: Vec<(Oid, Arc<[u8]>)> = Vec::new();
            let mut data = Vec::new();
            for record in &staged.records {
                staged
                    .body
                    .read(&record.data, &mut data)
                    .map_err(StorageError::io("reading a transaction's temporary file"))?;
                records.retain(|&(oid, _)| oid != record.oid);
                records.push((record.oid, data.as_slice().into()));
            }
            let meta = TransactionMeta {
                tid: Some(*tid),
                ..staged.meta.clone()
            };
            unpublished.push((*tid, Transaction { meta, records }));
        }
        blob::place_batch(batch)?;
        blob::settle_batch(batch);
        self.state.write().unpublished = unpublished;
        Ok(())
    }

    fn publish(&self, _batch: &[Committing]) {
        let mut state = self.state.write();
        for (tid, transaction) in std::mem::take(&mut state.unpublished) {
            for (oid, data) in &transaction.records {
                let added = REVISION_BYTES + data.len() as u64;
                let is_new = !state.objects.contains_key(oid);
                state.size_bytes += added + if is_new { OBJECT_BYTES } else { 0 };
                state.last_oid = state.last_oid.max(oid.to_u64());
                state
                    .objects
                    .entry(*oid)
                    .or_default()
                    .insert(tid, Arc::clone(data));
            }
            state.transactions.insert(tid, transaction);
            state.last_tid = tid;
        }
    }

    fn pack(&self, stop: Tid, gc: Option<bool>, _until: Option<Tid>) -> Result<PackOutcome> {
        let outcome = {
            let mut state = self.state.write();
            let last_pack = state.last_pack;
            if state.objects.is_empty() || stop == last_pack {
                return Ok(PackOutcome::Nothing);
            }
            if stop < last_pack {
                return Err(StorageError::PackedLater);
            }
            state.pack(stop, gc.unwrap_or(true))?
        };
        if let Some(blobs) = &self.blobs {
            let needed = |oid, serial| {
                let state = self.state.read();
                let revisions = state.objects.get(&oid);
                Ok(revisions.is_some_and(|revisions| revisions.contains_key(&serial)))
            };
            blobs.pack_by_need(stop, &needed)?;
        }
        Ok(outcome)
    }

    fn condition(&self) -> Condition {
        let stopped = self.blobs.as_ref().and_then(|blobs| blobs.stopped());
        Condition {
            kind: "mappingstorage",
            stopped: stopped.map(str::to_owned),
            ..Condition::default()
        }
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct MappingIterator {
    state: Arc<RwLock<State>>,
    start: Bound<Tid>,
    last: Tid,
    current: Option<Transaction>,
}

impl TransactionIterator for MappingIterator {
    fn next_transaction(&mut self) -> Result<Option<TransactionMeta>> {
        let state = self.state.read();
        // A start behind the last transaction is no range that a map takes.
        let next = match self.start {
            Bound::Included(start) if start > self.last => None,
            Bound::Excluded(start) if start >= self.last => None,
            start => state
                .transactions
                .range((start, Bound::Included(self.last)))
                .next(),
        };
        self.current = next.map(|(&tid, transaction)| {
            self.start = Bound::Excluded(tid);
            transaction.clone()
        });
        Ok(self
            .current
            .as_ref()
            .map(|transaction| transaction.meta.clone()))
    }

    fn records(&self) -> Result<Box<dyn RecordIterator>> {
        let current = self.current.clone();
        let tid = current
            .as_ref()
            .and_then(|t| t.meta.tid)
            .unwrap_or_default();
        let records = current
            .map(|transaction| transaction.records)
            .unwrap_or_default();
        Ok(Box::new(MappingRecords {
            tid,
            records: records.into_iter(),
        }))
    }
}

#[derive(Debug)]
struct MappingRecords {
    tid: Tid,
    records: std::vec::IntoIter<(Oid, Arc<[u8]>)>,
}

impl RecordIterator for MappingRecords {
    fn next_record(&mut self) -> Result<Option<DataRecord>> {
        Ok(self.records.next().map(|(oid, data)| DataRecord {
            oid,
            tid: self.tid,
            data: Some(data.to_vec()),
            data_txn: None,
        }))
    }
}

#[cfg(test)]
mod tests;
