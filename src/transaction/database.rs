use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::authority::{Authority, PackDone, Term};
use super::commit_log::{CommitLog, LocalLog};
use super::committer::{Batch, Blocking, CommitRequest, Committer, Origin};
use super::inbox::{Delivery, Finished, Inbox};
use super::invalidation::{Invalidation, InvalidationQueue, Invalidations};
use super::object_locks::ObjectLocks;
use super::told::Told;
use crate::stats::StorageStats;
use crate::storage::{Committing, Result, Storage, StorageError};
use crate::types::{Oid, Tid, TidClock};
use crate::wire::Method;

/// How a storage is served.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// Transactions in the invalidation queue.
    pub invalidation_queue_size: usize,
    /// Clients whose last transaction is younger than this are told what they
    /// missed from the file when the queue does not reach back so far.
    pub invalidation_age: Option<Duration>,
    /// A client that holds locks for longer is disconnected. None: never. This
    /// is what holds at the start; see [`Database::transaction_timeout`].
    pub transaction_timeout: Option<Duration>,
    /// Give conflicts back to the client to resolve?
    pub hand_back_conflicts: bool,
    /// Take no changes from any client.
    pub read_only: bool,
    /// The largest transaction that is taken, without its blobs.
    pub max_transaction_bytes: u64,
}

/// A named storage with all that serving it takes.
#[derive(Debug)]
pub struct Database {
    /// The name that clients ask for.
    pub name: String,
    /// How it is served.
    pub options: DatabaseOptions,
    /// Where the objects are.
    pub storage: Arc<dyn Storage>,
    /// Who may commit what.
    pub locks: Arc<ObjectLocks>,
    /// What happened so far.
    pub stats: StorageStats,
    transaction_timeout: Mutex<Option<Duration>>,
    committer: Committer,
    /// Who decides its transactions. None: this server, always.
    authority: Option<Arc<dyn Authority>>,
    hub: Mutex<Hub>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Who is told what.
///
/// Invariant: while the hub is locked, `told`, the queue's newest entry and what
/// was left in every inbox are the same point in the history. The storage is
/// there too, or ahead of it: a state that another server sent is in place
/// before anybody can be told what has changed.
#[derive(Debug)]
struct Hub {
    /// The last transaction that everybody was told of.
    told: Tid,
    queue: InvalidationQueue,
    inboxes: Vec<Arc<Inbox>>,
}

impl Hub {
    fn tell(&mut self, invalidation: &Arc<Invalidation>) {
        debug_assert!(invalidation.tid > self.told, "told in order");
        self.told = invalidation.tid;
        self.queue.push(Arc::clone(invalidation));
    }
}

impl Database {
    /// Begins to serve `storage` under `name`; starts a thread that
    /// [`Self::close`] ends.
    pub fn start(
        name: impl Into<String>,
        storage: Arc<dyn Storage>,
        options: DatabaseOptions,
    ) -> Result<Arc<Self>> {
        let log = Box::new(LocalLog(Arc::clone(&storage)));
        let database = Arc::new(Self::new(name.into(), storage, options, log, None)?);
        let worker = Arc::clone(&database);
        let thread = std::thread::Builder::new()
            .name(format!("commit {}", database.name))
            .spawn(move || worker.committer.work(&|batch| worker.complete(batch)))
            .map_err(StorageError::io("starting the committer's thread"))?;
        *database.thread.lock() = Some(thread);
        Ok(database)
    }

    /// Serves a storage whose transactions `authority` decides.
    pub fn with_authority(
        name: impl Into<String>,
        storage: Arc<dyn Storage>,
        options: DatabaseOptions,
        authority: Arc<dyn Authority>,
    ) -> Result<Self> {
        let log = Box::new(LocalLog(Arc::clone(&storage)));
        Self::new(name.into(), storage, options, log, Some(authority))
    }

    fn new(
        name: String,
        storage: Arc<dyn Storage>,
        options: DatabaseOptions,
        log: Box<dyn CommitLog>,
        authority: Option<Arc<dyn Authority>>,
    ) -> Result<Self> {
        let last_tid = storage.last_tid();
        let last = storage.last_invalidations(options.invalidation_queue_size)?;
        let queue = InvalidationQueue::new(options.invalidation_queue_size, last, last_tid);
        Ok(Self {
            name,
            transaction_timeout: Mutex::new(options.transaction_timeout),
            options,
            storage,
            locks: Arc::default(),
            stats: StorageStats::new(Method::ALL.len()),
            committer: Committer::new(log, TidClock::after(last_tid)),
            authority,
            hub: Mutex::new(Hub {
                told: last_tid,
                queue,
                inboxes: Vec::new(),
            }),
            thread: Mutex::new(None),
        })
    }

    /// Who decides its transactions, where that is not always this server.
    pub fn authority(&self) -> Option<&Arc<dyn Authority>> {
        self.authority.as_ref()
    }

    /// Could a client that writes be served now, as far as is known?
    pub fn takes_changes(&self) -> bool {
        self.authority
            .as_ref()
            .is_none_or(|authority| authority.takes_changes())
    }

    /// The leadership under which this server decides its transactions now.
    /// None: another one does.
    pub fn term(&self) -> Option<Term> {
        match &self.authority {
            Some(authority) => authority.term(),
            None => Some(0),
        }
    }

    /// `count` oids that were never given out.
    pub fn new_oids(&self, count: usize) -> Result<Vec<Oid>> {
        match &self.authority {
            Some(authority) => authority.new_oids(count),
            None => self.storage.new_oids(count),
        }
    }

    /// A client that holds locks for longer is disconnected. None: never.
    pub fn transaction_timeout(&self) -> Option<Duration> {
        *self.transaction_timeout.lock()
    }

    /// Changes it, for transactions that get their locks from now on.
    pub fn set_transaction_timeout(&self, timeout: Option<Duration>) {
        *self.transaction_timeout.lock() = timeout;
    }

    /// Enters a connection: from the returned transaction on its inbox gets all
    /// that is committed, in order.
    pub fn register(&self, inbox: &Arc<Inbox>) -> Tid {
        let mut hub = self.hub.lock();
        hub.inboxes.push(Arc::clone(inbox));
        hub.told
    }

    /// Removes a connection.
    pub fn unregister(&self, inbox: &Arc<Inbox>) {
        self.hub
            .lock()
            .inboxes
            .retain(|other| !Arc::ptr_eq(other, inbox));
    }

    /// Waits until a commit that is being told of has been told to all. A client
    /// can hear of a commit from the one that made it while others' inboxes are
    /// still being filled.
    pub fn settle(&self) {
        drop(self.hub.lock());
    }

    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.hub.lock().inboxes.len()
    }

    /// Objects that clients asked for.
    pub fn loads(&self) -> u64 {
        self.stats.requests.handled(Method::LoadBefore.number())
    }

    /// Transactions that wait to be written.
    pub fn waiting_commits(&self) -> usize {
        match &self.authority {
            Some(authority) => authority.waiting(),
            None => self.committer.waiting(),
        }
    }

    /// Tells the connections of clients that write to close.
    pub fn close_writers(&self, why: &'static str) {
        for inbox in &self.hub.lock().inboxes {
            inbox.push(Delivery::CloseWriters(why));
        }
    }

    /// Tells every connection to close.
    pub fn close_connections(&self, why: &'static str) {
        for inbox in &self.hub.lock().inboxes {
            inbox.push(Delivery::Close(why));
        }
    }

    /// What changed after `tid`, up to `until`, which is what the asking
    /// connection was told last. None: the client has to verify its whole
    /// cache. Can read much of the file where `invalidation_age` is set.
    pub fn invalidations_since(&self, tid: Tid, until: Tid) -> Result<Option<Invalidations>> {
        let known_from = {
            let hub = self.hub.lock();
            if let Some(answer) = hub.queue.since(tid, until) {
                return Ok(Some(answer));
            }
            hub.queue.known_from()
        };
        let now = Tid::from_time(SystemTime::now()).to_time_since_epoch();
        let age = now.saturating_sub(tid.to_time_since_epoch());
        match self.options.invalidation_age {
            Some(limit) if age < limit => self.invalidations_from_storage(tid, until).map(Some),
            _ => {
                tracing::info!(
                    "storage {}: a client's last transaction {tid} is older than the invalidation \
                     queue, which begins at {known_from}; the client drops its cache \
                     (a larger invalidation-queue-size or an invalidation-age avoids that)",
                    self.name
                );
                Ok(None)
            }
        }
    }

    fn invalidations_from_storage(&self, tid: Tid, until: Tid) -> Result<Invalidations> {
        let mut oids = std::collections::HashSet::new();
        let mut transactions = self.storage.iterate(Some(tid.next()), Some(until))?;
        while transactions.next_transaction()?.is_some() {
            let mut records = transactions.records()?;
            while let Some(record) = records.next_record()? {
                oids.insert(record.oid);
            }
        }
        Ok(Invalidations {
            tid: until,
            oids: oids.into_iter().collect(),
        })
    }

    /// Commits a voted transaction. The reply comes through the origin's inbox,
    /// in its place among the invalidations; possibly before this returns.
    pub fn finish(self: &Arc<Self>, request: CommitRequest, blocking: &dyn Blocking) {
        match &self.authority {
            Some(authority) => authority.finish(request),
            None => self
                .committer
                .submit(request, blocking, &|batch| self.complete(batch)),
        }
    }

    /// Publishes a durable batch, tells everybody, and releases its locks.
    fn complete(&self, batch: Batch) {
        if let Some(took) = batch.took {
            self.stats.commit_times.observe_time(took);
        }
        match &batch.failure {
            None => self.publish(&batch.committing, batch.origins),
            Some(cause) => self.fail(batch.origins, cause),
        }
    }

    /// Tells those who asked that nothing was committed, and releases their locks.
    pub fn fail(&self, origins: Vec<Origin>, cause: &Arc<str>) {
        for origin in &origins {
            for inbox in origin.inbox.iter().chain(&origin.apart) {
                inbox.push(Delivery::Finished(Err(Arc::clone(cause))));
            }
        }
        drop(origins);
    }

    /// Nothing was committed, for this server does not lead any more: its clients
    /// try again with a server that finds the next leader.
    pub fn send_away(&self, origins: Vec<Origin>, why: &'static str) {
        for origin in &origins {
            if let Some(inbox) = &origin.inbox {
                inbox.push(Delivery::Close(why));
            }
            // The other server votes anew.
            if let Some(inbox) = &origin.apart {
                inbox.push(Delivery::Finished(Err(why.into())));
            }
        }
        drop(origins);
    }

    /// Whether these were committed is not known here: those who asked find out
    /// for themselves.
    pub fn leave_open(&self, origins: Vec<Origin>, why: &'static str) {
        for origin in &origins {
            for inbox in origin.inbox.iter().chain(&origin.apart) {
                inbox.push(Delivery::Close(why));
            }
        }
        drop(origins);
    }

    /// Makes what the storage has appended seen, tells everybody, and releases
    /// the locks. `origins` are those who asked for each.
    pub fn publish(&self, committing: &[Committing], origins: Vec<Origin>) {
        debug_assert_eq!(committing.len(), origins.len(), "each has its origin");
        let invalidations: Vec<_> = committing
            .iter()
            .map(|committing| {
                let oids: Vec<Oid> = committing.staged.records.iter().map(|r| r.oid).collect();
                Arc::new(Invalidation::new(committing.tid, oids))
            })
            .collect();
        self.stats.batch_sizes.observe(invalidations.len() as u64);
        {
            let mut hub = self.hub.lock();
            // First the index, then the invalidations: a load that still saw the
            // old state is answered before the invalidation is queued.
            self.storage.publish(committing);
            let told = Told {
                invalidations: &invalidations,
                origins: &origins,
                object_count: self.storage.object_count(),
                size_bytes: self.storage.size_bytes(),
            };
            for invalidation in &invalidations {
                hub.tell(invalidation);
                self.stats.commits.increment();
            }
            for inbox in &hub.inboxes {
                told.tell(inbox);
            }
            told.tell_apart();
        }
        drop(origins);
    }

    /// Tells everybody of a transaction that another server has committed;
    /// `publish` makes it seen here. `owner` is the client whose it is.
    pub fn announce(
        &self,
        tid: Tid,
        oids: Vec<Oid>,
        owner: Option<&Arc<Inbox>>,
        publish: impl FnOnce(),
    ) {
        let invalidation = Arc::new(Invalidation::new(tid, oids));
        let origin = Origin {
            inbox: owner.cloned(),
            ..Origin::default()
        };
        let mut hub = self.hub.lock();
        publish();
        hub.tell(&invalidation);
        let told = Told {
            invalidations: std::slice::from_ref(&invalidation),
            origins: std::slice::from_ref(&origin),
            object_count: self.storage.object_count(),
            size_bytes: self.storage.size_bytes(),
        };
        for inbox in &hub.inboxes {
            told.tell(inbox);
        }
        if owner.is_some() {
            self.stats.commits.increment();
        }
    }

    /// Tells a client of the end of its commit, which changed nothing: up to
    /// `tid` everything was announced.
    pub fn tell_finished(&self, tid: Tid, owner: &Inbox) {
        self.stats.commits.increment();
        owner.push(Delivery::Finished(Ok(Finished {
            tid,
            object_count: self.storage.object_count(),
            size_bytes: self.storage.size_bytes(),
        })));
    }

    /// After the whole content was replaced by another server's: what was known
    /// of the last transactions is known no more, and all clients are sent away
    /// to verify their caches.
    pub fn start_over(&self) -> Result<()> {
        let size = self.options.invalidation_queue_size;
        let mut hub = self.hub.lock();
        let last = self.storage.last_invalidations(size)?;
        hub.told = self.storage.last_tid();
        hub.queue = InvalidationQueue::new(size, last, hub.told);
        for inbox in &hub.inboxes {
            inbox.push(Delivery::Close(
                "the storage was brought up to date as a whole",
            ));
        }
        Ok(())
    }

    /// Packs the storage on a thread of its own; everything else goes on.
    /// Afterwards all clients are told of the new size, and `done` is called.
    pub fn pack(self: &Arc<Self>, stop: Tid, done: PackDone) -> Result<()> {
        match &self.authority {
            Some(authority) => {
                authority.pack(stop, done);
                Ok(())
            }
            None => self.pack_here(stop, None, None, done),
        }
    }

    /// Packs what this server has. `until`: the last transaction that it looks
    /// at to know what is kept; None: what there is now.
    pub fn pack_here(
        self: &Arc<Self>,
        stop: Tid,
        gc: Option<bool>,
        until: Option<Tid>,
        done: PackDone,
    ) -> Result<()> {
        let database = Arc::clone(self);
        let work = move || {
            let name = &database.name;
            tracing::info!("storage {name}: pack to {stop} started");
            let packed = database.storage.pack(stop, gc, until);
            match &packed {
                Ok(_) => {
                    database.stats.packs.increment();
                    database.broadcast_info();
                }
                Err(error) => {
                    database.stats.packs_failed.increment();
                    tracing::error!("storage {name}: pack failed: {error}");
                }
            }
            done(packed.map(|_| ()));
        };
        std::thread::Builder::new()
            .name(format!("pack {}", self.name))
            .spawn(work)
            .map(|_| ())
            .map_err(StorageError::io("starting a thread for a pack"))
    }

    /// Tells all clients of the storage's size.
    pub fn broadcast_info(&self) {
        let hub = self.hub.lock();
        let info = Delivery::Info {
            object_count: self.storage.object_count(),
            size_bytes: self.storage.size_bytes(),
        };
        for inbox in &hub.inboxes {
            inbox.push(info.clone());
        }
    }

    /// Ends the committer and closes the storage. Call it when no connection is left.
    pub fn close(&self) -> Result<()> {
        self.committer.close();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("storage {}: the committer's thread panicked", self.name);
        }
        self.storage.close()
    }
}
