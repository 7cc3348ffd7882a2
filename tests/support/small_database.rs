//! Transactions of small records, and what must be found of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use zeod::storage::file::FileStorage;
use zeod::storage::{
    Committing, RECORD_GAP_BYTES, Result, Staged, StagedBody, StagedRecord, StagedRecordKind,
    Storage,
};
use zeod::types::{Oid, Tid};

/// The object whose revisions are blobs.
pub const BLOB: u64 = 9;

/// What must be there: of each object the data, and the transaction that wrote it.
#[derive(Clone, Default)]
pub struct Model {
    pub objects: BTreeMap<u64, (Vec<u8>, u64)>,
    pub last: u64,
    /// What a transaction wrote that was never acknowledged: all of it is there, or nothing.
    pub unknown: BTreeMap<u64, (Vec<u8>, u64)>,
}

impl Model {
    /// Once it is known that the last transaction came through after all.
    #[allow(
        dead_code,
        reason = "not every test that includes this loses its power"
    )]
    pub fn settle(&mut self, last: u64) {
        if last > self.last {
            self.last += 10;
            self.objects.append(&mut self.unknown);
        }
    }
}

/// Two pickles: the class, and a list of references with something to tell apart by.
pub fn record(oid: u64, references: &[u8], tid: u64) -> Vec<u8> {
    let class: &[u8] = if oid == BLOB {
        b"cZODB.blob\nBlob\n."
    } else {
        b"cm\nK\n."
    };
    let mut record = class.to_vec();
    record.push(b'(');
    for &oid in references {
        record.extend_from_slice(&[b'C', 8, 0, 0, 0, 0, 0, 0, 0, oid, b'Q']);
    }
    record.extend_from_slice(format!("I{tid}\nl.").as_bytes());
    record
}

/// Commits one transaction. The model learns of it when it is acknowledged.
pub fn commit(storage: &FileStorage, model: &mut Model, changes: &[(u64, &[u8])]) -> Result<()> {
    let tid = model.last + 10;
    let mut body = Vec::new();
    let mut records = Vec::new();
    let mut written = Vec::new();
    for &(oid, references) in changes {
        body.extend_from_slice(&[0; RECORD_GAP_BYTES]);
        let start = body.len() as u64;
        let data = record(oid, references, tid);
        body.extend_from_slice(&data);
        records.push(StagedRecord {
            oid: Oid::from_u64(oid),
            data: start..body.len() as u64,
            kind: StagedRecordKind::Store,
        });
        written.push((oid, (data, tid)));
    }
    let staged = Staged {
        records,
        body: StagedBody::Memory(body),
        ..Staged::default()
    };
    model.unknown = written.iter().cloned().collect();
    let _reservation = storage.prepare(&staged)?;
    finish(storage, tid, staged)?;
    model.last = tid;
    model.objects.extend(written);
    Ok(())
}

/// Writes one transaction that was voted.
pub fn finish(storage: &FileStorage, tid: u64, staged: Staged) -> Result<()> {
    let mut batch = [Committing {
        tid: Tid::from_u64(tid),
        staged,
    }];
    storage.append(&mut batch)?;
    storage.publish(&batch);
    Ok(())
}

/// Copies a database that is closed: all files and directories.
#[allow(dead_code, reason = "not every test that includes this copies one")]
pub fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_tree(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
