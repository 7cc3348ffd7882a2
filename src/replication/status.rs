//! What observers and administrators are told of one storage of this node.

use super::catch_up::{CatchUpProgress, Phase};
use super::consensus::{GroupStatus as Raft, Leadership};
use super::log::Log;
use super::node::{Node, Served};
use super::standstill::Standstill;
use crate::stats::replication::{
    CatchUp, GroupCounts, GroupRole, GroupSource, GroupStatus, Lag, LogEnd, MemberStatus,
    NodeSource, NodeStandstill, NodeStatus,
};
use crate::storage::Storage;

impl Node {
    /// What the log takes on the disk.
    pub(super) fn log_bytes(&self) -> u64 {
        self.with_log(Log::size_bytes).unwrap_or(0)
    }
}

impl NodeSource for Node {
    fn status(&self) -> NodeStatus {
        Self::status(self)
    }
}

impl GroupSource for Served {
    fn status(&self) -> GroupStatus {
        Self::status(self)
    }
}

impl Served {
    /// Why the storage does not go on here. None: it does, or will.
    pub fn standstill(&self) -> Option<NodeStandstill> {
        let stuck = self.replica.applier.stuck().borrow().clone();
        let stuck = stuck.filter(|standstill| !standstill.is_harmless);
        let is_lost = stuck.as_ref().is_some_and(|standstill| standstill.is_lost);
        let stuck = stuck.map(|standstill| standstill.why.to_string());
        Some(NodeStandstill {
            storage: self.replica.name().to_owned(),
            why: self.group.failure().or(stuck)?,
            is_lost,
        })
    }

    /// The storage's group as this node sees it.
    pub fn status(&self) -> GroupStatus {
        let raft = self.group.status();
        let applier = &self.replica.applier;
        let storage = &applier.storage;
        let last_tid = storage.last_tid();
        let leader = match &raft.leadership {
            Leadership::Leader { .. } => Some(raft.node),
            Leadership::Follower { leader, .. } => Some(*leader),
            Leadership::Unknown => None,
        };
        let standstill = applier.stuck().borrow().clone();
        let (held_up, stuck) = match standstill {
            Some(standstill) if standstill.is_harmless => (Some(standstill), None),
            standstill => (None, standstill),
        };
        let why = |standstill: Standstill| standstill.why.to_string();
        GroupStatus {
            storage: raft.name.clone(),
            node: raft.node,
            role: role(&raft),
            term: raft.term,
            leader,
            without_quorum_seconds: raft.unled_for.map(|since| since.as_secs_f64()),
            turns_writers_away: self.replica.readiness.is_cut_off(),
            failed: raft.failure.clone().or(stuck.map(why)),
            held_up: held_up.map(why),
            size_bytes: storage.size_bytes(),
            last_transaction: (last_tid != crate::types::Tid::ZERO)
                .then(|| format!("{:016x}", last_tid.to_u64())),
            log_index: raft.last_log.unwrap_or(0),
            // Raft itself is not told of all that is to be applied.
            committed_index: (self.log.committed().max(raft.applied))
                .max(self.group.heard_committed())
                .unwrap_or(0),
            applied_index: raft.applied.unwrap_or(0),
            is_changing: raft.is_changing,
            members: raft
                .members
                .iter()
                .map(|member| self.member(member, &raft))
                .collect(),
            counts: self.counts(),
            proposal_times: self.replica.counters().proposal_times.observed(),
        }
    }

    fn counts(&self) -> GroupCounts {
        let applier = &self.replica.applier;
        GroupCounts {
            elections: self.group.elections(),
            transfers: self.group.transfers(),
            staged_bytes: applier.files.bytes(),
            caught_up_bytes: applier.receiving.moved_bytes(),
            ..self.replica.counters().counts()
        }
    }

    fn member(&self, member: &super::consensus::MemberStatus, raft: &Raft) -> MemberStatus {
        let leads = matches!(raft.leadership, Leadership::Leader { .. });
        let is_reached = leads.then(|| {
            let patience = super::upkeep::REACHED_WITHIN;
            member.silent_for.is_some_and(|silent| silent < patience)
        });
        let is_leader = leads && member.node == raft.node;
        let has = if is_leader {
            raft.applied
        } else {
            member.matched
        };
        let tid = match has {
            Some(index) if leads => self.replica.applier.history().tid_at(index),
            _ => None,
        };
        MemberStatus {
            node: member.node,
            address: member.address.clone(),
            is_voter: member.is_voter,
            is_reached,
            last_transaction: tid.map(|tid| format!("{:016x}", tid.to_u64())),
            // One that was just let in has nothing of which it could be known.
            lag: has.filter(|_| leads).map(|index| self.lag(index)),
            catch_up: if member.node == raft.node {
                self.replica.applier.receiving.progress().map(told)
            } else {
                self.sending.progress(member.node).map(told)
            },
            log_end: self
                .log
                .last()
                .filter(|_| member.node == raft.node)
                .map(|last| LogEnd {
                    term: last.leader_id.term,
                    leader: last.leader_id.node_id,
                    index: last.index,
                }),
        }
    }

    fn lag(&self, index: u64) -> Lag {
        self.replica.applier.history().behind(index)
    }
}

fn told(progress: CatchUpProgress) -> CatchUp {
    let CatchUpProgress { done, total, .. } = progress;
    match progress.phase {
        Phase::Blobs => CatchUp {
            doing: format!("{}, {done} of {total}", progress.doing()),
            ..CatchUp::default()
        },
        _ => CatchUp {
            doing: progress.doing().to_owned(),
            done_bytes: done,
            total_bytes: total,
        },
    }
}

fn role(raft: &Raft) -> GroupRole {
    let own = raft.members.iter().find(|member| member.node == raft.node);
    match (&raft.leadership, own) {
        (Leadership::Leader { .. }, _) => GroupRole::Leader,
        (_, None) => GroupRole::Outside,
        (_, Some(own)) if !own.is_voter => GroupRole::Learner,
        (Leadership::Follower { .. }, _) => GroupRole::Follower,
        (Leadership::Unknown, _) => GroupRole::Candidate,
    }
}
