//! What the log says becomes part of `Data.fs`: the same on every node.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use openraft::{EntryPayload, LogId, SnapshotMeta, StoredMembership};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::command::Order;
use super::consensus::Group;
use super::files::Files;
use super::history::History;
use super::note::{Note, NoteError, PackJob};
use super::packs::Packs;
use super::pending::{Finishing, Pending};
use super::receiving::Receiving;
use super::sending::{Offer, Offers};
use super::standstill::Standstill;
use super::types::{Applied, Member, NodeId, StateMark, Types};
use crate::storage::file::{FileStorage, Ledger, SyncedState};
use crate::storage::{Result, Storage, StorageError};
use crate::transaction::Database;
use crate::types::Tid;

/// While a pack exchanges the files, saving the state waits in steps of this.
const SWITCH_PAUSE: Duration = Duration::from_millis(5);

/// Applies entries to one storage.
///
/// Invariant: what was applied is a prefix of the log; every node that has
/// applied the same prefix, and done its packs, has the same file.
#[derive(Debug)]
pub struct Applier {
    pub(super) node: NodeId,
    pub(super) storage: Arc<FileStorage>,
    database: OnceLock<Weak<Database>>,
    /// Whom to ask to hurry.
    group: OnceLock<Group>,
    /// What travels beside the log.
    pub(super) files: Files,
    /// What this node has proposed.
    pub(super) pending: Pending,
    /// Whose commits another node was asked for.
    pub(super) finishing: Finishing,
    /// Packs to be done here.
    pub(super) packs: Arc<Packs>,
    state: Mutex<State>,
    /// Held while the note is written. True: a pack is exchanging the files, and
    /// the note is about both.
    writing: Mutex<bool>,
    /// The last entry that the note on the disk counts.
    noted: Mutex<Option<LogId<NodeId>>>,
    note_path: PathBuf,
    pub(super) history: History,
    /// So late it is on purpose.
    pub(super) delay: Duration,
    /// States that others may be sent.
    pub(super) offers: Offers,
    /// A state that is being received.
    pub(super) receiving: Receiving,
    /// Why entries cannot be applied at the moment.
    pub(super) stuck: watch::Sender<Option<Standstill>>,
}

/// What was applied.
#[derive(Clone, Debug)]
struct State {
    /// Packs that the log has asked for so far.
    pack_orders: u64,
    applied: Option<LogId<NodeId>>,
    membership: StoredMembership<NodeId, Member>,
    packs_done: u64,
}

impl State {
    /// Has no pack been asked for or done since `before`? A note of `before` has the
    /// last transaction of now, up to which a pack would be carried out that is
    /// applied again; and the files of now.
    fn is_of_packs_of(&self, before: &Self) -> bool {
        (self.pack_orders, self.packs_done) == (before.pack_orders, before.packs_done)
    }
}

impl Applier {
    /// For a storage that was opened by `found`.
    pub fn new(
        node: NodeId,
        storage: Arc<FileStorage>,
        files: Files,
        found: Note,
        note_path: PathBuf,
        delay: Duration,
    ) -> Self {
        storage.note_last_tid(found.mark.last_tid);
        Self {
            node,
            storage,
            files,
            database: OnceLock::new(),
            group: OnceLock::new(),
            pending: Pending::default(),
            finishing: Finishing::default(),
            packs: Packs::new(found.packs),
            state: Mutex::new(State {
                pack_orders: found.pack_orders,
                applied: found.applied,
                membership: found.membership,
                packs_done: found.mark.packs,
            }),
            writing: Mutex::new(false),
            noted: Mutex::new(found.applied),
            note_path,
            history: History::default(),
            delay,
            offers: Offers::default(),
            receiving: Receiving::default(),
            stuck: watch::Sender::new(None),
        }
    }

    /// Whom to tell of what is applied. Packs that an earlier run left go on.
    pub fn serve(&self, database: &Arc<Database>) {
        let _ = self.database.set(Arc::downgrade(database));
        self.run_packs();
    }

    /// The group whose entries these are.
    pub fn join(&self, group: Group) {
        let _ = self.group.set(group);
    }

    /// Clients of these nodes wait for the entry to be applied there.
    pub(super) fn hurry(&self, nodes: &BTreeSet<NodeId>, log_index: u64) {
        if let Some(group) = self.group.get() {
            for &node in nodes {
                group.hurry(node, log_index);
            }
        }
    }

    pub(super) fn run_packs(&self) {
        if let Some(database) = self.database.get() {
            self.packs.run(database);
        }
    }

    /// Packs that the log has asked for so far.
    pub fn pack_orders(&self) -> u64 {
        self.state.lock().pack_orders
    }

    /// The last entry that was applied, and who is in the cluster.
    pub fn applied(&self) -> (Option<LogId<NodeId>>, StoredMembership<NodeId, Member>) {
        let state = self.state.lock();
        (state.applied, state.membership.clone())
    }

    /// The first entry that is not applied yet.
    pub fn applied_next(&self) -> u64 {
        let applied = self.state.lock().applied;
        applied.map_or(0, |applied| applied.index + 1)
    }

    /// The first entry whose files this node may need from others.
    pub fn needed_from(&self) -> u64 {
        self.files.needed_from(self.applied_next())
    }

    /// What was applied lately.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Up to this entry the state is durable without the log.
    pub fn noted(&self) -> Option<u64> {
        self.noted.lock().map(|noted| noted.index)
    }

    /// The state of the storage. Of one moment only while nothing is applied.
    pub fn mark(&self) -> StateMark {
        StateMark {
            last_tid: self.storage.last_tid(),
            length: self.storage.size_bytes(),
            packs: self.state.lock().packs_done,
            reserved_oid: self.storage.last_oid().to_u64(),
        }
    }

    /// Applies one entry; comes back when that is done.
    pub async fn apply(&self, entry: openraft::Entry<Types>) -> Applied {
        let log_id = entry.log_id;
        let done = match entry.payload {
            EntryPayload::Blank => Applied::Done,
            EntryPayload::Membership(membership) => {
                let mut state = self.state.lock();
                state.membership = StoredMembership::new(Some(log_id), membership);
                Applied::Done
            }
            EntryPayload::Normal(command) => match Order::decode(command) {
                Ok(order) => self.carry_out(log_id, order).await,
                Err(error) => {
                    // Written by a newer zeod: going on without it would make
                    // this node another database.
                    let why = format!("entry {log_id} of the log cannot be read: {error}");
                    self.halt(&why).await
                }
            },
        };
        self.state.lock().applied = Some(log_id);
        done
    }

    pub(super) async fn carry_out(&self, log_id: LogId<NodeId>, order: Order) -> Applied {
        match order {
            Order::Commit(commits) => self.commit(log_id, commits).await,
            Order::Pack { stop, gc } => {
                let job = PackJob {
                    log_index: log_id.index,
                    stop,
                    gc,
                    until: self.storage.last_tid(),
                };
                {
                    // In one step for whoever writes a note.
                    let mut state = self.state.lock();
                    state.pack_orders += 1;
                    self.packs.add(job);
                    state.applied = Some(log_id);
                }
                self.run_packs();
                Applied::Done
            }
            Order::ReserveOids { term, .. } if term != log_id.leader_id.term => Applied::Outdated,
            Order::ReserveOids { upto, .. } => {
                self.insist(|| self.storage.reserve_oids(upto)).await;
                Applied::Done
            }
        }
    }

    /// The other members.
    pub(super) fn others(&self) -> Vec<(NodeId, Member)> {
        let state = self.state.lock();
        let nodes = state.membership.membership().nodes();
        nodes
            .filter(|(node, _)| **node != self.node)
            .map(|(node, member)| (*node, member.clone()))
            .collect()
    }

    /// Are these nodes, with this one, a quorum?
    pub(super) fn is_quorum(&self, nodes: &BTreeSet<NodeId>) -> bool {
        let state = self.state.lock();
        let configs = state.membership.membership().get_joint_config();
        configs.iter().all(|voters| {
            let have = |voter: &&NodeId| **voter == self.node || nodes.contains(voter);
            voters.iter().filter(have).count() > voters.len() / 2
        })
    }

    pub(super) fn database(&self) -> Option<Arc<Database>> {
        self.database.get().and_then(Weak::upgrade)
    }

    /// Puts a state that another node has sent in place of what there is.
    pub async fn install(&self, meta: &SnapshotMeta<NodeId, Member>) {
        let Some(received) = self.receiving.take(meta) else {
            let why = "a state was installed that was not received";
            return self.halt(why).await;
        };
        let placed = tokio::task::block_in_place(|| self.put_in_place(received));
        if let Err(error) = placed {
            let why =
                format!("a received state cannot be put in place, restart the server: {error}");
            self.halt::<()>(&why).await;
        }
    }

    /// From now on the storage is what `note` says.
    pub(super) fn replace(&self, note: &Note) {
        let mut state = self.state.lock();
        state.applied = note.applied;
        state.membership = note.membership.clone();
        state.packs_done = note.mark.packs;
        state.pack_orders = note.pack_orders;
        self.packs.replace(note.packs.clone());
    }

    /// Writes the note of a state that is in place.
    pub(super) fn write_note(&self, note: &Note) -> Result<()> {
        let _writing = self.writing.lock();
        note.write(&self.note_path)
            .map_err(|error| StorageError::Elsewhere {
                why: error.to_string(),
            })?;
        *self.noted.lock() = note.applied;
        Ok(())
    }

    /// Clients learn what has changed since `before`, or start over.
    pub(super) fn tell_of_replacement(&self, before: Tid, continues: bool) -> Result<()> {
        let Some(database) = self.database() else {
            return Ok(());
        };
        let limit = database.options.invalidation_queue_size;
        let changes = if continues {
            self.storage.changes_since(before, limit)?
        } else {
            None
        };
        match changes {
            Some(changes) => {
                for (tid, oids) in changes {
                    database.announce(tid, oids, None, || {});
                }
            }
            None => database.start_over()?,
        }
        self.run_packs();
        Ok(())
    }

    /// The state as another node may be sent it. None: nothing is applied yet.
    /// Nothing may be applied meanwhile.
    pub fn offer(&self) -> Result<Option<Offer>> {
        loop {
            let state = self.state.lock().clone();
            let Some(log_id) = state.applied else {
                return Ok(None);
            };
            let is_switching = *self.writing.lock();
            let packs = self.packs.jobs();
            let held = self.storage.hold()?;
            let is_same = self.state.lock().packs_done == state.packs_done;
            if is_switching || !is_same || *self.writing.lock() {
                std::thread::sleep(SWITCH_PAUSE);
                continue;
            }
            let mark = StateMark {
                last_tid: self.storage.last_tid(),
                length: held.end(),
                packs: state.packs_done,
                reserved_oid: self.storage.last_oid().to_u64(),
            };
            let offer = Offer {
                log_id,
                note: Note {
                    applied: Some(log_id),
                    membership: state.membership,
                    mark,
                    packed_bytes: None,
                    packs,
                    pack_orders: state.pack_orders,
                },
                held,
            };
            self.offers.add(offer.clone());
            return Ok(Some(offer));
        }
    }

    /// Makes durable what was applied, and notes it. Waits for the disk.
    pub fn save(&self) -> std::result::Result<Note, SaveError> {
        loop {
            let before = self.state.lock().clone();
            let synced = self.storage.sync()?;
            {
                let is_switching = self.writing.lock();
                if !*is_switching && self.state.lock().is_of_packs_of(&before) {
                    let note = self.note_of(before, synced);
                    note.write(&self.note_path)?;
                    *self.noted.lock() = note.applied;
                    return Ok(note);
                }
            }
            std::thread::sleep(SWITCH_PAUSE);
        }
    }

    /// A note of now.
    fn note(&self, synced: SyncedState) -> Note {
        let state = self.state.lock().clone();
        self.note_of(state, synced)
    }

    /// A note of `state`, which may be of a moment ago, with data that are at least as
    /// new: entries behind it are applied again, and nothing of them may be counted yet.
    fn note_of(&self, state: State, synced: SyncedState) -> Note {
        let applied = state.applied.map_or(0, |applied| applied.index);
        let mut packs = self.packs.jobs();
        packs.retain(|job| job.log_index <= applied);
        Note {
            applied: state.applied,
            membership: state.membership,
            mark: StateMark {
                last_tid: synced.last_tid,
                length: synced.length,
                packs: state.packs_done,
                reserved_oid: self.storage.last_oid().to_u64(),
            },
            packed_bytes: None,
            packs,
            pack_orders: state.pack_orders,
        }
    }
}

/// The state could not be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// `Data.fs`.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The note.
    #[error(transparent)]
    Note(#[from] NoteError),
}

impl Ledger for Applier {
    fn is_pack_due(&self) -> bool {
        !self.packs.is_idle()
    }

    fn before_switch(&self, state: SyncedState, packed_length: u64) -> Result<()> {
        let mut is_switching = self.writing.lock();
        let mut note = self.note(state);
        note.packed_bytes = Some(packed_length);
        note.write(&self.note_path)
            .map_err(|error| StorageError::Elsewhere {
                why: error.to_string(),
            })?;
        *is_switching = true;
        Ok(())
    }

    fn after_switch(&self, state: Option<SyncedState>) {
        let mut is_switching = self.writing.lock();
        *is_switching = false;
        let Some(state) = state else {
            return;
        };
        self.state.lock().packs_done += 1;
        let mut note = self.note(state);
        // What remains of the first one is of no concern to the log.
        if !note.packs.is_empty() {
            note.packs.remove(0);
        }
        if let Err(error) = note.write(&self.note_path) {
            // The note from before the switch knows of both files.
            tracing::warn!("{error}");
        }
    }
}

#[cfg(test)]
#[path = "applier_tests.rs"]
mod tests;
