//! openraft's own tests of a storage.

use openraft::testing::{StoreBuilder, Suite};

use super::machine::Machine;
use super::*;

struct Builder(Options);

impl StoreBuilder<Types, GroupLog, Machine, (Log, TempDir)> for Builder {
    async fn build(&self) -> Result<((Log, TempDir), GroupLog, Machine), StorageError<NodeId>> {
        let directory = tempfile::tempdir().unwrap();
        let (log, _) = open(directory.path(), self.0.clone());
        let group = log.group("main", None).unwrap();
        Ok(((log, directory), group, Machine::default()))
    }
}

#[test]
fn the_suite_passes() {
    Suite::test_all(Builder(Options::default())).unwrap();
}

#[test]
fn the_suite_passes_when_entries_are_read_from_files() {
    let options = Options {
        tail_bytes: 0,
        ..Options::default()
    };
    Suite::test_all(Builder(options)).unwrap();
}
