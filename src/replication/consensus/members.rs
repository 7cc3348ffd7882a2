//! Who belongs to a group.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::time::Duration;

use openraft::error::{ClientWriteError, Fatal, InitializeError, RaftError};
use openraft::{ChangeMembers, ServerState};
use thiserror::Error;
use tokio::time::Instant;
use tracing::{debug, info};

use super::group::{Core, Group, Leadership};
use super::transfer::TransferError;
use crate::replication::types::{Member, NodeId};

/// A change is committed within this time, or its outcome is told to be unknown.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
/// A learner that is so near gets a vote: the rest comes while the change is committed.
const NEAR_ENTRIES: u64 = 16;
/// Who is there is looked at so often.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// A half done change is tried again after this time.
const RESUME_INTERVAL: Duration = Duration::from_secs(1);

/// The members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// Only the leader can change members.
    #[error("this node does not lead{}", hint(.leader.as_ref()))]
    NotLeader {
        /// The one that does.
        leader: Option<(NodeId, Member)>,
    },
    /// This node, which was to be removed, has handed over; the next leader can remove it.
    #[error("node {leader} leads now, and is the one to ask")]
    HandedOver {
        /// The leader now.
        leader: NodeId,
    },
    /// The node, which was to be removed, leads and could not hand over.
    #[error("the leader cannot leave before another has taken over: {0}")]
    NotHandedOver(TransferError),
    /// The group exists already.
    #[error("this node belongs to a cluster already")]
    Initialized,
    /// There is no such member.
    #[error("node {0} is no member of this storage")]
    NoMember(NodeId),
    /// A member of that id is elsewhere.
    #[error("node {node} is a member already, at {address}: remove it first, or choose another id")]
    Taken {
        /// The id.
        node: NodeId,
        /// Where the member of that id is.
        address: String,
    },
    /// It does not answer.
    #[error("node {node} is not reachable at {address}")]
    Unreachable {
        /// The node.
        node: NodeId,
        /// Its address.
        address: String,
    },
    /// It lacks too much of the log to get a vote.
    #[error("node {node} is still {lag} entries behind after {waited:?}")]
    Behind {
        /// The node.
        node: NodeId,
        /// So far it is behind.
        lag: u64,
        /// So long was waited.
        waited: Duration,
    },
    /// Those that would remain could commit nothing.
    #[error(
        "without node {node} only {living} of {voters} voters can be reached, which is no \
         quorum: nothing could be committed any more"
    )]
    NoQuorumLeft {
        /// The node.
        node: NodeId,
        /// So many of those that would remain follow.
        living: usize,
        /// So many would remain.
        voters: usize,
    },
    /// It is the only one with a vote.
    #[error("node {0} is the only voter")]
    LastVoter(NodeId),
    /// Another change is not yet committed.
    #[error("another change of members is not yet committed")]
    InProgress,
    /// It may be made or not.
    #[error("the change is not committed within {CHANGE_PATIENCE:?}: no quorum answers")]
    NoAnswer,
    /// Replication has stopped here.
    #[error("replication has stopped on this node: {0}")]
    Stopped(String),
}

impl ChangeError {
    /// May the same request succeed in a moment, here or at the next leader? Asking again for
    /// what is done, or half done, does no harm.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NotLeader { .. }
            | Self::HandedOver { .. }
            | Self::InProgress
            | Self::NoAnswer => true,
            Self::NotHandedOver(error) => error.may_pass(),
            _ => false,
        }
    }
}

fn hint(leader: Option<&(NodeId, Member)>) -> String {
    leader.map_or_else(String::new, |(node, member)| {
        format!("; node {node} at {} does", member.address)
    })
}

type WriteError = RaftError<NodeId, ClientWriteError<NodeId, Member>>;

impl Group {
    /// Makes this node the first and only member of a new group. Returns when it leads.
    pub async fn initialize(&self, member: Member) -> Result<(), ChangeError> {
        let members = BTreeMap::from([(self.core.node, member)]);
        match self.core.raft.initialize(members).await {
            Ok(()) => {}
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                return Err(ChangeError::Initialized);
            }
            Err(error) => return Err(ChangeError::Stopped(error.to_string())),
        }
        let mut leadership = self.leadership();
        let leads = leadership.wait_for(|known| matches!(known, Leadership::Leader { .. }));
        match tokio::time::timeout(CHANGE_PATIENCE, leads).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ChangeError::NoAnswer),
        }
    }

    /// Adds a node that gets everything, and has no vote. Does nothing where it is a member.
    pub async fn add_learner(&self, node: NodeId, member: Member) -> Result<(), ChangeError> {
        let _one_at_a_time = self.core.changing.lock().await;
        self.complete_change().await?;
        if let Some(known) = self.core.member(node) {
            if known == member {
                return Ok(());
            }
            return Err(ChangeError::Taken {
                node,
                address: known.address,
            });
        }
        let nodes = BTreeMap::from([(node, member)]);
        self.change(ChangeMembers::AddNodes(nodes)).await
    }

    /// Gives a learner a vote, as soon as it has (nearly) all of the log; waits for that.
    pub async fn promote(&self, node: NodeId, patience: Duration) -> Result<(), ChangeError> {
        let _one_at_a_time = self.core.changing.lock().await;
        self.complete_change().await?;
        let core = &self.core;
        let member = core.member(node).ok_or(ChangeError::NoMember(node))?;
        if core.voters().contains(&node) {
            return Ok(());
        }
        let near = core.wait_until_within(node, NEAR_ENTRIES, patience);
        near.await.map_err(|error| match error {
            TransferError::Behind { .. } if !core.follows(node) => ChangeError::Unreachable {
                node,
                address: member.address,
            },
            TransferError::Behind { node, lag, waited } => {
                ChangeError::Behind { node, lag, waited }
            }
            _ => core.not_leader(),
        })?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([node])))
            .await
    }

    /// Removes a node, whether it has a vote or not, runs or not. A leader that is to be
    /// removed hands over first, and says so by [`ChangeError::HandedOver`].
    pub async fn remove(&self, node: NodeId) -> Result<(), ChangeError> {
        let _one_at_a_time = self.core.changing.lock().await;
        self.complete_change().await?;
        let core = &self.core;
        if core.member(node).is_none() {
            return Err(ChangeError::NoMember(node));
        }
        let mut remaining = core.voters();
        if !remaining.remove(&node) {
            let nodes = BTreeSet::from([node]);
            return self.change(ChangeMembers::RemoveNodes(nodes)).await;
        }
        if remaining.is_empty() {
            return Err(ChangeError::LastVoter(node));
        }
        let living = core.wait_for_quorum_of(&remaining).await;
        if living <= remaining.len() / 2 {
            return Err(ChangeError::NoQuorumLeft {
                node,
                living,
                voters: remaining.len(),
            });
        }
        if node == core.node {
            let taken = self.transfer(None, ready(())).await;
            let leader = taken.map_err(ChangeError::NotHandedOver)?;
            return Err(ChangeError::HandedOver { leader });
        }
        self.change(ChangeMembers::RemoveVoters(BTreeSet::from([node])))
            .await
    }

    /// May this node have forgotten what it has acknowledged? Then it does not vote, and must not
    /// be given a vote: a group of too many such nodes could elect nobody.
    pub fn abstains(&self) -> bool {
        self.core.pulse.abstains()
    }

    /// Completes a change that was half done when the former leader died; tries as long as this node
    /// leads in the same term, since the others may not be reached yet.
    pub(super) async fn resume_change(&self) {
        let term = || self.core.raft.metrics().borrow().current_term;
        let begun = term();
        loop {
            let completed = {
                let _one_at_a_time = self.core.changing.lock().await;
                self.complete_change().await
            };
            let Err(error) = completed else {
                return;
            };
            debug!(storage = %self.core.name, %error, "a change of members stays half done");
            let is_over = matches!(error, ChangeError::Stopped(_)) || term() != begun;
            if is_over || !self.core.leads_or_is_about_to().await {
                return;
            }
            tokio::time::sleep(RESUME_INTERVAL).await;
        }
    }

    async fn complete_change(&self) -> Result<(), ChangeError> {
        let core = &self.core;
        if !core.leads_or_is_about_to().await {
            return Err(core.not_leader());
        }
        let goal = {
            let metrics = core.raft.metrics();
            let metrics = metrics.borrow();
            match metrics
                .membership_config
                .membership()
                .get_joint_config()
                .as_slice()
            {
                [_, .., goal] => goal.clone(),
                _ => return Ok(()),
            }
        };
        if !goal.contains(&core.node) {
            // It would lead a group that it is no member of.
            let taken = self.transfer(None, ready(())).await;
            let leader = taken.map_err(ChangeError::NotHandedOver)?;
            return Err(ChangeError::HandedOver { leader });
        }
        info!(storage = %core.name, "completes a change of members");
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new()))
            .await
    }

    async fn change(&self, change: ChangeMembers<NodeId, Member>) -> Result<(), ChangeError> {
        info!(storage = %self.core.name, ?change, "changes members");
        let retain = false;
        let changed = async {
            match change {
                // Its only call that takes no part in joint configurations.
                ChangeMembers::AddNodes(nodes) => {
                    for (node, member) in nodes {
                        self.core.raft.add_learner(node, member, false).await?;
                    }
                    Ok(())
                }
                other => {
                    let changed = self.core.raft.change_membership(other, retain).await;
                    changed.map(drop)
                }
            }
        };
        match tokio::time::timeout(CHANGE_PATIENCE, changed).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.core.change_error(error)),
            Err(_) => Err(ChangeError::NoAnswer),
        }
    }
}

impl Core {
    fn member(&self, node: NodeId) -> Option<Member> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        membership.get_node(&node).cloned()
    }

    /// How many of these voters are there; waits a moment for a quorum of them, for a new leader
    /// has not heard of anybody yet.
    async fn wait_for_quorum_of(&self, voters: &BTreeSet<NodeId>) -> usize {
        let deadline = Instant::now() + self.timers.loss_bound();
        loop {
            let follows = |&&voter: &&NodeId| voter == self.node || self.follows(voter);
            let living = voters.iter().filter(follows).count();
            if living > voters.len() / 2 || Instant::now() >= deadline {
                return living;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.membership().voter_ids().collect()
    }

    /// Who was just elected leads as soon as its first entry is committed: worth waiting for.
    async fn leads_or_is_about_to(&self) -> bool {
        let leads = |known: &Leadership| matches!(known, Leadership::Leader { .. });
        let mut leadership = self.leadership.subscribe();
        let is_elected = self.raft.metrics().borrow().state == ServerState::Leader;
        if !is_elected || leads(&leadership.borrow()) {
            return leads(&leadership.borrow());
        }
        let patience = self.timers.election_timeout;
        let waited = tokio::time::timeout(patience, leadership.wait_for(leads)).await;
        waited.is_ok_and(|known| known.is_ok())
    }

    fn not_leader(&self) -> ChangeError {
        let leader = match &*self.leadership.borrow() {
            Leadership::Follower { leader, member, .. } => Some((*leader, member.clone())),
            _ => None,
        };
        ChangeError::NotLeader { leader }
    }

    fn change_error(&self, error: WriteError) -> ChangeError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => self.not_leader(),
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
                openraft::error::ChangeMembershipError::LearnerNotFound(missing) => {
                    ChangeError::NoMember(missing.node_id)
                }
                _ => ChangeError::InProgress,
            },
            RaftError::Fatal(Fatal::Stopped) => ChangeError::Stopped("it was shut down".to_owned()),
            RaftError::Fatal(error) => ChangeError::Stopped(error.to_string()),
        }
    }
}
