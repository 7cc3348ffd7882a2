//! Majorities, under a joint configuration of each of its halves.

use std::collections::BTreeSet;

use openraft::Membership;

use crate::replication::types::{Member, NodeId};

/// Are those of which `counts` says so a majority, of each set of voters?
pub fn is_quorum(
    membership: &Membership<NodeId, Member>,
    mut counts: impl FnMut(NodeId) -> bool,
) -> bool {
    let configurations = membership.get_joint_config();
    !configurations.is_empty()
        && configurations.iter().all(|voters| {
            let counted = voters.iter().filter(|&&voter| counts(voter)).count();
            counted > voters.len() / 2
        })
}

/// The greatest value that a quorum has reached; None: no quorum has a value.
pub fn reached_by_quorum<T: Ord + Copy>(
    membership: &Membership<NodeId, Member>,
    mut value: impl FnMut(NodeId) -> Option<T>,
) -> Option<T> {
    let mut reached = |voters: &BTreeSet<NodeId>| {
        let mut values: Vec<_> = voters.iter().map(|&voter| value(voter)).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.get(voters.len() / 2).copied().flatten()
    };
    let configurations = membership.get_joint_config();
    let each = configurations.iter().map(&mut reached);
    each.min().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn membership(configurations: &[&[NodeId]]) -> Membership<NodeId, Member> {
        let sets: Vec<_> = configurations
            .iter()
            .map(|ids| ids.iter().copied().collect())
            .collect();
        Membership::new(sets, BTreeMap::<NodeId, Member>::new())
    }

    #[test]
    fn a_majority_of_each_half_is_needed() {
        let joint = membership(&[&[1, 2, 3], &[3, 4, 5]]);
        assert!(!is_quorum(&joint, |id| id <= 3));
        assert!(is_quorum(&joint, |id| id == 2 || id == 3 || id == 4));
        assert!(!is_quorum(&membership(&[&[1, 2, 3, 4]]), |id| id <= 2));
        assert!(!is_quorum(&membership(&[]), |_| true), "no voters at all");
    }

    #[test]
    fn what_a_quorum_has_reached_is_the_median_of_the_slower_half() {
        let three = membership(&[&[1, 2, 3]]);
        assert_eq!(reached_by_quorum(&three, |id| Some(id * 10)), Some(20));
        let two_silent = |id| (id == 1).then_some(10);
        assert_eq!(reached_by_quorum(&three, two_silent), None);
        let four = membership(&[&[1, 2, 3, 4]]);
        assert_eq!(reached_by_quorum(&four, Some), Some(2));
        let joint = membership(&[&[1, 2, 3], &[4, 5, 6]]);
        assert_eq!(reached_by_quorum(&joint, Some), Some(2));
    }
}
