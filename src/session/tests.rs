//! Sessions without sockets: what a client would see on its wire, in order.

mod access;
mod blob_sends;
mod blobs;
mod client;
mod conflicts;
mod decided_elsewhere;
mod draining;
mod failing_disk;
mod failures;
mod hooked_storage;
mod iteration;
mod ordering;
mod reading;
mod registering;
mod releasing;
mod threads;
mod too_large;
mod undo;
mod undo_log;
mod voting;

use std::sync::Arc;

use tempfile::TempDir;

use super::DatabaseMap;
use crate::disk::{Disk, RealDisk};
use crate::storage::blob::BlobDirectory;
use crate::storage::file::{FileOptions, FileStorage};
use crate::storage::{MappingStorage, Storage};
use crate::transaction::{Database, DatabaseOptions};
use client::Client;

/// The name of the storage that tests use.
const STORAGE: &str = "1";

/// How storages are served unless a test says otherwise.
fn options() -> DatabaseOptions {
    DatabaseOptions {
        invalidation_queue_size: 100,
        invalidation_age: None,
        transaction_timeout: None,
        hand_back_conflicts: true,
        read_only: false,
        max_transaction_bytes: 16 << 30,
    }
}

/// A served storage, closed when dropped.
struct Server {
    databases: Arc<DatabaseMap>,
    database: Arc<Database>,
    directory: TempDir,
}

impl Server {
    /// A new FileStorage in a directory of its own.
    fn file() -> Self {
        Self::file_with(options())
    }

    fn file_with(options: DatabaseOptions) -> Self {
        Self::file_on(Arc::new(RealDisk), options)
    }

    fn file_on(disk: Arc<dyn Disk>, options: DatabaseOptions) -> Self {
        Self::open(tempfile::tempdir().unwrap(), disk, options)
    }

    /// The FileStorage in `directory`.
    fn open(directory: TempDir, disk: Arc<dyn Disk>, options: DatabaseOptions) -> Self {
        let path = directory.path().join("Data.fs");
        let storage = FileStorage::open(disk, FileOptions::new(path)).unwrap();
        Self::serving(Arc::new(storage), directory, options)
    }

    /// An empty MappingStorage.
    fn mapping() -> Self {
        let storage = Arc::new(MappingStorage::new("mapping"));
        Self::serving(storage, tempfile::tempdir().unwrap(), options())
    }

    fn serving(storage: Arc<dyn Storage>, directory: TempDir, options: DatabaseOptions) -> Self {
        let database = Database::start(STORAGE, storage, options).unwrap();
        let databases = DatabaseMap::from([(STORAGE.to_owned(), Arc::clone(&database))]);
        Self {
            databases: Arc::new(databases),
            database,
            directory,
        }
    }

    /// A new FileStorage with a blob directory beside it.
    fn file_with_blobs() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut file = FileOptions::new(directory.path().join("Data.fs"));
        file.blob_dir = Some(directory.path().join("blobs"));
        let storage = FileStorage::open(Arc::new(RealDisk), file).unwrap();
        Self::serving(Arc::new(storage), directory, options())
    }

    /// An empty MappingStorage with a blob directory.
    fn mapping_with_blobs() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blobs");
        let blobs = BlobDirectory::open(Arc::new(RealDisk), &path, false).unwrap();
        let storage = Arc::new(MappingStorage::with_blobs("mapping", blobs));
        Self::serving(storage, directory, options())
    }

    /// One of each kind with blobs.
    fn both_with_blobs() -> [Self; 2] {
        [Self::file_with_blobs(), Self::mapping_with_blobs()]
    }

    /// One of each kind, for what both do alike.
    fn both() -> [Self; 2] {
        [Self::file(), Self::mapping()]
    }

    /// A client that has registered.
    fn client(&self) -> Client {
        let mut client = self.stranger();
        client.register(STORAGE, false).unwrap();
        client
    }

    /// A client that has said nothing yet.
    fn stranger(&self) -> Client {
        Client::new(Arc::clone(&self.databases))
    }

    /// A clean stop.
    fn close(&self) {
        self.database.close().unwrap();
    }

    /// What a crash would leave: a copy of the directory as it is now.
    fn crash(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(self.directory.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        copy
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ends the committer's thread; a storage that a test broke may complain.
        let _ = self.database.close();
    }
}
