//! A change of the leader that is wanted, and costs no transaction.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use super::consensus::TransferError;
use super::node::Served;
use super::types::NodeId;
use crate::transaction::{Claim, Inbox, LockRequest};

/// What is voted has so long to be finished before another node leads.
const PATIENCE: Duration = Duration::from_millis(500);

impl Served {
    /// Has `to`, or whoever lacks the least, lead in this node's place.
    ///
    /// What is voted here would come to nothing: it is waited for until it is finished.
    /// Votes that come meanwhile wait for their locks, and are the next leader's.
    pub async fn hand_over(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        self.group.transfer_leader_after(to, self.settled()).await
    }

    /// All locks: nothing is voted and not finished, if the clients are quick.
    async fn settled(&self) -> Claim {
        let inbox = Arc::new(Inbox::default());
        let locks = &self.database.locks;
        let (claim, is_granted) = locks.request(&LockRequest::Everything, &inbox);
        if !is_granted {
            let granted = poll_fn(|context| inbox.poll_filled(context.waker()));
            // Whoever takes longer finds its transaction given up.
            let _ = tokio::time::timeout(PATIENCE, granted).await;
        }
        claim
    }
}
