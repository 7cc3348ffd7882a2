//! What travels beside the log: the data of large transactions, and blobs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::{EntryPayload, RaftLogReader};
use parking_lot::Mutex;

use super::command::{Commit, Order, Payload};
use super::log::GroupReader;
use super::peers::PeerStream;
use super::staging::Staging;
use super::types::{Member, NodeId};
use crate::storage::file::FileStorage;
use crate::storage::staging::FileDigest;
use crate::storage::{Committing, Result, Staged, StagedBody, Storage, StorageError};
use crate::transaction::{Attached, MAX_INLINE_BYTES};
use crate::types::Tid;

/// What no entry names goes after this time: its transaction was given up.
const ORPHAN_PATIENCE: Duration = Duration::from_hours(1);
/// Entries that are looked through at once after a start.
const ENTRIES_AT_ONCE: u64 = 64;

/// The files of one storage that lie ready, and the entries that name them.
///
/// Invariant: a file that an entry of the log names stays, for the entry may
/// have to be applied again, here or on a node that is behind.
#[derive(Debug)]
pub struct Files {
    staging: Arc<Staging>,
    storage: Arc<FileStorage>,
    named: Mutex<Named>,
}

#[derive(Debug, Default)]
struct Named {
    /// By log index.
    entries: BTreeMap<u64, Vec<FileDigest>>,
    /// What lay here before this start is known, too.
    is_complete: bool,
}

impl Files {
    /// For `storage`, by way of `staging`.
    pub fn new(staging: Arc<Staging>, storage: Arc<FileStorage>) -> Self {
        Self {
            staging,
            storage,
            named: Mutex::default(),
        }
    }

    /// Bytes that lie ready.
    pub fn bytes(&self) -> u64 {
        self.staging.area().bytes()
    }

    /// Takes copies of what is too large for an entry. Waits for the disk.
    pub fn attach(&self, staged: &Staged) -> Result<Attached> {
        let area = self.staging.area();
        let is_large = staged.data_bytes() > MAX_INLINE_BYTES;
        let payload = is_large.then(|| area.take_body(&staged.body)).transpose()?;
        let blobs = staged.blobs.pending();
        let blobs = blobs.map(|(oid, blob)| Ok((oid, area.take_blob(blob)?)));
        Ok(Attached {
            payload,
            blobs: blobs.collect::<Result<_>>()?,
            pack_orders: 0,
        })
    }

    /// Gives files to the other members; comes back when a quorum has them.
    pub async fn distribute(
        &self,
        files: Vec<FileDigest>,
        others: Vec<(NodeId, Member)>,
        is_enough: impl Fn(&BTreeSet<NodeId>) -> bool,
    ) -> std::result::Result<(), String> {
        let staged = self.staging.stage(others, files, is_enough).await;
        staged.map(drop).map_err(|error| error.to_string())
    }

    /// Notes that the entry at `log_index` names files.
    pub fn name(&self, log_index: u64, commits: &[Commit]) {
        let files: Vec<_> = commits.iter().flat_map(Commit::files).collect();
        if !files.is_empty() {
            self.named.lock().entries.insert(log_index, files);
        }
    }

    /// The transaction, with the files that it needs; those that are not here
    /// come from `others`, however long that takes; `trouble` is told why.
    pub async fn complete(
        &self,
        commit: Commit,
        others: impl Fn() -> Vec<(NodeId, Member)>,
        trouble: impl Fn(&str),
    ) -> std::result::Result<Committing, String> {
        let tid = commit.tid;
        if matches!(commit.payload, Payload::Inline(_)) && commit.blobs.is_empty() {
            let complete = commit.into_committing(None);
            return complete.map_err(|error| format!("transaction {tid}: {error}"));
        }
        let blobs = commit.blobs.clone();
        if let Payload::Staged(digest) = &commit.payload {
            self.staging.fetch(*digest, None, &others, &trouble).await;
        }
        for (oid, digest) in &blobs {
            let place = Some((*oid, tid));
            self.staging.fetch(*digest, place, &others, &trouble).await;
        }
        tokio::task::block_in_place(|| self.assemble(commit, tid))
    }

    fn assemble(&self, commit: Commit, tid: Tid) -> std::result::Result<Committing, String> {
        let area = self.staging.area();
        let text = |error: &dyn std::fmt::Display| format!("transaction {tid}: {error}");
        let gone = |digest: &FileDigest| format!("transaction {tid}: {digest} is gone");
        let body = match &commit.payload {
            Payload::Inline(_) => None,
            Payload::Staged(digest) => {
                let body = area.body(digest).map_err(|error| text(&error))?;
                let body = body.ok_or_else(|| gone(digest))?;
                Some(own_copy(body).map_err(|error| text(&error))?)
            }
        };
        let blobs = commit.blobs.clone();
        let mut committing = commit.into_committing(body).map_err(|error| text(&error))?;
        let Some(directory) = self.storage.blobs().filter(|_| !blobs.is_empty()) else {
            return Ok(committing);
        };
        let staged = &mut committing.staged;
        for (oid, digest) in &blobs {
            let blob = area.blob(digest, directory).map_err(|error| text(&error))?;
            staged.blobs.insert(*oid, blob.ok_or_else(|| gone(digest))?);
        }
        staged
            .blobs
            .prepare(self.storage.last_tid())
            .map_err(|error| text(&error))?;
        Ok(committing)
    }

    /// The log begins behind `log_index` now.
    pub fn purged(&self, log_index: u64) {
        let mut named = self.named.lock();
        let kept = named.entries.split_off(&(log_index + 1));
        let gone = std::mem::replace(&mut named.entries, kept);
        // The same file can belong to several.
        let live: HashSet<_> = named.entries.values().flatten().copied().collect();
        let gone: Vec<_> = gone.into_values().flatten().collect();
        let gone: Vec<_> = gone
            .into_iter()
            .filter(|file| !live.contains(file))
            .collect();
        self.staging.area().release(&gone);
        if named.is_complete {
            self.staging.area().clean(&live, ORPHAN_PATIENCE);
        }
    }

    /// Finds what entries name that were applied by an earlier run.
    pub async fn look_through(&self, mut log: GroupReader, applied: u64) {
        let mut from = 0;
        while from <= applied {
            let until = (from + ENTRIES_AT_ONCE).min(applied + 1);
            match log.try_get_log_entries(from..until).await {
                Ok(entries) => {
                    for entry in entries {
                        let EntryPayload::Normal(command) = entry.payload else {
                            continue;
                        };
                        if let Ok(Order::Commit(commits)) = Order::decode(command) {
                            self.name(entry.log_id.index, &commits.transactions);
                        }
                    }
                }
                // What is not known stays.
                Err(error) => return tracing::warn!("looking through the log: {error}"),
            }
            from = until;
        }
        self.named.lock().is_complete = true;
    }

    /// Takes what another node gives.
    pub async fn take(&self, mut stream: PeerStream) {
        if let Err(error) = self.staging.take(&mut stream).await {
            tracing::debug!("files of another node did not come: {error}");
        }
    }

    /// Gives another node what it asks for.
    pub async fn lend(&self, mut stream: PeerStream) {
        if let Err(error) = self.staging.lend(&mut stream).await {
            tracing::debug!("a file did not get to another node: {error}");
        }
    }
}

/// Headers are written into the gaps of a body, and the file has to stay as it is.
fn own_copy(body: StagedBody) -> io::Result<StagedBody> {
    match body {
        StagedBody::File(mut from) => {
            let mut to = tempfile::tempfile()?;
            io::copy(&mut from, &mut to)?;
            Ok(StagedBody::File(to))
        }
        StagedBody::Memory(_) => Ok(body),
    }
}

/// A storage's staging area, opened.
pub fn open_area(
    storage: &FileStorage,
) -> std::result::Result<Arc<crate::storage::staging::StagingArea>, StorageError> {
    crate::storage::staging::StagingArea::open(
        Arc::new(crate::disk::RealDisk),
        &storage.paths().data,
        storage.blobs().map(|blobs| &**blobs),
        storage.precedence(),
    )
}
