//! Receives the state of a storage from the leader, where the log does not reach
//! back far enough.
//!
//! | step | what | where |
//! |---|---|---|
//! | 1 | the file, and blobs, come beside what is there, complete and durable | `catch_up` |
//! | 2 | the intent to put it in place is noted durably, with the note that will hold then | here |
//! | 3 | raft is told; it drops its log | `Group::install` |
//! | 4 | the file is put in place, the note written, the intent forgotten | [`Applier::install`] |
//!
//! After a crash or a stop behind step 2 the next start does step 4 before anything else
//! ([`resume`]). Whether raft has heard of the state by then makes no difference: it is committed.

use std::path::Path;
use std::sync::Arc;

use openraft::{LogId, SnapshotMeta, Vote};
use parking_lot::Mutex;

use super::applier::Applier;
use super::catch_up::{self, Incoming, Progress, Way};
use super::consensus::Group;
use super::entry_codec::{DecodeError, Layout, Reader, decode, encode};
use super::note::Note;
use super::peers::PeerStream;
use super::sending::{receive_message, send_message};
use super::types::{Member, NodeId};
use crate::disk::{Disk, RealDisk};
use crate::storage::file::transfer::{Intent, pending};
use crate::storage::{Result, Storage, StorageError};
use crate::transaction::Delivery;

/// Members, and packs to be done, are all that can make an envelope long.
const MAX_ENVELOPE_BYTES: u32 = 4 << 20;

/// What is said of a state before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The sender's leadership.
    pub vote: Vote<NodeId>,
    /// What raft calls the state.
    pub meta: SnapshotMeta<NodeId, Member>,
    /// What is noted where it is in place.
    pub note: Note,
}

impl Layout for Envelope {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.meta.put(out);
        self.note.put(out);
    }

    fn take(from: &mut Reader) -> std::result::Result<Self, DecodeError> {
        Ok(Self {
            vote: Vote::take(from)?,
            meta: SnapshotMeta::take(from)?,
            note: Note::take(from)?,
        })
    }
}

/// A state that is here and not in place.
#[derive(Debug)]
pub struct Received {
    /// What is noted where it is in place.
    pub note: Note,
    incoming: Incoming,
    intent: Intent,
}

/// What this storage is receiving.
#[derive(Debug, Default)]
pub struct Receiving {
    /// Between steps 2 and 4.
    received: Mutex<Option<Received>>,
    /// One transfer at a time.
    turn: tokio::sync::Mutex<()>,
    /// How far the one under way is, until what came is in place.
    progress: Mutex<Option<Arc<Progress>>>,
    moved: crate::stats::Counter,
}

/// A transfer is under way.
struct UnderWay<'a>(&'a Receiving);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        *self.0.progress.lock() = None;
    }
}

impl Receiving {
    /// How far the transfer is, if there is one.
    pub fn progress(&self) -> Option<catch_up::CatchUpProgress> {
        let progress = self.progress.lock();
        progress.as_ref().map(|progress| progress.get())
    }

    fn begin(&self) -> (UnderWay<'_>, Arc<Progress>) {
        let progress = Arc::<Progress>::default();
        *self.progress.lock() = Some(Arc::clone(&progress));
        (UnderWay(self), progress)
    }

    /// Bytes that came so far, over all transfers.
    pub fn moved_bytes(&self) -> u64 {
        self.moved.get()
    }

    /// Takes what has been received up to raft's state `meta`.
    pub(super) fn take(&self, meta: &SnapshotMeta<NodeId, Member>) -> Option<Received> {
        let mut received = self.received.lock();
        match &*received {
            Some(found) if found.note.applied == meta.last_log_id => received.take(),
            _ => None,
        }
    }
}

/// Receives over `stream` what a leader sends, has it installed, and answers.
pub async fn receive(applier: &Arc<Applier>, group: &Group, mut stream: PeerStream, from: NodeId) {
    if let Err(why) = receive_state(applier, group, &mut stream, from).await {
        tracing::warn!(
            "storage {}: the state of node {from} is not received: {why}",
            group.name()
        );
    }
}

async fn receive_state(
    applier: &Arc<Applier>,
    group: &Group,
    stream: &mut PeerStream,
    from: NodeId,
) -> std::result::Result<(), String> {
    let receiving = &applier.receiving;
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let Ok(_turn) = receiving.turn.try_lock() else {
        return Err("another transfer is under way".to_owned());
    };
    let envelope = receive_message(stream, MAX_ENVELOPE_BYTES)
        .await
        .map_err(|error| text(&error))?;
    let envelope: Envelope = decode(envelope.into()).map_err(|error: DecodeError| text(&error))?;
    tracing::info!(
        "storage {}: receives the state of node {from}: {} bytes, last transaction {}",
        group.name(),
        envelope.note.mark.length,
        envelope.note.mark.last_tid
    );
    let (_under_way, progress) = receiving.begin();
    let target = applier.storage.target().map_err(|error| text(&error))?;
    // A file from elsewhere may look like the beginning of the leader's and differ inside.
    let is_of_cluster = applier.applied().0.is_some();
    let packs = is_of_cluster.then(|| applier.mark().packs);
    let incoming = catch_up::receive(stream, target, packs, &progress)
        .await
        .map_err(|error| text(&error))?;
    receiving.moved.add(progress.get().moved_bytes);
    let is_another_file = incoming.way != Way::Tail;
    let keeper = Arc::clone(applier);
    let note = envelope.note;
    let noted = tokio::task::spawn_blocking(move || {
        keeper.storage.stop_packing();
        let intent = incoming.make_intent(encode(&note));
        intent.map(|intent| Received {
            note,
            incoming,
            intent,
        })
    });
    let received = noted
        .await
        .map_err(|error| text(&error))?
        .map_err(|error| text(&error))?;
    let mark = received.note.mark;
    *receiving.received.lock() = Some(received);
    let installed = group.install(envelope.vote, envelope.meta, mark).await;
    if is_another_file && installed.is_ok() {
        let keeper = Arc::clone(applier);
        tokio::task::spawn_blocking(move || keeper.remove_unneeded_blobs());
    }
    // An error is that Raft has stopped. It may have dropped its log before, and not got to the rest:
    // then that is the next start's.
    let vote = installed.map_err(|error| text(&error))?;
    if receiving.received.lock().take().is_some() {
        // Raft did not want it.
        forget_intent(applier).map_err(|error| text(&error))?;
    }
    send_message(stream, &encode(&vote))
        .await
        .map_err(|error| text(&error))
}

impl Applier {
    /// Step 4.
    pub(super) fn put_in_place(&self, received: Received) -> Result<Note> {
        let Received {
            note,
            incoming,
            intent,
        } = received;
        let before = self.storage.last_tid();
        let continues = incoming.continues;
        incoming
            .install(&self.storage, &intent)
            .map_err(|error| StorageError::Elsewhere {
                why: error.to_string(),
            })?;
        self.storage.note_last_tid(note.mark.last_tid);
        for inbox in self.finishing.take_all() {
            inbox.push(Delivery::Close(
                "this server was brought up to date as a whole during a commit",
            ));
        }
        self.replace(&note);
        self.write_note(&note)?;
        forget_intent(self)?;
        self.tell_of_replacement(before, continues)?;
        Ok(note)
    }
}

impl Applier {
    /// What packs elsewhere have dropped. Takes as long as it takes.
    fn remove_unneeded_blobs(&self) {
        let Some(blobs) = self.storage.blobs() else {
            return;
        };
        let name = &self.storage.description().name;
        match self.storage.remove_unneeded_blobs(blobs) {
            Ok(count) => tracing::info!("{name}: {count} blobs that packs elsewhere dropped went"),
            Err(error) => tracing::warn!("{name}: blobs that nothing needs any more stay: {error}"),
        }
    }
}

fn forget_intent(applier: &Applier) -> Result<()> {
    Intent::forget(&RealDisk, &applier.storage.paths().data)
}

/// At a start: the note that holds once the intent that a crash or a stop left is carried
/// out, which opening the file does. `noted` is the last entry that the file holds already:
/// from an older state than that the log may not lead on any more, so it is dropped.
pub fn resume(data_path: &Path, noted: Option<LogId<NodeId>>) -> Result<Option<Note>> {
    let Some(intent) = pending(&RealDisk, data_path)? else {
        return Ok(None);
    };
    let found = decode(intent.label.into());
    let note: Note = found.map_err(|error| StorageError::CannotOpen {
        file: data_path.display().to_string(),
        problem: format!("the note of what was received cannot be read: {error}"),
    })?;
    if noted > note.applied {
        Intent::forget(&RealDisk, data_path)?;
        return Ok(None);
    }
    Ok(Some(note))
}

/// … and after the file was opened.
pub fn resumed(note: &Note, data_path: &Path) -> Result<()> {
    let disk: &dyn Disk = &RealDisk;
    note.write(&Note::path_of(data_path))
        .map_err(|error| StorageError::Elsewhere {
            why: error.to_string(),
        })?;
    Intent::forget(disk, data_path)
}

#[cfg(test)]
#[path = "receiving_tests.rs"]
mod tests;
