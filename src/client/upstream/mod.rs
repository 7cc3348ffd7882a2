//! Another ZEO server as a storage of this one, which fans it out to clients
//! of its own: `<zeoclient>`.
//!
//! ```text
//! link     the main connection: finds a server, catches up, comes back after a loss
//! order    what that tells of transactions, and the ends of our clients' commits, in one order
//! storage  reads go over the main connection; `cache` has current revisions, `blobs` the files
//! deputy   a client's transaction, over a connection from the `pool` from its vote to its end
//! ```
//!
//! All that waits for the other server runs on a thread of its own
//! (`runtime`), so reads that hold up this server's threads cannot keep the
//! answers from coming.
//!
//! Ordering. A load's answer and the invalidations come over one connection. The
//! cache is changed when they come; clients are told at the same moment or, where a
//! commit of our own is under way, soon after. So no load that is answered here
//! is older than what its client was told, as `session` wants it.

mod blobs;
mod cache;
mod deputy;
mod describe;
mod iterate;
mod link;
mod order;
mod pool;
mod runtime;
mod storage;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{CallError, Connection, Connector, Info};
use crate::config::Address;
use crate::storage::{BlobDirectory, Description, Result, StorageError};
use crate::transaction::{Database, DatabaseOptions, Delivery};
use crate::types::{Oid, Tid};
use blobs::Blobs;
use cache::Cache;
use deputy::Elsewhere;
use order::{Order, Told};
use pool::Pool;
use runtime::Runtime;
use storage::Upstream;

/// How a storage stands in front of another server.
#[derive(Clone, Debug)]
pub struct UpstreamOptions {
    /// Where the servers are; all have the same storage. The first that can be
    /// had is used.
    pub servers: Vec<Address>,
    /// The storage's name there.
    pub storage: String,
    /// What it calls itself here. None: as the other server calls it.
    pub name: Option<String>,
    /// Takes no changes.
    pub read_only: bool,
    /// Is content with a server that takes no changes while no other can be had.
    pub read_only_fallback: bool,
    /// Whether the start waits for a server; without one it then fails.
    pub wait: bool,
    /// How long the start, and requests, wait for a connection.
    pub wait_time: Duration,
    /// Current revisions of so many bytes are kept in memory.
    pub cache_bytes: usize,
    /// What this server is called in the other's log.
    pub label: Option<String>,
    /// Where blobs are kept. None: there are none.
    pub blobs: Option<BlobOptions>,
}

/// Where the blobs of the other server are kept.
#[derive(Clone, Debug)]
pub struct BlobOptions {
    /// The directory.
    pub directory: Arc<BlobDirectory>,
    /// The other server shares it, so that its blobs are there already.
    pub is_shared: bool,
    /// No more than this is kept. None: all.
    pub max_bytes: Option<u64>,
    /// When so many per cent of that were fetched it is looked whether too much
    /// is there, and then so much less than the bound is kept.
    pub check_percent: u64,
}

/// What everything about one upstream shares.
struct Shared {
    /// The storage's name here, for the log.
    served_as: String,
    options: UpstreamOptions,
    connector: Arc<dyn Connector>,
    runtime: Runtime,
    /// Until a server has said what it is.
    unknown: Description,
    description: OnceLock<Description>,
    /// The main connection. None: there is none now.
    live: watch::Sender<Option<Live>>,
    order: Mutex<Order>,
    cache: Mutex<Cache>,
    pool: Pool,
    blobs: Option<Blobs>,
    /// The last transaction that our clients were told of.
    told: AtomicU64,
    object_count: AtomicU64,
    size_bytes: AtomicU64,
    is_read_only: AtomicBool,
    database: OnceLock<Weak<Database>>,
    /// Threads that wait.
    blocked: AtomicUsize,
    /// Why there was no connection when it was last tried.
    trouble: Mutex<String>,
}

/// So many threads may wait for a connection; without this bound a lost server
/// would take all that the runtime has. More requests fail at once.
const MAX_BLOCKED: usize = 200;

/// A main connection that is up to date.
#[derive(Clone, Debug)]
struct Live {
    connection: Connection,
    address: Address,
    is_read_only: bool,
    /// Counts the main connections.
    epoch: u64,
}

/// Serves what another server has under `name`. Waits for the first connection
/// if the options say so.
pub fn serve(
    name: &str,
    options: UpstreamOptions,
    connector: Arc<dyn Connector>,
    database: DatabaseOptions,
) -> Result<Arc<Database>> {
    let (wait, wait_time) = (options.wait, options.wait_time);
    let shared = Arc::new(Shared::new(name, options, connector)?);
    let storage = Arc::new(Upstream::new(Arc::clone(&shared)));
    let authority = Arc::new(Elsewhere(Arc::clone(&shared)));
    let served = Database::with_authority(name, storage, database, authority)?;
    let served = Arc::new(served);
    let _ = shared.database.set(Arc::downgrade(&served));
    let keeping = Arc::clone(&shared);
    shared
        .runtime
        .start(name, link::keep(keeping))
        .map_err(StorageError::io("starting a thread for a <zeoclient>"))?;
    if wait && shared.wait_for_link().is_err() {
        let servers: Vec<_> = shared
            .options
            .servers
            .iter()
            .map(ToString::to_string)
            .collect();
        shared.runtime.stop();
        return Err(StorageError::CannotOpen {
            file: format!("<zeoclient> of {}", servers.join(", ")),
            problem: format!(
                "no connection within {} s ({}); is the server there, and does it serve storage \
                 {:?}? With \"wait off\" this server starts without it",
                wait_time.as_secs(),
                shared.trouble.lock(),
                shared.options.storage
            ),
        });
    }
    Ok(served)
}

impl Shared {
    fn new(name: &str, options: UpstreamOptions, connector: Arc<dyn Connector>) -> Result<Self> {
        let runtime = Runtime::new().map_err(StorageError::io("a runtime for a <zeoclient>"))?;
        Ok(Self {
            served_as: name.to_owned(),
            connector,
            runtime,
            unknown: describe::description(&options, &Info::default()),
            description: OnceLock::new(),
            live: watch::Sender::new(None),
            order: Mutex::default(),
            cache: Mutex::new(Cache::new(options.cache_bytes)),
            pool: Pool::default(),
            blobs: options.blobs.clone().map(Blobs::new),
            told: AtomicU64::new(0),
            object_count: AtomicU64::new(0),
            size_bytes: AtomicU64::new(0),
            is_read_only: AtomicBool::new(options.read_only),
            database: OnceLock::new(),
            blocked: AtomicUsize::new(0),
            trouble: Mutex::default(),
            options,
        })
    }

    fn wait_for_link(self: &Arc<Self>) -> Result<()> {
        let shared = Arc::clone(self);
        self.wait(async move { shared.live_after(0).await.map(drop) })
    }

    /// Runs `work` on the upstream's thread, while this one waits.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = std::result::Result<T, CallError>> + Send + 'static,
    ) -> Result<T> {
        let blocked = self.blocked.fetch_add(1, Ordering::AcqRel);
        let result = if blocked >= MAX_BLOCKED && self.live.borrow().is_none() {
            let why = "there is no connection to a server behind this one";
            Err(describe::storage_error(CallError::Disconnected(why.into())))
        } else {
            self.runtime.wait(work)
        };
        self.blocked.fetch_sub(1, Ordering::AcqRel);
        result
    }

    /// The main connection, once there is one with a number greater than `epoch`.
    async fn live_after(&self, epoch: u64) -> std::result::Result<Live, CallError> {
        let mut live = self.live.subscribe();
        let is_wanted = |live: &Option<Live>| live.as_ref().is_some_and(|live| live.epoch > epoch);
        let waited = tokio::time::timeout(self.options.wait_time, live.wait_for(is_wanted)).await;
        match waited {
            Ok(Ok(live)) => live.clone(),
            _ => None,
        }
        .ok_or_else(|| {
            let seconds = self.options.wait_time.as_secs();
            let trouble = self.trouble.lock();
            let why = format!("no server behind this one for {seconds} s: {trouble}");
            CallError::Disconnected(why.into())
        })
    }

    /// Asks over the main connection, and once more over the next one if that
    /// is lost meanwhile. Only for what changes nothing.
    async fn ask<T, A>(&self, ask: impl Fn(Live) -> A) -> std::result::Result<T, CallError>
    where
        A: Future<Output = std::result::Result<T, CallError>>,
    {
        let live = self.live_after(0).await?;
        let epoch = live.epoch;
        match ask(live).await {
            Err(CallError::Disconnected(_)) => ask(self.live_after(epoch).await?).await,
            answer => answer,
        }
    }

    /// The same for one call, while this thread waits.
    fn call<T, A>(
        self: &Arc<Self>,
        call: impl Fn(Connection) -> A + Send + Sync + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        A: Future<Output = std::result::Result<T, CallError>> + Send + 'static,
    {
        let shared = Arc::clone(self);
        self.wait(async move { shared.ask(|live| call(live.connection)).await })
    }

    fn database(&self) -> Option<Arc<Database>> {
        self.database.get()?.upgrade()
    }

    fn description(&self) -> &Description {
        self.description.get().unwrap_or(&self.unknown)
    }

    fn last_told(&self) -> Tid {
        Tid::from_u64(self.told.load(Ordering::Acquire))
    }

    fn note_size(&self, object_count: Option<u64>, size_bytes: Option<u64>) {
        for (place, number) in [
            (&self.object_count, object_count),
            (&self.size_bytes, size_bytes),
        ] {
            if let Some(number) = number {
                place.store(number, Ordering::Release);
            }
        }
    }

    /// The main connection tells of a transaction.
    fn arrived(&self, tid: Tid, oids: Vec<Oid>) {
        self.cache.lock().invalidate(&oids);
        let mut order = self.order.lock();
        if !order.arrived(tid, oids) {
            tracing::error!(
                "storage {}: the server behind this one tells of transaction {tid} after a later \
                 one; all clients verify their caches",
                self.served_as
            );
            self.cache.lock().clear();
            if let Some(database) = self.database() {
                database.close_connections("the server behind this one is out of order");
            }
        }
        self.tell(&mut order);
    }

    /// Tells our clients what can be told. The order is locked, so that they
    /// hear it in that order.
    fn tell(&self, order: &mut Order) {
        let Some(database) = self.database() else {
            return;
        };
        while let Some(told) = order.next() {
            match told {
                // Python's servers tell of those that stored nothing, and never name them again.
                Told::Transaction {
                    oids, owner: None, ..
                } if oids.is_empty() => {}
                Told::Transaction { tid, oids, owner } => {
                    self.cache.lock().invalidate(&oids);
                    database.announce(tid, oids, owner.as_ref(), || self.note_told(tid));
                }
                Told::Finished { tid, owner } => {
                    self.note_told(tid);
                    database.tell_finished(tid, &owner);
                }
                Told::UpToDate(client) => client.push(Delivery::UpToDate(Ok(()))),
            }
        }
    }

    fn note_told(&self, tid: Tid) {
        self.told.fetch_max(tid.to_u64(), Ordering::AcqRel);
    }
}
