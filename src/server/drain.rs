//! The connections that there are, and how they end when the server stops.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};

use super::limits::ABORT_TIME;
use super::signals::{Signals, Wanted};
use crate::transaction::{Delivery, Inbox};

/// The tasks of all connections.
#[derive(Debug, Default)]
pub struct Connections {
    tasks: JoinSet<()>,
    /// Where a task is told that the server stops.
    inboxes: HashMap<Id, Arc<Inbox>>,
}

impl Connections {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Runs a connection whose session has this inbox.
    pub fn spawn(
        &mut self,
        inbox: Arc<Inbox>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tasks.spawn(connection);
        self.inboxes.insert(task.id(), inbox);
    }

    /// Forgets those that have ended.
    pub fn forget_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
            self.inboxes.remove(&id);
        }
    }

    /// Ends all of them. Those without a voted transaction end at once; the
    /// others as soon as their client has finished it or given it up, or after
    /// `limit`, or when another signal asks for haste.
    pub async fn drain(mut self, limit: Duration, signals: &mut Signals) {
        self.forget_ended();
        tracing::info!("stopping: closing {} connections", self.len());
        for inbox in self.inboxes.values() {
            inbox.push(Delivery::Drain);
        }
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = ended => return,
            () = tokio::time::sleep(limit) => tracing::warn!(
                "{} connections did not end within {} s (shutdown-time) and are cut off",
                self.tasks.len(),
                limit.as_secs_f64()
            ),
            () = asked_again(signals) => tracing::warn!(
                "stopping at once, as the second signal asks: {} connections are cut off",
                self.tasks.len()
            ),
        }
        if tokio::time::timeout(ABORT_TIME, self.tasks.shutdown())
            .await
            .is_err()
        {
            tracing::warn!(
                "some connections did not end within {} s more",
                ABORT_TIME.as_secs()
            );
        }
    }
}

/// Ready when a signal asks once more for the stop.
async fn asked_again(signals: &mut Signals) {
    while signals.next().await != Wanted::Stop {}
}
