//! A leader need not wait for its own disk before it sends entries to others.
//!
//! openraft sends entries to followers when the leader's own log has taken
//! them. It is told so at once here, so that all disks write at the same time;
//! and whoever relies on an entry being durable on this node waits for that:
//! the leader before it applies the entry and before it tells anybody that it
//! is committed, and each node before it says that it has the entry
//! (`consensus::durable`).

use openraft::{Entry, EntryPayload, Vote};

use crate::replication::types::{NodeId, Types};

/// May openraft take `entries` for written before they are? `vote` is the last
/// one that node `node` has saved.
///
/// Only what this node itself proposes as the leader of its present term: for
/// nobody else counts it before it is applied. And no membership: openraft goes
/// on to the next one as soon as it takes the one before for committed.
pub fn may_be_told_early(
    node: NodeId,
    vote: Option<Vote<NodeId>>,
    entries: &[Entry<Types>],
) -> bool {
    let Some(vote) = vote.filter(|vote| vote.committed && vote.leader_id.node_id == node) else {
        return false;
    };
    entries.iter().all(|entry| {
        let by = entry.log_id.leader_id;
        let is_own = by.node_id == node && by.term == vote.leader_id.term;
        is_own && !matches!(entry.payload, EntryPayload::Membership(_))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use openraft::{CommittedLeaderId, LogId, Membership};

    use super::*;
    use crate::replication::types::Member;

    fn entry(term: u64, node: NodeId, payload: EntryPayload<Types>) -> Entry<Types> {
        Entry {
            log_id: LogId::new(CommittedLeaderId::new(term, node), 7),
            payload,
        }
    }

    #[test]
    fn only_what_the_leader_of_this_term_proposes_is_told_early() {
        let leads = Some(Vote::new_committed(3, 1));
        let blank = |term, node| entry(term, node, EntryPayload::Blank);
        assert!(may_be_told_early(1, leads, &[blank(3, 1), blank(3, 1)]));
        assert!(!may_be_told_early(1, leads, &[blank(2, 1), blank(3, 1)]));
        assert!(!may_be_told_early(1, leads, &[blank(3, 2)]));
        assert!(!may_be_told_early(2, leads, &[blank(3, 1)]));
        assert!(!may_be_told_early(1, Some(Vote::new(3, 1)), &[blank(3, 1)]));
        assert!(!may_be_told_early(1, None, &[blank(3, 1)]));
        let nodes = BTreeMap::from([(1, Member::default())]);
        let members = EntryPayload::Membership(Membership::new(vec![[1].into()], nodes));
        assert!(!may_be_told_early(1, leads, &[entry(3, 1, members)]));
    }
}
