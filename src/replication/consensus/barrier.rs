//! Reads that miss nothing: Raft's read index.

use std::sync::Arc;
use std::time::Duration;

use openraft::LogId;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::group::{Core, Group, Leadership};
use crate::replication::peers::{Reply, Request};
use crate::replication::types::NodeId;

/// After a round that failed the next one begins so much later, or as soon as
/// another leads.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// What a reader would see is not known to be up to date.
#[derive(Debug, Error)]
#[error("no quorum has answered within {waited:?}: {why}")]
pub struct BarrierError {
    /// The caller's patience.
    pub waited: Duration,
    /// What happened last.
    pub why: String,
}

/// Up to here a reader must have applied; None: nothing is in the log yet.
type ReadIndex = Option<LogId<NodeId>>;
type Round = Result<ReadIndex, String>;

/// Whoever asks shares the next round with all that ask before it begins: a round
/// that has begun already may have missed what they have to see.
#[derive(Default)]
pub(super) struct Rounds {
    /// One for each call of [`Group::barrier`] (a client that registers or pings), and for
    /// each node that asks, as many as `Lane::under_way` in `net/bounds.rs` lets in.
    waiting: Vec<oneshot::Sender<Round>>,
    running: bool,
}

/// Whom to ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// This node's own Raft, which has to lead.
    Own,
    /// The leader, over the network.
    Leader,
}

impl Group {
    /// Waits until this node has applied all that was acknowledged, by whichever node, before
    /// the call. Goes on over changes of the leader until `patience` is over.
    pub async fn barrier(&self, patience: Duration) -> Result<(), BarrierError> {
        let core = &self.core;
        let deadline = Instant::now() + patience;
        let mut leadership = core.leadership.subscribe();
        let mut why = "no leader is known".to_owned();
        let failed = |why| BarrierError {
            waited: patience,
            why,
        };
        let read_index = loop {
            let known = leadership.borrow_and_update().clone();
            let round = match known {
                Leadership::Leader { .. } => Some(core.join_round(Whom::Own)),
                Leadership::Follower { .. } => Some(core.join_round(Whom::Leader)),
                Leadership::Unknown => None,
            };
            if let Some(round) = round {
                match tokio::time::timeout_at(deadline, round).await {
                    Ok(Ok(Ok(read_index))) => break read_index,
                    Ok(Ok(Err(error))) => why = error,
                    Ok(Err(_)) => "replication has stopped".clone_into(&mut why),
                    Err(_) => return Err(failed(why)),
                }
                tokio::select! {
                    biased;
                    _ = leadership.changed() => {}
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                }
            } else if tokio::time::timeout_at(deadline, leadership.changed())
                .await
                .is_err()
            {
                return Err(failed(why));
            }
            if Instant::now() >= deadline {
                return Err(failed(why));
            }
        };
        core.wait_applied(read_index, deadline)
            .await
            .map_err(|()| failed("this node is too far behind".to_owned()))
    }
}

impl Core {
    /// The read index of this node, which has to lead: for itself and for the others.
    pub(super) async fn read_index(self: &Arc<Self>) -> Result<ReadIndex, String> {
        let round = self.join_round(Whom::Own);
        round
            .await
            .unwrap_or_else(|_| Err("replication has stopped".to_owned()))
    }

    async fn wait_applied(&self, index: ReadIndex, deadline: Instant) -> Result<(), ()> {
        let mut applied = self.applied.subscribe();
        let index = index.map(|log_id| log_id.index);
        let reached =
            applied.wait_for(|applied| applied.map(|log_id: LogId<NodeId>| log_id.index) >= index);
        match tokio::time::timeout_at(deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(()),
        }
    }

    fn rounds(&self, whom: Whom) -> &parking_lot::Mutex<Rounds> {
        match whom {
            Whom::Own => &self.own_rounds,
            Whom::Leader => &self.leader_rounds,
        }
    }

    fn join_round(self: &Arc<Self>, whom: Whom) -> oneshot::Receiver<Round> {
        let (sender, receiver) = oneshot::channel();
        let mut rounds = self.rounds(whom).lock();
        rounds.waiting.push(sender);
        if !rounds.running {
            rounds.running = true;
            let core = Arc::clone(self);
            tokio::spawn(async move { core.run_rounds(whom).await });
        }
        receiver
    }

    async fn run_rounds(self: Arc<Self>, whom: Whom) {
        loop {
            let waiting = {
                let mut rounds = self.rounds(whom).lock();
                rounds.waiting.retain(|waiting| !waiting.is_closed());
                if rounds.waiting.is_empty() {
                    rounds.running = false;
                    return;
                }
                std::mem::take(&mut rounds.waiting)
            };
            let patience = self.timers.loss_bound();
            let mut leadership = self.leadership.subscribe();
            let asked = async {
                match whom {
                    Whom::Own => self.own_round().await,
                    Whom::Leader => self.leader_round(patience).await,
                }
            };
            let round = tokio::select! {
                biased;
                round = asked => round,
                _ = leadership.changed() => Err("another leads now, or nobody".to_owned()),
                () = tokio::time::sleep(patience) => Err("no quorum has answered".to_owned()),
            };
            for waiting in waiting {
                let _ = waiting.send(round.clone());
            }
        }
    }

    async fn own_round(&self) -> Round {
        match self.raft.get_read_log_id().await {
            Ok((read_index, _)) => Ok(read_index),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn leader_round(&self, patience: Duration) -> Round {
        let leadership = self.leadership.borrow().clone();
        let Leadership::Follower { leader, member, .. } = leadership else {
            return Err("no leader is known".to_owned());
        };
        let network = &self.network;
        let request = Request::ReadIndex;
        let call = network
            .peers
            .call(leader, &member, &network.group, request, patience);
        match call.await {
            Ok(Reply::ReadIndex(read_index)) => Ok(read_index),
            Ok(Reply::Refused { why, .. }) => Err(format!("node {leader}: {why}")),
            Ok(other) => Err(format!("node {leader} answered {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }
}
