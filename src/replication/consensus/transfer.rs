//! The leadership goes over to another node on purpose.
//!
//! openraft 0.9 knows no transfer, and its voters keep to a leader that was heard of.
//! So the leader first ends its term everywhere, and only then has the next one stand.

use std::cmp::Reverse;
use std::future::ready;
use std::time::Duration;

use openraft::{RaftMetrics, ServerState};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::info;

use super::group::{Core, Group, Leadership};
use super::quorum::is_quorum;
use super::timers::Action;
use crate::replication::peers::{PeerError, Reply, Request};
use crate::replication::types::{Member, NodeId};

/// The next leader gets so long to come near the end of the log, while commits go on …
const NEAR_PATIENCE: Duration = Duration::from_secs(5);
/// … to within so many entries.
pub(super) const NEAR_ENTRIES: u64 = 64;
/// Commits wait for so long at most until it has the rest.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// The leadership did not go over as it was meant to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransferError {
    /// Only the leader can hand over.
    #[error("this node does not lead")]
    NotLeader,
    /// The node has no vote, or is the leader itself.
    #[error("node {0} is no other voter of this storage")]
    NoVoter(NodeId),
    /// Nobody could take over.
    #[error("no other voter can be reached")]
    Nobody,
    /// It has not the whole log.
    #[error("node {node} is {lag} entries behind, and has not caught up within {waited:?}")]
    Behind {
        /// The node.
        node: NodeId,
        /// So far it is behind.
        lag: u64,
        /// So long was waited.
        waited: Duration,
    },
    /// Another, or nobody yet, leads.
    #[error("node {node} has not taken over{}; leader now: {}", reason(.why), leader_name(*.leader))]
    NotTaken {
        /// The one that was meant to.
        node: NodeId,
        /// Why it would not; empty: it did not say.
        why: String,
        /// Who leads now.
        leader: Option<NodeId>,
    },
}

impl TransferError {
    /// Is the next try worth it?
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::NoVoter(_))
    }
}

fn reason(why: &str) -> String {
    if why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    }
}

fn leader_name(leader: Option<NodeId>) -> String {
    leader.map_or_else(|| "none yet".to_owned(), |leader| format!("node {leader}"))
}

/// Lets proposals go on, whatever ends the transfer.
struct Holding<'a>(&'a Core);

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.0.release_held();
    }
}

impl Group {
    /// Makes `to` the leader; None: the voter that is most caught up. Commits wait for some
    /// milliseconds meanwhile; those of them that were not in the log yet are refused then.
    /// Returns who leads now. If it fails, an election follows by itself, or nothing has changed.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        self.transfer_leader_after(to, ready(())).await
    }

    /// The same; what `prepared` gives is had when the next leader is near, and given back
    /// when the leadership has gone over, or will not.
    pub async fn transfer_leader_after<P>(
        &self,
        to: Option<NodeId>,
        prepared: impl Future<Output = P>,
    ) -> Result<NodeId, TransferError> {
        let _one_at_a_time = self.core.changing.lock().await;
        self.transfer(to, prepared).await
    }

    pub(super) async fn transfer<P>(
        &self,
        to: Option<NodeId>,
        prepared: impl Future<Output = P>,
    ) -> Result<NodeId, TransferError> {
        let core = &self.core;
        let Leadership::Leader { term } = *core.leadership.borrow() else {
            return Err(TransferError::NotLeader);
        };
        let next = core.next_leader(term, to).await?;
        core.wait_until_within(next, NEAR_ENTRIES, NEAR_PATIENCE)
            .await?;
        let _prepared = prepared.await;
        core.hold_proposals();
        let _holding = Holding(core);
        core.wait_until_within(next, 0, LAST_PATIENCE).await?;
        info!("storage {}: this node hands over to node {next}", core.name);
        core.transfers.increment();
        let mut leadership = core.leadership.subscribe();
        core.end_term_everywhere(term, next).await;
        let why = core.have_it_stand(term, next).await;
        let bound = core.timers.loss_bound() * 2;
        let known = leadership.wait_for(|known| match known {
            Leadership::Leader { term: now } | Leadership::Follower { term: now, .. } => {
                *now > term
            }
            Leadership::Unknown => false,
        });
        let leader = match tokio::time::timeout(bound, known).await {
            Ok(Ok(known)) => match *known {
                Leadership::Leader { .. } => Some(core.node),
                Leadership::Follower { leader, .. } => Some(leader),
                Leadership::Unknown => None,
            },
            _ => None,
        };
        // Where nobody was asked for, another one is as good.
        let is_other = |leader: &NodeId| *leader != core.node;
        match leader {
            Some(leader) if leader == next => return Ok(next),
            Some(leader) if to.is_none() && is_other(&leader) => return Ok(leader),
            _ => {}
        }
        Err(TransferError::NotTaken {
            node: next,
            why,
            leader,
        })
    }
}

impl Core {
    /// The best one of those that can take over.
    async fn next_leader(&self, term: u64, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        let mut refused = None;
        for node in self.candidates(to)? {
            match self.ask_to_stand(term, node).await {
                // Not before this leader gives up.
                Ok(
                    Reply::Done
                    | Reply::Refused {
                        leader: Some(_), ..
                    },
                ) => return Ok(node),
                Ok(Reply::Refused { why, .. }) => refused = refused.or(Some((node, why))),
                Ok(other) => refused = refused.or(Some((node, format!("it answered {other:?}")))),
                // It may come back while it is waited for.
                Err(_) if to.is_some() => return Ok(node),
                Err(error) => refused = refused.or(Some((node, error.to_string()))),
            }
        }
        let (node, why) = refused.ok_or(TransferError::Nobody)?;
        let leader = Some(self.node);
        Err(TransferError::NotTaken { node, why, leader })
    }

    /// Who may lead next, the one first that has most of the log.
    fn candidates(&self, to: Option<NodeId>) -> Result<Vec<NodeId>, TransferError> {
        let metrics = self.raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        // Half-way through a change: those that stay.
        let voters = membership.get_joint_config().last().into_iter().flatten();
        let mut others = voters.copied().filter(|&voter| voter != self.node);
        if let Some(to) = to {
            let found = others.find(|&voter| voter == to);
            return Ok(vec![found.ok_or(TransferError::NoVoter(to))?]);
        }
        let mut living: Vec<_> = others.filter(|&voter| self.follows(voter)).collect();
        living.sort_by_key(|&voter| Reverse(matched(&metrics, voter)));
        Ok(living)
    }

    /// Has the node followed this leader lately?
    pub(super) fn follows(&self, node: NodeId) -> bool {
        let contact = self.network.contacts.of(node);
        let followed = contact.and_then(|contact| contact.followed);
        followed.is_some_and(|at| at.elapsed() < self.timers.loss_bound())
    }

    pub(super) async fn wait_until_within(
        &self,
        node: NodeId,
        entries: u64,
        patience: Duration,
    ) -> Result<(), TransferError> {
        let deadline = Instant::now() + patience;
        let mut metrics = self.raft.metrics();
        loop {
            let (has, lag) = {
                let metrics = metrics.borrow_and_update();
                if metrics.state != ServerState::Leader {
                    return Err(TransferError::NotLeader);
                }
                let last = metrics.last_log_index.map_or(0, |index| index + 1);
                let has = matched(&metrics, node);
                (has, last.saturating_sub(has))
            };
            // A short log may stand on a large state, of which a new node has nothing.
            if has > 0 && lag <= entries && self.follows(node) {
                return Ok(());
            }
            // Heartbeats move no entries, so there may be no other sign of life.
            let look_again = Instant::now() + self.timers.heartbeat_interval;
            let until = tokio::time::timeout_at(deadline.min(look_again), metrics.changed());
            if until.await.is_ok_and(|changed| changed.is_err()) {
                return Err(TransferError::NotLeader);
            }
            if Instant::now() >= deadline {
                return Err(TransferError::Behind {
                    node,
                    lag,
                    waited: patience,
                });
            }
        }
    }

    /// Returns when so many have let go that `next` can win.
    async fn end_term_everywhere(&self, term: u64, next: NodeId) {
        let membership = self.raft.metrics().borrow().membership_config.clone();
        let membership = membership.membership();
        self.end_term(term).await;
        let mut asked = JoinSet::new();
        for voter in membership.voter_ids().filter(|&voter| voter != self.node) {
            let Some(member) = membership.get_node(&voter).cloned() else {
                continue;
            };
            let network = self.network.clone();
            asked.spawn(async move {
                let (request, patience) = (Request::LetGo { term }, network.patience);
                let call = network
                    .peers
                    .call(voter, &member, &network.group, request, patience);
                (voter, matches!(call.await, Ok(Reply::Done)))
            });
        }
        let mut gone = vec![self.node];
        while let Some(answer) = asked.join_next().await {
            if let Ok((voter, true)) = answer {
                gone.push(voter);
            }
            if gone.contains(&next) && is_quorum(membership, |voter| gone.contains(&voter)) {
                break;
            }
        }
        // The others are told all the same.
        asked.detach_all();
    }

    /// Returns why `next` would not stand; empty: it does. If it does not, this node stands again,
    /// rather than that all wait until somebody's time is over.
    async fn have_it_stand(&self, term: u64, next: NodeId) -> String {
        let why = match self.ask_to_stand(term, next).await {
            Ok(Reply::Done) => return String::new(),
            Ok(Reply::Refused { why, .. }) => why,
            Ok(other) => format!("it answered {other:?}"),
            Err(error) => error.to_string(),
        };
        info!(storage = %self.name, to = next, why, "it does not take over");
        let is_stopped = *self.stopped.borrow();
        if !is_stopped && self.pulse.stand() == Some(Action::Elect) {
            self.elect().await;
        }
        why
    }

    async fn ask_to_stand(&self, term: u64, next: NodeId) -> Result<Reply, PeerError> {
        let membership = self.raft.metrics().borrow().membership_config.clone();
        // Who is no member any more is nowhere.
        let member = membership.membership().get_node(&next).cloned();
        let member = member.unwrap_or_default();
        let (network, request) = (&self.network, Request::Stand { term });
        let patience = self.timers.election_timeout;
        let call = network
            .peers
            .call(next, &member, &network.group, request, patience);
        call.await
    }
}

/// How many entries the node is known to have.
pub(super) fn matched(metrics: &RaftMetrics<NodeId, Member>, node: NodeId) -> u64 {
    let matched = metrics.replication.as_ref().and_then(|all| all.get(&node));
    matched
        .copied()
        .flatten()
        .map_or(0, |log_id| log_id.index + 1)
}
