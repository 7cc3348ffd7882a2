//! The log as openraft and its owner see it, on real files.

mod alone;
mod damage;
mod faults;
mod machine;
mod model;
mod restart;
mod suite;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, RaftLogReader, StorageError, Vote};
use tempfile::TempDir;

use std::time::Instant;

use super::*;
use crate::replication::types::{Command, Types};

/// Small files and little memory, so that tests see the changes between them.
fn small() -> Options {
    Options {
        file_size: 64 * 1024,
        tail_bytes: 4 * 1024,
        reclaim_interval: Duration::from_millis(50),
    }
}

fn open(directory: &Path, options: Options) -> (Log, LogCondition) {
    Log::open(directory, 1, options).unwrap()
}

/// A whole log of one storage, with default options.
fn open_main(directory: &Path) -> (Log, GroupLog) {
    let (log, condition) = open(directory, Options::default());
    assert_eq!(condition, LogCondition::Whole);
    let group = log.group("main", None).unwrap();
    assert_eq!(group.reader().condition(), LogCondition::Whole);
    (log, group)
}

fn log_id(term: u64, index: u64) -> LogId<NodeId> {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

/// Its payload depends on both numbers.
fn entry(term: u64, index: u64, size: usize) -> Entry<Types> {
    let seed = term * 31 + index;
    let bytes = (0..size as u64).map(|place| (seed * 7 + place % 251 + 1).to_le_bytes()[0] | 1);
    Entry {
        log_id: log_id(term, index),
        payload: EntryPayload::Normal(Command(bytes.collect())),
    }
}

type Outcome = Result<(), StorageError<NodeId>>;

async fn append(
    group: &mut GroupLog,
    term: u64,
    indexes: std::ops::Range<u64>,
    size: usize,
) -> Outcome {
    let entries = indexes.map(|index| entry(term, index, size));
    group.blocking_append(entries.collect::<Vec<_>>()).await
}

async fn entries(group: &mut GroupLog) -> Vec<Entry<Types>> {
    group.try_get_log_entries(..).await.unwrap()
}

/// The directory as a `kill -9` would leave it.
fn killed(directory: &Path) -> TempDir {
    loop {
        let copy = tempfile::tempdir().unwrap();
        let names = names(directory);
        let copied = names
            .iter()
            .try_for_each(|name| fs::copy(directory.join(name), copy.path().join(name)).map(drop));
        // Files come and go meanwhile: room is given back. A crash is of one moment.
        if copied.is_ok() && names == self::names(directory) {
            return copy;
        }
    }
}

fn names(directory: &Path) -> BTreeSet<OsString> {
    let files = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let files = files.filter(|file| file.file_type().unwrap().is_file());
    files.map(|file| file.file_name()).collect()
}

/// The newest file of what was written.
fn newest(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let logs = paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "raftlog"));
    logs.max().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
