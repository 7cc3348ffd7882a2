use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::process::Process;
use super::{Phase, State, Watched};
use crate::stats::replication::{GroupStatus, NodeStatus};
use crate::stats::{Client, Connections, Observed, TransactionStage};
use crate::storage::PackProgress;
use crate::transaction::Database;
use crate::types::Tid;
use crate::wire::Method;

/// The server at one moment; the fields are those of `/status.json`. Times are
/// UTC as in RFC 3339, durations seconds, sizes bytes; all counts begin with
/// the server. What there is not is null.
#[derive(Debug, Default, Serialize)]
pub struct Snapshot {
    /// Of zeod.
    pub version: &'static str,
    /// `starting`, `ready` or `stopping`.
    pub state: &'static str,
    /// What it is at while it starts.
    pub doing: Option<String>,
    /// When it started.
    pub started: String,
    /// The same in seconds since 1970.
    #[serde(skip)]
    pub started_seconds: f64,
    /// For how long it has run.
    pub uptime_seconds: u64,
    /// Where clients come in.
    pub addresses: Vec<String>,
    /// The process.
    pub process: Process,
    /// All connections together.
    pub connections: Connections,
    /// What clients are held to.
    pub limits: Limits,
    /// The storages, by name; empty until all are open.
    pub storages: Vec<StorageStatus>,
    /// The node, where the server is one of several; null where it is alone.
    pub replication: Option<NodeStatus>,
    /// The clients in the order of their coming; only for `/status.json`.
    pub clients: Vec<ClientStatus>,
}

/// What clients are held to: the keys of `<zeod>`, lowered where they cannot hold.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Limits {
    /// Connections at the same time.
    pub max_connections: usize,
    /// The longest message of a client.
    pub max_message_bytes: usize,
    /// The largest transaction, without blobs.
    pub max_transaction_bytes: u64,
    /// A client for which more waits unread is cut off.
    pub max_unsent_bytes: usize,
    /// What the messages of all together may take.
    pub memory_budget_bytes: usize,
    /// A client that reads nothing for so long is cut off.
    pub stall_seconds: f64,
}

/// One storage.
#[derive(Debug, Default, Serialize)]
pub struct StorageStatus {
    /// The name that clients ask for.
    pub name: String,
    /// `filestorage`, `mappingstorage` or `demostorage`.
    pub kind: &'static str,
    /// Its file; that of the changes of a DemoStorage.
    pub path: Option<String>,
    /// Length of the file.
    pub size_bytes: u64,
    /// Objects, deleted ones that were not packed away included.
    pub objects: u64,
    /// Memory that the index takes.
    pub index_bytes: u64,
    /// The last transaction's id in hex.
    pub last_transaction: Option<String>,
    /// When that was.
    pub last_transaction_time: Option<String>,
    #[serde(skip)]
    pub last_transaction_seconds: Option<f64>,
    /// Does it take no changes, by its configuration?
    pub read_only: bool,
    /// Why it takes no changes since an error.
    pub stopped: Option<String>,
    /// Clients that use it.
    pub connections: u64,
    /// Objects loaded.
    pub loads: u64,
    /// Objects stored.
    pub stores: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Transactions that clients gave up.
    pub aborts: u64,
    /// Votes that failed with a conflict.
    pub conflicts: u64,
    /// Votes whose conflicts the client was given to resolve.
    pub conflicts_handed_back: u64,
    /// Requests that failed since the disk was full.
    pub full_disk_refusals: u64,
    /// Conflicts resolved here.
    pub conflicts_resolved: u64,
    /// Transactions begun and not ended.
    pub transactions_active: u64,
    /// Transactions that wait for locks.
    pub locks_waiting: u64,
    /// For how long the oldest holder has had its locks.
    pub lock_held_seconds: Option<f64>,
    /// A client that holds its locks for longer is cut off.
    pub transaction_timeout_seconds: Option<f64>,
    /// Transactions that wait to be written.
    pub commits_waiting: u64,
    /// What a pack is doing.
    pub pack: Option<PackStatus>,
    /// Packs that came to their end.
    pub packs: u64,
    /// Packs that did not.
    pub packs_failed: u64,
    /// Blobs that clients sent.
    pub blobs_received: u64,
    pub blob_bytes_received: u64,
    /// Blobs that clients were sent.
    pub blobs_sent: u64,
    pub blob_bytes_sent: u64,
    /// How replication goes, as this node sees it; null where nobody else has the
    /// storage.
    pub replication: Option<GroupStatus>,
    /// Requests by method; those that nobody made are left out.
    pub requests: BTreeMap<&'static str, RequestStatus>,
    #[serde(skip)]
    pub lock_waits: Observed,
    #[serde(skip)]
    pub batch_sizes: Observed,
    #[serde(skip)]
    pub commit_times: Observed,
    #[serde(skip)]
    pub sync_times: Option<Observed>,
}

/// How far a pack is.
#[derive(Debug, Serialize)]
pub struct PackStatus {
    /// In words, with the percentage.
    pub doing: String,
    /// So much of this step is done …
    pub done: u64,
    /// … of so much, bytes or objects.
    pub total: u64,
}

/// The requests of one method.
#[derive(Debug, Default, Serialize)]
pub struct RequestStatus {
    /// All of them.
    pub handled: u64,
    /// Those that came to an error.
    pub failed: u64,
    #[serde(skip)]
    pub times: Option<Observed>,
}

/// One client.
#[derive(Debug, Serialize)]
pub struct ClientStatus {
    /// The name that it gave itself.
    pub label: Option<String>,
    /// Where it comes from.
    pub address: String,
    /// Since when it is connected.
    pub since: String,
    /// The storage that it uses; null until it has chosen.
    pub storage: Option<String>,
    /// May it only read?
    pub read_only: bool,
    /// `none`, `collecting`, `waiting` (for locks), `voted` or `finishing`.
    pub transaction: &'static str,
    /// Bytes that it sent.
    pub received_bytes: u64,
    /// Bytes that it was sent.
    pub sent_bytes: u64,
    /// Bytes that wait because it does not read.
    pub unsent_bytes: u64,
}

impl Snapshot {
    /// The server now, without the clients, of whom there can be many.
    pub fn of(watched: &Watched) -> Self {
        let State {
            phase,
            addresses,
            databases,
            node,
        } = watched.state.lock().clone();
        let (state, doing) = match phase {
            Phase::Starting(doing) => ("starting", Some(doing)),
            Phase::Ready => ("ready", None),
            Phase::Stopping => ("stopping", None),
        };
        let storages = databases.iter().flat_map(|databases| databases.values());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            state,
            doing,
            started: rfc3339(watched.started),
            started_seconds: unix_seconds(watched.started),
            uptime_seconds: watched.started.elapsed().unwrap_or_default().as_secs(),
            addresses,
            process: Process::this(),
            connections: watched.clients.totals(),
            limits: watched.limits.clone(),
            storages: storages.map(|database| storage(database)).collect(),
            replication: node.map(|node| node.status()),
            clients: Vec::new(),
        }
    }

    /// The server now, with the clients.
    pub fn with_clients(watched: &Watched) -> Self {
        let clients = watched.clients.connected();
        Self {
            clients: clients.iter().map(client).collect(),
            ..Self::of(watched)
        }
    }
}

fn storage(database: &Database) -> StorageStatus {
    let storage = &database.storage;
    let condition = storage.condition();
    let stats = &database.stats;
    let last_tid = Some(storage.last_tid()).filter(|&tid| tid != Tid::ZERO);
    let pack = storage.pack_progress().filter(PackProgress::is_running);
    let held_since = database.locks.held_since();
    let held = held_since.map(|since| Instant::now().saturating_duration_since(since));
    StorageStatus {
        name: database.name.clone(),
        kind: condition.kind,
        path: condition.path.map(|path| path.display().to_string()),
        size_bytes: storage.size_bytes(),
        objects: storage.object_count(),
        index_bytes: condition.index_bytes,
        last_transaction: last_tid.map(|tid| tid.to_string()),
        last_transaction_time: last_tid.map(|tid| rfc3339(UNIX_EPOCH + tid.to_time_since_epoch())),
        last_transaction_seconds: last_tid.map(|tid| tid.to_time_since_epoch().as_secs_f64()),
        read_only: database.options.read_only || storage.is_read_only(),
        stopped: condition.stopped,
        connections: database.connections() as u64,
        loads: database.loads(),
        stores: stats.stores.get(),
        commits: stats.commits.get(),
        aborts: stats.aborts.get(),
        conflicts: stats.conflicts.get(),
        conflicts_handed_back: stats.conflicts_handed_back.get(),
        full_disk_refusals: stats.full_disk_refusals.get(),
        conflicts_resolved: stats.conflicts_resolved.get(),
        transactions_active: stats.active_txns.get(),
        locks_waiting: database.locks.waiting() as u64,
        lock_held_seconds: held.map(|held| held.as_secs_f64()),
        transaction_timeout_seconds: database
            .options
            .transaction_timeout
            .map(|timeout| timeout.as_secs_f64()),
        commits_waiting: database.waiting_commits() as u64,
        pack: pack.map(|progress| PackStatus {
            doing: progress.to_string(),
            done: progress.done,
            total: progress.total,
        }),
        packs: stats.packs.get(),
        packs_failed: stats.packs_failed.get(),
        blobs_received: stats.blobs_received.get(),
        blob_bytes_received: stats.blob_bytes_received.get(),
        blobs_sent: stats.blobs_sent.get(),
        blob_bytes_sent: stats.blob_bytes_sent.get(),
        replication: stats.group(),
        requests: requests(database),
        lock_waits: database.locks.waits(),
        batch_sizes: stats.batch_sizes.observed(),
        commit_times: stats.commit_times.observed(),
        sync_times: condition.sync_times,
    }
}

fn requests(database: &Database) -> BTreeMap<&'static str, RequestStatus> {
    let requests = &database.stats.requests;
    let status = |method: &Method| {
        let status = RequestStatus {
            handled: requests.handled(method.number()),
            failed: requests.failed(method.number()),
            times: requests.times(method.number()),
        };
        (status.handled > 0).then_some((method.name(), status))
    };
    Method::ALL.iter().filter_map(status).collect()
}

fn client(client: &Arc<Client>) -> ClientStatus {
    ClientStatus {
        label: client.label(),
        address: client.address.clone(),
        since: rfc3339(client.since),
        storage: client.storage().map(str::to_owned),
        read_only: client.is_read_only(),
        transaction: match client.stage() {
            TransactionStage::None => "none",
            TransactionStage::Collecting => "collecting",
            TransactionStage::Waiting => "waiting",
            TransactionStage::Voted => "voted",
            TransactionStage::Finishing => "finishing",
        },
        received_bytes: client.received_bytes.get(),
        sent_bytes: client.sent_bytes.get(),
        unsent_bytes: client.unsent_bytes.get(),
    }
}

fn rfc3339(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn unix_seconds(time: SystemTime) -> f64 {
    let since_epoch: Duration = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_secs_f64()
}
