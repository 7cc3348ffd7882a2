//! A group: its start, its end, and what is to be seen of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::{RaftLogStorage, RaftStateMachine};
use openraft::{
    Config, LogId, Raft, RaftLogReader, ServerState, SnapshotMeta, SnapshotPolicy, Vote,
};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ask::Services;
use super::barrier::Rounds;
use super::durable::{Durable, Observed};
use super::network::{CatchUp, Contacts, Network};
use super::pace::Pace;
use super::propose::Gate;
use super::pulse::Pulse;
use super::telling::Telling;
use super::timers::TimerSettings;
use crate::replication::peers::Peers;
use crate::replication::types::{Member, NOBODY, NodeId, StateMark, Types};
use crate::stats::Counter;

/// openraft's limit for a call; ours are shorter ([`Network`]). It derives a leader's
/// lease from it, which our voters let go of before they vote.
const RPC_LIMIT_MS: u64 = 10_000;
/// Entries that go to a follower at once; the log bounds their bytes.
pub(super) const ENTRIES_PER_CALL: u64 = 300;
/// A node that has not answered for so long is no good leader.
pub(super) const FOLLOWS_WITHIN: Duration = Duration::from_secs(1);
/// A node that does not follow for so long holds nothing at the leader any more.
const OUT_OF_SIGHT: Duration = Duration::from_secs(3);
/// A leader that is told to stop tries for so long to find another.
const SHUTDOWN_TRANSFER: Duration = Duration::from_secs(2);

/// What a group is started with.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// The storage's name.
    pub name: String,
    /// This node.
    pub node: NodeId,
    /// How patient it is.
    pub timers: TimerSettings,
    /// What its time-outs are drawn from; on no two nodes the same.
    pub seed: u64,
    /// Its log may lack what this node has acknowledged: it neither votes nor
    /// stands until [`Group::vote_from_now_on`].
    pub abstains: bool,
    /// Entries of its log before this index are durable.
    pub durable: watch::Receiver<u64>,
}

/// Who leads, as far as this node can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Leadership {
    /// This node does, and has applied all that earlier leaders committed.
    Leader {
        /// No two leaderships of one node have the same.
        term: u64,
    },
    /// Another does, and was heard of lately.
    Follower {
        /// Its term.
        term: u64,
        /// It.
        leader: NodeId,
        /// Where it is.
        member: Member,
    },
    /// Nobody that this node knows of: no quorum, an election, or this node is cut off.
    #[default]
    Unknown,
}

impl fmt::Display for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader { term } => write!(f, "this node leads, term {term}"),
            Self::Follower {
                term,
                leader,
                member,
            } => write!(f, "node {leader} at {} leads, term {term}", member.address),
            Self::Unknown => f.write_str("no leader is known"),
        }
    }
}

/// One storage's Raft group, as this node takes part in it. Clones are the same one.
///
/// Runs until [`Self::shutdown`]; dropping it does not end it.
#[derive(Clone)]
pub struct Group {
    pub(super) core: Arc<Core>,
}

pub(super) struct Core {
    pub(super) name: Arc<str>,
    pub(super) node: NodeId,
    pub(super) raft: Raft<Types>,
    pub(super) network: Network,
    pub(super) timers: TimerSettings,
    pub(super) pulse: Pulse,
    pub(super) gate: Mutex<Gate>,
    pub(super) own_rounds: Mutex<Rounds>,
    pub(super) leader_rounds: Mutex<Rounds>,
    pub(super) services: Mutex<Option<Arc<dyn Services>>>,
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) applied: watch::Sender<Option<LogId<NodeId>>>,
    pub(super) durable: Durable,
    pub(super) telling: Arc<Telling>,
    pub(super) pace: Pace,
    /// Counts states that were installed over the log: what becomes of proposals
    /// made before is not known.
    pub(super) installs: watch::Sender<u64>,
    pub(super) unled_since: Mutex<Option<Instant>>,
    /// One change of members, or of leaders, at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    pub(super) stopped: watch::Sender<bool>,
    /// Elections in which this node stood.
    pub(super) elections: Counter,
    /// Leaderships that it began to hand over.
    pub(super) transfers: Counter,
}

/// A group could not be started.
#[derive(Debug, Error)]
pub enum GroupError {
    /// Its log, or its state, could not be read.
    #[error("storage {name}: replication cannot start: {why}")]
    Start {
        /// The storage.
        name: String,
        /// Why.
        why: String,
    },
    /// A state that a leader has sent could not be installed.
    #[error("storage {name}: the leader's state cannot be installed: {why}")]
    Install {
        /// The storage.
        name: String,
        /// Why.
        why: String,
    },
}

impl Group {
    /// Starts this node's part of a group. It takes no part in elections before it
    /// belongs to the group: see [`Self::initialize`] and [`Self::add_learner`].
    pub async fn start<L, M>(
        options: GroupOptions,
        mut log: L,
        machine: M,
        peers: Arc<dyn Peers>,
        catch_up: Arc<dyn CatchUp>,
    ) -> Result<Self, GroupError>
    where
        L: RaftLogStorage<Types>,
        M: RaftStateMachine<Types>,
    {
        let failed = |why: String| GroupError::Start {
            name: options.name.clone(),
            why,
        };
        end_leadership_of_last_run(&mut log, options.node)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let config = config(&options.name).map_err(failed)?;
        let name: Arc<str> = options.name.as_str().into();
        let durable = Durable(options.durable);
        let telling = Arc::<Telling>::default();
        let applied = watch::Sender::default();
        let network = Network {
            group: Arc::clone(&name),
            peers,
            catch_up,
            contacts: Arc::new(Contacts::default()),
            telling: Arc::clone(&telling),
            durable: durable.clone(),
            heartbeat_interval: options.timers.heartbeat_interval,
            patience: options.timers.election_timeout / 2,
        };
        let pulse = Pulse::new(options.timers, options.seed, options.abstains);
        let observed = Observed {
            machine,
            durable: durable.clone(),
            applied: applied.clone(),
            telling: Arc::clone(&telling),
            nudge: Arc::clone(&pulse.nudge),
        };
        let reader = log.get_log_reader().await;
        let raft = Raft::new(options.node, config, network.clone(), log, observed)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let core = Arc::new(Core {
            name,
            node: options.node,
            elections: Counter::default(),
            transfers: Counter::default(),
            pulse,
            timers: options.timers,
            raft,
            network,
            gate: Mutex::default(),
            own_rounds: Mutex::default(),
            leader_rounds: Mutex::default(),
            services: Mutex::default(),
            leadership: watch::Sender::default(),
            applied,
            durable,
            telling,
            pace: Pace::default(),
            installs: watch::Sender::default(),
            unled_since: Mutex::new(Some(Instant::now())),
            changing: tokio::sync::Mutex::default(),
            stopped: watch::Sender::new(false),
        });
        Ok(Self::run(core, reader))
    }

    fn run(core: Arc<Core>, reader: impl RaftLogReader<Types>) -> Self {
        tokio::spawn(super::pulse::run(Arc::clone(&core)));
        tokio::spawn(super::telling::run(Arc::clone(&core)));
        tokio::spawn(super::pace::run(Arc::clone(&core), reader));
        Self { core }
    }

    /// The storage's name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.core.node
    }

    /// From now on `services` answers what other nodes ask of this one.
    pub fn set_services(&self, services: Arc<dyn Services>) {
        *self.core.services.lock() = Some(services);
    }

    /// Who leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.core.leadership.subscribe()
    }

    /// The last entry that was applied here.
    pub fn applied(&self) -> watch::Receiver<Option<LogId<NodeId>>> {
        self.core.applied.subscribe()
    }

    /// The last entry that is here and that another node, as the leader, has said to be committed.
    pub fn heard_committed(&self) -> Option<u64> {
        self.core.pace.known()
    }

    /// Since when [`Leadership`] is unknown; None: it is not.
    pub fn quorum_lost_since(&self) -> Option<Instant> {
        *self.core.unled_since.lock()
    }

    /// This node has caught up with what a leader had committed after its start:
    /// whatever it forgot, it has again.
    pub fn vote_from_now_on(&self) {
        self.core.pulse.vote_from_now_on();
    }

    /// Says whether this node cannot do what a leader has to do: then it does not
    /// stand for election.
    pub fn set_unfit(&self, so: bool) {
        self.core.pulse.set_unfit(so);
    }

    /// Ends a leadership that this node has won and has not begun: it has not applied yet what was
    /// there before.
    pub async fn end_unbegun_term(&self) {
        let (state, term) = {
            let metrics = self.core.raft.metrics();
            let metrics = metrics.borrow();
            (metrics.state, metrics.current_term)
        };
        if state == ServerState::Leader && self.term().is_none() && !self.is_alone() {
            self.core.end_term(term).await;
        }
    }

    /// Comes back when `node` has not followed this leader for long.
    pub async fn lost_sight_of(&self, node: NodeId) {
        loop {
            tokio::time::sleep(OUT_OF_SIGHT / 4).await;
            let contact = self.core.network.contacts.of(node);
            let followed = contact.and_then(|contact| contact.followed);
            let is_silent = followed.is_some_and(|at| at.elapsed() > OUT_OF_SIGHT);
            if is_silent && node != self.core.node && self.term().is_some() {
                return;
            }
        }
    }

    /// Elections in which this node stood.
    pub fn elections(&self) -> u64 {
        self.core.elections.get()
    }

    /// Leaderships that it began to hand over.
    pub fn transfers(&self) -> u64 {
        self.core.transfers.get()
    }

    /// The leadership under which this node decides. None: it does not.
    pub fn term(&self) -> Option<u64> {
        match *self.core.leadership.borrow() {
            Leadership::Leader { term } => Some(term),
            _ => None,
        }
    }

    /// Has this node belonged to a group ever since its log began?
    pub async fn is_initialized(&self) -> bool {
        self.core.raft.is_initialized().await.unwrap_or(false)
    }

    /// Installs a state that a leader has sent, in place of the log up to there. It has
    /// to be complete, and safe from a crash, before: see `catch_up`.
    ///
    /// Returns this node's vote: one greater than `vote` refuses the state.
    pub async fn install(
        &self,
        vote: Vote<NodeId>,
        meta: SnapshotMeta<NodeId, Member>,
        mark: StateMark,
    ) -> Result<Vote<NodeId>, GroupError> {
        // openraft drops what conflicts, be it committed elsewhere or not, and tells who has
        // proposed it that another leads: from here on that is no proof.
        self.core.installs.send_modify(|count| *count += 1);
        let snapshot = openraft::Snapshot {
            meta,
            snapshot: Box::new(mark),
        };
        let installed = self.core.raft.install_full_snapshot(vote, snapshot).await;
        self.core.pulse.contact(vote.leader_id.term);
        match installed {
            Ok(answer) => Ok(answer.vote),
            Err(error) => Err(GroupError::Install {
                name: self.core.name.to_string(),
                why: error.to_string(),
            }),
        }
    }

    /// Ends this node's part; a leader hands over first, if anybody is there to take over.
    pub async fn shutdown(&self) {
        if matches!(*self.core.leadership.borrow(), Leadership::Leader { .. }) && !self.is_alone() {
            let handed_over = self.transfer_leader(None);
            let _ = tokio::time::timeout(SHUTDOWN_TRANSFER, handed_over).await;
        }
        self.halt().await;
    }

    /// Ends this node's part at once.
    pub async fn halt(&self) {
        self.core.stopped.send_replace(true);
        let _ = self.core.raft.shutdown().await;
        self.core.leadership.send_replace(Leadership::Unknown);
        self.core.refuse_held();
        *self.core.services.lock() = None;
    }

    /// Has nobody else a vote?
    pub fn is_alone(&self) -> bool {
        let metrics = self.core.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.membership().voter_ids().count() <= 1
    }
}

impl Core {
    pub(super) fn failure(&self) -> Option<String> {
        let metrics = self.raft.metrics();
        if let Err(error) = &metrics.borrow().running_state {
            return Some(error.to_string());
        }
        let is_gone = metrics.has_changed().is_err();
        is_gone.then(|| "it has panicked; see the log".to_owned())
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group {} on node {}", self.core.name, self.core.node)
    }
}

/// A leader that was killed and comes back leads no longer, even if nobody else does:
/// the locks of its sessions died with it, so its term has to end too.
async fn end_leadership_of_last_run<L: RaftLogStorage<Types>>(
    log: &mut L,
    node: NodeId,
) -> Result<(), openraft::StorageError<NodeId>> {
    let vote = log.read_vote().await?;
    let led = vote.filter(|vote| vote.leader_id.node_id == node);
    if let Some(vote) = led {
        log.save_vote(&Vote::new(vote.leader_id.term + 1, NOBODY))
            .await?;
    }
    Ok(())
}

fn config(name: &str) -> Result<Arc<Config>, String> {
    let config = Config {
        cluster_name: name.to_owned(),
        heartbeat_interval: RPC_LIMIT_MS,
        election_timeout_min: RPC_LIMIT_MS + 1,
        election_timeout_max: RPC_LIMIT_MS + 2,
        max_payload_entries: ENTRIES_PER_CALL,
        // A follower gets the log as long as the log reaches back.
        replication_lag_threshold: u64::MAX,
        snapshot_policy: SnapshotPolicy::Never,
        // Else each snapshot purges the log by itself, whatever the followers still need.
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_heartbeat: false,
        enable_elect: false,
        ..Default::default()
    };
    let checked = config.validate().map_err(|error| error.to_string())?;
    Ok(Arc::new(checked))
}
