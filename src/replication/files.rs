//! What travels beside the log: the data of large transactions, and blobs.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::{Entry, EntryPayload, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::command::{Commit, Order, Payload};
use super::log::GroupReader;
use super::named::{Named, NamedFile};
use super::peers::PeerStream;
use super::staging::{Staging, Trouble};
use super::types::{Member, NodeId, Types};
use crate::storage::file::FileStorage;
use crate::storage::staging::FileDigest;
use crate::storage::{Committing, Result, Staged, StagedBody, Storage, StorageError};
use crate::transaction::{Attached, MAX_INLINE_BYTES};
use crate::types::Tid;

/// The log is looked through in steps of some MiB, so many of them at once: who waits for the end of
/// it waits no longer.
const STEPS_AT_ONCE: usize = 16;

/// The files of one storage that lie ready, and the entries that name them.
///
/// Invariant: a file that an entry of the log names stays, for the entry may have to be applied
/// yet, or again, here or on a node that is behind.
#[derive(Debug)]
pub struct Files {
    staging: Arc<Staging>,
    storage: Arc<FileStorage>,
    named: Mutex<Named>,
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

    /// Where they lie.
    #[cfg(test)]
    pub(super) fn area(&self) -> &Arc<crate::storage::staging::StagingArea> {
        self.staging.area()
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
        self.named.lock().name(log_index, commits);
    }

    /// The transaction, with the files that it needs; those that are not here
    /// come from `others`, however long that takes; `trouble` is told why.
    pub async fn complete(
        &self,
        commit: Commit,
        others: impl Fn() -> Vec<(NodeId, Member)>,
        trouble: impl Fn(Trouble),
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

    /// The log begins behind `log_index` now. What no entry names goes after `orphans_for`.
    pub fn purged(&self, log_index: u64, orphans_for: Duration) {
        let mut named = self.named.lock();
        // What is not known stays.
        if !named.is_complete() {
            return;
        }
        let area = self.staging.area();
        area.release(&named.purged(log_index));
        area.clean(&named.live(), orphans_for);
    }

    /// Finds what entries of `log` name that were not looked through yet, applied or not: those
    /// before `applied` are. Comes back before the end if that is far away.
    pub async fn look_through(&self, log: &mut GroupReader, applied: u64) {
        let extent = log.extent();
        let mut at = self.named.lock().begin(&extent, applied);
        for _ in 0..STEPS_AT_ONCE {
            if at >= extent.next {
                break;
            }
            let entries = match log.limited_get_log_entries(at, extent.next).await {
                Ok(entries) => entries,
                Err(error) => return tracing::warn!("looking through the log: {error}"),
            };
            let Some(last) = entries.last().map(|entry| entry.log_id.index) else {
                // Purged or cut off meanwhile: the next look begins elsewhere.
                return;
            };
            for entry in entries {
                self.name_all(entry);
            }
            at = last + 1;
            self.named.lock().looked_upto(at, false);
        }
        self.named.lock().looked_upto(at, at >= extent.next);
    }

    fn name_all(&self, entry: Entry<Types>) {
        let EntryPayload::Normal(command) = entry.payload else {
            return;
        };
        if let Ok(Order::Commit(commits)) = Order::decode(command)
            && commits.term == entry.log_id.leader_id.term
        {
            self.name(entry.log_id.index, &commits.transactions);
        }
    }

    /// Gets files that entries from `applied` on name before those are applied, as far as `others`
    /// have them now.
    pub async fn fetch_ahead(&self, applied: u64, others: impl Fn() -> Vec<(NodeId, Member)>) {
        let area = self.staging.area();
        let waiting: Vec<_> = self.named.lock().waiting(applied).collect();
        for NamedFile { digest, place } in waiting {
            if area.has(&digest) {
                continue;
            }
            let given_up = Notify::new();
            let trouble = |_| given_up.notify_one();
            tokio::select! {
                () = self.staging.fetch(digest, place, &others, trouble) => {}
                // The next time, or when its entry is applied.
                () = given_up.notified() => {}
            }
        }
    }

    /// The first entry whose files this node may need from others, where those before `applied`
    /// are applied.
    pub fn needed_from(&self, applied: u64) -> u64 {
        let area = self.staging.area();
        self.named
            .lock()
            .needed_from(applied, |file| area.has(file))
    }

    /// The first entry from `index` on that names files.
    pub fn named_from(&self, index: u64) -> Option<u64> {
        self.named.lock().first_from(index)
    }

    /// The first entry to be kept so that all files have `bytes` at most; None: all may be kept.
    pub fn index_keeping(&self, bytes: u64) -> Option<u64> {
        self.named.lock().keeping(bytes)
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
