//! What was voted on this node becomes entries of the log: whole batches, two
//! under way.
//!
//! An entry costs a sync of the leader's log and then one of the followers'. So
//! it takes all that waits; and while one batch is on its way to the followers,
//! the next one is written here.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Instant, SystemTime};

use openraft::LogId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::applier::Applier;
use super::command::{Commit, Commits, Order};
use super::consensus::{Group, ProposeError, Proposed as Outcome};
use super::pending::Proposed;
use super::types::NodeId;
use crate::stats::replication::GroupCounters;
use crate::storage::{Committing, Storage};
use crate::transaction::{
    Attached, CommitRequest, Database, MAX_INLINE_BYTES, Origin, Remote, Term, Voted,
};
use crate::types::TidClock;

/// So many transactions are in one entry at most.
const MAX_BATCH: usize = 256;
/// An entry takes no further transaction once it has so many bytes.
const MAX_BATCH_BYTES: u64 = 2 << 20;
/// Entries that are proposed and not applied here; without those of which it is not known, once
/// the leadership is over, what became of them.
const MAX_UNDER_WAY: usize = 2;
/// While one is under way, the next one is not proposed for fewer transactions
/// than this: they go along with more when it is decided. Each entry costs three
/// syncs and some forty changes of threads.
const SECOND_BATCH: usize = 8;

/// For whom a transaction is, and its files that others have already.
type Beside = (Option<Remote>, Attached);

/// Makes entries of commits.
///
/// Invariant: tids grow in the order of the entries, which is that of the calls
/// of `propose`; for one leadership they come from one clock.
#[derive(Debug)]
pub struct Proposer {
    applier: Arc<Applier>,
    database: OnceLock<Weak<Database>>,
    queue: Mutex<Queue>,
    wake: Notify,
    counters: Arc<GroupCounters>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Not in an entry yet. A session has one commit at a time, so there are no more than
    /// sessions: clients of this node (`max-connections`), and sessions of other nodes, each
    /// with a stream (`net/bounds.rs`).
    waiting: VecDeque<CommitRequest>,
    /// [`MAX_UNDER_WAY`] at most.
    under_way: usize,
    /// The clock of a leadership, from its first commit on.
    clock: Option<(Term, TidClock)>,
}

impl Proposer {
    /// For what `applier` applies.
    pub fn new(applier: Arc<Applier>, counters: Arc<GroupCounters>) -> Self {
        Self {
            counters,
            applier,
            database: OnceLock::new(),
            queue: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Whom to tell of what fails.
    pub fn serve(&self, database: &Arc<Database>) {
        let _ = self.database.set(Arc::downgrade(database));
    }

    /// Queues a commit, the only one of its session.
    pub fn submit(&self, request: CommitRequest) {
        {
            let mut queue = self.queue.lock();
            queue.waiting.push_back(request);
        }
        self.wake.notify_one();
    }

    /// Commits that are in no entry yet.
    pub fn waiting(&self) -> usize {
        self.queue.lock().waiting.len()
    }

    /// Proposes to `group` what is queued, for ever.
    pub async fn run(self: Arc<Self>, group: Group) {
        let mut leadership = group.leadership();
        loop {
            while let Some((term, number, order)) = self.next_batch(group.term()) {
                let begun = Instant::now();
                let outcome = group.propose(order.encode());
                self.counters.proposals.increment();
                let (proposer, group) = (Arc::clone(&self), group.clone());
                tokio::spawn(async move {
                    let outcome = outcome.await;
                    if matches!(outcome, Err(ProposeError::Unknown { .. })) {
                        proposer.release_place();
                        until_decided(&group, term).await;
                        return proposer.decided(number, &outcome, begun, true);
                    }
                    proposer.decided(number, &outcome, begun, false);
                });
            }
            tokio::select! {
                () = self.wake.notified() => {}
                // What was voted under the last one comes to nothing.
                changed = leadership.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The next batch, if there is one and it may be proposed now: its leadership, its
    /// number and its entry.
    fn next_batch(&self, term: Option<Term>) -> Option<(Term, u64, Order)> {
        loop {
            let mut queue = self.queue.lock();
            if !queue.may_propose() {
                return None;
            }
            let (outdated, batch) = queue.take_batch(term);
            let batch = match (term, batch.is_empty()) {
                (Some(term), false) => {
                    queue.under_way += 1;
                    Some(self.assign_tids(&mut queue, term, batch))
                }
                _ => None,
            };
            drop(queue);
            self.send_away(outdated);
            let (term, (proposed, beside)) = term.zip(batch)?;
            match self.order(term, proposed, &beside) {
                Some((number, order)) => return Some((term, number, order)),
                None => self.queue.lock().under_way -= 1,
            }
        }
    }

    fn assign_tids(
        &self,
        queue: &mut Queue,
        term: Term,
        batch: Vec<CommitRequest>,
    ) -> (Proposed, Vec<Beside>) {
        let clock = match &mut queue.clock {
            Some((of, clock)) if *of == term => clock,
            // All of earlier leaderships is applied.
            clock => {
                let last = self.applier.storage.last_tid();
                &mut clock.insert((term, TidClock::after(last))).1
            }
        };
        let mut proposed = Proposed {
            committing: Vec::with_capacity(batch.len()),
            origins: Vec::with_capacity(batch.len()),
            reservations: Vec::with_capacity(batch.len()),
        };
        let mut beside = Vec::with_capacity(batch.len());
        for request in batch {
            let Voted {
                staged,
                reservation,
                attached,
                ..
            } = request.voted;
            let tid = clock.assign(staged.meta.tid, SystemTime::now());
            proposed.committing.push(Committing { tid, staged });
            proposed.origins.push(request.origin);
            proposed.reservations.push(reservation);
            beside.push((request.remote, attached));
        }
        (proposed, beside)
    }

    /// The entry for a batch, which is kept until it is decided. None: it could
    /// not be made, and who asked was told.
    fn order(&self, term: Term, proposed: Proposed, beside: &[Beside]) -> Option<(u64, Order)> {
        let commits: std::io::Result<Vec<_>> = proposed
            .committing
            .iter()
            .zip(beside)
            .map(|(committing, (remote, attached))| Commit::of_voted(committing, *remote, attached))
            .collect();
        let transactions = match commits {
            Ok(transactions) => transactions,
            Err(error) => {
                let why = format!("reading a large transaction's temporary file: {error}");
                self.fail(proposed.origins, &why);
                return None;
            }
        };
        let number = self.applier.pending.add(proposed);
        let commits = Commits {
            term,
            proposer: self.applier.node,
            batch: number,
            transactions,
        };
        Some((number, Order::Commit(commits)))
    }

    /// What came of a batch; `is_late`: its place was given to another already.
    fn decided(
        &self,
        number: u64,
        outcome: &Result<Outcome, ProposeError>,
        begun: Instant,
        is_late: bool,
    ) {
        match outcome {
            Ok(_) => {
                self.counters.proposal_times.observe_time(begun.elapsed());
                if let Some(database) = self.database.get().and_then(Weak::upgrade) {
                    database.stats.commit_times.observe_time(begun.elapsed());
                }
            }
            Err(error) => {
                self.counters.proposals_refused.increment();
                tracing::debug!("a batch of commits is not in the log: {error}");
                if let Some(proposed) = self.applier.pending.take(number) {
                    match error {
                        ProposeError::Refused { .. } => self.send_away(proposed.origins),
                        ProposeError::Unknown { .. } => self.leave_open(proposed.origins),
                    }
                }
            }
        }
        if !is_late {
            self.release_place();
        }
    }

    fn release_place(&self) {
        self.queue.lock().under_way -= 1;
        self.wake.notify_one();
    }

    fn send_away(&self, origins: Vec<Origin>) {
        let database = self.database.get().and_then(Weak::upgrade);
        if let Some(database) = database.filter(|_| !origins.is_empty()) {
            database.send_away(origins, NOT_LEADING);
        }
    }

    /// A state that another leader sent may have it.
    fn leave_open(&self, origins: Vec<Origin>) {
        let database = self.database.get().and_then(Weak::upgrade);
        if let Some(database) = database.filter(|_| !origins.is_empty()) {
            database.leave_open(origins, LOST);
        }
    }

    fn fail(&self, origins: Vec<Origin>, why: &str) {
        let database = self.database.get().and_then(Weak::upgrade);
        if let Some(database) = database.filter(|_| !origins.is_empty()) {
            database.fail(origins, &why.into());
        }
    }
}

/// Waits until an entry of a later leadership is applied: what was proposed
/// under `term` is applied before it, or never.
async fn until_decided(group: &Group, term: Term) {
    let mut applied = group.applied();
    let is_later =
        |last: &Option<LogId<NodeId>>| last.is_some_and(|last| last.leader_id.term > term);
    let _ = applied.wait_for(is_later).await;
}

const NOT_LEADING: &str = "this server lost its leadership after the vote; nothing was committed";
const LOST: &str = "this server lost its leadership during the commit";

impl Queue {
    fn may_propose(&self) -> bool {
        match self.under_way {
            0 => !self.waiting.is_empty(),
            under_way => under_way < MAX_UNDER_WAY && self.waiting.len() >= SECOND_BATCH,
        }
    }

    /// Takes what fits into one entry; and those that were voted under another
    /// leadership, which come to nothing.
    fn take_batch(&mut self, term: Option<Term>) -> (Vec<Origin>, Vec<CommitRequest>) {
        let mut outdated = Vec::new();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(request) = self.waiting.front() {
            let own = request.voted.staged.data_bytes().min(MAX_INLINE_BYTES);
            let is_full = batch.len() >= MAX_BATCH || bytes + own > MAX_BATCH_BYTES;
            if is_full && !batch.is_empty() {
                break;
            }
            let Some(request) = self.waiting.pop_front() else {
                break;
            };
            if term == Some(request.term) {
                bytes += own;
                batch.push(request);
            } else {
                outdated.push(request.origin);
            }
        }
        (outdated, batch)
    }
}
