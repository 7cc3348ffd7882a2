//! Each node is to lead about as many groups as the others.

use std::collections::BTreeMap;

use crate::replication::types::NodeId;

/// A group, for [`spread`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lead {
    /// The storage's name.
    pub group: String,
    /// Who leads it.
    pub leader: NodeId,
    /// The voters that could lead it: living, and caught up.
    pub able: Vec<NodeId>,
}

/// The leadership of `group` ought to go to node `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The storage's name.
    pub group: String,
    /// The node.
    pub to: NodeId,
}

/// What node `own` ought to hand over, given who leads what: one group at most, so that
/// two nodes that act on the same view do no harm; None where all is even.
pub fn spread(own: NodeId, leads: &[Lead]) -> Option<Move> {
    let mut counts = BTreeMap::<NodeId, usize>::new();
    for lead in leads {
        *counts.entry(lead.leader).or_default() += 1;
    }
    let count = |node: NodeId| counts.get(&node).copied().unwrap_or(0);
    let mut best: Option<(usize, &str, NodeId)> = None;
    for lead in leads.iter().filter(|lead| lead.leader == own) {
        for &to in lead.able.iter().filter(|&&to| to != own) {
            let candidate = (count(to), lead.group.as_str(), to);
            if best.is_none_or(|best| candidate < best) {
                best = Some(candidate);
            }
        }
    }
    let (least, group, to) = best?;
    // One less here and one more there has to be better than before.
    (least + 1 < count(own)).then(|| Move {
        group: group.to_owned(),
        to,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(leaders: &[(&str, NodeId)], able: &[NodeId]) -> Vec<Lead> {
        let lead = |&(group, leader): &(&str, NodeId)| Lead {
            group: group.to_owned(),
            leader,
            able: able.to_vec(),
        };
        leaders.iter().map(lead).collect()
    }

    #[test]
    fn a_node_that_leads_all_hands_over_one_by_one_until_all_is_even() {
        let mut all = leads(&[("1", 1), ("2", 1), ("3", 1), ("4", 1)], &[1, 2, 3]);
        let mut moved = 0;
        while let Some(Move { group, to }) = spread(1, &all) {
            moved += 1;
            all.iter_mut()
                .find(|lead| lead.group == group)
                .unwrap()
                .leader = to;
        }
        assert_eq!(moved, 2);
        let led_by = |node| all.iter().filter(|lead| lead.leader == node).count();
        assert_eq!((led_by(1), led_by(2), led_by(3)), (2, 1, 1));
        assert!((2..4).all(|node| spread(node, &all).is_none()));
    }

    #[test]
    fn nothing_goes_to_nodes_that_could_not_lead() {
        let all = leads(&[("1", 1), ("2", 1), ("3", 1)], &[1]);
        assert_eq!(spread(1, &all), None);
        assert_eq!(spread(2, &leads(&[("1", 1)], &[1, 2])), None);
    }
}
