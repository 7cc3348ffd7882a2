//! Opens the storages that the configuration names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ServerError;
use super::limits::DEFAULT_TRANSACTION_TIMEOUT;
use crate::client::Plain;
use crate::client::upstream::{self, BlobOptions, UpstreamOptions};
use crate::config::{ClientStorageConfig, Config, FileStorageConfig, StorageConfig};
use crate::disk::RealDisk;
use crate::session::Databases;
use crate::storage::file::{Durability, FileOptions, FileStorage};
use crate::storage::{BlobDirectory, DemoStorage, MappingStorage, Storage};
use crate::transaction::{Database, DatabaseOptions};

/// Opens all of them, and begins to serve them. `opening` is told which is next.
pub fn databases(config: &Config, opening: &dyn Fn(&str)) -> Result<Arc<Databases>, ServerError> {
    let options = options(config);
    let mut databases = Databases::new();
    for named in &config.storages {
        let name = &named.name;
        opening(name);
        let database = database(name, &named.storage, &options)?;
        databases.insert(name.clone(), database);
    }
    Ok(Arc::new(databases))
}

/// How storages are served.
pub fn options(config: &Config) -> DatabaseOptions {
    let zeo = &config.zeo;
    let timeout = zeo
        .transaction_timeout
        .unwrap_or(DEFAULT_TRANSACTION_TIMEOUT);
    DatabaseOptions {
        invalidation_queue_size: zeo.invalidation_queue_size,
        invalidation_age: zeo.invalidation_age,
        transaction_timeout: Some(timeout),
        hand_back_conflicts: zeo.client_conflict_resolution.unwrap_or(true),
        read_only: zeo.read_only,
        max_transaction_bytes: config.zeod.max_transaction_bytes,
    }
}

/// Opens one storage, and begins to serve it.
fn database(
    name: &str,
    config: &StorageConfig,
    options: &DatabaseOptions,
) -> Result<Arc<Database>, ServerError> {
    let failed = |source| ServerError::Storage {
        name: name.to_owned(),
        source,
    };
    match config {
        StorageConfig::Client(client) => {
            let upstream = upstream(name, client)?;
            upstream::serve(name, upstream, Arc::new(Plain), options.clone()).map_err(failed)
        }
        StorageConfig::Blob { base, .. } if matches!(**base, StorageConfig::Client(_)) => {
            Err(ServerError::NotServed {
                name: name.to_owned(),
                what: "a <zeoclient> has its blobs in its own blob-dir; take the <blobstorage> \
                       around it out"
                    .to_owned(),
            })
        }
        _ => {
            let storage = open(name, config, None)?;
            Database::start(name, storage, options.clone()).map_err(failed)
        }
    }
}

/// How a storage stands in front of another server.
fn upstream(name: &str, config: &ClientStorageConfig) -> Result<UpstreamOptions, ServerError> {
    let blobs = match &config.blob_dir {
        None => None,
        Some(path) => Some(BlobOptions {
            directory: open_blobs(name, path)?,
            is_shared: config.shared_blob_dir,
            max_bytes: config.blob_cache_bytes,
            check_percent: config.blob_cache_check_percent,
        }),
    };
    Ok(UpstreamOptions {
        servers: config.servers.clone(),
        storage: config.storage.clone(),
        name: config.name.clone(),
        read_only: config.read_only,
        read_only_fallback: config.read_only_fallback,
        wait: config.wait,
        wait_time: config.wait_timeout,
        cache_bytes: usize::try_from(config.cache_bytes).unwrap_or(usize::MAX),
        label: config.label.clone(),
        blobs,
    })
}

/// Opens one storage. `blob_dir` is that of a `<blobstorage>` around it.
fn open(
    name: &str,
    config: &StorageConfig,
    blob_dir: Option<PathBuf>,
) -> Result<Arc<dyn Storage>, ServerError> {
    match config {
        StorageConfig::File(file) => open_file(name, file, blob_dir),
        StorageConfig::Mapping { name: own } => open_mapping(name, own, blob_dir),
        StorageConfig::Client(_) => Err(ServerError::NotServed {
            name: name.to_owned(),
            what: "a <zeoclient> cannot stand in a <demostorage>: what others change there would \
                   not be told to the clients here"
                .to_owned(),
        }),
        StorageConfig::Blob { blob_dir, base } => open(name, base, Some(blob_dir.clone())),
        StorageConfig::Demo {
            name: own,
            base,
            changes,
        } => {
            let part = |part: &Option<Box<StorageConfig>>| {
                let part = part.as_deref();
                part.map(|part| open(name, part, None)).transpose()
            };
            let (base, changes) = (part(base)?, part(changes)?);
            let demo = DemoStorage::new(Arc::new(RealDisk), own.clone(), base, changes);
            put_around(name, demo, blob_dir)
        }
    }
}

/// Puts the directory of a `<blobstorage>` around a DemoStorage.
fn put_around(
    name: &str,
    demo: DemoStorage,
    blob_dir: Option<PathBuf>,
) -> Result<Arc<dyn Storage>, ServerError> {
    let Some(path) = blob_dir else {
        return Ok(Arc::new(demo));
    };
    if demo.has_blobs() {
        return Err(ServerError::NotServed {
            name: name.to_owned(),
            what: "a <blobstorage> cannot stand around a <demostorage> that takes blobs by \
                   itself, as one without changes does: put it around the changes"
                .to_owned(),
        });
    }
    let blobs = open_blobs(name, &path)?;
    Ok(Arc::new(demo.with_blobs(blobs)))
}

fn open_blobs(name: &str, path: &Path) -> Result<Arc<BlobDirectory>, ServerError> {
    BlobDirectory::open(Arc::new(RealDisk), path, false).map_err(|source| ServerError::Storage {
        name: name.to_owned(),
        source,
    })
}

fn open_mapping(
    name: &str,
    own: &str,
    blob_dir: Option<PathBuf>,
) -> Result<Arc<dyn Storage>, ServerError> {
    let Some(path) = blob_dir else {
        return Ok(Arc::new(MappingStorage::new(own)));
    };
    let blobs = open_blobs(name, &path)?;
    Ok(Arc::new(MappingStorage::with_blobs(own, blobs)))
}

fn open_file(
    name: &str,
    config: &FileStorageConfig,
    blob_dir: Option<PathBuf>,
) -> Result<Arc<dyn Storage>, ServerError> {
    FileStorage::open(Arc::new(RealDisk), file_options(config, blob_dir))
        .map(|storage| Arc::new(storage) as Arc<dyn Storage>)
        .map_err(|source| ServerError::Storage {
            name: name.to_owned(),
            source,
        })
}

/// How a file is opened. `blob_dir` is that of a `<blobstorage>` around it.
pub fn file_options(config: &FileStorageConfig, blob_dir: Option<PathBuf>) -> FileOptions {
    FileOptions {
        path: config.path.clone(),
        blob_dir: blob_dir.or_else(|| config.blob_dir.clone()),
        read_only: config.read_only,
        create: config.create,
        quota_bytes: config.quota_bytes,
        pack_gc: config.pack_gc,
        pack_keep_old: config.pack_keep_old,
        durability: Durability::Synced,
    }
}
