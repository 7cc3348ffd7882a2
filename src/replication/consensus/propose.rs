//! Commands into the log.

use std::collections::VecDeque;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use openraft::LogId;
use openraft::error::ClientWriteError;
use openraft::raft::ClientWriteResponse;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use super::group::{Core, Group};
use crate::replication::types::{Applied, Command, Member, NodeId, Types};

/// So many proposals wait while the leadership goes over; the next ones are refused.
const MOST_HELD: usize = 1024;

const STOPPED: &str = "replication has stopped on this node";

/// What was committed, and applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Its place in the log.
    pub log_id: LogId<NodeId>,
    /// What applying it led to.
    pub applied: Applied,
}

/// A command was not seen to be committed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// It is not committed, and never will be.
    #[error("{why}")]
    Refused {
        /// In words.
        why: String,
    },
    /// It may be committed, now or later, or not.
    #[error("the outcome is not known: {why}")]
    Unknown {
        /// In words.
        why: String,
    },
}

type WriteError = ClientWriteError<NodeId, Member>;
type Answer = oneshot::Receiver<Result<ClientWriteResponse<Types>, WriteError>>;

/// Lets proposals through, or holds them back while the leadership goes over.
#[derive(Default)]
pub(super) struct Gate {
    held: Option<VecDeque<Held>>,
}

struct Held {
    command: Command,
    sent: oneshot::Sender<Result<Answer, ProposeError>>,
}

enum Sending {
    Sent(Result<Answer, ProposeError>),
    Held(oneshot::Receiver<Result<Answer, ProposeError>>),
}

impl Group {
    /// Proposes a command: it has its place in the log, behind all that were proposed
    /// here before, when this returns; what is returned waits until it is applied here.
    ///
    /// Its outcome may be long in coming where no quorum is left; to give up waiting is to
    /// take it for [`ProposeError::Unknown`]. How many are under way is the caller's to bound.
    pub fn propose(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<Proposed, ProposeError>> + Send + use<> {
        // Subscribed before it is sent, so that no install can slip in between.
        let mut installs = self.core.installs.subscribe();
        let sending = self.core.send_or_hold(command);
        async move {
            let mut answer = match sending {
                Sending::Sent(sent) => sent?,
                Sending::Held(held) => held.await.unwrap_or_else(|_| Err(stopped()))?,
            };
            let answered = tokio::select! {
                biased;
                answered = &mut answer => answered,
                () = installed(&mut installs) => {
                    return Err(ProposeError::Unknown {
                        why: "another node's state was installed here meanwhile".to_owned(),
                    });
                }
            };
            let was_installed = installs.has_changed().unwrap_or(true);
            match answered {
                Ok(Ok(response)) => Ok(Proposed {
                    log_id: response.log_id,
                    applied: response.data,
                }),
                Ok(Err(error)) if was_installed => Err(ProposeError::Unknown {
                    why: error.to_string(),
                }),
                Ok(Err(error)) => Err(refused(&error)),
                Err(_) => Err(stopped()),
            }
        }
    }
}

async fn installed(installs: &mut watch::Receiver<u64>) {
    if installs.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn refused(error: &WriteError) -> ProposeError {
    let why = match error {
        ClientWriteError::ForwardToLeader(forward) => match forward.leader_id {
            Some(leader) => format!("node {leader} leads now"),
            None => "this node does not lead".to_owned(),
        },
        ClientWriteError::ChangeMembershipError(error) => error.to_string(),
    };
    ProposeError::Refused { why }
}

fn stopped() -> ProposeError {
    ProposeError::Unknown {
        why: STOPPED.to_owned(),
    }
}

impl Core {
    fn send_or_hold(&self, command: Command) -> Sending {
        let mut gate = self.gate.lock();
        let Some(held) = &mut gate.held else {
            // Under the gate's lock, so that the order of calls is the order in the log.
            return Sending::Sent(self.send(command));
        };
        if held.len() >= MOST_HELD {
            return Sending::Sent(Err(ProposeError::Refused {
                why: "the leadership is going over to another node".to_owned(),
            }));
        }
        let (sent, receiver) = oneshot::channel();
        held.push_back(Held { command, sent });
        Sending::Held(receiver)
    }

    fn send(&self, command: Command) -> Result<Answer, ProposeError> {
        // Asynchronous only where it fails: else it is in the queue after the first poll.
        let mut sending = std::pin::pin!(self.raft.client_write_ff(command));
        match sending
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(Ok(answer)) => Ok(answer),
            Poll::Ready(Err(_)) | Poll::Pending => Err(ProposeError::Refused {
                why: STOPPED.to_owned(),
            }),
        }
    }

    /// From now on proposals wait.
    pub(super) fn hold_proposals(&self) {
        self.gate.lock().held.get_or_insert_default();
    }

    /// Proposals go on, first those that have waited. A node that leads no longer
    /// refuses them.
    pub(super) fn release_held(&self) {
        let mut gate = self.gate.lock();
        for Held { command, sent } in gate.held.take().unwrap_or_default() {
            let _ = sent.send(self.send(command));
        }
    }

    /// The end: what has waited was never proposed.
    pub(super) fn refuse_held(&self) {
        for held in self.gate.lock().held.take().unwrap_or_default() {
            let _ = held.sent.send(Err(ProposeError::Refused {
                why: STOPPED.to_owned(),
            }));
        }
    }
}
