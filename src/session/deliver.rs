//! What others left for a client: invalidations, the end of its own commit,
//! granted locks.

use super::{Outbox, Outcome, Session};
use crate::transaction::{Blocking, Delivery, InboxState};
use crate::wire::{Exception, MessageId, Reply, ServerCall};

impl Session {
    /// Puts everything that waits in the inbox into `out`, in order. An error
    /// says why the connection is to be closed.
    pub fn deliver(&mut self, out: &mut Outbox, blocking: &dyn Blocking) -> Result<(), String> {
        while self.inbox.is_filled() {
            let mut deliveries = Vec::new();
            let state = self.inbox.drain(|delivery| deliveries.push(delivery));
            for delivery in deliveries {
                self.deliver_one(delivery, out, blocking)?;
            }
            if state == InboxState::Overflowed {
                return Err("the client does not read what it is sent".to_owned());
            }
        }
        Ok(())
    }

    fn drain(&mut self) {
        self.draining = true;
        // At once: a vote that waits for its locks must not get them now.
        if self.is_drained() {
            self.disconnect();
        }
    }

    fn deliver_one(
        &mut self,
        delivery: Delivery,
        out: &mut Outbox,
        blocking: &dyn Blocking,
    ) -> Result<(), String> {
        match delivery {
            Delivery::Drain => {
                if let Some(id) = self.awaited_register() {
                    // As for one that is sent away.
                    out.reply(&id, &Reply::Nothing);
                }
                self.drain();
                Ok(())
            }
            Delivery::UpToDate(so) => {
                if let Some((id, outcome)) = self.up_to_date(so) {
                    let is_failure = matches!(outcome, Outcome::Error(_));
                    put(out, &id, false, outcome)?;
                    self.note_answered_later(is_failure);
                }
                Ok(())
            }
            Delivery::LocksGranted(_) | Delivery::Attached(_) | Delivery::VotedElsewhere(_) => {
                self.deliver_vote(delivery, out, blocking)
            }
            other => self.deliver_registered(other, out),
        }
    }

    /// What a vote has waited for.
    fn deliver_vote(
        &mut self,
        delivery: Delivery,
        out: &mut Outbox,
        blocking: &dyn Blocking,
    ) -> Result<(), String> {
        let Some(registered) = &mut self.registered else {
            return Ok(());
        };
        let answer = match delivery {
            Delivery::LocksGranted(ticket) => {
                registered.locks_granted(ticket, &self.inbox, &self.label, blocking)
            }
            Delivery::Attached(so) => registered.attached(so),
            Delivery::VotedElsewhere(voted) => registered.voted_elsewhere(voted),
            _ => None,
        };
        match answer {
            Some((id, outcome)) => self.answer_later(out, &id, outcome),
            None => Ok(()),
        }
    }

    /// What is only for clients that have chosen a storage.
    fn deliver_registered(&mut self, delivery: Delivery, out: &mut Outbox) -> Result<(), String> {
        let Some(registered) = &mut self.registered else {
            return Ok(());
        };
        match delivery {
            Delivery::Invalidation(invalidation) => {
                // Where a state was received as a whole, a client that registered
                // meanwhile knows of it.
                if invalidation.tid <= registered.seen {
                    return Ok(());
                }
                out.invalidation(&invalidation);
                registered.seen = invalidation.tid;
            }
            Delivery::Finished(Ok(finished)) => {
                // One that stored nothing can have an older transaction's, where
                // another server decides.
                registered.seen = registered.seen.max(finished.tid);
                let (length, size) = (finished.object_count, finished.size_bytes);
                if let Some(id) = registered.finished() {
                    out.call(&ServerCall::Info { length, size });
                    out.reply(&id, &Reply::Tid(finished.tid));
                }
                self.note_answered_later(false);
            }
            Delivery::Finished(Err(cause)) => {
                let exception = Exception::StorageSystemError {
                    message: cause.to_string(),
                };
                if let Some(id) = registered.finished() {
                    out.error(&id, &exception);
                }
                self.note_answered_later(true);
            }
            Delivery::Done {
                request,
                failure: None,
            } => out.reply(&request, &Reply::Nothing),
            Delivery::Done {
                request,
                failure: Some(exception),
            } => {
                out.error(&request, &exception);
            }
            Delivery::Info {
                object_count: length,
                size_bytes: size,
            } => {
                out.call(&ServerCall::Info { length, size });
            }
            Delivery::Close(why) => return Err(why.to_owned()),
            Delivery::CloseWriters(why) if !registered.read_only => return Err(why.to_owned()),
            // All but the first are taken by the callers.
            Delivery::CloseWriters(_)
            | Delivery::UpToDate(_)
            | Delivery::Drain
            | Delivery::LocksGranted(_)
            | Delivery::Attached(_)
            | Delivery::VotedElsewhere(_) => {}
        }
        Ok(())
    }

    fn answer_later(
        &mut self,
        out: &mut Outbox,
        id: &MessageId<'_>,
        outcome: Outcome<'_>,
    ) -> Result<(), String> {
        if matches!(outcome, Outcome::Later) {
            return Ok(());
        }
        let is_failure = matches!(outcome, Outcome::Error(_));
        put(out, id, false, outcome)?;
        self.note_answered_later(is_failure);
        Ok(())
    }
}

/// Puts the outcome of request `id` into `out`. An error says why the
/// connection is to be closed.
pub fn put(
    out: &mut Outbox,
    id: &MessageId<'_>,
    one_way: bool,
    outcome: Outcome<'_>,
) -> Result<(), String> {
    match outcome {
        Outcome::Reply(reply) => {
            if !one_way {
                out.reply(id, &reply);
            }
            Ok(())
        }
        // There is no way to tell the client; it finds out by the closed connection.
        Outcome::Error(exception) if one_way => {
            Err(format!("a one-way request failed: {exception}"))
        }
        Outcome::Error(exception) => {
            out.error(id, &exception);
            Ok(())
        }
        Outcome::Later => Ok(()),
        Outcome::Close(why) => Err(why),
        Outcome::SendAway(why) => {
            out.reply(id, &Reply::Nothing);
            Err(why)
        }
    }
}
