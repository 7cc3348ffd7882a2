//! Does what the timers say, and tells who leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::metrics::RaftServerMetrics;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::{CommittedLeaderId, LogId, ServerState, Vote};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::group::{Core, Group, Leadership};
use super::quorum::{is_quorum, reached_by_quorum};
use super::timers::{Action, Role, TimerSettings, Timers, View};
use crate::replication::peers::{Reply, Request};
use crate::replication::types::{Member, NOBODY, NodeId, Types};

/// The timers, and the clock that they go by.
#[derive(Debug)]
pub(super) struct Pulse {
    began: Instant,
    timers: Mutex<Timers>,
    /// Something was told that the timers cannot know.
    pub(super) nudge: Arc<Notify>,
    /// This node may have forgotten what it has acknowledged: it votes for nobody.
    abstains: AtomicBool,
    /// This node cannot do what a leader has to do: it votes, and does not stand.
    is_unfit: AtomicBool,
}

impl Pulse {
    pub(super) fn new(settings: TimerSettings, seed: u64, abstains: bool) -> Self {
        Self {
            abstains: AtomicBool::new(abstains),
            is_unfit: AtomicBool::new(false),
            began: Instant::now(),
            timers: Mutex::new(Timers::new(settings, seed, Duration::ZERO)),
            nudge: Arc::default(),
        }
    }

    /// A leader of `term`, which is this node's or a later one, has spoken.
    pub(super) fn contact(&self, term: u64) {
        let was_heard = self.with(|timers, now| {
            let was_heard = timers.hears_leader(now);
            timers.contact(now, term);
            was_heard
        });
        if !was_heard {
            self.nudge.notify_one();
        }
    }

    pub(super) fn let_go(&self, term: u64) {
        self.with(|timers, now| timers.let_go(now, term));
        self.nudge.notify_one();
    }

    pub(super) fn stand(&self) -> Option<Action> {
        self.with(Timers::stand).filter(|_| self.may_stand())
    }

    pub(super) fn may_vote(&self) -> bool {
        !self.abstains() && self.with(|timers, now| timers.may_vote(now))
    }

    /// May this node stand for election?
    pub(super) fn may_stand(&self) -> bool {
        !self.abstains() && !self.is_unfit.load(Ordering::Relaxed)
    }

    pub(super) fn set_unfit(&self, so: bool) {
        self.is_unfit.store(so, Ordering::Relaxed);
    }

    pub(super) fn abstains(&self) -> bool {
        self.abstains.load(Ordering::Relaxed)
    }

    pub(super) fn vote_from_now_on(&self) {
        self.abstains.store(false, Ordering::Relaxed);
    }

    fn with<T>(&self, tell: impl FnOnce(&mut Timers, Duration) -> T) -> T {
        let now = self.began.elapsed();
        tell(&mut self.timers.lock(), now)
    }
}

/// Runs until the group is stopped or Raft has failed.
pub(super) async fn run(core: Arc<Core>) {
    // Not all metrics: those change with every entry.
    let mut metrics = core.raft.server_metrics();
    let mut stopped = core.stopped.subscribe();
    loop {
        let seen = metrics.borrow_and_update().clone();
        let leads_now = core.observe(&seen);
        if leads_now {
            core.telling.forget();
            let group = Group {
                core: Arc::clone(&core),
            };
            tokio::spawn(async move { group.resume_change().await });
        }
        while let Some(action) = core.pulse.with(Timers::tick) {
            core.act(action, &seen).await;
        }
        let wake_at = core.pulse.with(|timers, now| timers.wake_at(now));
        tokio::select! {
            biased;
            _ = stopped.wait_for(|&stopped| stopped) => return,
            changed = metrics.changed() => if changed.is_err() {
                // Raft has stopped: it says nothing more.
                return core.fail();
            },
            () = core.pulse.nudge.notified() => {}
            () = tokio::time::sleep_until(core.pulse.began + wake_at) => {}
        }
    }
}

type Metrics = RaftServerMetrics<NodeId, Member>;

impl Core {
    /// Raft has stopped here, on purpose or not.
    fn fail(&self) {
        if !*self.stopped.borrow() {
            error!(
                storage = %self.name,
                error = self.failure().unwrap_or_default(),
                "replication has stopped on this node until it is restarted"
            );
        }
        self.refuse_held();
        self.tell(Leadership::Unknown);
    }

    /// Tells the timers what Raft has come to, and everybody who leads. True: this node
    /// does from now on.
    fn observe(&self, metrics: &Metrics) -> bool {
        let membership = metrics.membership_config.membership();
        let is_voter = membership.voter_ids().any(|voter| voter == self.node);
        let role = match metrics.state {
            ServerState::Leader => Role::Leader,
            _ if is_voter => Role::Voter,
            _ => Role::Onlooker,
        };
        let view = View {
            role,
            term: metrics.vote.leader_id.term,
            stands: metrics.state == ServerState::Candidate,
            alone: is_voter && membership.voter_ids().all(|voter| voter == self.node),
        };
        let now = Instant::now();
        let quorum = reached_by_quorum(membership, |voter| {
            if voter == self.node {
                return Some(now);
            }
            self.network.contacts.of(voter)?.followed
        });
        let hears_leader = self.pulse.with(|timers, at| {
            timers.observe(at, view);
            if let Some(quorum) = quorum.filter(|_| role == Role::Leader) {
                timers.quorum(quorum.saturating_duration_since(self.pulse.began));
            }
            timers.hears_leader(at)
        });
        self.tell(self.leadership_of(metrics, hears_leader))
    }

    fn leadership_of(&self, metrics: &Metrics, hears_leader: bool) -> Leadership {
        let term = metrics.vote.leader_id.term;
        if *self.stopped.borrow() {
            return Leadership::Unknown;
        }
        if metrics.state == ServerState::Leader {
            // Its first entry, the blank one, is applied only after all that was there before.
            let applied = self.applied.borrow().map(|log_id| log_id.leader_id);
            let is_own = applied.is_some_and(|by| by.term == term && by.node_id == self.node);
            return if is_own {
                Leadership::Leader { term }
            } else {
                Leadership::Unknown
            };
        }
        let leader = metrics.current_leader.filter(|&leader| leader != self.node);
        let membership = metrics.membership_config.membership();
        let found = leader.and_then(|leader| Some((leader, membership.get_node(&leader)?.clone())));
        match found.filter(|_| hears_leader) {
            Some((leader, member)) => Leadership::Follower {
                term,
                leader,
                member,
            },
            None => Leadership::Unknown,
        }
    }

    fn tell(&self, leadership: Leadership) -> bool {
        let is_leader = matches!(leadership, Leadership::Leader { .. });
        let is_unknown = leadership == Leadership::Unknown;
        {
            let mut since = self.unled_since.lock();
            *since = is_unknown.then(|| since.unwrap_or_else(Instant::now));
        }
        let is_new = self.leadership.send_if_modified(|told| {
            let is_new = *told != leadership;
            if is_new {
                info!("storage {}: {leadership}", self.name);
                *told = leadership;
            }
            is_new
        });
        is_new && is_leader
    }

    async fn act(self: &Arc<Self>, action: Action, metrics: &Metrics) {
        match action {
            Action::Heartbeat => {
                let _ = self.raft.trigger().heartbeat().await;
                self.beat_where_raft_does_not(metrics);
            }
            Action::PreVote { .. } | Action::Elect if !self.pulse.may_stand() => {}
            Action::PreVote { attempt } => {
                let (core, metrics) = (Arc::clone(self), metrics.clone());
                tokio::spawn(async move { core.pre_vote(attempt, &metrics).await });
            }
            Action::Elect => self.elect().await,
            Action::GiveUp => {
                warn!(
                    storage = %self.name,
                    "no quorum has followed for {:?}; this node leads no longer",
                    self.timers.loss_bound()
                );
                let (core, term) = (Arc::clone(self), metrics.vote.leader_id.term);
                tokio::spawn(async move { core.end_term(term).await });
            }
        }
    }

    /// openraft sends nothing to a node that owes it an answer, or could not be
    /// reached a moment ago; that node is to know all the same that it has a leader.
    fn beat_where_raft_does_not(self: &Arc<Self>, metrics: &Metrics) {
        let silence = self.timers.heartbeat_interval * 3 / 2;
        for (&to, member) in metrics.membership_config.membership().nodes() {
            let contact = self.network.contacts.of(to);
            let is_quiet = contact.is_none_or(|contact| contact.sent.elapsed() > silence);
            if to == self.node || !is_quiet {
                continue;
            }
            let rpc = heartbeat(metrics.vote);
            let (core, member) = (Arc::clone(self), member.clone());
            tokio::spawn(async move {
                let patience = core.timers.election_timeout;
                let answer = core.network.append(to, &member, rpc, patience).await;
                if let Ok(AppendEntriesResponse::HigherVote(vote)) = answer {
                    core.accept(vote.leader_id.term).await;
                }
            });
        }
    }

    async fn pre_vote(self: Arc<Self>, attempt: u64, metrics: &Metrics) {
        let membership = metrics.membership_config.membership();
        let last_log = self.raft.data_metrics().borrow().last_log;
        let term = metrics.vote.leader_id.term + 1;
        let mut asked = JoinSet::new();
        for voter in membership.voter_ids().filter(|&voter| voter != self.node) {
            let Some(member) = membership.get_node(&voter).cloned() else {
                continue;
            };
            let (network, request) = (self.network.clone(), Request::PreVote { term, last_log });
            asked.spawn(async move {
                let patience = network.patience;
                let call = network
                    .peers
                    .call(voter, &member, &network.group, request, patience);
                (voter, call.await)
            });
        }
        let mut granted = vec![self.node];
        let mut highest = metrics.vote.leader_id.term;
        let mut won = false;
        while let Some(answer) = asked.join_next().await {
            if let Ok((voter, Ok(Reply::PreVote { granted: yes, term }))) = answer {
                highest = highest.max(term);
                granted.extend(yes.then_some(voter));
                won = is_quorum(membership, |voter| granted.contains(&voter));
            }
            if won {
                break;
            }
        }
        let over = |timers: &mut Timers, now| timers.pre_vote_over(now, attempt, won);
        if self.pulse.with(over) == Some(Action::Elect) {
            if highest > metrics.vote.leader_id.term {
                // Else the election would be lost to those who have seen a later term.
                self.accept(highest).await;
            }
            self.elect().await;
        }
        self.pulse.nudge.notify_one();
    }

    pub(super) async fn elect(&self) {
        info!("storage {}: this node stands for election", self.name);
        self.elections.increment();
        let _ = self.raft.trigger().elect().await;
    }

    /// Ends the leadership of `term` as far as this node is concerned, its own or another's.
    pub(super) async fn end_term(&self, term: u64) {
        self.pulse.let_go(term);
        self.accept(term + 1).await;
    }

    /// Takes note of a later term, in which nobody leads. openraft offers no call for that, but
    /// reads it off any message of such a term; a vote that is not committed has no lease.
    pub(super) async fn accept(&self, term: u64) {
        let message = AppendEntriesRequest {
            vote: Vote::new(term, NOBODY),
            // Follows on what no log has, so that it is refused when the term was read off it.
            prev_log_id: Some(LogId::new(
                CommittedLeaderId::new(term, NOBODY),
                u64::MAX - 1,
            )),
            entries: Vec::new(),
            leader_commit: None,
        };
        let _ = self.raft.append_entries(message).await;
    }
}

/// Says who leads, and nothing else.
fn heartbeat(vote: Vote<NodeId>) -> AppendEntriesRequest<Types> {
    AppendEntriesRequest {
        vote,
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    }
}
