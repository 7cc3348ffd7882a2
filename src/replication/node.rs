//! All that a node does for its cluster: the log, the network, and a group for
//! each storage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::consensus::{Group, GroupError, Leadership, TimerSettings};
use super::fitness;
use super::log::{GroupReader, Log, LogError, LogHealth};
use super::marker::{BOOTSTRAP, Bootstrap, MarkerError, Membership};
use super::net::{Listener, NetOptions, Network, PeerTls};
use super::note::NoteError;
use super::opening;
use super::peers::{BoxFuture, PeerHandler, PeerStream, Peers, Reply, Request, StreamKind};
use super::replica::{Patience, Replica, ServeRemote};
use super::sending::Sending;
use super::survivor::{Survivor, SurvivorError};
use super::types::{Member, NodeId};
use super::upkeep;
use crate::storage::StorageError;
use crate::storage::file::FileOptions;
use crate::transaction::{Database, DatabaseOptions};

/// A request to begin a cluster is looked for so often.
const BOOTSTRAP_INTERVAL: Duration = Duration::from_millis(500);
/// A start waits so long for the cluster that it begins, so that who looks after it finds that.
const BEGIN_TIME: Duration = Duration::from_secs(5);

/// So long a storage's group may take to hand over and to end.
const GROUP_STOP_TIME: Duration = Duration::from_secs(10);

/// How a node takes part; from `<replication>`.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Its id.
    pub node: NodeId,
    /// Where it listens for the others; the host is what they are told, too.
    pub address: String,
    /// Where the log is.
    pub directory: PathBuf,
    /// How patient its groups are.
    pub timers: TimerSettings,
    /// How patient its clients have to be.
    pub patience: Patience,
    /// Without a quorum for so long, clients that write are turned away.
    pub quorum_wait: Duration,
    /// So much log is kept for nodes that are behind.
    pub log_size_bytes: u64,
    /// Entries are applied so late.
    pub apply_delay: Duration,
    /// What is sent to a node that is behind, in bytes per second.
    pub catch_up_bytes_per_second: Option<u64>,
}

/// A storage that is replicated.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: FileOptions,
    /// How it is served.
    pub database: DatabaseOptions,
}

/// Why a node cannot take part.
#[derive(Debug, Error)]
pub enum NodeError {
    /// It cannot be listened on.
    #[error("<replication> address {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The log.
    #[error("<replication> directory: {0}")]
    Log(#[from] LogError),
    /// A small file in the directory.
    #[error("<replication> directory: {0}")]
    Marker(#[from] MarkerError),
    /// What is known of a storage's state.
    #[error("storage {name}: {source}")]
    Note {
        /// The storage.
        name: String,
        /// Why.
        source: NoteError,
    },
    /// A storage's state cannot be noted.
    #[error("storage {name}: {source}")]
    Save {
        /// The storage.
        name: String,
        /// Why.
        source: super::applier::SaveError,
    },
    /// A storage.
    #[error("storage {name}: {source}")]
    Storage {
        /// The storage.
        name: String,
        /// Why.
        source: StorageError,
    },
    /// A storage whose file is damaged.
    #[error(
        "storage {name}: {source}. If other nodes have this storage, let this node have it from them: \
         \"A disk is lost\" in docs/redundancy.md tells how"
    )]
    Damaged {
        /// The storage.
        name: String,
        /// What is wrong.
        source: StorageError,
    },
    /// A storage whose log begins behind what its file has.
    #[error(
        "storage {name}: the log begins with entry {first_kept}, and Data.fs.raft says that Data.fs has \
         only those before entry {first_lacking}. If other nodes have this storage, let this node have \
         it from them: \"A disk is lost\" in docs/redundancy.md tells how"
    )]
    Gap {
        /// The storage.
        name: String,
        /// The first entry that the log has not lost.
        first_kept: u64,
        /// The first one that the file lacks.
        first_lacking: u64,
    },
    /// Its group.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// It is asked to go on alone, and cannot.
    #[error("{}: {why}", marker.display())]
    Survivor {
        /// The file that asks for it.
        marker: PathBuf,
        /// Why.
        why: SurvivorError,
    },
}

/// One storage, and its database.
#[derive(Clone, Debug)]
pub struct Served {
    /// The storage, as sessions see it.
    pub replica: Arc<Replica>,
    /// The same for clients.
    pub database: Arc<Database>,
    /// Its group.
    pub group: Group,
    /// Its log.
    pub log: GroupReader,
    /// What brings others up to date.
    pub sending: Arc<Sending>,
}

/// This node. Runs until [`Self::stop`].
#[derive(Debug)]
pub struct Node {
    pub(super) options: NodeOptions,
    /// Where the others reach it.
    pub(super) member: Member,
    pub(super) network: Network,
    pub(super) storages: BTreeMap<String, Served>,
    log: parking_lot::Mutex<Option<Log>>,
    health: watch::Receiver<LogHealth>,
    in_cluster: watch::Sender<bool>,
    /// Nodes that are not listened to any more.
    pub(super) gone: BTreeSet<NodeId>,
    tasks: parking_lot::Mutex<JoinSet<()>>,
    stop: watch::Sender<bool>,
}

impl Node {
    /// Opens log and storages and begins to take part. Waits for the disk; to be
    /// called on a thread of the runtime that may wait.
    pub async fn start(
        options: NodeOptions,
        storages: Vec<StorageOptions>,
        tls: Option<Arc<PeerTls>>,
        opening: &(dyn Fn(&str) + Sync),
    ) -> Result<Arc<Self>, NodeError> {
        let node = options.node;
        let network = Network::new(NetOptions { node, tls });
        let listener = Listener::bind(&options.address, &network)
            .await
            .map_err(|source| NodeError::Listen {
                address: options.address.clone(),
                source,
            })?;
        let member = Member {
            address: with_real_port(&options.address, &listener),
        };
        let (log, _) = Log::open(&options.directory, node, super::log::Options::default())?;
        let survivor = Survivor::asked(&options, &member, &log, &storages)?;
        let peers: Arc<dyn Peers> = Arc::new(network.clone());
        let mut served = BTreeMap::new();
        for storage in storages {
            opening(&storage.name);
            let name = storage.name.clone();
            let one = opening::open(&options, storage, &log, &peers, survivor.as_ref()).await?;
            served.insert(name, one);
        }
        if let Some(survivor) = &survivor {
            // Not later: from now on others may join, and would be thrown out again by the next start.
            survivor.done()?;
        }
        let health = log.health();
        let member_file = Membership::read(&options.directory)?;
        let node = Arc::new(Self {
            in_cluster: watch::Sender::new(member_file.is_some()),
            gone: member_file.map_or_else(BTreeSet::new, |known| known.gone),
            options,
            member,
            network,
            storages: served,
            log: parking_lot::Mutex::new(Some(log)),
            health,
            tasks: parking_lot::Mutex::default(),
            stop: watch::Sender::new(false),
        });
        node.start_tasks(listener);
        if node.is_asked_to_begin() {
            let mut in_cluster = node.in_cluster.subscribe();
            let _ = tokio::time::timeout(BEGIN_TIME, in_cluster.wait_for(|is| *is)).await;
        }
        if survivor.is_some() {
            let _ = tokio::time::timeout(BEGIN_TIME, node.leads_all()).await;
        }
        Ok(node)
    }

    /// Comes back when this node leads all its storages.
    async fn leads_all(&self) {
        for served in self.storages.values() {
            let mut leadership = served.group.leadership();
            let _ = leadership
                .wait_for(|known| matches!(known, Leadership::Leader { .. }))
                .await;
        }
    }

    fn start_tasks(self: &Arc<Self>, listener: Listener) {
        let mut tasks = self.tasks.lock();
        let mut stop = self.stop.subscribe();
        let handler = Arc::new(Handler(Arc::downgrade(self)));
        tasks.spawn(listener.serve(handler, async move {
            let _ = stop.wait_for(|stop| *stop).await;
        }));
        for served in self.storages.values() {
            let proposer = Arc::clone(served.replica.proposer());
            tasks.spawn(proposer.run(served.group.clone()));
            tasks.spawn(upkeep::save_regularly(
                served.clone(),
                self.options.log_size_bytes,
            ));
            tasks.spawn(upkeep::vote_when_whole(served.clone()));
            tasks.spawn(upkeep::fetch_ahead(served.clone()));
            tasks.spawn(fitness::watch(served.clone()));
            tasks.spawn(upkeep::count_leaders(served.clone()));
            tasks.spawn(upkeep::turn_away(served.clone(), self.options.quorum_wait));
        }
        if self.storages.len() > 1 {
            let storages = self.storages.values().cloned().collect();
            tasks.spawn(upkeep::spread_leaders(self.options.node, storages));
        }
        tasks.spawn(Arc::clone(self).begin_when_asked());
    }

    pub(super) fn with_log<T>(&self, work: impl FnOnce(&Log) -> T) -> Option<T> {
        self.log.lock().as_ref().map(work)
    }

    /// Where the other nodes reach this one.
    pub fn address(&self) -> &str {
        &self.member.address
    }

    /// What is served, by name.
    pub fn databases(&self) -> BTreeMap<String, Arc<Database>> {
        let databases = self.storages.iter();
        databases
            .map(|(name, served)| (name.clone(), Arc::clone(&served.database)))
            .collect()
    }

    /// Lets sessions of other nodes in.
    pub fn serve_remotes(&self, serve: &ServeRemote) {
        for served in self.storages.values() {
            served.replica.serve_remotes(Arc::clone(serve));
        }
    }

    /// Comes back when the node cannot go on: why.
    pub async fn failed(&self) -> String {
        let mut health = self.health.clone();
        loop {
            if let LogHealth::Dead(why) = &*health.borrow_and_update() {
                return why.clone();
            }
            if health.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Hands leaderships over, saves what there is, and ends. No client is left.
    pub async fn stop(&self) {
        for served in self.storages.values() {
            served.replica.applier.packs.close();
            // One that cannot apply what is committed would wait for ever.
            let shut_down = tokio::time::timeout(GROUP_STOP_TIME, served.group.shutdown());
            if shut_down.await.is_err() {
                tracing::warn!(
                    "storage {}: its group did not end within {} s",
                    served.replica.name(),
                    GROUP_STOP_TIME.as_secs()
                );
            }
        }
        self.stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        for (name, served) in &self.storages {
            let applier = Arc::clone(&served.replica.applier);
            let saved = tokio::task::block_in_place(|| applier.save());
            if let Err(error) = saved {
                tracing::error!("storage {name}: {error}");
            }
        }
        if let Some(log) = self.log.lock().take() {
            tokio::task::block_in_place(|| log.close());
        }
    }

    pub(super) fn is_in_cluster(&self) -> bool {
        *self.in_cluster.borrow()
    }

    pub(super) fn is_asked_to_begin(&self) -> bool {
        !self.is_in_cluster() && matches!(Bootstrap::read(&self.options.directory), Ok(Some(_)))
    }

    /// Begins a cluster when the administrator has asked for one.
    async fn begin_when_asked(self: Arc<Self>) {
        while !self.is_in_cluster() {
            match Bootstrap::read(&self.options.directory) {
                Ok(Some(asked)) => {
                    if let Err(why) = self.begin(&asked).await {
                        tracing::error!("the cluster cannot be begun: {why}");
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::error!("{error}"),
            }
            for served in self.storages.values() {
                if served.group.is_initialized().await {
                    self.belong();
                }
            }
            tokio::time::sleep(BOOTSTRAP_INTERVAL).await;
        }
    }

    /// Notes that the node belongs to a cluster.
    pub(super) fn belong(&self) {
        if self.in_cluster.send_replace(true) {
            return;
        }
        let membership = Membership {
            node: self.options.node,
            gone: self.gone.clone(),
        };
        if let Err(error) = membership.write(&self.options.directory) {
            tracing::error!("{error}");
        }
    }

    pub(super) fn why_gone(&self, other: NodeId) -> String {
        format!(
            "node {other} was given up when node {} went on alone, and its number with it; move its replication \
             directory away, and give it a number that was never used",
            self.options.node
        )
    }

    async fn begin(&self, asked: &Bootstrap) -> Result<(), String> {
        if asked.node != self.options.node {
            return Err(format!(
                "it was asked of node {}, and this is node {}",
                asked.node, self.options.node
            ));
        }
        if asked.survivor {
            return Err(format!(
                "{BOOTSTRAP} says that this node is to go on alone, which only a start does"
            ));
        }
        for (name, served) in &self.storages {
            // Nobody else has ever had anything of this.
            let whole = tokio::task::block_in_place(|| served.log.declare_whole());
            whole.map_err(|error| format!("storage {name}: {error}"))?;
            let initialized = served.group.initialize(self.member.clone()).await;
            served.group.vote_from_now_on();
            match initialized {
                Ok(()) | Err(super::consensus::ChangeError::Initialized) => {}
                Err(error) => return Err(format!("storage {name}: {error}")),
            }
            upkeep::begin_log(served).await;
            tracing::info!("storage {name}: node {} begins a cluster", asked.node);
        }
        Bootstrap::remove(&self.options.directory).map_err(|error| error.to_string())?;
        self.belong();
        Ok(())
    }
}

/// With port 0 the system chose one.
fn with_real_port(address: &str, listener: &Listener) -> String {
    let port = listener.addresses().first().map(std::net::SocketAddr::port);
    match (address.rsplit_once(':'), port) {
        (Some((host, "0")), Some(port)) => format!("{host}:{port}"),
        _ => address.to_owned(),
    }
}

/// Answers the other nodes, while the node lives.
struct Handler(std::sync::Weak<Node>);

impl PeerHandler for Handler {
    fn call<'a>(&'a self, from: NodeId, group: &'a str, request: Request) -> BoxFuture<'a, Reply> {
        Box::pin(async move {
            let Some(node) = self.0.upgrade() else {
                return refused("this node is stopping".to_owned());
            };
            if node.gone.contains(&from) {
                return refused(node.why_gone(from));
            }
            if let Request::Admin(text) = request {
                return Reply::Admin(node.administer(&text).await);
            }
            match node.storages.get(group) {
                Some(served) => served.group.handle(from, request).await,
                None => refused(format!("this node has no storage {group}")),
            }
        })
    }

    fn stream<'a>(
        &'a self,
        from: NodeId,
        group: &'a str,
        kind: StreamKind,
        stream: PeerStream,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let node = self.0.upgrade();
            let node = node.filter(|node| !node.gone.contains(&from));
            let served = node.and_then(|node| node.storages.get(group).cloned());
            if let Some(served) = served {
                served.group.handle_stream(from, kind, stream).await;
            }
        })
    }
}

fn refused(why: String) -> Reply {
    Reply::Refused { leader: None, why }
}
