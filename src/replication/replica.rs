//! One storage of this node, as its sessions see it: who decides, and how to
//! get there.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::applier::Applier;
use super::command::Order;
use super::consensus::{AskError, Group, Leadership, Services};
use super::deputy::LeaderDeputy;
use super::oids::{Need, OidStock, RANGE};
use super::peers::{BoxFuture, PeerStream, StreamKind};
use super::proposer::Proposer;
use super::readiness::Readiness;
use super::receiving;
use super::service::{Answer, Question};
use super::types::{Applied, NodeId};
use crate::disk::Access;
use crate::stats::replication::GroupCounters;
use crate::storage::{Result, Staged, Storage, StorageError};
use crate::transaction::{
    Attached, Authority, CommitRequest, Delivery, Deputy, Inbox, PackDone, Remote, Term,
};
use crate::types::{Oid, Tid};
use bytes::Bytes;

/// What is sent at once through a connection of this node to itself.
const OWN_STREAM_BYTES: usize = 64 << 10;

/// Serves a session of another node: ready when it has ended; dropped, it ends.
pub type ServeRemote = Arc<dyn Fn(PeerStream, Remote) -> BoxFuture<'static, ()> + Send + Sync>;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A client that wants to write waits so long for a leader.
    pub register: Duration,
    /// One that only reads waits so long for being up to date.
    pub read: Duration,
}

/// One storage of this node.
pub struct Replica {
    name: String,
    pub(super) applier: Arc<Applier>,
    proposer: Arc<Proposer>,
    group: OnceLock<Group>,
    runtime: Handle,
    pub(super) patience: Patience,
    oids: OidStock,
    /// One reservation at a time.
    reserving: tokio::sync::Mutex<()>,
    /// Whether packs collect garbage, as configured.
    pack_gc: bool,
    remotes: Mutex<Option<ServeRemote>>,
    /// For which clients.
    pub(super) readiness: Readiness,
    counters: Arc<GroupCounters>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Replica {
    /// For storage `name`, whose entries `applier` applies.
    pub fn new(
        name: String,
        applier: Arc<Applier>,
        patience: Patience,
        pack_gc: bool,
        runtime: Handle,
    ) -> Self {
        let counters = Arc::new(GroupCounters::default());
        Self {
            name,
            proposer: Arc::new(Proposer::new(Arc::clone(&applier), Arc::clone(&counters))),
            counters,
            applier,
            group: OnceLock::new(),
            runtime,
            patience,
            oids: OidStock::default(),
            reserving: tokio::sync::Mutex::default(),
            pack_gc,
            remotes: Mutex::new(None),
            readiness: Readiness::default(),
        }
    }

    /// The storage's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is counted of it.
    pub fn counters(&self) -> &GroupCounters {
        &self.counters
    }

    /// What makes entries of commits.
    pub fn proposer(&self) -> &Arc<Proposer> {
        &self.proposer
    }

    /// The group, from now on.
    pub fn join(&self, group: Group) {
        let _ = self.group.set(group);
    }

    /// The group, once there is one.
    pub fn group(&self) -> Option<&Group> {
        self.group.get()
    }

    /// What serves the sessions of other nodes.
    pub fn serve_remotes(&self, serve: ServeRemote) {
        *self.remotes.lock() = Some(serve);
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// How long a client's transaction waits for a leader.
    pub(super) fn patience(&self) -> Duration {
        self.patience.register
    }

    /// A way to the leader's zeod for session `number`, and its leadership.
    pub(super) async fn stream_to_leader(
        &self,
        number: u64,
    ) -> std::result::Result<(PeerStream, Term), String> {
        let group = self.group().ok_or(STARTING)?;
        let known = group.leadership().borrow().clone();
        let term = match known {
            Leadership::Leader { term } | Leadership::Follower { term, .. } => term,
            Leadership::Unknown => return Err("no leader is known".to_owned()),
        };
        let mut stream = match group.stream_to_leader(StreamKind::Zeo).await {
            Ok(stream) => stream,
            Err(AskError::LeadsItself) => self.stream_to_itself(group.node())?,
            Err(error) => return Err(error.to_string()),
        };
        stream
            .write_all(&number.to_be_bytes())
            .await
            .map_err(|error| format!("the leader: {error}"))?;
        Ok((stream, term))
    }

    /// This node became the leader while a session's transaction was on its way.
    fn stream_to_itself(&self, node: NodeId) -> std::result::Result<PeerStream, String> {
        let (near, far) = tokio::io::duplex(OWN_STREAM_BYTES);
        let serve = self.remotes.lock().clone().ok_or(STARTING)?;
        self.runtime.spawn(serve_remote(serve, node, Box::new(far)));
        Ok(Box::new(near))
    }

    /// Waits until another leadership is known, but not longer than `longest`.
    pub(super) async fn leader_changed(&self, longest: Duration) {
        match self.group() {
            Some(group) => {
                let mut leadership = group.leadership();
                let _ = tokio::time::timeout(longest, leadership.changed()).await;
            }
            None => tokio::time::sleep(longest).await,
        }
    }

    /// Waits until a leadership after `term` is known: whoever led then may be
    /// silent for ever.
    pub(super) async fn superseded(&self, term: Term) {
        let Some(group) = self.group() else {
            return std::future::pending().await;
        };
        let mut leadership = group.leadership();
        let is_later = |known: &Leadership| match known {
            Leadership::Leader { term: now } | Leadership::Follower { term: now, .. } => {
                *now > term
            }
            Leadership::Unknown => false,
        };
        if leadership.wait_for(is_later).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What became of the finish of session `number`, which the leader of `term`
    /// had got: true, it was committed; false, it never will be; None: it is not
    /// known by `deadline`.
    pub(super) async fn outcome(&self, number: u64, term: Term, deadline: Instant) -> Option<bool> {
        let group = self.group()?;
        let mut applied = group.applied();
        let finishing = &self.applier.finishing;
        loop {
            if !finishing.waits(number) {
                return Some(true);
            }
            // All entries of `term` stand before one of a later term.
            let is_past = applied
                .borrow_and_update()
                .is_some_and(|last| last.leader_id.term > term);
            if is_past {
                return Some(!finishing.waits(number));
            }
            let changed = tokio::time::timeout_at(deadline, applied.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return None;
            }
        }
    }

    /// Asks the leader for a range of oids.
    async fn ask_for_oids(&self, count: u64) -> Result<()> {
        let asked = self.ask(&Question::Oids { count }).await;
        match asked {
            Ok(Answer::Oids { last }) => {
                let first = last.saturating_sub(count) + 1;
                self.oids.add(&(first..=last));
                Ok(())
            }
            Ok(Answer::No { why }) | Err(why) => {
                self.oids.asked_in_vain();
                Err(StorageError::Elsewhere { why })
            }
            Ok(other) => {
                self.oids.asked_in_vain();
                let why = format!("the leader answered {other:?}");
                Err(StorageError::Elsewhere { why })
            }
        }
    }

    async fn ask(&self, question: &Question) -> std::result::Result<Answer, String> {
        let group = self.group().ok_or(STARTING)?;
        let answer = group
            .ask_leader(question.encode(), self.patience.register)
            .await
            .map_err(|error| error.to_string())?;
        Answer::decode(answer).map_err(|error| format!("the leader's answer: {error}"))
    }

    async fn answer(&self, question: Question) -> std::result::Result<Answer, String> {
        let group = self.group().ok_or(STARTING)?;
        match question {
            Question::Oids { count } => {
                let _one = self.reserving.lock().await;
                let term = group.term().ok_or(NOT_LEADING)?;
                let last = self
                    .applier
                    .storage
                    .last_oid()
                    .to_u64()
                    .saturating_add(count);
                let upto = Oid::from_u64(last);
                let order = Order::ReserveOids { term, upto };
                self.propose(group, &order).await?;
                Ok(Answer::Oids { last })
            }
            Question::Pack { stop } => {
                if self.applier.storage.is_packing() || !self.applier.packs.jobs().is_empty() {
                    return Ok(Answer::No {
                        why: StorageError::AlreadyPacking.to_string(),
                    });
                }
                if stop == Tid::ZERO {
                    return Ok(Answer::No {
                        why: StorageError::InvalidPackTime.to_string(),
                    });
                }
                let gc = self.pack_gc;
                let log_index = self.propose(group, &Order::Pack { stop, gc }).await?;
                Ok(Answer::Pack { log_index })
            }
            Question::Packed { log_index } => {
                let done = self.applier.packs.done_upto(log_index);
                match tokio::time::timeout(PACK_ANSWER_TIME, done).await {
                    Ok(()) => Ok(Answer::Pack { log_index }),
                    Err(_) => Ok(Answer::Packing),
                }
            }
            Question::Files => Ok(self.needed_files()),
        }
    }

    fn needed_files(&self) -> Answer {
        Answer::Files {
            needed_from: self.applier.needed_from(),
        }
    }

    /// The leader takes no undo and no other pack while it packs: whoever has asked for a pack and was
    /// told that it is done may ask for these.
    async fn packed_by_leader(&self, log_index: u64) {
        let question = Question::Packed { log_index };
        while matches!(self.ask(&question).await, Ok(Answer::Packing)) {}
    }

    async fn propose(&self, group: &Group, order: &Order) -> std::result::Result<u64, String> {
        let proposed = group
            .propose(order.encode())
            .await
            .map_err(|error| error.to_string())?;
        match proposed.applied {
            Applied::Done => Ok(proposed.log_id.index),
            Applied::Outdated => Err(NOT_LEADING.to_owned()),
        }
    }

    fn spawn_asking(self: &Arc<Self>) {
        let replica = Arc::clone(self);
        self.runtime.spawn(async move {
            if let Err(error) = replica.ask_for_oids(RANGE).await {
                tracing::warn!("storage {}: no object ids: {error}", replica.name);
            }
        });
    }
}

/// So long the leader waits for the end of a pack before it says that there is none yet.
const PACK_ANSWER_TIME: Duration = Duration::from_millis(500);
pub(super) const STARTING: &str = "this server is still starting";
const NOT_LEADING: &str = "this server does not lead the storage's cluster any more";

async fn serve_remote(serve: ServeRemote, node: NodeId, mut stream: PeerStream) {
    let mut number = [0; 8];
    if let Err(error) = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut number).await {
        tracing::debug!("node {node} opened a conversation and said nothing: {error}");
        return;
    }
    let session = u64::from_be_bytes(number);
    serve(stream, Remote { node, session }).await;
}

/// A [`Replica`] that knows itself, for what goes on after a call.
#[derive(Debug)]
pub struct SharedReplica(pub Arc<Replica>);

impl Authority for SharedReplica {
    fn term(&self) -> Option<Term> {
        self.0.group()?.term()
    }

    fn pack_orders(&self) -> u64 {
        self.0.applier.pack_orders()
    }

    fn attach(&self, staged: &Staged) -> Result<Attached> {
        self.0.applier.files.attach(staged)
    }

    fn distribute(&self, attached: &Attached, inbox: &Arc<Inbox>) {
        let (replica, inbox) = (Arc::clone(&self.0), Arc::clone(inbox));
        let files = attached.files();
        let bytes: u64 = files.iter().map(|file| file.length).sum();
        self.0.counters.staged_bytes_total.add(bytes);
        self.0.runtime.spawn(async move {
            let applier = &replica.applier;
            let is_enough = |nodes: &BTreeSet<NodeId>| applier.is_quorum(nodes);
            let given = applier.files.distribute(files, applier.others(), is_enough);
            let so = given.await.map_err(Arc::from);
            inbox.push(Delivery::Attached(so));
        });
    }

    fn finish(&self, request: CommitRequest) {
        self.0.proposer.submit(request);
    }

    fn waiting(&self) -> usize {
        self.0.proposer.waiting()
    }

    fn deputy(&self, inbox: &Arc<Inbox>) -> Box<dyn Deputy> {
        let number = self.0.applier.finishing.number();
        Box::new(LeaderDeputy::new(Arc::clone(&self.0), inbox, number))
    }

    fn catch_up(&self, inbox: &Arc<Inbox>, read_only: bool) {
        let (replica, inbox) = (Arc::clone(&self.0), Arc::clone(inbox));
        self.0.runtime.spawn(async move {
            let so = replica.be_up_to_date(read_only).await;
            inbox.push(Delivery::UpToDate(so));
        });
    }

    fn takes_changes(&self) -> bool {
        self.0.takes_changes()
    }

    fn new_oids(&self, count: usize) -> Result<Vec<Oid>> {
        let replica = &self.0;
        let storage = &replica.applier.storage;
        let is_used = |oid| {
            matches!(
                storage.current_serial(oid, Access::Wait),
                Ok(Some(_)) | Err(_)
            )
        };
        loop {
            let (oids, need) = replica.oids.take(count, is_used);
            if need == Need::Soon {
                replica.spawn_asking();
            }
            if let Some(oids) = oids {
                return Ok(oids);
            }
            let wanted = RANGE.max(count as u64);
            replica.runtime.block_on(replica.ask_for_oids(wanted))?;
        }
    }

    fn pack(&self, stop: Tid, done: PackDone) {
        let replica = Arc::clone(&self.0);
        self.0.runtime.spawn(async move {
            match replica.ask(&Question::Pack { stop }).await {
                Ok(Answer::Pack { log_index }) => {
                    let asking = Arc::clone(&replica);
                    let here = Box::new(move |packed: Result<()>| {
                        if packed.is_err() {
                            return done(packed);
                        }
                        let runtime = asking.runtime.clone();
                        runtime.spawn(async move {
                            asking.packed_by_leader(log_index).await;
                            done(packed);
                        });
                    });
                    replica.applier.packs.when_done(log_index, here);
                }
                Ok(Answer::No { why }) | Err(why) => done(Err(StorageError::Elsewhere { why })),
                Ok(other) => {
                    let why = format!("the leader answered {other:?}");
                    done(Err(StorageError::Elsewhere { why }));
                }
            }
        });
    }
}

impl Services for SharedReplica {
    fn serve(&self, request: Bytes) -> BoxFuture<'_, Bytes> {
        Box::pin(async move {
            let answer = match Question::decode(request) {
                Ok(question) => self.0.answer(question).await,
                Err(error) => Err(error.to_string()),
            };
            answer.unwrap_or_else(|why| Answer::No { why }).encode()
        })
    }

    fn serve_as_member(&self, request: Bytes) -> Option<Bytes> {
        let question = Question::decode(request).ok()?;
        (question == Question::Files).then(|| self.0.needed_files().encode())
    }

    fn stream(&self, from: NodeId, kind: StreamKind, stream: PeerStream) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            match kind {
                StreamKind::Zeo => {
                    let serve = self.0.remotes.lock().clone();
                    let (Some(serve), Some(group)) = (serve, self.0.group()) else {
                        return;
                    };
                    tokio::select! {
                        () = serve_remote(serve, from, stream) => {}
                        // What it has locked would stay so until TCP gives up.
                        () = group.lost_sight_of(from) => tracing::info!(
                            "storage {}: node {from} is silent; a session of it is given up",
                            self.0.name
                        ),
                    }
                }
                StreamKind::CatchUp => {
                    if let Some(group) = self.0.group() {
                        receiving::receive(&self.0.applier, group, stream, from).await;
                    }
                }
                StreamKind::Staging => self.0.applier.files.take(stream).await,
                StreamKind::Fetch => self.0.applier.files.lend(stream).await,
            }
        })
    }
}
