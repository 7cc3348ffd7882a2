//! An undo whose disk fails, fills up or loses its power at every single step: it is
//! wholly there afterwards, with its blobs, or not at all, and all else stays.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says by panicking what is wrong"
)]

#[path = "support/faulty_disk.rs"]
mod faulty_disk;
#[allow(
    dead_code,
    reason = "here transactions are voted, for that is where an undo is worked out"
)]
#[path = "support/small_database.rs"]
mod small_database;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use faulty_disk::{Fault, FaultyDisk, Names};
use small_database::{BLOB, copy_tree, finish, record};
use tempfile::TempDir;
use zeod::disk::{Access, Disk, RealDisk};
use zeod::storage::blob::{Layout, OWN_PREFIX};
use zeod::storage::file::{FileOptions, FileStorage};
use zeod::storage::{Storage, StorageError};
use zeod::transaction::{TransactionBuffer, VoteOutcome, vote};
use zeod::types::{Oid, Tid, TransactionMeta};

/// An object that no undo touches.
const OTHER: u64 = 7;

#[derive(Clone, Copy, Debug)]
enum Change {
    Store(u64),
    Delete(u64),
    Undo(u64),
}

use Change::{Delete, Store, Undo};

/// The transactions of every database, with ids 10, 20, …
const HISTORY: [&[Change]; 7] = [
    &[Store(0), Store(1), Store(2)],
    &[Store(BLOB)],
    &[Store(1)],
    &[Store(3)],
    &[Delete(2)],
    &[Store(1)],
    &[Store(0), Store(BLOB)],
];

struct Case {
    name: &'static str,
    /// What follows on the history.
    before: &'static [&'static [Change]],
    undo: &'static [Change],
    has_blobs: bool,
    on: &'static [(Layout, Names)],
}

/// Where neither layout nor links should matter.
const ONE: &[(Layout, Names)] = &[(Layout::Bushy, Names::Links)];
/// Without links a blob is copied.
const ALL: &[(Layout, Names)] = &[
    (Layout::Bushy, Names::Links),
    (Layout::Bushy, Names::Renames),
    (Layout::Lawn, Names::Links),
];

const fn case(name: &'static str, undo: &'static [Change], has_blobs: bool) -> Case {
    Case {
        name,
        before: &[],
        undo,
        has_blobs,
        on: ONE,
    }
}

const CASES: [Case; 8] = [
    case("change", &[Undo(60)], false),
    case("creation", &[Undo(40)], false),
    case("deletion", &[Undo(50)], false),
    case(
        "several",
        &[Undo(70), Undo(60), Undo(50), Undo(40), Undo(30)],
        true,
    ),
    Case {
        on: ALL,
        ..case("blob", &[Undo(70)], true)
    },
    Case {
        before: &[&[Undo(70)]],
        ..case("undo of a blob", &[Undo(80)], true)
    },
    case("blob and its creation", &[Undo(70), Undo(20)], false),
    case("blob, and a new one", &[Undo(70), Store(BLOB)], true),
];

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    data: Vec<u8>,
    blob: Option<Vec<u8>>,
}

/// What one transaction made of each object; None: it is no more.
type Changes = BTreeMap<u64, Option<State>>;

/// What must be there, by transaction.
#[derive(Clone, Default)]
struct Model(BTreeMap<u64, Changes>);

impl Model {
    fn next_tid(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(tid, _)| *tid) + 10
    }

    fn serial(&self, oid: u64) -> Tid {
        let last = self.0.iter().rev().find(|(_, all)| all.contains_key(&oid));
        Tid::from_u64(last.map_or(0, |(tid, _)| *tid))
    }

    fn state_before(&self, oid: u64, tid: u64) -> Option<State> {
        let mut earlier = self.0.range(..tid).rev();
        earlier.find_map(|(_, all)| all.get(&oid)).cloned()?
    }

    /// What the next transaction will make of the objects.
    fn after(&self, changes: &[Change]) -> Changes {
        let tid = self.next_tid();
        let mut after = Changes::new();
        for change in changes {
            match *change {
                Store(oid) => {
                    let data = record(oid, &[], tid);
                    let blob = (oid == BLOB).then(|| content(tid));
                    after.insert(oid, Some(State { data, blob }));
                }
                Delete(oid) => {
                    after.insert(oid, None);
                }
                Undo(undone) => {
                    let oids = self.0[&undone].keys();
                    after.extend(oids.map(|&oid| (oid, self.state_before(oid, undone))));
                }
            }
        }
        after
    }

    /// Commits one transaction. The model learns of it when it is acknowledged.
    fn commit(&mut self, storage: &FileStorage, changes: &[Change]) -> Result<(), Box<dyn Error>> {
        let tid = self.next_tid();
        let after = self.after(changes);
        let mut buffer = TransactionBuffer::new(TransactionMeta::default());
        for &change in changes {
            match change {
                Store(BLOB) => {
                    let mut upload = storage.blobs().unwrap().upload()?;
                    upload.write(&content(tid))?;
                    let data = record(BLOB, &[], tid);
                    let (oid, serial) = (Oid::from_u64(BLOB), self.serial(BLOB));
                    buffer.store_blob(oid, serial, &data, upload.finish())?;
                }
                Store(oid) => {
                    let data = record(oid, &[], tid);
                    buffer.store(Oid::from_u64(oid), self.serial(oid), &data)?;
                }
                Delete(oid) => buffer.delete(Oid::from_u64(oid), self.serial(oid))?,
                Undo(undone) => buffer.undo(Tid::from_u64(undone))?,
            }
        }
        let VoteOutcome::Voted(voted) = vote(storage, buffer, false, Access::Wait)? else {
            panic!("nobody else commits");
        };
        finish(storage, tid, voted.staged)?;
        self.0.insert(tid, after);
        Ok(())
    }

    /// Holds all transactions, revisions and blobs against what is there. A blob of
    /// the transaction `unknown`, which was not acknowledged, may be there; is it?
    fn check(&self, storage: &FileStorage, unknown: Option<u64>, what: &str) -> bool {
        self.check_transactions(storage, what);
        let blobs = storage.blobs().unwrap();
        let mut is_blob_there = false;
        for oid in [0, 1, 2, 3, OTHER, BLOB] {
            let mut with_blob = Vec::new();
            let mut last = None;
            for (&tid, changes) in &self.0 {
                if let Some(state) = changes.get(&oid) {
                    let what = format!("{what}: {oid} at {tid}");
                    check_revision(storage, oid, tid, tid + 1, state.as_ref(), &what);
                    last = Some((tid, state.as_ref()));
                    let has_blob = state.as_ref().is_some_and(|state| state.blob.is_some());
                    with_blob.extend(has_blob.then_some(Tid::from_u64(tid)));
                }
            }
            if let Some((tid, state)) = last {
                let what = format!("{what}: {oid} now");
                check_revision(storage, oid, tid, u64::MAX, state, &what);
            }
            let mut revisions = blobs.revisions(Oid::from_u64(oid)).unwrap();
            if unknown.is_some() && revisions.last().copied() == unknown.map(Tid::from_u64) {
                is_blob_there = true;
                revisions.pop();
            }
            assert_eq!(revisions, with_blob, "{what}: the blobs of {oid}");
        }
        is_blob_there
    }

    fn check_transactions(&self, storage: &FileStorage, what: &str) {
        let mut transactions = storage.iterate(None, None).unwrap();
        let mut found = BTreeMap::new();
        while let Some(meta) = transactions.next_transaction().unwrap() {
            let mut records = transactions.records().unwrap();
            let mut changes = BTreeMap::new();
            while let Some(record) = records.next_record().unwrap() {
                changes.insert(record.oid.to_u64(), record.data);
            }
            found.insert(meta.tid.unwrap().to_u64(), changes);
        }
        let data = |state: &Option<State>| state.as_ref().map(|state| state.data.clone());
        let data = |all: &Changes| all.iter().map(|(&oid, one)| (oid, data(one))).collect();
        let expected: BTreeMap<_, BTreeMap<_, _>> =
            self.0.iter().map(|(&tid, all)| (tid, data(all))).collect();
        assert_eq!(found, expected, "{what}");
        assert_eq!(storage.last_tid().to_u64() + 10, self.next_tid(), "{what}");
    }
}

fn content(tid: u64) -> Vec<u8> {
    format!("blob of {tid}; ").repeat(50).into_bytes()
}

fn check_revision(
    storage: &FileStorage,
    oid: u64,
    tid: u64,
    before: u64,
    state: Option<&State>,
    what: &str,
) {
    let (oid, serial) = (Oid::from_u64(oid), Tid::from_u64(tid));
    let before = Tid::from_u64(before).min(Tid::MAX);
    let mut buffer = Vec::new();
    let found = storage.load_before(oid, before, Access::Wait, &mut buffer);
    let Some(state) = state else {
        let is_gone = matches!(found, Err(StorageError::NoSuchObject { .. }));
        assert!(is_gone, "{what}: {found:?}");
        return;
    };
    let found = found
        .unwrap_or_else(|error| panic!("{what}: {error}"))
        .unwrap();
    assert_eq!(buffer[found.data], state.data, "{what}");
    assert_eq!(found.serial, serial, "{what}");
    if let Some(blob) = &state.blob {
        let file = storage
            .open_blob(oid, serial)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        file.read_piece(0, 1 << 20, Access::Wait, &mut buffer)
            .unwrap();
        assert!(buffer == *blob, "{what}: the content of the blob");
    }
}

fn open(disk: Arc<dyn Disk>, root: &Path) -> FileStorage {
    let options = FileOptions {
        blob_dir: Some(root.join("blobs")),
        ..FileOptions::new(root.join("Data.fs"))
    };
    FileStorage::open(disk, options).unwrap()
}

/// A database before the undo, which each run begins with a copy of.
struct Template {
    directory: TempDir,
    model: Model,
}

impl Template {
    fn new(case: &Case, layout: Layout) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let blobs = directory.path().join("blobs");
        fs::create_dir(&blobs).unwrap();
        fs::write(blobs.join(".layout"), layout.name()).unwrap();
        let storage = open(Arc::new(RealDisk), directory.path());
        assert_eq!(storage.blobs().unwrap().layout(), layout);
        let mut model = Model::default();
        for changes in HISTORY.iter().chain(case.before) {
            model.commit(&storage, changes).unwrap();
        }
        storage.close().unwrap();
        Self { directory, model }
    }
}

/// What a run goes through.
#[derive(Clone, Copy)]
struct Setting {
    fault: Fault,
    names: Names,
    /// Are names lost with the power that were not synced?
    lose_names: bool,
    layout: Layout,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = if self.lose_names { ", names lost" } else { "" };
        let (layout, disk) = (self.layout.name(), self.names);
        write!(f, "{layout}, {disk:?}, {:?}{names}", self.fault)
    }
}

/// How a run ended.
struct Run {
    has_failed: bool,
    acknowledged: bool,
    /// Was the undo there after reopening?
    was_there: bool,
}

/// Undoes on a disk that fails at step `at`, and goes on.
fn undo_with_fault(template: &Template, case: &Case, setting: Setting, at: u64) -> Run {
    let what = format!("{}: {setting} at {at}", case.name);
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    copy_tree(template.directory.path(), root);
    let mut model = template.model.clone();
    let disk = Arc::new(FaultyDisk::new(setting.fault, setting.names));
    let storage = open(disk.clone(), root);
    let tid = model.next_tid();
    let after = model.after(case.undo);

    disk.arm(at);
    let outcome = model.commit(&storage, case.undo);
    let has_failed = disk.has_failed();
    let acknowledged = outcome.is_ok();
    assert!(has_failed || acknowledged, "{what}: {outcome:?}");
    let unknown = (!acknowledged).then_some(tid);
    let is_blob_there = model.check(&storage, unknown, &format!("{what}, at once"));
    let mut is_undone = acknowledged;
    if setting.fault == Fault::Once && has_failed {
        is_undone |= go_on(&storage, &mut model, case, unknown, is_blob_there, &what);
    }
    if !disk.is_dead() {
        // A full disk keeps the index from being written; the data is there.
        let _ = storage.close();
    }
    drop(storage);
    if disk.is_dead() {
        disk.lose_unsynced();
        if setting.lose_names {
            disk.lose_names();
        }
    }

    let storage = open(Arc::new(RealDisk), root);
    if !model.0.contains_key(&tid) && storage.last_tid().to_u64() == tid {
        model.0.insert(tid, after.clone());
        is_undone = true;
    }
    let was_there = model.0.get(&tid) == Some(&after);
    model.check(&storage, None, &format!("{what}, after reopening"));
    check_no_leftovers(&storage, &what);
    if !is_undone {
        model.commit(&storage, case.undo).unwrap();
        model.check(&storage, None, &format!("{what}, undone again"));
    }
    model.commit(&storage, &[Store(1), Store(BLOB)]).unwrap();
    model.check(&storage, None, &format!("{what}, at the end"));
    check_no_leftovers(&storage, &what);
    storage.close().unwrap();
    Run {
        has_failed,
        acknowledged,
        was_there,
    }
}

/// An undo that failed for once leaves a storage that works, unless it says
/// otherwise. Is it undone the second time?
fn go_on(
    storage: &FileStorage,
    model: &mut Model,
    case: &Case,
    unknown: Option<u64>,
    is_blob_there: bool,
    what: &str,
) -> bool {
    let again = match unknown {
        Some(_) => case.undo,
        None => &[Store(BLOB)],
    };
    let mut went = true;
    for changes in [&[Store(OTHER)], again] {
        let outcome = model.commit(storage, changes);
        went = outcome.is_ok();
        // Blobs are in place whose transaction may be on the disk, or not.
        assert!(!(went && is_blob_there), "{what}: it goes on");
        if let Err(error) = outcome {
            let error = error.to_string();
            assert!(error.contains("writing stopped"), "{what}: {error}");
        }
        let unknown = unknown.filter(|_| is_blob_there);
        model.check(storage, unknown, &format!("{what}, {changes:?} then"));
    }
    went && unknown.is_some()
}

fn check_no_leftovers(storage: &FileStorage, what: &str) {
    let blobs = storage.blobs().unwrap();
    for directory in [
        blobs.temporary_path(),
        blobs.object_path(Oid::from_u64(BLOB)),
    ] {
        for entry in fs::read_dir(directory).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with(OWN_PREFIX), "{what}: {name} stays");
        }
    }
}

/// Tries a fault at every step of an undo.
fn at_every_step(template: &Template, case: &Case, setting: Setting) {
    let (mut steps, mut acknowledged, mut there) = (0, 0, 0);
    loop {
        let run = undo_with_fault(template, case, setting, steps);
        if !run.has_failed {
            assert!(run.was_there, "{}: without a fault", case.name);
            break;
        }
        steps += 1;
        acknowledged += u64::from(run.acknowledged);
        there += u64::from(run.was_there);
    }
    println!(
        "{}, {setting}: {steps} steps; acknowledged {acknowledged}, there {there}",
        case.name
    );
    let expected = if case.has_blobs { 12 } else { 3 };
    assert!(steps >= expected, "{}, {setting}: {steps}", case.name);
    assert!(there < steps, "{}: the first steps undo nothing", case.name);
    // The sync of the records is done, and nobody is told.
    if setting.fault == Fault::CrashAfter {
        assert!(there > acknowledged, "{}: {setting}", case.name);
    }
}

fn try_cases(has_blobs: bool) {
    for case in CASES.iter().filter(|case| case.has_blobs == has_blobs) {
        for &(layout, names) in case.on {
            let template = Template::new(case, layout);
            for fault in Fault::ALL {
                let is_crash = matches!(fault, Fault::CrashBefore | Fault::CrashAfter);
                for lose_names in [false, true] {
                    let setting = Setting {
                        fault,
                        names,
                        lose_names,
                        layout,
                    };
                    if is_crash || !lose_names {
                        at_every_step(&template, case, setting);
                    }
                }
            }
        }
    }
}

#[test]
fn an_undo_survives_a_fault_at_every_step() {
    try_cases(false);
}

#[test]
fn an_undo_of_a_blob_survives_a_fault_at_every_step() {
    try_cases(true);
}
