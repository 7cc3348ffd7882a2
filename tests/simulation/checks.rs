//! What has to hold, whatever happens: one check for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::{Entry, EntryPayload, LogId, Membership};
use parking_lot::Mutex;
use zeod::replication::types::{Applied, Member, NodeId, Types};

use crate::log::LogDisk;
use crate::machine::{State, Transaction};

/// Sees all that happens on all nodes.
#[derive(Default)]
pub struct Oracle {
    history: Mutex<History>,
}

#[derive(Default)]
struct History {
    disks: BTreeMap<NodeId, Arc<Mutex<LogDisk>>>,
    /// What is committed, as the first node that applied it has seen it.
    committed: BTreeMap<u64, (LogId<NodeId>, Option<Transaction>, Applied)>,
    places: BTreeMap<(u64, u64), u64>,
    last_of_proposer: BTreeMap<u64, u64>,
    acknowledged: BTreeMap<(u64, u64), LogId<NodeId>>,
    last_acknowledged: Option<u64>,
    refused: BTreeSet<(u64, u64)>,
    leaders: BTreeMap<(u64, NodeId), u64>,
    pub counts: Counts,
}

/// How much was seen; a run that saw nothing shows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
    pub outdated: u64,
    pub barriers: u64,
    pub leaderships: u64,
    pub installs: u64,
    pub member_changes: u64,
    pub damages: u64,
    /// Terms with two leaders: openraft tells them apart by their node.
    pub shared_terms: u64,
}

impl Oracle {
    pub fn knows(&self, node: NodeId, disk: Arc<Mutex<LogDisk>>) {
        self.history.lock().disks.insert(node, disk);
    }

    pub fn counts(&self) -> Counts {
        self.history.lock().counts
    }

    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.history.lock().counts);
    }

    /// A node applies an entry. True: it is the first one.
    pub fn applied(
        &self,
        node: NodeId,
        entry: &Entry<Types>,
        applied: Applied,
        state: &State,
    ) -> bool {
        let mut history = self.history.lock();
        let transaction = match &entry.payload {
            EntryPayload::Normal(command) => Some(Transaction::of(command)),
            _ => None,
        };
        let seen = (entry.log_id, transaction, applied);
        if let Some(known) = history.committed.get(&entry.log_id.index) {
            assert_eq!(*known, seen, "committed entries never change; node {node}");
            return false;
        }
        history.committed_by_quorum(entry, state);
        history.committed.insert(entry.log_id.index, seen);
        if let Some(transaction) = transaction {
            history.in_order(transaction, entry.log_id.index);
        }
        history.counts.outdated += u64::from(applied == Applied::Outdated);
        true
    }

    /// A proposer has got its answer.
    pub fn acknowledged(&self, transaction: Transaction, log_id: LogId<NodeId>) {
        let mut history = self.history.lock();
        let key = (transaction.proposer, transaction.number);
        let committed = history.committed.get(&log_id.index).copied();
        let (known, what, _) = committed.expect("what is acknowledged is applied");
        assert_eq!(
            (known, what),
            (log_id, Some(transaction)),
            "the answer is its own"
        );
        history.acknowledged.insert(key, log_id);
        history.last_acknowledged = history.last_acknowledged.max(Some(log_id.index));
        history.counts.acknowledged += 1;
    }

    /// A proposer was told that it is surely not committed.
    pub fn refused(&self, transaction: Transaction) {
        let mut history = self.history.lock();
        let key = (transaction.proposer, transaction.number);
        assert!(
            !history.places.contains_key(&key),
            "refused, but committed: {transaction:?}"
        );
        history.refused.insert(key);
        history.counts.refused += 1;
    }

    /// The last place of anything that was acknowledged up to now, by whichever node.
    pub fn last_acknowledged(&self) -> Option<u64> {
        let history = self.history.lock();
        history
            .acknowledged
            .values()
            .map(|log_id| log_id.index)
            .max()
    }

    /// A node says that it leads, in its `run`th run.
    pub fn leads(&self, node: NodeId, term: u64, run: u64) {
        let mut history = self.history.lock();
        let of_term = history.leaders.range((term, 0)..(term + 1, 0));
        let is_shared = of_term.clone().any(|(&(_, other), _)| other != node);
        let is_new = of_term.clone().all(|(&(_, other), _)| other != node);
        history.counts.shared_terms += u64::from(is_shared && is_new);
        let known = *history.leaders.entry((term, node)).or_insert(run);
        assert_eq!(
            known, run,
            "node {node} leads in term {term} after a restart"
        );
        history.counts.leaderships += 1;
    }

    /// Two logs that have an entry in common have all before it in common.
    pub fn logs_match(&self) {
        let history = self.history.lock();
        let logs: Vec<_> = history.disks.values().map(|disk| disk.lock()).collect();
        for (at, one) in logs.iter().enumerate() {
            for other in &logs[..at] {
                let mut is_common = false;
                for (index, entry) in one.entries.iter().rev() {
                    let Some(found) = other.entries.get(index) else {
                        continue;
                    };
                    let is_same = found.log_id == entry.log_id;
                    assert!(
                        is_same || !is_common,
                        "{} and {}",
                        entry.log_id,
                        found.log_id
                    );
                    is_common |= is_same;
                    if is_same {
                        let (one, other) = (&entry.payload, &found.payload);
                        assert_eq!(format!("{one:?}"), format!("{other:?}"), "{}", entry.log_id);
                    }
                }
            }
        }
    }

    /// At the end: all nodes are the same, and have all that was acknowledged.
    pub fn all_equal<'a>(&self, states: impl Iterator<Item = (NodeId, &'a State)>) {
        let history = self.history.lock();
        let mut first: Option<(NodeId, &State)> = None;
        for (node, state) in states {
            let (other, expected) = *first.get_or_insert((node, state));
            assert_eq!(state.last, expected.last, "nodes {node} and {other}");
            assert_eq!(
                state.transactions, expected.transactions,
                "nodes {node} and {other}"
            );
        }
        let (_, state) = first.expect("some node runs");
        let done: BTreeSet<_> = state.transactions.iter().collect();
        assert_eq!(
            done.len(),
            state.transactions.len(),
            "nothing is applied twice"
        );
        for (&(proposer, number), log_id) in &history.acknowledged {
            let (_, what, applied) = history.committed[&log_id.index];
            let what = what.unwrap();
            assert_eq!((what.proposer, what.number), (proposer, number));
            assert_eq!(applied == Applied::Done, done.contains(&what), "{what:?}");
        }
    }
}

impl History {
    /// An entry that is applied is on the disks of a quorum.
    fn committed_by_quorum(&self, entry: &Entry<Types>, state: &State) {
        // A leader may count what a node had before it lost it: that one does not vote meanwhile.
        let has = |node: NodeId| {
            let disk = self.disks.get(&node).map(|disk| disk.lock());
            disk.is_some_and(|disk| disk.has(entry.log_id) || disk.is_damaged)
        };
        let is_quorum = |membership: &Membership<NodeId, Member>| {
            let configurations = membership.get_joint_config();
            configurations.iter().all(|voters| {
                let having = voters.iter().filter(|&&voter| has(voter)).count();
                having > voters.len() / 2
            })
        };
        if is_quorum(state.membership.membership()) {
            return;
        }
        // A leader goes by the last membership in its log, so any that is in some log may count.
        let mut later = self.disks.values().flat_map(|disk| {
            let disk = disk.lock();
            let memberships = disk
                .entries
                .values()
                .filter_map(|entry| match &entry.payload {
                    EntryPayload::Membership(membership) => {
                        Some((entry.log_id, membership.clone()))
                    }
                    _ => None,
                });
            memberships.collect::<Vec<_>>()
        });
        assert!(
            later.any(|(log_id, membership)| {
                Some(log_id) > *state.membership.log_id() && is_quorum(&membership)
            }),
            "{} is applied without a quorum",
            entry.log_id
        );
    }

    /// Each transaction is committed once; those of one proposer in the order of its calls.
    fn in_order(&mut self, transaction: Transaction, index: u64) {
        let key = (transaction.proposer, transaction.number);
        assert!(
            !self.refused.contains(&key),
            "refused, but committed: {transaction:?}"
        );
        let before = self.places.insert(key, index);
        assert_eq!(before, None, "committed twice: {transaction:?}");
        let last = self
            .last_of_proposer
            .insert(transaction.proposer, transaction.number);
        assert!(
            last < Some(transaction.number),
            "out of order: {transaction:?} after {last:?}"
        );
    }
}
