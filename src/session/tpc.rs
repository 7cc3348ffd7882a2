//! The steps of a client's transaction: begin, vote, finish, abort.

use std::sync::Arc;
use std::time::Instant;

use super::{Outcome, Registered};
use crate::stats::TransactionStage;
use crate::transaction::{
    Blocking, Claim, CommitRequest, Inbox, Origin, Term, TransactionBuffer, Voted,
};
use crate::types::TransactionMeta;
use crate::wire::{Exception, MessageId, TransactionKey};

/// The transaction that a client is in. It has one at a time.
#[derive(Debug)]
pub(super) struct ClientTransaction {
    key: TransactionKey,
    pub(super) stage: Stage,
    /// Memory that it took when it was voted.
    pub(super) voted_bytes: usize,
}

/// How far it is.
///
/// Invariant: locks are held or asked for in every stage that has a [`Claim`],
/// and in no other.
#[derive(Debug)]
pub(super) enum Stage {
    /// Takes changes. After conflicts were handed back it keeps its locks, so
    /// that the client's next vote succeeds.
    Collecting {
        buffer: TransactionBuffer,
        held: Option<Held>,
    },
    /// Voted, waits for locks; the vote's reply is due.
    Waiting {
        buffer: TransactionBuffer,
        claim: Claim,
        term: Term,
        vote: MessageId<'static>,
    },
    /// Voted; its files are on their way to others, and the vote's reply is due.
    Attaching {
        voted: Voted,
        held: Held,
        vote: MessageId<'static>,
    },
    /// Can be finished.
    Voted { voted: Voted, held: Held },
    /// The session's deputy has it and asks for a vote; the reply is due.
    VotingElsewhere { vote: MessageId<'static> },
    /// Can be finished, by the deputy. Locks are held where the vote was decided.
    VotedElsewhere { since: Instant },
    /// The committer has it; the finish's reply is due. The committer releases the locks.
    Finishing { finish: MessageId<'static> },
    /// Between two stages, within one call.
    Moving,
}

/// Locks that are held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) claim: Claim,
    pub(super) since: Instant,
    /// The leadership under which they were got.
    pub(super) term: Term,
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
        matches!(
            self.stage,
            Stage::Voted { .. } | Stage::VotedElsewhere { .. } | Stage::Finishing { .. }
        )
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
            Stage::Collecting { held, .. } => held.as_ref().map(|held| held.since),
            Stage::Voted { held, .. } | Stage::Attaching { held, .. } => Some(held.since),
            Stage::VotedElsewhere { since } => Some(*since),
            _ => None,
        }
    }

    fn progress(&self) -> TransactionStage {
        match &self.stage {
            Stage::Collecting { .. } => TransactionStage::Collecting,
            Stage::Waiting { .. } | Stage::Attaching { .. } | Stage::VotingElsewhere { .. } => {
                TransactionStage::Waiting
            }
            Stage::Voted { .. } | Stage::VotedElsewhere { .. } => TransactionStage::Voted,
            Stage::Finishing { .. } => TransactionStage::Finishing,
            Stage::Moving => TransactionStage::None,
        }
    }

    pub(super) fn take_stage(&mut self) -> Stage {
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

    /// The transaction is over; the locks that it held are others'.
    pub(super) fn release_held(&mut self, held: Option<Held>) {
        drop(held);
        self.abort_elsewhere();
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
            Stage::VotedElsewhere { .. } => {
                let finish = id.clone().into_owned();
                transaction.stage = Stage::Finishing { finish };
                return self.finish_elsewhere();
            }
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
            origin: Origin {
                locks: Some(held.claim),
                inbox: Some(Arc::clone(inbox)).filter(|_| self.remote.is_none()),
                apart: Some(Arc::clone(inbox)).filter(|_| self.remote.is_some()),
            },
            term: held.term,
            remote: self.remote,
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
        let claim = match stage {
            Some(Stage::Collecting { held, .. }) => held.map(|held| held.claim),
            Some(Stage::Voted { held, voted } | Stage::Attaching { held, voted, .. }) => {
                // Its space is given back before others go on.
                drop(voted);
                Some(held.claim)
            }
            Some(Stage::Waiting { claim, .. }) => Some(claim),
            // The deputy goes on to the end.
            Some(Stage::Finishing { .. }) => return self.end_transaction(),
            Some(Stage::VotingElsewhere { .. } | Stage::VotedElsewhere { .. } | Stage::Moving)
            | None => None,
        };
        // Also one that came back with conflicts is still held there.
        self.abort_elsewhere();
        drop(claim);
        self.end_transaction();
    }

    /// How far the client's transaction is.
    pub(super) fn stage(&self) -> TransactionStage {
        let transaction = self.transaction.as_ref();
        transaction.map_or(TransactionStage::None, ClientTransaction::progress)
    }

    pub(super) fn end_transaction(&mut self) {
        if self.transaction.take().is_some() {
            self.database.stats.active_txns.decrement();
        }
    }

    pub(super) fn set_stage(&mut self, stage: Stage) {
        if let Some(transaction) = &mut self.transaction {
            transaction.stage = stage;
        }
    }
}
