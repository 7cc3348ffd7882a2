//! What is put at the end of a log whose other nodes are gone for good.

use std::collections::{BTreeMap, BTreeSet};

use openraft::storage::RaftLogStorage;
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, Membership, Vote};

use super::LogError;
use super::engine::{EngineError, Key, Step};
use super::group::GroupLog;
use crate::replication::entry_codec::{encode, encode_entry};
use crate::replication::types::{Member, NodeId};

impl GroupLog {
    /// Ends the log with an entry by which its node, at `own`, is the only one with a vote, in a later term than
    /// any that it has heard of; and votes in that term, in which nobody leads yet. `applied`: what the
    /// storage has durably applied. Where that entry is; None: there is no log to end.
    ///
    /// Both are durable when it returns; after a crash both are there or neither. Before openraft
    /// has the log. Doing it again does no harm: then there is one such entry more.
    pub async fn end_alone(
        &mut self,
        own: Member,
        applied: Option<LogId<NodeId>>,
    ) -> Result<Option<LogId<NodeId>>, LogError> {
        let shared = self.reader().shared;
        let last = shared.state.lock().last;
        if let Some(applied) = applied.filter(|&applied| last < Some(applied)) {
            // As openraft does at its start: what comes behind a state that was taken over is not of its log.
            self.purge(applied).await.map_err(unusable)?;
            let behind = LogId::new(applied.leader_id, applied.index + 1);
            self.truncate(behind).await.map_err(unusable)?;
        }
        let (vote, last, cuts) = {
            let state = shared.state.lock();
            (state.vote, state.last, state.cuts)
        };
        let Some(last) = last else {
            return Ok(None);
        };
        // An entry's term is a vote's, and votes may be damaged.
        let known = vote.map_or(0, |vote| vote.leader_id.term);
        let term = known.max(last.leader_id.term) + 1;
        let log_id = LogId::new(CommittedLeaderId::new(term, shared.node), last.index + 1);
        let voters = vec![BTreeSet::from([shared.node])];
        let nodes = BTreeMap::from([(shared.node, own)]);
        let entry = Entry {
            log_id,
            payload: EntryPayload::Membership(Membership::new(voters, nodes)),
        };
        let vote = Vote::new(term, shared.node);
        let steps = vec![
            Step::Append(vec![(log_id.index, encode_entry(&entry))]),
            Step::Put(Key::RaftVote, encode(&vote)),
        ];
        self.write(steps)
            .await
            .map_err(|error: EngineError| unusable(error))?;
        let mut state = shared.state.lock();
        state.append(vec![entry]).map_err(unusable)?;
        state.vote = Some(vote);
        drop(state);
        shared.became_durable(log_id.index + 1, cuts);
        Ok(Some(log_id))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unusable(error: impl ToString) -> LogError {
    LogError::Unusable(error.to_string())
}
