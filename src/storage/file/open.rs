//! Opens a `Data.fs`: lock, magic, index, and what a crash left.

use std::io::IoSlice;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use super::format::{FIRST_TRANSACTION, MAGIC_PYTHON2, MAGIC_PYTHON3};
use super::index::Index;
use super::lock::Lock;
use super::oids::OidSource;
use super::pack::{self, Packing};
use super::reader::DataFile;
use super::recover::{self, Scanned};
use super::space::Space;
use super::transfer;
use super::{Append, Durability, FileOptions, FileStorage, Generation, index_file, seconds_ahead};
use crate::disk::{Access, Disk, OpenMode, read_exact_at};
use crate::stats::Histogram;
use crate::storage::{BlobDirectory, Description, Result, StorageError};
use crate::types::Tid;

/// Later than the clock by more than this, a last transaction is alarming.
const ALARMING_SECONDS_AHEAD: u64 = 30 * 60;

impl FileStorage {
    /// Opens the file, and makes it where there is none.
    ///
    /// A saved index is used where it agrees with the file; otherwise the file
    /// is read from start to end. An incomplete transaction at its end is cut off.
    pub fn open(disk: Arc<dyn Disk>, options: FileOptions) -> Result<Self> {
        let path = &options.path;
        let lock = if options.read_only {
            None
        } else {
            Some(Lock::take(&*disk, path)?)
        };
        if !options.read_only {
            transfer::carry_out(&*disk, path)?;
            pack::put_in_order(&*disk, path)?;
        }
        let data = open_data(&*disk, &options)?;
        let (index, scanned) = read_index(&*disk, &options, &data)?;
        warn_of_the_future(&data, scanned.last_tid);
        let oids = OidSource::open(&*disk, path, index.max_oid())?;
        let blobs = open_blobs(&disk, &options, scanned.last_tid)?;
        tracing::info!(
            "opened {}: {} objects, {} bytes, last transaction {}{}",
            data.name,
            index.len(),
            scanned.end,
            scanned.last_tid,
            if options.read_only { ", read-only" } else { "" }
        );
        let precedence = match &blobs {
            Some(blobs) => Arc::clone(blobs.precedence()),
            None => Arc::default(),
        };
        let storage = Self {
            description: describe(&options),
            generation: ArcSwap::from_pointee(Generation {
                data,
                index,
                end: AtomicU64::new(scanned.end),
            }),
            last_tid: AtomicU64::new(scanned.last_tid.to_u64()),
            saved_end: AtomicU64::new(0),
            blobs,
            saving: Mutex::new(()),
            published: Condvar::new(),
            packing: Packing::default(),
            undos: Arc::default(),
            append: Mutex::new(Append {
                end: scanned.end,
                unpublished: Vec::new(),
                closed: false,
            }),
            space: Arc::new(Mutex::new(Space::default())),
            oids: Mutex::new(oids),
            stopped: OnceLock::new(),
            sync_times: Histogram::of_times(),
            precedence,
            ledger: OnceLock::new(),
            lock: Mutex::new(lock),
            disk,
            options,
        };
        if let Some(blobs) = &storage.blobs {
            storage.finish_packing_blobs(blobs)?;
        }
        Ok(storage)
    }
}

fn open_blobs(
    disk: &Arc<dyn Disk>,
    options: &FileOptions,
    last_tid: Tid,
) -> Result<Option<Arc<BlobDirectory>>> {
    let Some(path) = &options.blob_dir else {
        return Ok(None);
    };
    if options.create && !options.read_only {
        BlobDirectory::erase(&**disk, path)?;
    }
    let blobs = BlobDirectory::open(Arc::clone(disk), path, options.read_only)?;
    blobs.clean_after_crash(last_tid);
    Ok(Some(blobs))
}

fn open_data(disk: &dyn Disk, options: &FileOptions) -> Result<DataFile> {
    let name: Arc<str> = options.path.display().to_string().into();
    let mode = match options {
        FileOptions {
            read_only: true, ..
        } => OpenMode::Read,
        FileOptions { create: true, .. } => OpenMode::Truncate,
        _ => OpenMode::Create,
    };
    let file = disk
        .open(&options.path, mode)
        .map_err(|source| StorageError::CannotOpen {
            file: name.to_string(),
            problem: source.to_string(),
        })?;
    if mode == OpenMode::Truncate {
        disk.remove(&super::beside(&options.path, ".index"))
            .map_err(StorageError::io("removing the old index"))?;
    }
    let data = DataFile { file, name };
    cut_unsynced(options, &data)?;
    check_magic(disk, options, &data)?;
    Ok(data)
}

/// What was not synced may be anything after a crash; the log has it.
fn cut_unsynced(options: &FileOptions, data: &DataFile) -> Result<()> {
    let Durability::Logged {
        synced_bytes: Some(synced),
    } = options.durability
    else {
        return Ok(());
    };
    let length = data
        .file
        .len()
        .map_err(StorageError::io("reading the file's length"))?;
    if length < synced {
        return Err(StorageError::CannotOpen {
            file: data.name.to_string(),
            problem: format!(
                "it has {length} bytes, but {synced} were synced: it was cut, or another file was \
                 put in its place"
            ),
        });
    }
    if length > synced {
        tracing::info!(
            "{}: {} bytes that were not synced are cut off; they are written again from the log",
            data.name,
            length - synced
        );
        data.file
            .set_len(synced)
            .map_err(StorageError::io(format!("cutting {}", data.name)))?;
    }
    Ok(())
}

fn check_magic(disk: &dyn Disk, options: &FileOptions, data: &DataFile) -> Result<()> {
    let wrong = |problem: &str| {
        Err(StorageError::CannotOpen {
            file: data.name.to_string(),
            problem: problem.to_owned(),
        })
    };
    let mut magic = [0; MAGIC_PYTHON3.len()];
    match data
        .file
        .len()
        .map_err(StorageError::io("reading the file's length"))?
    {
        0 if options.read_only => return wrong("the file is empty, and the storage read-only"),
        0 => {
            let doing = || format!("beginning {}", data.name);
            let directory = match options.path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => std::path::Path::new("."),
            };
            return data
                .file
                .write_at(&[IoSlice::new(&MAGIC_PYTHON3)], 0)
                .and_then(|()| data.file.sync())
                .and_then(|()| disk.sync_directory(directory))
                .map_err(StorageError::io(doing()));
        }
        length if length < FIRST_TRANSACTION => {
            return wrong("this is no FileStorage: it is too short");
        }
        _ => read_exact_at(&*data.file, &mut magic, 0, Access::Wait)
            .map_err(StorageError::io(format!("reading {}", data.name)))?,
    }
    match magic {
        MAGIC_PYTHON3 => Ok(()),
        MAGIC_PYTHON2 => {
            tracing::info!(
                "{}: written by Python 2 (FS21); it is served and kept as it is",
                data.name
            );
            Ok(())
        }
        _ => wrong("this is no FileStorage: it begins with neither FS30 nor FS21"),
    }
}

fn read_index(disk: &dyn Disk, options: &FileOptions, data: &DataFile) -> Result<(Index, Scanned)> {
    let started = Instant::now();
    let saved = index_file::load(disk, &options.path, data)?;
    let had_index = saved.is_some();
    let (index, from) = match saved {
        Some(saved) => (
            saved.index,
            Scanned {
                end: saved.end,
                last_tid: saved.last_tid,
            },
        ),
        None => (
            Index::default(),
            Scanned {
                end: FIRST_TRANSACTION,
                last_tid: Tid::ZERO,
            },
        ),
    };
    let scanned = recover::scan(disk, data, &options.path, &index, from, options.read_only)?;
    if scanned.end > from.end {
        tracing::info!(
            "{}: read {} bytes for the index in {:.1} s",
            data.name,
            scanned.end - from.end,
            started.elapsed().as_secs_f64()
        );
    }
    if !had_index && scanned.end > FIRST_TRANSACTION && !options.read_only {
        index_file::save(disk, &options.path, data, &index, scanned.end)?;
    }
    Ok((index, scanned))
}

fn warn_of_the_future(data: &DataFile, last_tid: Tid) {
    match seconds_ahead(last_tid, SystemTime::now()) {
        Some(seconds) if seconds > ALARMING_SECONDS_AHEAD => {
            tracing::error!(
                "{}: the last transaction lies {seconds} seconds in the future; check the clock",
                data.name
            );
        }
        Some(seconds) => {
            tracing::warn!(
                "{}: the last transaction lies {seconds} seconds in the future",
                data.name
            );
        }
        None => {}
    }
}

fn describe(options: &FileOptions) -> Description {
    let mut interfaces = Vec::new();
    if options.blob_dir.is_some() {
        interfaces.push(("ZODB.interfaces", "IBlobStorageRestoreable"));
        interfaces.push(("ZODB.interfaces", "IBlobStorage"));
    }
    interfaces.extend([
        ("ZODB.interfaces", "IStorageRestoreable"),
        ("ZODB.interfaces", "IStorageIteration"),
        ("ZODB.interfaces", "IStorageUndoable"),
        ("ZODB.interfaces", "IStorageCurrentRecordIteration"),
        ("ZODB.interfaces", "IExternalGC"),
        ("ZODB.interfaces", "IStorage"),
        ("zope.interface", "Interface"),
    ]);
    Description {
        name: options.path.display().to_string(),
        supports_undo: true,
        supports_record_iternext: true,
        interfaces,
    }
}
