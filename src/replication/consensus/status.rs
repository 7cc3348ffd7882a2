//! What a group tells of itself.

use std::time::Duration;

use openraft::ServerState;

use super::group::{FOLLOWS_WITHIN, Group, Leadership};
use super::transfer::NEAR_ENTRIES;
use crate::replication::types::NodeId;

/// A group, for the administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The storage's name.
    pub name: String,
    /// The node that tells.
    pub node: NodeId,
    /// Its term.
    pub term: u64,
    /// Who leads.
    pub leadership: Leadership,
    /// The last entry of the log here.
    pub last_log: Option<u64>,
    /// The last entry that was applied here.
    pub applied: Option<u64>,
    /// Up to here the log here was purged.
    pub purged: Option<u64>,
    /// Time without a leader that this node knows of.
    pub unled_for: Option<Duration>,
    /// A change of members is half done; it is completed by the leader.
    pub is_changing: bool,
    /// Why Raft has stopped here for good, if so.
    pub failure: Option<String>,
    /// All members.
    pub members: Vec<MemberStatus>,
}

impl GroupStatus {
    /// The other voters that could lead in this leader's place, for
    /// [`spread`](super::spread()): those that follow, and lack next to nothing.
    pub fn able_to_lead(&self) -> Vec<NodeId> {
        let able = self.members.iter().filter(|member| {
            let follows = member.silent_for < Some(FOLLOWS_WITHIN);
            member.node != self.node
                && member.is_voter
                && member.silent_for.is_some()
                && follows
                && member.lag <= Some(NEAR_ENTRIES)
        });
        able.map(|member| member.node).collect()
    }
}

/// A member of a group. What only a leader knows is None elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// The node.
    pub node: NodeId,
    /// Where it is.
    pub address: String,
    /// It has a vote; else it is a learner.
    pub is_voter: bool,
    /// Up to here its log is known to be the leader's.
    pub matched: Option<u64>,
    /// So many entries it is behind.
    pub lag: Option<u64>,
    /// Time since it has answered the leader.
    pub silent_for: Option<Duration>,
}

impl Group {
    /// Why Raft has stopped here for good, if so.
    pub fn failure(&self) -> Option<String> {
        self.core.failure()
    }

    /// The group as this node sees it.
    pub fn status(&self) -> GroupStatus {
        let core = &self.core;
        let metrics = core.raft.metrics().borrow().clone();
        let is_leader = metrics.state == ServerState::Leader;
        let membership = metrics.membership_config.membership();
        let voters: Vec<_> = membership.voter_ids().collect();
        let matched = |node: NodeId| {
            let matched = metrics.replication.as_ref()?.get(&node)?;
            matched.map(|log_id| log_id.index)
        };
        let silent_for = |node: NodeId| {
            let followed = core.network.contacts.of(node)?.followed?;
            Some(followed.elapsed())
        };
        let members = membership.nodes().map(|(&node, member)| {
            let last = metrics.last_log_index.map_or(0, |index| index + 1);
            let is_here = is_leader && node == core.node;
            let reached = matched(node).map_or(0, |index| index + 1);
            MemberStatus {
                node,
                address: member.address.clone(),
                is_voter: voters.contains(&node),
                matched: matched(node),
                lag: is_leader.then(|| last.saturating_sub(reached)),
                silent_for: if is_here {
                    Some(Duration::ZERO)
                } else {
                    silent_for(node).filter(|_| is_leader)
                },
            }
        });
        GroupStatus {
            name: core.name.to_string(),
            node: core.node,
            term: metrics.current_term,
            leadership: core.leadership.borrow().clone(),
            last_log: metrics.last_log_index,
            applied: metrics.last_applied.map(|log_id| log_id.index),
            purged: metrics.purged.map(|log_id| log_id.index),
            unled_for: self.quorum_lost_since().map(|since| since.elapsed()),
            is_changing: membership.get_joint_config().len() > 1,
            failure: core.failure(),
            members: members.collect(),
        }
    }
}
