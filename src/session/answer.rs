//! A request from its handling to its answer: counted, and timed.

use std::time::Instant;

use super::{Outbox, Outcome, Session, put};
use crate::stats::TransactionStage;
use crate::transaction::Blocking;
use crate::wire::{MessageId, Method, Request};

/// Of the methods that come so often that two looks at the clock would show,
/// one request of so many is timed.
const TIMED_ONE_OF: u32 = 16;

/// How a session keeps count of its requests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Where they are counted; see `RequestStats`.
    shard: usize,
    /// Frequent requests so far.
    frequent: u32,
    /// The vote or finish whose answer comes later, and since when.
    awaited: Option<(Method, Instant)>,
}

impl Tally {
    pub(super) fn in_shard(shard: usize) -> Self {
        Self {
            shard,
            ..Self::default()
        }
    }

    fn begin(&mut self, method: Method) -> Option<Instant> {
        let is_frequent = matches!(
            method,
            Method::LoadBefore | Method::Store | Method::StoreBlobChunk
        );
        if is_frequent {
            self.frequent = self.frequent.wrapping_add(1);
            if !self.frequent.is_multiple_of(TIMED_ONE_OF) {
                return None;
            }
        }
        Some(Instant::now())
    }
}

impl Session {
    /// Handles one request and puts its outcome into `out`. An error says why
    /// the connection is to be closed.
    // Inlined, as moving a request costs more than counting it.
    #[inline]
    pub fn answer(
        &mut self,
        id: &MessageId<'_>,
        one_way: bool,
        request: Request<'_>,
        out: &mut Outbox,
        blocking: &dyn Blocking,
    ) -> Result<(), String> {
        let method = request.kind();
        let begun = self.tally.begin(method);
        let outcome = self.handle(id, request, blocking);
        let is_later = matches!(outcome, Outcome::Later);
        let is_failure = matches!(
            outcome,
            Outcome::Error(_) | Outcome::Close(_) | Outcome::SendAway(_)
        );
        let put = put(out, id, one_way, outcome);
        if is_later && matches!(method, Method::Vote | Method::TpcFinish) {
            self.tally.awaited = begun.map(|begun| (method, begun));
        }
        self.note_handled(method, begun.filter(|_| !is_later), is_failure);
        put.map_err(|why| format!("{}: {why}", method.name()))
    }

    fn note_handled(&self, method: Method, begun: Option<Instant>, is_failure: bool) {
        // Before a client chose a storage there is nothing to count it for.
        let Some(registered) = &self.registered else {
            return;
        };
        let requests = &registered.database.stats.requests;
        requests.note_handled(self.tally.shard, method.number());
        if is_failure {
            requests.note_failed(self.tally.shard, method.number());
        }
        if let Some(begun) = begun {
            requests.note_time(method.number(), begun.elapsed());
        }
        if method != Method::LoadBefore {
            self.client.set_stage(self.stage());
        }
    }

    /// The vote or finish that was awaited has its answer.
    pub(super) fn note_answered_later(&mut self, is_failure: bool) {
        self.client.set_stage(self.stage());
        let Some((method, begun)) = self.tally.awaited.take() else {
            return;
        };
        let Some(registered) = &self.registered else {
            return;
        };
        let requests = &registered.database.stats.requests;
        requests.note_time(method.number(), begun.elapsed());
        if is_failure {
            requests.note_failed(self.tally.shard, method.number());
        }
    }

    fn stage(&self) -> TransactionStage {
        let registered = self.registered.as_ref();
        registered.map_or(TransactionStage::None, super::Registered::stage)
    }
}
