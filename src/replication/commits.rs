//! A batch of the log becomes part of the storage.

use std::time::{Duration, SystemTime};

use openraft::LogId;

use super::applier::Applier;
use super::command::{Commit, Commits};
use super::pending::Proposed;
use super::types::{Applied, NodeId};
use crate::storage::{Committing, Reservation, Storage};
use crate::transaction::Origin;
use crate::types::Tid;

/// One transaction, and what the node that proposed it still has of it.
struct Fresh {
    commit: Commit,
    own: Option<(Committing, Origin, Box<dyn Reservation>)>,
}

impl Applier {
    /// Applies a batch.
    pub(super) async fn commit(&self, log_id: LogId<NodeId>, commits: Commits) -> Applied {
        let own = (commits.proposer == self.node)
            .then(|| self.pending.take(commits.batch))
            .flatten();
        if commits.term != log_id.leader_id.term {
            if let (Some(own), Some(database)) = (own, self.database()) {
                database.send_away(own.origins, OUTDATED);
            }
            return Applied::Outdated;
        }
        if own.is_some() {
            let remotes = commits.transactions.iter();
            let remotes = remotes.filter_map(|commit| Some(commit.remote?.node));
            self.hurry(&remotes.collect(), log_id.index);
        }
        self.files.name(log_id.index, &commits.transactions);
        self.be_late(&commits).await;
        let fresh = self.without_outdated(self.fresh(commits.transactions, own));
        if fresh.is_empty() {
            return Applied::Done;
        }
        if fresh.iter().any(|fresh| fresh.commit.looks_back()) {
            // What it looks back to is where the packs before it in the log leave it.
            self.await_packs().await;
        }
        let mut batch = Vec::with_capacity(fresh.len());
        let mut origins = Vec::with_capacity(fresh.len());
        let mut reservations = Vec::new();
        for Fresh { commit, own } in fresh {
            let remote = commit.remote.filter(|remote| remote.node == self.node);
            let mut origin = if let Some((committing, origin, reservation)) = own {
                batch.push(committing);
                reservations.push(reservation);
                origin
            } else {
                batch.push(self.assembled(commit).await);
                Origin::default()
            };
            if let Some(inbox) = remote.and_then(|remote| self.finishing.take(remote.session)) {
                origin.inbox = Some(inbox);
            }
            origins.push(origin);
        }
        self.insist(|| self.storage.append(&mut batch)).await;
        match self.database() {
            Some(database) => database.publish(&batch, origins),
            None => self.storage.publish(&batch),
        }
        drop(reservations);
        let (bytes, tid) = (self.storage.size_bytes(), self.storage.last_tid());
        let count = batch.len() as u64;
        self.history.note(log_id.index, count, bytes, tid);
        Applied::Done
    }

    /// Those that an earlier run has not applied already.
    fn fresh(&self, commits: Vec<Commit>, own: Option<Proposed>) -> Vec<Fresh> {
        let floor = self.storage.last_tid();
        let own = own.map(|own| {
            let origins = own.origins.into_iter().zip(own.reservations);
            let own = own.committing.into_iter().zip(origins);
            own.map(|(committing, (origin, reservation))| (committing, origin, reservation))
        });
        let mut own = own.into_iter().flatten();
        let fresh = commits.into_iter().map(|commit| Fresh {
            commit,
            own: own.next(),
        });
        fresh.filter(|fresh| fresh.commit.tid > floor).collect()
    }

    /// Undo, and what else looks back, was voted on what was there. A pack that
    /// stands before it in the log, and not before its vote, may take that away:
    /// then nothing of it is done, on any node. A client of another node than the
    /// one that proposed it goes on waiting: its deputy hears of it there, and
    /// votes again.
    fn without_outdated(&self, fresh: Vec<Fresh>) -> Vec<Fresh> {
        let orders = self.pack_orders();
        let is_outdated =
            |fresh: &Fresh| fresh.commit.looks_back() && fresh.commit.pack_orders != orders;
        let (outdated, fresh): (Vec<_>, Vec<_>) = fresh.into_iter().partition(is_outdated);
        for Fresh { own, .. } in outdated {
            if let (Some((_, origin, _)), Some(database)) = (own, self.database()) {
                database.fail(vec![origin], &PACKED.into());
            }
        }
        fresh
    }

    async fn assembled(&self, commit: Commit) -> Committing {
        loop {
            let others = || self.others();
            let trouble = |trouble| self.tell_missing(trouble);
            match self.files.complete(commit.clone(), others, trouble).await {
                Ok(transaction) => {
                    self.go_on();
                    return transaction;
                }
                Err(why) => self.wait_stuck(&why).await,
            }
        }
    }

    /// Waits until the batch is as old as this node is to be late.
    async fn be_late(&self, commits: &Commits) {
        if self.delay == Duration::ZERO {
            return;
        }
        let newest = commits.transactions.last().map(|commit| commit.tid);
        let newest = newest.unwrap_or_default().to_time_since_epoch();
        let now = Tid::from_time(SystemTime::now()).to_time_since_epoch();
        // A transaction of the future waits no longer than one of now.
        let age = now.saturating_sub(newest);
        tokio::time::sleep(self.delay.saturating_sub(age)).await;
    }
}

const OUTDATED: &str = "this server lost its leadership before the commit; nothing was committed";
const PACKED: &str = "the storage was packed after the vote, and what is undone may be gone; \
                      nothing was committed";
