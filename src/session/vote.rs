//! The vote on a client's transaction, where it is decided here.

use std::sync::Arc;
use std::time::Instant;

use super::tpc::{Held, Stage};
use super::{Outcome, Registered, waiting};
use crate::disk::Access;
use crate::storage::StorageError;
use crate::transaction::{
    Attached, Blocking, Inbox, LockRequest, MAX_INLINE_BYTES, Term, Ticket, TransactionBuffer,
    VoteError, VoteOutcome, Voted, vote,
};
use crate::wire::{Exception, MessageId, Reply, TransactionKey, Value};

/// Why another server's session is sent away; it asks the next leader.
const NOT_LEADING: &str = "this server does not lead the storage's cluster";

impl Registered {
    /// Asks whether the transaction can be finished; from then on it can.
    pub(super) fn vote(
        &mut self,
        key: &TransactionKey,
        id: &MessageId<'_>,
        inbox: &Arc<Inbox>,
        label: &str,
        blocking: &dyn Blocking,
    ) -> Outcome<'static> {
        let (buffer, held) = match self.take_collected(key) {
            Ok(collected) => collected,
            Err(exception) => return Outcome::Error(exception),
        };
        if let Some(why) = buffer.refusal() {
            tracing::warn!("({label}) vote: {why}");
            let exception = why.into();
            self.release_held(held);
            return Outcome::Error(exception);
        }
        let is_its = |term: &Term| self.remote.is_none() || self.leadership == Some(*term);
        let Some(term) = self.database.term().filter(is_its) else {
            // After a conflict that was handed back there are some.
            drop(held);
            if self.remote.is_some() {
                return Outcome::Close(NOT_LEADING.to_owned());
            }
            return self.vote_elsewhere(buffer, id, inbox);
        };
        self.vote_here(buffer, held, term, id, inbox, label, blocking)
    }

    /// What the transaction has collected, to be voted now.
    fn take_collected(
        &mut self,
        key: &TransactionKey,
    ) -> Result<(TransactionBuffer, Option<Held>), Exception> {
        let transaction = self.current_transaction(key)?;
        match transaction.take_stage() {
            Stage::Collecting { buffer, held } => {
                transaction.voted_bytes = buffer.memory_bytes();
                Ok((buffer, held))
            }
            other => {
                let how = match other {
                    Stage::Waiting { .. }
                    | Stage::Attaching { .. }
                    | Stage::VotingElsewhere { .. } => "waiting",
                    _ => "locked",
                };
                transaction.stage = other;
                let message = format!("Already voting ({how})");
                Err(Exception::StorageTransactionError { message })
            }
        }
    }

    /// Takes the locks and votes, under leadership `term`.
    fn vote_here(
        &mut self,
        buffer: TransactionBuffer,
        held: Option<Held>,
        term: Term,
        id: &MessageId<'_>,
        inbox: &Arc<Inbox>,
        label: &str,
        blocking: &dyn Blocking,
    ) -> Outcome<'static> {
        let database = Arc::clone(&self.database);
        // Where another server decided a moment ago it may still hold locks.
        self.abort_elsewhere();
        // What an earlier leadership granted protects nothing any more.
        let held = match held {
            Some(held) if held.term != term => {
                drop(held);
                None
            }
            held => held,
        };
        let wanted = if buffer.undoes() {
            waiting(blocking, || {
                Ok::<_, StorageError>(buffer.locks(&*database.storage))
            })
            .unwrap_or(LockRequest::Everything)
        } else {
            buffer.locks(&*database.storage)
        };
        if let Some(held) = held {
            if held.claim.covers(&wanted) {
                return self.vote_locked(buffer, held, id, inbox, label, blocking);
            }
            // Before more is asked for: who waits holds nothing.
            drop(held);
        }
        let (claim, granted) = database.locks.request(&wanted, inbox);
        if granted {
            let held = Held {
                claim,
                since: Instant::now(),
                term,
            };
            return self.vote_locked(buffer, held, id, inbox, label, blocking);
        }
        let waiting = database.locks.waiting();
        // As the reference, louder when more wait.
        match waiting {
            0..=3 => tracing::debug!("({label}) waits for locks: {waiting} waiting"),
            4..=9 => tracing::info!("({label}) waits for locks: {waiting} waiting"),
            _ => tracing::warn!("({label}) waits for locks: {waiting} waiting"),
        }
        self.set_stage(Stage::Waiting {
            buffer,
            claim,
            term,
            vote: id.clone().into_owned(),
        });
        Outcome::Later
    }

    /// The locks that a vote waited for are granted: its outcome, and which
    /// request it answers. None where the transaction was given up meanwhile.
    pub(super) fn locks_granted(
        &mut self,
        granted: Ticket,
        inbox: &Arc<Inbox>,
        label: &str,
        blocking: &dyn Blocking,
    ) -> Option<(MessageId<'static>, Outcome<'static>)> {
        let transaction = self.transaction.as_mut()?;
        if !matches!(&transaction.stage, Stage::Waiting { claim, .. } if claim.ticket() == granted)
        {
            return None;
        }
        let Stage::Waiting {
            buffer,
            claim,
            term,
            vote,
        } = transaction.take_stage()
        else {
            return None;
        };
        if self.database.term() != Some(term) {
            drop(claim);
            if self.remote.is_some() {
                return Some((vote, Outcome::Close(NOT_LEADING.to_owned())));
            }
            let outcome = self.vote_elsewhere(buffer, &vote, inbox);
            return Some((vote, outcome));
        }
        let held = Held {
            claim,
            since: Instant::now(),
            term,
        };
        let outcome = self.vote_locked(buffer, held, &vote, inbox, label, blocking);
        Some((vote, outcome))
    }

    fn vote_locked(
        &mut self,
        buffer: TransactionBuffer,
        held: Held,
        id: &MessageId<'_>,
        inbox: &Arc<Inbox>,
        label: &str,
        blocking: &dyn Blocking,
    ) -> Outcome<'static> {
        let storage = &*self.database.storage;
        let hand_back = self.database.options.hand_back_conflicts;
        let authority = self.database.authority();
        let pack_orders = authority.map_or(0, |authority| authority.pack_orders());
        let outcome = match vote(storage, buffer, hand_back, Access::Cached) {
            Ok(VoteOutcome::WouldWait(buffer)) => {
                waiting(blocking, || vote(storage, buffer, hand_back, Access::Wait))
            }
            outcome => outcome,
        };
        match outcome {
            Ok(VoteOutcome::Voted(mut voted)) => {
                voted.attached.pack_orders = pack_orders;
                self.voted(voted, held, id, inbox, blocking)
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

    /// The vote is positive; what others need beside the log goes to them first.
    fn voted(
        &mut self,
        mut voted: Voted,
        held: Held,
        id: &MessageId<'_>,
        inbox: &Arc<Inbox>,
        blocking: &dyn Blocking,
    ) -> Outcome<'static> {
        let Some(authority) = self.database.authority().cloned() else {
            return self.can_finish(voted, held);
        };
        let staged = &voted.staged;
        if staged.blobs.is_empty() && staged.data_bytes() <= MAX_INLINE_BYTES {
            return self.can_finish(voted, held);
        }
        match waiting(blocking, || authority.attach(staged)) {
            Ok(attached) => {
                authority.distribute(&attached, inbox);
                voted.attached = Attached {
                    pack_orders: voted.attached.pack_orders,
                    ..attached
                };
                let vote = id.clone().into_owned();
                self.set_stage(Stage::Attaching { voted, held, vote });
                Outcome::Later
            }
            Err(error) => {
                self.note_full_disk(&error);
                self.release_held(Some(held));
                error.into()
            }
        }
    }

    fn can_finish(&mut self, voted: Voted, held: Held) -> Outcome<'static> {
        let undone = voted.undone.iter();
        let undone = undone.map(|oid| Value::Bytes(oid.0.to_vec().into()));
        let undone = undone.collect();
        self.set_stage(Stage::Voted { voted, held });
        Outcome::Reply(Reply::Value(Value::List(undone)))
    }

    /// Enough others have what the transaction needs beside the log, or not:
    /// which request is answered how. None where it was given up meanwhile.
    pub(super) fn attached(
        &mut self,
        so: Result<(), Arc<str>>,
    ) -> Option<(MessageId<'static>, Outcome<'static>)> {
        match self.transaction.as_mut()?.take_stage() {
            Stage::Attaching { voted, held, vote } => {
                let outcome = match so {
                    Ok(()) => self.can_finish(voted, held),
                    Err(why) => {
                        drop(voted);
                        self.release_held(Some(held));
                        let message = why.to_string();
                        Outcome::Error(Exception::StorageError { message })
                    }
                };
                Some((vote, outcome))
            }
            other => {
                self.set_stage(other);
                None
            }
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
        if let VoteError::Storage(error) = &error {
            self.note_full_disk(error);
        }
        self.release_held(Some(held));
        error.into()
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
