//! Databases that random operations make.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use crate::disk::DiskFile;
use crate::disk::altered::{AlteredDisk, Difference};
use crate::storage::file::pack::PackOptions;
use crate::storage::file::{FileOptions, FileStorage};
use crate::storage::{
    Committing, RECORD_GAP_BYTES, Staged, StagedBody, StagedRecord, StagedRecordKind, Storage,
};
use crate::types::{Oid, Tid, TransactionMeta};

/// Objects that are blobs.
pub const BLOBS: std::ops::Range<u64> = 20..24;
const OBJECTS: u64 = 24;

/// A test of thousands of commits waits for none.
#[derive(Debug)]
struct WithoutSyncs;

impl Difference for WithoutSyncs {
    fn sync(&self, _: &dyn DiskFile) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Something that happens to a database.
#[derive(Clone, Debug)]
pub enum Op {
    /// Objects with a length of data and what the data depends on.
    Store(Vec<(u64, usize, u8)>),
    /// The object ends.
    Delete(u64),
    /// The transaction so many before the last one is undone.
    Undo(usize),
    /// A copy from elsewhere: object, serial so many before the transaction's, and the same again.
    Restore(u64, u64, bool),
    /// Packed to the transaction so many before the last one.
    Pack(usize),
}

pub fn ops(count: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<Op>> {
    let stored = (0..OBJECTS, 0..600_usize, any::<u8>());
    let large = (0..OBJECTS, 60_000..90_000_usize, any::<u8>());
    let op = prop_oneof![
        12 => prop::collection::vec(stored, 0..6).prop_map(Op::Store),
        1 => prop::collection::vec(large, 1..3).prop_map(Op::Store),
        2 => (0..OBJECTS).prop_map(Op::Delete),
        3 => (0..20_usize).prop_map(Op::Undo),
        1 => (0..OBJECTS, 0..3_u64, any::<bool>()).prop_map(|(o, s, t)| Op::Restore(o, s, t)),
        1 => (0..30_usize).prop_map(Op::Pack),
    ];
    prop::collection::vec(op, count)
}

/// A storage in a directory of its own.
#[derive(Debug)]
pub struct Database {
    pub directory: TempDir,
    pub storage: Arc<FileStorage>,
    pub tids: Vec<u64>,
    pub packs: u64,
    with_blobs: bool,
}

impl Database {
    pub fn new(with_blobs: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let storage = open(directory.path(), with_blobs);
        Self {
            directory,
            storage,
            tids: Vec::new(),
            packs: 0,
            with_blobs,
        }
    }

    /// A copy of the files, closed or not.
    pub fn copy(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        copy_tree(self.directory.path(), directory.path());
        let _ = std::fs::remove_file(directory.path().join("Data.fs.lock"));
        let storage = open(directory.path(), self.with_blobs);
        Self {
            directory,
            storage,
            tids: self.tids.clone(),
            packs: self.packs,
            with_blobs: self.with_blobs,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("Data.fs")
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    /// Closes, changes the files, opens again.
    pub fn reopened(self, change: impl FnOnce(&Path)) -> Self {
        let Self {
            directory,
            storage,
            tids,
            packs,
            with_blobs,
        } = self;
        drop(storage);
        change(&directory.path().join("Data.fs"));
        Self {
            storage: open(directory.path(), with_blobs),
            directory,
            tids,
            packs,
            with_blobs,
        }
    }

    pub fn apply(&mut self, ops: &[Op], step: u64) {
        for op in ops {
            self.one(op, step);
        }
    }

    pub fn one(&mut self, op: &Op, step: u64) {
        let tid = self.tids.last().copied().unwrap_or(0) + step;
        let back = |count: usize| self.tids.iter().rev().nth(count).copied();
        let records = match op {
            Op::Store(changes) => {
                let store =
                    |&(oid, length, seed): &(u64, usize, u8)| (oid, data(oid, length, seed), None);
                changes.iter().map(store).collect()
            }
            Op::Delete(oid) => vec![(*oid, Vec::new(), Some(StagedRecordKind::Delete))],
            Op::Undo(count) => match back(*count) {
                Some(undone) => self.undo(undone),
                None => return,
            },
            Op::Restore(oid, before, again) => {
                let kind = StagedRecordKind::Restore {
                    serial: Tid::from_u64(tid - before.min(&(step - 1))),
                    has_data: true,
                    previous: again.then(|| Tid::from_u64(back(1).unwrap_or(1))),
                };
                vec![(*oid, data(*oid, 100, 1), Some(kind))]
            }
            Op::Pack(count) => {
                let Some(pack_time) = back(*count) else {
                    return;
                };
                let options = PackOptions {
                    gc: Some(false),
                    ..PackOptions::default()
                };
                if let Ok(crate::storage::PackOutcome::Packed { .. }) =
                    self.storage.pack_with(Tid::from_u64(pack_time), options)
                {
                    self.packs += 1;
                }
                return;
            }
        };
        self.commit(tid, records);
    }

    fn undo(&self, tid: u64) -> Vec<(u64, Vec<u8>, Option<StagedRecordKind>)> {
        let undone = self
            .storage
            .undo(Tid::from_u64(tid), &HashMap::new())
            .unwrap_or_default();
        let record = |record: crate::storage::UndoneRecord| {
            let kind = StagedRecordKind::Undo { to: record.to };
            (record.oid.to_u64(), Vec::new(), Some(kind))
        };
        undone.into_iter().map(record).collect()
    }

    pub fn commit(&mut self, tid: u64, records: Vec<(u64, Vec<u8>, Option<StagedRecordKind>)>) {
        let mut staged = Staged {
            meta: TransactionMeta {
                user: b"somebody".to_vec(),
                description: tid.to_string().into_bytes(),
                ..TransactionMeta::default()
            },
            ..Staged::default()
        };
        let mut body = Vec::new();
        for (oid, data, kind) in records {
            let oid = Oid::from_u64(oid);
            body.extend_from_slice(&[0; RECORD_GAP_BYTES]);
            let start = body.len() as u64;
            body.extend_from_slice(&data);
            if self.with_blobs && BLOBS.contains(&oid.to_u64()) && !data.is_empty() {
                let blobs = self.storage.blobs().unwrap();
                let mut upload = blobs.upload().unwrap();
                upload.write(&data.repeat(3)).unwrap();
                staged.blobs.insert(oid, upload.finish());
            }
            staged.records.push(StagedRecord {
                oid,
                data: start..body.len() as u64,
                kind: kind.unwrap_or(StagedRecordKind::Store),
            });
        }
        staged.body = StagedBody::Memory(body);
        staged.blobs.prepare(self.storage.last_tid()).unwrap();
        let mut batch = [Committing {
            tid: Tid::from_u64(tid),
            staged,
        }];
        self.storage.append(&mut batch).unwrap();
        self.storage.publish(&batch);
        self.tids.push(tid);
    }

    /// Of all objects: the newest serial and data.
    pub fn state(&self) -> Vec<Option<(u64, Option<Vec<u8>>)>> {
        let state = |oid| {
            use crate::disk::Access::Wait;
            let oid = Oid::from_u64(oid);
            let serial = self.storage.current_serial(oid, Wait).unwrap()?;
            // What an undo leads to may be that the object does not exist.
            let data = self.storage.load_serial(oid, serial.serial, Wait);
            Some((serial.serial.to_u64(), data.ok()))
        };
        (0..OBJECTS).map(state).collect()
    }
}

fn data(oid: u64, length: usize, seed: u8) -> Vec<u8> {
    let mut data = vec![seed];
    if BLOBS.contains(&oid) {
        data = b"cZODB.blob\nBlob\n.N.".to_vec();
    }
    let pattern = (0..251_u8).cycle().take(length);
    data.extend(pattern.map(|at| seed.wrapping_mul(31).wrapping_add(at)));
    data
}

pub fn open(directory: &Path, with_blobs: bool) -> Arc<FileStorage> {
    let disk = Arc::new(AlteredDisk(Arc::new(WithoutSyncs)));
    let options = FileOptions {
        blob_dir: with_blobs.then(|| directory.join("blobs")),
        pack_keep_old: false,
        ..FileOptions::new(directory.join("Data.fs"))
    };
    Arc::new(FileStorage::open(disk, options).unwrap())
}

pub fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy_tree(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
