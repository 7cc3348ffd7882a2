//! The steps of a client's transaction: begin, vote, finish, abort.

use std::sync::Arc;
use std::time::Instant;

use super::{Outcome, Registered, waiting};
use crate::disk::Access;
use crate::stats::TransactionStage;
use crate::storage::StorageError;
use crate::transaction::{
    Blocking, CommitRequest, Inbox, LockRequest, Ticket, TransactionBuffer, VoteError, VoteOutcome,
    Voted, vote,
};
use crate::types::TransactionMeta;
use crate::wire::{Exception, MessageId, Reply, TransactionKey, Value};

/// The transaction that a client is in. It has one at a time.
#[derive(Debug)]
pub(super) struct ClientTransaction {
    key: TransactionKey,
    stage: Stage,
    /// Memory that it took when it was voted.
    voted_bytes: usize,
}

/// How far it is.
///
/// Invariant: locks are held or asked for in every stage that names a ticket,
/// and in no other.
#[derive(Debug)]
enum Stage {
    /// Takes changes. After conflicts were handed back it keeps its locks, so
    /// that the client's next vote succeeds.
    Collecting {
        buffer: TransactionBuffer,
        held: Option<Held>,
    },
    /// Voted, waits for locks; the vote's reply is due.
    Waiting {
        buffer: TransactionBuffer,
        ticket: Ticket,
        vote: MessageId<'static>,
    },
    /// Can be finished.
    Voted { voted: Voted, held: Held },
    /// The committer has it; the finish's reply is due. The committer releases the locks.
    Finishing { finish: MessageId<'static> },
    /// Between two stages, within one call.
    Moving,
}

/// Locks that are held.
#[derive(Clone, Copy, Debug)]
struct Held {
    ticket: Ticket,
    since: Instant,
}

impl ClientTransaction {
    /// The changes so far, while it takes some.
    pub(super) fn collecting(&mut self) -> Option<&mut TransactionBuffer> {
        match &mut self.stage {
            Stage::Collecting { buffer, .. } => Some(buffer),
            _ => None,
        }
    }

    /// Was the client told that it can be finished, and not yet what became of it?
    pub(super) fn is_promised(&self) -> bool {
        matches!(self.stage, Stage::Voted { .. } | Stage::Finishing { .. })
    }

    /// Memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.stage {
            Stage::Collecting { buffer, .. } => buffer.memory_bytes(),
            _ => self.voted_bytes,
        }
    }

    /// Since when it keeps others waiting.
    pub(super) fn locked_since(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Collecting { held, .. } => held.map(|held| held.since),
            Stage::Voted { held, .. } => Some(held.since),
            _ => None,
        }
    }

    fn progress(&self) -> TransactionStage {
        match &self.stage {
            Stage::Collecting { .. } => TransactionStage::Collecting,
            Stage::Waiting { .. } => TransactionStage::Waiting,
            Stage::Voted { .. } => TransactionStage::Voted,
            Stage::Finishing { .. } => TransactionStage::Finishing,
            Stage::Moving => TransactionStage::None,
        }
    }

    fn take_stage(&mut self) -> Stage {
        std::mem::replace(&mut self.stage, Stage::Moving)
    }
}

impl Registered {
    /// The current transaction, if it is the one that a request names.
    pub(super) fn current_transaction(
        &mut self,
        key: &TransactionKey,
    ) -> Result<&mut ClientTransaction, Exception> {
        if self.read_only {
            return Err(Exception::ReadOnly);
        }
        let current = self
            .transaction
            .as_ref()
            .map(|transaction| &transaction.key);
        let other = current.filter(|current| *current != key).cloned();
        match &mut self.transaction {
            Some(transaction) if other.is_none() => Ok(transaction),
            _ => Err(Exception::NotTheCurrentTransaction {
                current: other,
                given: key.clone(),
            }),
        }
    }

    /// Begins a transaction.
    pub(super) fn tpc_begin(
        &mut self,
        key: TransactionKey,
        meta: TransactionMeta,
    ) -> Outcome<'static> {
        if self.read_only {
            return Outcome::Error(Exception::ReadOnly);
        }
        match &self.transaction {
            Some(transaction) if transaction.key == key => return Outcome::DONE,
            Some(_) => {
                let message = "Multiple simultaneous tpc_begin requests from one client.";
                return Outcome::Error(Exception::StorageTransactionError {
                    message: message.to_owned(),
                });
            }
            None => {}
        }
        let max_bytes = self.database.options.max_transaction_bytes;
        let buffer = TransactionBuffer::new(meta).with_max_bytes(max_bytes);
        self.transaction = Some(ClientTransaction {
            key,
            stage: Stage::Collecting { buffer, held: None },
            voted_bytes: 0,
        });
        self.database.stats.active_txns.increment();
        Outcome::DONE
    }

    /// Asks whether the transaction can be finished; from then on it can.
    pub(super) fn vote(
        &mut self,
        key: &TransactionKey,
        id: &MessageId<'_>,
        inbox: &Arc<Inbox>,
        label: &str,
        blocking: &dyn Blocking,
    ) -> Outcome<'static> {
        let database = Arc::clone(&self.database);
        let transaction = match self.current_transaction(key) {
            Ok(transaction) => transaction,
            Err(exception) => return Outcome::Error(exception),
        };
        let (buffer, held) = match transaction.take_stage() {
            Stage::Collecting { buffer, held } => (buffer, held),
            other => {
                let how = if matches!(other, Stage::Waiting { .. }) {
                    "waiting"
                } else {
                    "locked"
                };
                transaction.stage = other;
                let message = format!("Already voting ({how})");
                return Outcome::Error(Exception::StorageTransactionError { message });
            }
        };
        transaction.voted_bytes = buffer.memory_bytes();
        if let Some(why) = buffer.refusal() {
            tracing::warn!("({label}) vote: {why}");
            let exception = why.into();
            self.release_held(held);
            return Outcome::Error(exception);
        }
        let wanted = if buffer.undoes() {
            waiting(blocking, || {
                Ok::<_, StorageError>(buffer.locks(&*database.storage))
            })
            .unwrap_or(LockRequest::Everything)
        } else {
            buffer.locks(&*database.storage)
        };
        if let Some(held) = held {
            if database.locks.covers(held.ticket, &wanted) {
                return self.vote_locked(buffer, held, label, blocking);
            }
            database.locks.release(held.ticket);
        }
        let (ticket, granted) = database.locks.request(&wanted, inbox);
        if granted {
            let held = Held {
                ticket,
                since: Instant::now(),
            };
            return self.vote_locked(buffer, held, label, blocking);
        }
        let waiting = database.locks.waiting();
        // As the reference, louder when more wait.
        match waiting {
            0..=3 => tracing::debug!("({label}) waits for locks: {waiting} waiting"),
            4..=9 => tracing::info!("({label}) waits for locks: {waiting} waiting"),
            _ => tracing::warn!("({label}) waits for locks: {waiting} waiting"),
        }
        transaction.stage = Stage::Waiting {
            buffer,
            ticket,
            vote: id.clone().into_owned(),
        };
        Outcome::Later
    }

    /// The locks that a vote waited for are granted: its outcome, and which
    /// request it answers. None where the transaction was given up meanwhile.
    pub(super) fn locks_granted(
        &mut self,
        granted: Ticket,
        label: &str,
        blocking: &dyn Blocking,
    ) -> Option<(MessageId<'static>, Outcome<'static>)> {
        let transaction = self.transaction.as_mut()?;
        if !matches!(&transaction.stage, Stage::Waiting { ticket, .. } if *ticket == granted) {
            return None;
        }
        let Stage::Waiting {
            buffer,
            ticket,
            vote,
        } = transaction.take_stage()
        else {
            return None;
        };
        let held = Held {
            ticket,
            since: Instant::now(),
        };
        Some((vote, self.vote_locked(buffer, held, label, blocking)))
    }

    fn vote_locked(
        &mut self,
        buffer: TransactionBuffer,
        held: Held,
        label: &str,
        blocking: &dyn Blocking,
    ) -> Outcome<'static> {
        let storage = &*self.database.storage;
        let hand_back = self.database.options.hand_back_conflicts;
        let outcome = match vote(storage, buffer, hand_back, Access::Cached) {
            Ok(VoteOutcome::WouldWait(buffer)) => {
                waiting(blocking, || vote(storage, buffer, hand_back, Access::Wait))
            }
            outcome => outcome,
        };
        match outcome {
            Ok(VoteOutcome::Voted(voted)) => {
                let undone = voted
                    .undone
                    .iter()
                    .map(|oid| Value::Bytes(oid.0.to_vec().into()));
                let undone = undone.collect();
                self.set_stage(Stage::Voted { voted, held });
                Outcome::Reply(Reply::Value(Value::List(undone)))
            }
            Ok(VoteOutcome::Conflicts(buffer, conflicts)) => {
                tracing::debug!("({label}) {} conflicts, handed back", conflicts.len());
                self.database.stats.conflicts_handed_back.increment();
                self.set_stage(Stage::Collecting {
                    buffer,
                    held: Some(held),
                });
                Outcome::Reply(Reply::Value(handed_back(conflicts)))
            }
            // With `Access::Wait` no vote wants to wait.
            Ok(VoteOutcome::WouldWait(_)) => {
                self.fail_vote(held, label, StorageError::WouldBlock.into())
            }
            Err(error) => self.fail_vote(held, label, error),
        }
    }

    /// The transaction is over before it could be finished.
    fn fail_vote(&mut self, held: Held, label: &str, error: VoteError) -> Outcome<'static> {
        tracing::debug!("({label}) vote: {error}");
        if matches!(
            error,
            VoteError::Conflict(_) | VoteError::ReadConflict { .. }
        ) {
            self.database.stats.conflicts.increment();
        }
        self.release_held(Some(held));
        error.into()
    }

    /// The transaction is over; the locks that it held are others'.
    fn release_held(&mut self, held: Option<Held>) {
        if let Some(held) = held {
            self.database.locks.release(held.ticket);
        }
        self.end_transaction();
    }

    /// Finishes a voted transaction; the reply comes with the commit.
    pub(super) fn tpc_finish(
        &mut self,
        key: &TransactionKey,
        id: &MessageId<'_>,
        inbox: &Arc<Inbox>,
        blocking: &dyn Blocking,
    ) -> Outcome<'static> {
        let transaction = match self.current_transaction(key) {
            Ok(transaction) => transaction,
            // As the reference: what is no transaction is silently not finished.
            Err(Exception::NotTheCurrentTransaction { .. }) => return Outcome::DONE,
            Err(exception) => return Outcome::Error(exception),
        };
        let (voted, held) = match transaction.take_stage() {
            Stage::Voted { voted, held } => (voted, held),
            other => {
                transaction.stage = other;
                return Outcome::Error(Exception::Other {
                    class: "builtins.AssertionError".to_owned(),
                    message: "tpc_finish without a vote".to_owned(),
                });
            }
        };
        transaction.stage = Stage::Finishing {
            finish: id.clone().into_owned(),
        };
        let request = CommitRequest {
            voted,
            ticket: held.ticket,
            origin: Arc::clone(inbox),
        };
        self.database.finish(request, blocking);
        Outcome::Later
    }

    /// The commit is over: which request is answered.
    pub(super) fn finished(&mut self) -> Option<MessageId<'static>> {
        match self.transaction.as_mut().map(ClientTransaction::take_stage) {
            Some(Stage::Finishing { finish }) => {
                self.end_transaction();
                Some(finish)
            }
            Some(other) => {
                self.set_stage(other);
                None
            }
            None => None,
        }
    }

    /// Gives a transaction up. One that is unknown is silently no concern.
    pub(super) fn tpc_abort(&mut self, key: &TransactionKey) -> Outcome<'static> {
        match self.current_transaction(key) {
            Ok(transaction) if matches!(transaction.stage, Stage::Finishing { .. }) => {}
            Ok(_) => {
                self.database.stats.aborts.increment();
                self.release();
            }
            Err(Exception::NotTheCurrentTransaction { .. }) => {}
            Err(exception) => return Outcome::Error(exception),
        }
        Outcome::DONE
    }

    /// The client is gone: whatever its transaction's state, nothing stays locked.
    pub(super) fn abandon_transaction(&mut self, label: &str) {
        if self.transaction.is_some() {
            tracing::info!("({label}) disconnected during a transaction");
            self.release();
        }
    }

    /// Releases the locks that the transaction holds or waits for, and ends it.
    fn release(&mut self) {
        let stage = self.transaction.as_mut().map(ClientTransaction::take_stage);
        let ticket = match stage {
            Some(Stage::Collecting { held, .. }) => held.map(|held| held.ticket),
            Some(Stage::Voted { held, voted }) => {
                // Its space is given back before others go on.
                drop(voted);
                Some(held.ticket)
            }
            Some(Stage::Waiting { ticket, .. }) => Some(ticket),
            Some(Stage::Finishing { .. } | Stage::Moving) | None => None,
        };
        if let Some(ticket) = ticket {
            self.database.locks.release(ticket);
        }
        self.end_transaction();
    }

    /// How far the client's transaction is.
    pub(super) fn stage(&self) -> TransactionStage {
        let transaction = self.transaction.as_ref();
        transaction.map_or(TransactionStage::None, ClientTransaction::progress)
    }

    fn end_transaction(&mut self) {
        if self.transaction.take().is_some() {
            self.database.stats.active_txns.decrement();
        }
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(transaction) = &mut self.transaction {
            transaction.stage = stage;
        }
    }
}

/// Conflicts as the client wants them back.
fn handed_back(conflicts: Vec<crate::transaction::Conflict>) -> Value<'static> {
    let conflict = |conflict: crate::transaction::Conflict| {
        let serial = |tid: crate::types::Tid| Value::Bytes(tid.0.to_vec().into());
        super::register::dict([
            ("oid", Value::Bytes(conflict.oid.0.to_vec().into())),
            (
                "serials",
                Value::Tuple(vec![serial(conflict.committed), serial(conflict.read)]),
            ),
            (
                "data",
                Value::Bytes(conflict.data.unwrap_or_default().into()),
            ),
        ])
    };
    Value::List(conflicts.into_iter().map(conflict).collect())
}
