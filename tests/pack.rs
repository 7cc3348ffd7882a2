//! Packs databases that Python made, and compares with what Python's pack made of them.
//!
//! `ZEOD_PACK_DATABASES=500 ZEOD_PACK_SEED=1 cargo test --test pack` looks at more of them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says by panicking what is wrong"
)]

#[path = "support/python_env.rs"]
mod python_env;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use zeod::disk::{Access, RealDisk};
use zeod::storage::file::pack::{PackOptions, RemovedBlob, pack_time};
use zeod::storage::file::{FileOptions, FileStorage};
use zeod::storage::{DataRecord, PackOutcome, Result, Storage, StorageError};
use zeod::types::{Oid, Tid};

/// One line of the manifest.
struct Case {
    name: String,
    stop: Tid,
    gc: bool,
    outcome: String,
    seed: String,
}

/// How a pack compares with Python's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// Both wrote the same bytes.
    SameBytes,
    /// Both found nothing to do.
    SameNothing,
    /// Both refused a database with a dangling reference.
    SameRefusal,
    /// Python failed, and zeod's result holds all that it has to.
    PythonFails,
    /// Python's result says something else than the database did, zeod's does not.
    PythonIsWrong,
}

#[test]
fn packs_are_those_of_python() {
    let Some(python) = python_env::python() else {
        return;
    };
    let count = env::var("ZEOD_PACK_DATABASES").unwrap_or_else(|_| "40".to_owned());
    let seed = env::var("ZEOD_PACK_SEED").unwrap_or_else(|_| "1".to_owned());
    let directory = tempfile::tempdir().unwrap();
    generate(&python, directory.path(), &seed, &count);
    let manifest = fs::read_to_string(directory.path().join("manifest")).unwrap();
    let mut verdicts = std::collections::BTreeMap::new();
    for line in manifest.lines() {
        let verdict = compare(directory.path(), &read_case(line));
        *verdicts.entry(verdict).or_insert(0) += 1;
    }
    println!("{count} databases, seed {seed}: {verdicts:?}");
    assert!(verdicts.get(&Verdict::SameBytes).is_some_and(|&n| n > 10));
}

fn generate(python: &Path, directory: &Path, seed: &str, count: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pack/generate.py");
    let output = Command::new(python)
        .arg(script)
        .arg(directory)
        .args([seed, count])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn read_case(line: &str) -> Case {
    let fields: Vec<_> = line.split_whitespace().collect();
    let stop = pack_time(fields[1].parse().unwrap()).unwrap();
    let expected = Tid::from_u64(u64::from_str_radix(fields[2], 16).unwrap());
    assert_eq!(stop, expected, "the pack time of {line}");
    Case {
        name: fields[0].to_owned(),
        stop,
        gc: fields[3] == "1",
        outcome: fields[4].to_owned(),
        seed: fields[5].to_owned(),
    }
}

fn compare(directory: &Path, case: &Case) -> Verdict {
    let what = format!(
        "{}, seed {}, to {}, gc {}",
        case.name, case.seed, case.stop, case.gc
    );
    let file = |suffix: &str| directory.join(format!("{}.{suffix}", case.name));
    let before = file("before");
    let work = tempfile::tempdir_in(directory).unwrap();
    let path = work.path().join("Data.fs");
    fs::copy(&before, &path).unwrap();
    let (outcome, removed) = pack(&path, case);
    let after = fs::read(&path).unwrap();
    let old = fs::read(&before).unwrap();
    match (case.outcome.as_str(), &outcome) {
        ("same", Ok(PackOutcome::Nothing)) => {
            assert!(after == old, "{what}: changed");
            Verdict::SameNothing
        }
        ("packed", Ok(PackOutcome::Packed { .. })) => {
            assert_eq!(fs::read(work.path().join("Data.fs.old")).unwrap(), old);
            let expected = fs::read(file("after")).unwrap();
            if after != expected {
                let said = says_the_same(&before, &path, case);
                assert_eq!(said, Ok(()), "{what}: other bytes");
                let python = says_the_same(&before, &file("after"), case);
                assert!(python.is_err(), "{what}: other bytes where Python is right");
                return Verdict::PythonIsWrong;
            }
            if file("removed").exists() {
                let expected = fs::read_to_string(file("removed")).unwrap();
                assert_eq!(removed, expected, "{what}: other blobs");
            }
            assert_eq!(says_the_same(&before, &path, case), Ok(()), "{what}");
            Verdict::SameBytes
        }
        ("KeyError", Err(StorageError::DanglingReference { .. })) => {
            assert!(after == old, "{what}: changed");
            Verdict::SameRefusal
        }
        ("AssertionError" | "PackError", Ok(_)) => {
            assert_eq!(says_the_same(&before, &path, case), Ok(()), "{what}");
            Verdict::PythonFails
        }
        (python, zeod) => panic!("{what}: Python {python}, zeod {zeod:?}"),
    }
}

/// Packs, and collects what Python writes down of superfluous blobs.
fn pack(path: &Path, case: &Case) -> (Result<PackOutcome>, String) {
    let storage = open(path, false);
    let mut removed = String::new();
    let mut on_removed = |blob: RemovedBlob| {
        use std::fmt::Write;
        match blob {
            RemovedBlob::Object(oid) => writeln!(removed, "{:016x}", oid.to_u64()),
            RemovedBlob::Revision(oid, tid) => {
                writeln!(removed, "{:016x}{:016x}", oid.to_u64(), tid.to_u64())
            }
            RemovedBlob::NoMore => Ok(()),
        }
        .unwrap();
        Ok(())
    };
    let options = PackOptions {
        gc: Some(case.gc),
        until: None,
        on_removed_blob: Some(&mut on_removed),
    };
    let outcome = storage.pack_with(case.stop, options);
    if outcome.is_ok() {
        check_index(&storage, path);
    }
    storage.close().unwrap();
    (outcome, removed)
}

fn open(path: &Path, read_only: bool) -> FileStorage {
    let options = FileOptions {
        read_only,
        ..FileOptions::new(path)
    };
    FileStorage::open(Arc::new(RealDisk), options).unwrap()
}

/// The storage that was packed says the same as one that reads the file anew.
fn check_index(storage: &FileStorage, path: &Path) {
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("Data.fs");
    fs::copy(path, &copied).unwrap();
    let fresh = open(&copied, true);
    assert_eq!(storage.object_count(), fresh.object_count());
    // Where nothing of the last transaction is kept, the file no longer tells of it.
    assert!(storage.last_tid() >= fresh.last_tid());
    assert_eq!(storage.size_bytes(), fresh.size_bytes());
    for transaction in transactions(&fresh, None) {
        for record in transaction.1 {
            assert_eq!(current(storage, record.oid), current(&fresh, record.oid));
        }
    }
}

type Transaction = (Tid, Vec<DataRecord>);

fn transactions(storage: &FileStorage, start: Option<Tid>) -> Vec<Transaction> {
    let mut transactions = storage.iterate(start, None).unwrap();
    let mut all = Vec::new();
    while let Some(meta) = transactions.next_transaction().unwrap() {
        let mut records = transactions.records().unwrap();
        let mut found = Vec::new();
        while let Some(record) = records.next_record().unwrap() {
            found.push(record);
        }
        all.push((meta.tid.unwrap(), found));
    }
    all
}

fn current(storage: &FileStorage, oid: Oid) -> Option<(Vec<u8>, Tid)> {
    let mut buffer = Vec::new();
    let revision = storage.load_before(oid, Tid::MAX, Access::Wait, &mut buffer);
    let revision = revision.ok().flatten()?;
    Some((buffer[revision.data].to_vec(), revision.serial))
}

/// Record by record: all behind the pack time is there with the same data, and each
/// object that is there at all is as it was.
fn says_the_same(before: &Path, after: &Path, case: &Case) -> std::result::Result<(), String> {
    let copy = |path: &PathBuf| {
        let directory = tempfile::tempdir().unwrap();
        let copied = directory.path().join("Data.fs");
        fs::copy(path, &copied).unwrap();
        (open(&copied, true), directory)
    };
    let (old, _old) = copy(&before.to_path_buf());
    let (new, _new) = copy(&after.to_path_buf());
    let behind = |storage| {
        let mut found = transactions(storage, Some(case.stop.next()));
        // Where data came from changes where that was dropped or is there twice.
        for record in found.iter_mut().flat_map(|(_, records)| records) {
            record.data_txn = None;
        }
        found
    };
    let (old_rest, new_rest) = (behind(&old), behind(&new));
    if old_rest != new_rest {
        return Err("a transaction behind the pack time changed".to_owned());
    }
    for (tid, records) in transactions(&new, None) {
        for record in records {
            if current(&old, record.oid) != current(&new, record.oid) {
                return Err(format!("{} of {tid} changed", record.oid));
            }
        }
    }
    Ok(())
}
