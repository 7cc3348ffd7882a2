//! A large database: a tree of objects, some of which nothing leads to, and
//! some of which were written twice.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use zeod::disk::RealDisk;
use zeod::storage::file::{FileOptions, FileStorage};
use zeod::storage::{
    Committing, RECORD_GAP_BYTES, Staged, StagedBody, StagedRecord, StagedRecordKind, Storage,
    StorageError,
};
use zeod::types::{Oid, Tid};

/// References in each object that has any.
const CHILDREN: u64 = 16;
/// Objects in each transaction.
const BATCH: u64 = 1000;
/// Each so many-th object is reached from nowhere.
const GARBAGE: u64 = 20;
/// Each so many-th batch is written once more.
const REWRITTEN: usize = 8;
/// What an object holds beside its references.
pub const FILL_BYTES: usize = 380;
/// It was all written so long ago.
const AGE: Duration = Duration::from_hours(48);

/// Writes `objects` objects.
pub fn write(path: &Path, objects: u64) -> Result<(), StorageError> {
    let storage = FileStorage::open(Arc::new(RealDisk), FileOptions::new(path))?;
    let mut tid = Tid::from_time(SystemTime::now() - AGE).to_u64();
    let batches = objects.div_ceil(BATCH);
    for batch in (0..batches).chain((0..batches).step_by(REWRITTEN)) {
        // A tid's unit is about 14 ns: a transaction each 14 ms.
        tid += 1_000_000;
        let end = (batch * BATCH + BATCH).min(objects);
        commit(&storage, tid, batch * BATCH..end, objects)?;
    }
    storage.close()
}

fn commit(
    storage: &FileStorage,
    tid: u64,
    oids: std::ops::Range<u64>,
    objects: u64,
) -> Result<(), StorageError> {
    let mut body = Vec::new();
    let mut records = Vec::new();
    for oid in oids {
        body.extend_from_slice(&[0; RECORD_GAP_BYTES]);
        let start = body.len() as u64;
        push_record(&mut body, oid, objects);
        records.push(StagedRecord {
            oid: Oid::from_u64(oid),
            data: start..body.len() as u64,
            kind: StagedRecordKind::Store,
        });
    }
    let staged = Staged {
        records,
        body: StagedBody::Memory(body),
        ..Staged::default()
    };
    let _reservation = storage.prepare(&staged)?;
    let mut batch = [Committing {
        tid: Tid::from_u64(tid),
        staged,
    }];
    storage.append(&mut batch)?;
    storage.publish(&batch);
    Ok(())
}

/// A class, and a state with references as ZODB writes them: (oid, class).
fn push_record(out: &mut Vec<u8>, oid: u64, objects: u64) {
    const CLASS: &[u8] = b"cpersistent.mapping\nPersistentMapping\n";
    out.extend_from_slice(b"\x80\x03");
    out.extend_from_slice(CLASS);
    out.extend_from_slice(b"q\x01.\x80\x03}q\x02X\x04\x00\x00\x00data(");
    for child in oid * CHILDREN + 1..=oid * CHILDREN + CHILDREN {
        if child < objects && !child.is_multiple_of(GARBAGE) {
            out.extend_from_slice(b"(C\x08");
            out.extend_from_slice(&child.to_be_bytes());
            out.extend_from_slice(CLASS);
            out.extend_from_slice(b"tQ");
        }
    }
    out.extend_from_slice(&fill_header());
    // Not all alike, as real data are not.
    out.extend(
        (0..FILL_BYTES as u64).map(|at| (((oid + at) * 2_654_435_761) >> 7).to_le_bytes()[0]),
    );
    out.extend_from_slice(b"ts.");
}

/// What is in front of an object's fill.
pub fn fill_header() -> [u8; 5] {
    let [a, b, c, d] = u32::try_from(FILL_BYTES).unwrap().to_le_bytes();
    [b'B', a, b, c, d]
}
