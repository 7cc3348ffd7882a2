//! What other nodes ask about a group.

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use tracing::debug;

use super::group::{Core, Group, Leadership};
use super::timers::Action;
use super::transfer::NEAR_ENTRIES;
use crate::replication::peers::{PeerStream, Reply, Request, StreamKind};
use crate::replication::types::{NodeId, Types};

impl Group {
    /// Answers node `from`.
    pub async fn handle(&self, from: NodeId, request: Request) -> Reply {
        match request {
            Request::Append(rpc) => self.append(rpc).await,
            Request::RaftVote(rpc) => self.vote(rpc).await,
            Request::PreVote { last_log, .. } => {
                let own = self.core.raft.data_metrics().borrow().last_log;
                Reply::PreVote {
                    granted: self.core.pulse.may_vote() && last_log >= own,
                    term: self.core.raft.metrics().borrow().current_term,
                }
            }
            Request::LetGo { term } => {
                if self.core.raft.metrics().borrow().current_term <= term {
                    debug!(storage = %self.core.name, from, term, "the leader lets go");
                    self.core.end_term(term).await;
                }
                Reply::Done
            }
            Request::Stand { term } => self.stand(term).await,
            Request::ReadIndex => match self.core.read_index().await {
                Ok(read_index) => {
                    if let Some(read_index) = read_index {
                        self.hurry(from, read_index.index);
                    }
                    Reply::ReadIndex(read_index)
                }
                Err(why) => self.refused(why),
            },
            Request::Service(request) => self.serve(request).await,
            // The node answers these, whatever storage they name.
            Request::Admin(_) => self.refused("an administrator's command is a node's".to_owned()),
        }
    }

    /// Serves a stream of node `from`, to its end.
    pub async fn handle_stream(&self, from: NodeId, kind: StreamKind, stream: PeerStream) {
        let services = self.core.services.lock().clone();
        if let Some(services) = services {
            services.stream(from, kind, stream).await;
        }
    }

    async fn append(&self, mut rpc: AppendEntriesRequest<Types>) -> Reply {
        // Before Raft has dealt with it: its disk may take its time, while the leader is well.
        let is_present = rpc.vote >= self.core.raft.metrics().borrow().vote;
        if rpc.vote.is_committed() && is_present {
            self.core.pulse.contact(rpc.vote.leader_id.term);
        }
        let last = rpc.entries.last().map(|entry| entry.log_id);
        let last = last.or(rpc.prev_log_id);
        let applied = self.core.applied.borrow().map_or(0, |last| last.index + 1);
        let admitted = self.core.pace.admit(&mut rpc, applied);
        let answered = self.core.raft.append_entries(rpc).await;
        if matches!(answered, Ok(AppendEntriesResponse::Success)) {
            admitted.taken(last);
        }
        match answered {
            Ok(answer) => {
                // This node may have led a moment ago, and not all that it has be on its disk.
                let claimed = match &answer {
                    AppendEntriesResponse::Success => last,
                    AppendEntriesResponse::PartialSuccess(upto) => *upto,
                    _ => None,
                };
                if let Some(claimed) = claimed {
                    self.core.durable.wait(claimed.index).await;
                }
                Reply::Append(answer)
            }
            Err(error) => self.refused(error.to_string()),
        }
    }

    async fn vote(&self, rpc: VoteRequest<NodeId>) -> Reply {
        let core = &self.core;
        let known = core.raft.metrics().borrow().vote;
        let last_log = core.raft.data_metrics().borrow().last_log;
        if !core.pulse.may_vote() {
            return Reply::RaftVote(VoteResponse::new(known, last_log, false));
        }
        let is_behind = rpc.last_log_id < last_log;
        if known.is_committed() && known.leader_id.term < rpc.vote.leader_id.term && !is_behind {
            // Its leader was silent for long enough; openraft would wait for its lease on top.
            core.accept(rpc.vote.leader_id.term).await;
        }
        match core.raft.vote(rpc).await {
            Ok(answer) => Reply::RaftVote(answer),
            Err(error) => self.refused(error.to_string()),
        }
    }

    async fn stand(&self, term: u64) -> Reply {
        let core = &self.core;
        if let Some(why) = core.why_not_lead() {
            return Reply::Refused { leader: None, why };
        }
        let known = core.raft.metrics().borrow().current_term;
        // A word that was long under way must not disturb who leads by now.
        let is_stale = known > term + 1 || !core.pulse.may_vote();
        if !is_stale && core.pulse.stand() == Some(Action::Elect) {
            core.elect().await;
            return Reply::Done;
        }
        self.refused("another leads already".to_owned())
    }

    async fn serve(&self, request: bytes::Bytes) -> Reply {
        let leads = matches!(*self.core.leadership.borrow(), Leadership::Leader { .. });
        let services = self.core.services.lock().clone();
        match services {
            Some(services) if leads => Reply::Service(services.serve(request).await),
            Some(services) => match services.serve_as_member(request) {
                Some(answer) => Reply::Service(answer),
                None => self.refused("this node does not lead".to_owned()),
            },
            None => self.refused("this node is still starting".to_owned()),
        }
    }

    fn refused(&self, why: String) -> Reply {
        let leader = match &*self.core.leadership.borrow() {
            Leadership::Follower { leader, member, .. } => Some((*leader, member.clone())),
            Leadership::Leader { .. } | Leadership::Unknown => None,
        };
        Reply::Refused { leader, why }
    }
}

impl Core {
    /// Why this node had better not lead, whoever does now.
    fn why_not_lead(&self) -> Option<String> {
        let (is_voter, to_apply) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let mut voters = metrics.membership_config.membership().voter_ids();
            let last = metrics.last_log_index.map_or(0, |index| index + 1);
            let applied = metrics.last_applied.map_or(0, |log_id| log_id.index + 1);
            let is_voter = voters.any(|voter| voter == self.node);
            (is_voter, last.saturating_sub(applied))
        };
        if !is_voter {
            return Some("it has no vote".to_owned());
        }
        if self.pulse.abstains() {
            return Some("it does not vote yet: it may lack what it had acknowledged".to_owned());
        }
        if !self.pulse.may_stand() {
            return Some("it is not fit to lead".to_owned());
        }
        // Until it has applied all, nobody would lead.
        (to_apply > NEAR_ENTRIES)
            .then(|| format!("it has {to_apply} entries of its log still to apply"))
    }
}
