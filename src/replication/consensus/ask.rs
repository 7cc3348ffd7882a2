//! Questions to the leader, whoever it is, and to any member.

use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::time::Instant;

use super::group::{Group, Leadership};
use crate::replication::peers::{BoxFuture, PeerError, PeerStream, Reply, Request, StreamKind};
use crate::replication::types::{Member, NodeId};

/// A leader that has refused, or cannot be reached, is asked again after so long,
/// or another as soon as it leads.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// What a storage does for the other nodes of its group.
pub trait Services: Send + Sync + 'static {
    /// Answers [`Group::ask_leader`] of any node; called only while this node leads. A
    /// question may come twice. Errors of its own are part of the answer.
    fn serve(&self, request: Bytes) -> BoxFuture<'_, Bytes>;

    /// Answers [`Group::ask_member`] while this node does not lead. None: that only the leader
    /// answers.
    fn serve_as_member(&self, _request: Bytes) -> Option<Bytes> {
        None
    }

    /// Serves a stream of node `from`, to its end; whether this node leads or not.
    fn stream(&self, from: NodeId, kind: StreamKind, stream: PeerStream) -> BoxFuture<'_, ()>;
}

/// The leader has not answered.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody did in time.
    #[error("no leader has answered within {waited:?}: {why}")]
    NoLeader {
        /// The caller's patience.
        waited: Duration,
        /// What happened last.
        why: String,
    },
    /// This node leads itself.
    #[error("this node leads itself")]
    LeadsItself,
}

impl Group {
    /// Asks the leader's [`Services`]: this node's own, where it leads. Asks again where no
    /// answer came, another leader too, until `patience` is over: so a question may be
    /// answered more than once, and all but the last answer be lost.
    pub async fn ask_leader(&self, request: Bytes, patience: Duration) -> Result<Bytes, AskError> {
        let deadline = Instant::now() + patience;
        let mut leadership = self.leadership();
        let mut why = "no leader is known".to_owned();
        loop {
            let known = leadership.borrow_and_update().clone();
            let is_unknown = known == Leadership::Unknown;
            let asked = async {
                match &known {
                    Leadership::Leader { .. } => self.ask_own(request.clone()).await,
                    Leadership::Follower { leader, member, .. } => {
                        self.ask(*leader, member, request.clone(), deadline).await
                    }
                    Leadership::Unknown => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = asked => match answer {
                    Ok(answer) => return Ok(answer),
                    Err(error) => why = error,
                },
                // Who was asked leads no longer: its answer would be worth nothing.
                _ = leadership.changed() => continue,
                () = tokio::time::sleep_until(deadline) => {}
            }
            if !is_unknown {
                tokio::select! {
                    biased;
                    _ = leadership.changed() => {}
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                }
            }
            if Instant::now() >= deadline {
                return Err(AskError::NoLeader {
                    waited: patience,
                    why,
                });
            }
        }
    }

    /// Asks the [`Services`] of `node`, whether it leads or not, once. None: it does not answer that.
    pub async fn ask_member(
        &self,
        node: NodeId,
        member: &Member,
        request: Bytes,
        patience: Duration,
    ) -> Result<Option<Bytes>, PeerError> {
        let network = &self.core.network;
        let request = Request::Service(request);
        let call = network
            .peers
            .call(node, member, &network.group, request, patience);
        match call.await? {
            Reply::Service(answer) => Ok(Some(answer)),
            _ => Ok(None),
        }
    }

    /// Opens a stream to the leader, as [`Services::stream`] serves it there.
    pub async fn stream_to_leader(&self, kind: StreamKind) -> Result<PeerStream, AskError> {
        let known = self.core.leadership.borrow().clone();
        let began = Instant::now();
        let failed = |why| AskError::NoLeader {
            waited: began.elapsed(),
            why,
        };
        match known {
            Leadership::Leader { .. } => Err(AskError::LeadsItself),
            Leadership::Unknown => Err(failed("no leader is known".to_owned())),
            Leadership::Follower { leader, member, .. } => {
                let network = &self.core.network;
                let stream = network.peers.stream(leader, &member, &network.group, kind);
                stream.await.map_err(|error| failed(error.to_string()))
            }
        }
    }

    async fn ask_own(&self, request: Bytes) -> Result<Bytes, String> {
        let services = self.core.services.lock().clone();
        match services {
            Some(services) => Ok(services.serve(request).await),
            None => Err("this node is still starting".to_owned()),
        }
    }

    async fn ask(
        &self,
        leader: NodeId,
        member: &Member,
        request: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, String> {
        let network = &self.core.network;
        let patience = deadline.saturating_duration_since(Instant::now());
        let request = Request::Service(request);
        let call = network
            .peers
            .call(leader, member, &network.group, request, patience);
        match call.await {
            Ok(Reply::Service(answer)) => Ok(answer),
            Ok(Reply::Refused { why, .. }) => Err(format!("node {leader}: {why}")),
            Ok(other) => Err(format!("node {leader} answered {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }
}
