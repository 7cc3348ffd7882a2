//! Transactions that another server decides, and being as up to date as it is.

use std::sync::Arc;
use std::time::Instant;

use super::tpc::Stage;
use super::{Outcome, Registered, Session};
use crate::transaction::{Authority, Inbox, TransactionBuffer, VotedElsewhere};
use crate::wire::{Exception, MessageId, Reply};

/// A request that is answered once the storage here has all that was
/// acknowledged anywhere.
#[derive(Debug)]
pub(super) enum Awaited {
    /// `register`: which storage, and whether only to read.
    Register {
        storage: String,
        read_only: bool,
        id: MessageId<'static>,
    },
    /// `ping`.
    Ping { id: MessageId<'static> },
}

impl Session {
    /// Answers a `register` or `ping` of a storage that others have, too, when
    /// nothing that anybody was acknowledged is missing here.
    pub(super) fn when_up_to_date(
        &mut self,
        authority: &Arc<dyn Authority>,
        awaited: Awaited,
    ) -> Outcome<'static> {
        let read_only = match &awaited {
            Awaited::Register { read_only, .. } => *read_only,
            Awaited::Ping { .. } => false,
        };
        // One at a time would do for stock clients, which wait for each answer.
        if self.awaited.len() >= MAX_AWAITED {
            return Outcome::Close(format!("{MAX_AWAITED} unanswered pings"));
        }
        self.awaited.push_back(awaited);
        authority.catch_up(&self.inbox, read_only);
        Outcome::Later
    }

    /// The `register` that waits for its answer.
    pub(super) fn awaited_register(&self) -> Option<MessageId<'static>> {
        match self.awaited.front()? {
            Awaited::Register { id, .. } => Some(id.clone()),
            Awaited::Ping { .. } => None,
        }
    }

    /// The storage is up to date, or will not be: which request is answered how.
    pub(super) fn up_to_date(
        &mut self,
        so: Result<(), Arc<str>>,
    ) -> Option<(MessageId<'static>, Outcome<'_>)> {
        match (self.awaited.pop_front()?, so) {
            (
                Awaited::Register {
                    storage,
                    read_only,
                    id,
                },
                Ok(()),
            ) => Some((id, self.register_now(&storage, read_only))),
            (Awaited::Ping { id }, Ok(())) => Some((id, Outcome::DONE)),
            (Awaited::Register { id, .. }, Err(why)) => {
                Some((id, Outcome::SendAway(why.to_string())))
            }
            // It finds a server that has what this one lacks.
            (Awaited::Ping { id }, Err(why)) => Some((id, Outcome::Close(why.to_string()))),
        }
    }
}

/// So many pings of one client are on their way at once at most.
const MAX_AWAITED: usize = 100;

impl Registered {
    /// Gives the transaction to the session's deputy, which asks for a vote.
    pub(super) fn vote_elsewhere(
        &mut self,
        buffer: TransactionBuffer,
        id: &MessageId<'_>,
        inbox: &Arc<Inbox>,
    ) -> Outcome<'static> {
        let Some(authority) = self.database.authority() else {
            self.end_transaction();
            let message = "no server decides this storage's transactions".to_owned();
            return Outcome::Error(Exception::StorageError { message });
        };
        let deputy = self.deputy.get_or_insert_with(|| authority.deputy(inbox));
        deputy.vote(buffer);
        let vote = id.clone().into_owned();
        self.set_stage(Stage::VotingElsewhere { vote });
        Outcome::Later
    }

    /// The deputy's vote is decided: which request is answered how. None where
    /// the transaction was given up meanwhile.
    pub(super) fn voted_elsewhere(
        &mut self,
        voted: VotedElsewhere,
    ) -> Option<(MessageId<'static>, Outcome<'static>)> {
        let transaction = self.transaction.as_mut()?;
        let Stage::VotingElsewhere { .. } = &transaction.stage else {
            return None;
        };
        let Stage::VotingElsewhere { vote } = transaction.take_stage() else {
            return None;
        };
        let outcome = match voted {
            VotedElsewhere::Voted(told) => {
                let since = Instant::now();
                self.set_stage(Stage::VotedElsewhere { since });
                Outcome::Reply(Reply::Value(told))
            }
            VotedElsewhere::Conflicts(told) => {
                self.database.stats.conflicts_handed_back.increment();
                let returned = self.deputy.as_mut().and_then(|deputy| deputy.take_back());
                if let Some(buffer) = returned {
                    self.set_stage(Stage::Collecting { buffer, held: None });
                    Outcome::Reply(Reply::Value(told))
                } else {
                    self.end_transaction();
                    let message = "the transaction was given up".to_owned();
                    Outcome::Error(Exception::StorageTransactionError { message })
                }
            }
            VotedElsewhere::Failed(exception) => {
                self.end_transaction();
                Outcome::Error(exception)
            }
        };
        Some((vote, outcome))
    }

    /// Finishes what the deputy has; the stage is already `Finishing`.
    pub(super) fn finish_elsewhere(&mut self) -> Outcome<'static> {
        if let Some(deputy) = &mut self.deputy {
            deputy.finish();
        }
        Outcome::Later
    }

    /// Gives up what the deputy has.
    pub(super) fn abort_elsewhere(&mut self) {
        if let Some(deputy) = &mut self.deputy {
            deputy.abort();
        }
    }
}
