//! Our clients' transactions, which the other server decides.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::order::Commit;
use super::pool::Lease;
use super::{Shared, describe};
use crate::client::CallError;
use crate::storage::Result;
use crate::transaction::{
    Authority, CommitRequest, Delivery, Deputy, Inbox, Operation, PackDone, Term,
    TransactionBuffer, VotedElsewhere,
};
use crate::types::{Oid, Tid};
use crate::wire::{Request, TransactionKey, Value};

/// Each transaction has a connection of its own, so one name does for all.
const KEY: TransactionKey = TransactionKey::Int(1);

/// Says that the other server decides.
pub(super) struct Elsewhere(pub(super) Arc<Shared>);

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Elsewhere").finish()
    }
}

impl Authority for Elsewhere {
    fn term(&self) -> Option<Term> {
        None
    }

    /// Nothing is voted here.
    fn finish(&self, request: CommitRequest) {
        let why: Arc<str> = "this server does not decide the storage's transactions".into();
        for inbox in request.origin.inbox.iter().chain(&request.origin.apart) {
            inbox.push(Delivery::Finished(Err(Arc::clone(&why))));
        }
    }

    fn waiting(&self) -> usize {
        0
    }

    fn deputy(&self, inbox: &Arc<Inbox>) -> Box<dyn Deputy> {
        Box::new(Agent {
            shared: Arc::clone(&self.0),
            inbox: Arc::clone(inbox),
            task: None,
            voting: Arc::default(),
        })
    }

    fn catch_up(&self, inbox: &Arc<Inbox>, _: bool) {
        let shared = Arc::clone(&self.0);
        let inbox = Arc::clone(inbox);
        self.0.runtime.spawn(async move {
            if let Err(error) = catch_up(&shared, &inbox).await {
                inbox.push(Delivery::UpToDate(Err(error.to_string().into())));
            }
        });
    }

    fn takes_changes(&self) -> bool {
        self.0.live.borrow().is_some()
    }

    fn new_oids(&self, count: usize) -> Result<Vec<Oid>> {
        self.0
            .call(move |server| async move { server.new_oids(count as u64).await })
    }

    fn pack(&self, stop: Tid, done: PackDone) {
        let shared = Arc::clone(&self.0);
        self.0.runtime.spawn(async move {
            let packed = match shared.live_after(0).await {
                Ok(live) => live.connection.pack(stop.to_unix_seconds(), true).await,
                Err(error) => Err(error),
            };
            done(packed.map_err(describe::storage_error));
        });
    }
}

/// Has `inbox` told when everything is told that was committed before.
async fn catch_up(shared: &Arc<Shared>, inbox: &Arc<Inbox>) -> std::result::Result<(), CallError> {
    let ping = |live: super::Live| {
        let shared = Arc::clone(shared);
        let inbox = Arc::clone(inbox);
        async move {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let on_reply = move |reply: std::result::Result<Value<'_>, CallError>| {
                if reply.is_ok() {
                    // In its place among what the server tells.
                    let mut order = shared.order.lock();
                    order.up_to_date(inbox);
                    shared.tell(&mut order);
                }
                let _ = sender.send(reply.map(drop));
            };
            live.connection
                .send_with(&Request::Ping, Box::new(on_reply))
                .await?;
            let stopped = |_| Err(CallError::Disconnected("this server stops".into()));
            receiver.await.unwrap_or_else(stopped)
        }
    };
    shared.ask(ping).await
}

/// Acts for one session.
struct Agent {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    task: Option<JoinHandle<()>>,
    voting: Arc<Mutex<Voting>>,
}

/// A transaction between a vote's answer and what comes after it.
#[derive(Default)]
struct Voting {
    /// Counts what was given up, so that a late answer is known as one.
    round: u64,
    buffer: Option<TransactionBuffer>,
    lease: Option<Lease>,
    /// So many operations the other server has.
    sent: usize,
    /// What it is known to change.
    changed: Vec<Oid>,
    stores_something: bool,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").finish_non_exhaustive()
    }
}

impl Deputy for Agent {
    fn vote(&mut self, transaction: TransactionBuffer) {
        let (shared, inbox) = (Arc::clone(&self.shared), Arc::clone(&self.inbox));
        let state = Arc::clone(&self.voting);
        let (round, mut lease, sent) = {
            let mut state = state.lock();
            (state.round, state.lease.take(), state.sent)
        };
        self.task = Some(self.shared.runtime.spawn(async move {
            let voted = vote(&shared, &mut lease, &transaction, sent).await;
            let failed = {
                let mut state = state.lock();
                if state.round != round {
                    return;
                }
                let (told, failed) = match voted {
                    Ok(told) => {
                        state.sent = transaction.operations().len();
                        (state.stores_something, state.changed) = changes(&transaction);
                        state.lease = lease;
                        state.buffer = Some(transaction);
                        (sorted(told), None)
                    }
                    Err(error) => {
                        tracing::debug!("storage {}: vote: {error}", shared.served_as);
                        state.forget();
                        (VotedElsewhere::Failed(error.into()), lease)
                    }
                };
                inbox.push(Delivery::VotedElsewhere(told));
                failed
            };
            if let Some(lease) = failed {
                end(&shared, lease).await;
            }
        }));
    }

    fn take_back(&mut self) -> Option<TransactionBuffer> {
        self.voting.lock().buffer.take()
    }

    fn finish(&mut self) {
        let (lease, commit) = {
            let mut voting = self.voting.lock();
            let lease = voting.lease.take();
            let commit = Commit {
                client: Arc::clone(&self.inbox),
                stores_something: voting.stores_something,
                changed: std::mem::take(&mut voting.changed),
            };
            voting.forget();
            (lease, commit)
        };
        let Some(lease) = lease else {
            self.inbox.push(Delivery::Close(
                "the server behind this one was lost before a commit",
            ));
            return;
        };
        let shared = Arc::clone(&self.shared);
        self.shared.runtime.spawn(async move {
            let number = shared.order.lock().sending(commit);
            let committed = lease.connection().tpc_finish(KEY).await;
            let is_over = committed.is_ok();
            answered(&shared, number, committed);
            if is_over {
                shared.give_back(lease);
            }
        });
    }

    fn abort(&mut self) {
        if let Some(task) = self.task.take() {
            // With what it holds, if it is still at work.
            task.abort();
        }
        let lease = {
            let mut voting = self.voting.lock();
            let lease = voting.lease.take();
            voting.forget();
            lease
        };
        if let Some(lease) = lease {
            let shared = Arc::clone(&self.shared);
            self.shared
                .runtime
                .spawn(async move { end(&shared, lease).await });
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.abort();
    }
}

impl Voting {
    fn forget(&mut self) {
        *self = Self {
            round: self.round + 1,
            ..Self::default()
        };
    }
}

/// Makes sure that a transaction is over, and keeps the connection.
async fn end(shared: &Shared, lease: Lease) {
    if lease.connection().tpc_abort(KEY).await.is_ok() {
        shared.give_back(lease);
    }
}

/// The end of a commit, as the other server tells it.
fn answered(shared: &Shared, number: u64, committed: std::result::Result<Tid, CallError>) {
    let mut order = shared.order.lock();
    let (tid, failure) = match committed {
        Ok(tid) => (Some(tid), None),
        Err(error) => (None, Some(error)),
    };
    if let (Some(client), Some(error)) = (order.answered(number, tid), failure) {
        tracing::error!("storage {}: a commit failed: {error}", shared.served_as);
        client.push(match error {
            // It may have been done or not, and the client must not think either.
            CallError::Disconnected(_) => {
                Delivery::Close("the server behind this one was lost during a commit")
            }
            error => Delivery::Finished(Err(error.to_string().into())),
        });
    }
    shared.tell(&mut order);
}

/// Conflicts are dicts; the objects that the client does not know of are oids.
fn sorted(told: Value<'static>) -> VotedElsewhere {
    let items = told.as_items().unwrap_or_default();
    if items.iter().any(|item| matches!(item, Value::Dict(_))) {
        VotedElsewhere::Conflicts(told)
    } else {
        VotedElsewhere::Voted(told)
    }
}

/// Whether it stores, deletes or undoes anything, and the objects that are
/// known to be changed.
fn changes(transaction: &TransactionBuffer) -> (bool, Vec<Oid>) {
    let operations = transaction.operations().iter();
    let changed = operations.filter_map(|operation| match operation {
        Operation::Store { oid, .. }
        | Operation::Delete { oid, .. }
        | Operation::Restore { oid, .. } => Some(*oid),
        Operation::Check { .. } | Operation::Undo { .. } => None,
    });
    let changed: Vec<_> = changed.collect();
    (transaction.undoes() || !changed.is_empty(), changed)
}

/// Sends what the other server does not have yet, and asks for its vote.
async fn vote(
    shared: &Arc<Shared>,
    lease: &mut Option<Lease>,
    transaction: &TransactionBuffer,
    sent: usize,
) -> std::result::Result<Value<'static>, CallError> {
    let is_new = lease.is_none();
    let lease = match lease {
        Some(lease) => lease,
        None => lease.insert(shared.lease().await?),
    };
    let connection = lease.connection();
    if is_new {
        connection.tpc_begin(KEY, &transaction.meta).await?;
    }
    connection.send_operations(transaction, sent, &KEY).await?;
    connection.call(&Request::Vote { transaction: KEY }).await
}
