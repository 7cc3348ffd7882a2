//! One client's conversation, without I/O: requests in, outcomes out.
//!
//! A [`Session`] is a state machine that tests drive without a socket. It is
//! owned by one task, so a client's requests are handled in order.
//!
//! Ordering (the invariants that keep clients' caches right): before each
//! request the connection hands the session everything that waits in its inbox
//! ([`Session::deliver`]), and what a request answers is put out before anything
//! that comes into the inbox later. `seen` is the last transaction that the
//! client was told of; `lastTransaction` and `getInvalidations` answer from there.

mod access;
mod answer;
mod blob;
mod deliver;
mod elsewhere;
mod errors;
mod info;
mod iterate;
mod load;
mod outbox;
mod pack;
mod register;
mod store;
mod tpc;
mod undo;
mod vote;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use access::{AccessLists, Peer};
pub use blob::SENT_AHEAD_BYTES;
pub use deliver::put;
pub use info::{Databases, ctime, ruok};
pub use outbox::Outbox;

use crate::stats::Client;
use crate::storage::StorageError;
use crate::transaction::{Authority, Blocking, Database, Deputy, Inbox, Remote, Term};
use crate::types::Tid;
use crate::wire::{Exception, MessageId, Reply, Request, Value};
use answer::Tally;
use blob::BlobSends;
use elsewhere::Awaited;
use iterate::Iterators;
use tpc::ClientTransaction;

/// What a request leads to.
#[derive(Debug)]
pub enum Outcome<'s> {
    /// An answer.
    Reply(Reply<'s>),
    /// An error as answer. A one-way request cannot be told, so its connection is closed.
    Error(Exception),
    /// The answer comes with a later delivery.
    Later,
    /// The connection is to be closed, for this reason.
    Close(String),
    /// The same for a client that registers. It is answered None before that: a stock
    /// client then begins anew with all its servers. One that is refused, or closed
    /// without an answer, leaves this server out while it tries any other, and as long
    /// as one of them is dead it does so for ever.
    SendAway(String),
}

impl Outcome<'_> {
    /// The answer None.
    const DONE: Self = Self::Reply(Reply::Nothing);
}

impl<E: Into<Exception>> From<E> for Outcome<'_> {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// One client's conversation.
#[derive(Debug)]
pub struct Session {
    databases: Arc<Databases>,
    /// Who may use which of them.
    access: Arc<AccessLists>,
    /// Whom the client's certificate names.
    peer: Option<Peer>,
    /// The client in the log: its label if it gave one, and its address.
    label: String,
    /// What others may know of the client.
    client: Arc<Client>,
    tally: Tally,
    inbox: Arc<Inbox>,
    registered: Option<Registered>,
    /// Records are read into this.
    buffer: Vec<u8>,
    /// The server stops.
    draining: bool,
    /// The session of another server for which this one is.
    remote: Option<Remote>,
    /// Requests that wait until the storage is up to date, in order.
    awaited: VecDeque<Awaited>,
}

/// What there is once the client has chosen a storage.
#[derive(Debug)]
struct Registered {
    database: Arc<Database>,
    read_only: bool,
    /// Its certificate lets it read and nothing else; it may not pack either.
    may_only_read: bool,
    /// The last transaction that the client was told of.
    seen: Tid,
    transaction: Option<ClientTransaction>,
    /// Acts where transactions are decided, where that is not here.
    deputy: Option<Box<dyn Deputy>>,
    /// As in [`Session`].
    remote: Option<Remote>,
    /// The leadership that such a session came for. No transaction of it is taken
    /// under another one: the node that it acts for tells by the log's entries of
    /// this one what became of a commit.
    leadership: Option<Term>,
    iterators: Iterators,
    /// A blob that the client is sending.
    upload: Option<blob::Upload>,
    /// Blobs that the client is being sent.
    sends: BlobSends,
}

impl Session {
    /// A conversation with a client at `address` that has said nothing yet.
    pub fn new(databases: Arc<Databases>, address: impl Into<String>) -> Self {
        let address = address.into();
        Self {
            databases,
            access: Arc::default(),
            peer: None,
            label: address.clone(),
            client: Arc::new(Client::new(address)),
            tally: Tally::default(),
            inbox: Arc::default(),
            registered: None,
            buffer: Vec::new(),
            draining: false,
            remote: None,
            awaited: VecDeque::new(),
        }
    }

    /// The same for a session of another server: it commits here for its client
    /// and is told of nothing else.
    #[must_use]
    pub fn for_remote(mut self, remote: Remote) -> Self {
        self.remote = Some(remote);
        self
    }

    /// The same with a client that has shown a certificate; `access` says what
    /// that is good for.
    #[must_use]
    pub fn with_peer(mut self, peer: Peer, access: Arc<AccessLists>) -> Self {
        self.peer = Some(peer);
        self.access = access;
        self
    }

    /// Where others leave messages for this client.
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// What others may know of the client.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Is the client another server of the cluster?
    pub fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Has the client chosen a storage?
    pub fn is_registered(&self) -> bool {
        self.registered.is_some()
    }

    /// The server stops, and this client has nothing left that was promised to
    /// it: no request is handled any more, a vote least of all.
    pub fn is_drained(&self) -> bool {
        let registered = self.registered.as_ref();
        let is_promised = |registered: &Registered| {
            let transaction = registered.transaction.as_ref();
            transaction.is_some_and(ClientTransaction::is_promised)
        };
        self.draining && !registered.is_some_and(is_promised)
    }

    /// The client's name in the log.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Gives the session a buffer to read records into. It works without, too:
    /// it then makes one.
    pub fn lend_buffer(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
    }

    /// Takes the buffer away, so that a client that asks for nothing has none.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Memory that the client's transaction takes.
    pub fn transaction_bytes(&self) -> usize {
        let transaction = self
            .registered
            .as_ref()
            .and_then(|r| r.transaction.as_ref());
        transaction.map_or(0, ClientTransaction::memory_bytes)
    }

    /// Moves what the client's transaction has collected to a temporary file,
    /// because memory is short.
    pub fn save_memory(&mut self) {
        let transaction = self
            .registered
            .as_mut()
            .and_then(|r| r.transaction.as_mut());
        if let Some(buffer) = transaction.and_then(ClientTransaction::collecting) {
            buffer.save_memory();
        }
    }

    /// Handles one request. `id` names it in a reply that comes later.
    pub fn handle(
        &mut self,
        id: &MessageId<'_>,
        request: Request<'_>,
        blocking: &dyn Blocking,
    ) -> Outcome<'_> {
        if let Request::Register { storage, read_only } = request {
            return self.register(&storage, read_only, id);
        }
        if matches!(request, Request::Ping)
            && let Some(authority) = self.authority()
        {
            let id = id.clone().into_owned();
            return self.when_up_to_date(&authority, Awaited::Ping { id });
        }
        let Some(registered) = &mut self.registered else {
            return Outcome::Close("asked for before register".to_owned());
        };
        match request {
            Request::LoadBefore { oid, tid } => {
                registered.load_before(oid, tid, &mut self.buffer, blocking)
            }
            Request::Store {
                oid,
                serial,
                data,
                transaction,
            } => registered.store(&transaction, oid, serial, &data),
            Request::Vote { transaction } => {
                registered.vote(&transaction, id, &self.inbox, &self.label, blocking)
            }
            Request::TpcFinish { transaction } => {
                registered.tpc_finish(&transaction, id, &self.inbox, blocking)
            }
            Request::Pack { time, wait } => registered.pack(time, wait, id, &self.inbox),
            Request::SendBlob { oid, serial } => registered.send_blob(oid, serial, id, blocking),
            Request::SetClientLabel { label } => {
                let label = in_the_log(&label);
                self.label = format!("{label} {}", self.client.address);
                self.client.set_label(label);
                tracing::info!("({}) is the client's label", self.label);
                Outcome::DONE
            }
            other => registered.handle_other(other, &mut self.buffer, blocking),
        }
    }

    fn authority(&self) -> Option<Arc<dyn Authority>> {
        self.registered.as_ref()?.database.authority().cloned()
    }

    /// After this, everything that was acknowledged to any client lies in this
    /// client's inbox.
    pub fn settle(&self) {
        if let Some(registered) = &self.registered {
            registered.database.settle();
        }
    }

    /// The client is gone, or is to go: releases all that it held.
    pub fn disconnect(&mut self) {
        self.awaited.clear();
        let Some(mut registered) = self.registered.take() else {
            return;
        };
        registered.database.unregister(&self.inbox);
        registered.abandon_transaction(&self.label);
    }

    /// When the client will have held its locks for too long.
    pub fn deadline(&self) -> Option<Instant> {
        let registered = self.registered.as_ref()?;
        let since = registered.transaction.as_ref()?.locked_since()?;
        Some(since + registered.database.transaction_timeout()?)
    }

    /// How long a client may hold its locks.
    pub fn transaction_timeout(&self) -> Option<Duration> {
        self.registered.as_ref()?.database.transaction_timeout()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.disconnect();
    }
}

impl Registered {
    fn handle_other<'s>(
        &'s mut self,
        request: Request<'_>,
        buffer: &'s mut Vec<u8>,
        blocking: &dyn Blocking,
    ) -> Outcome<'s> {
        match request {
            Request::GetInfo => self.get_info(),
            Request::LastTransaction => Outcome::Reply(Reply::Tid(self.seen)),
            Request::GetInvalidations { tid } => self.get_invalidations(tid, blocking),
            Request::NewOids { count } => self.new_oids(count, blocking),
            Request::NewOid => self.new_oid(blocking),
            Request::LoadSerial { oid, serial } => self.load_serial(oid, serial, buffer, blocking),
            Request::GetTid { oid } => self.get_tid(oid, blocking),
            Request::History { oid, size } => self.history(oid, size, blocking),
            Request::RecordIternext { next } => self.record_iternext(next, blocking),
            Request::TpcBegin {
                transaction,
                user,
                description,
                extension,
                tid,
                status,
            } => {
                let meta = crate::types::TransactionMeta {
                    tid,
                    status,
                    user: user.into_owned(),
                    description: description.into_owned(),
                    extension,
                };
                self.tpc_begin(transaction, meta)
            }
            Request::Restore {
                oid,
                serial,
                data,
                previous,
                transaction,
            } => self.restore(&transaction, oid, serial, data.as_deref(), previous),
            Request::DeleteObject {
                oid,
                serial,
                transaction,
            } => self.delete_object(&transaction, oid, serial),
            Request::CheckCurrentSerial {
                oid,
                serial,
                transaction,
            } => self.check_current_serial(&transaction, oid, serial),
            Request::Undo {
                undone,
                transaction,
            } => self.undo(&transaction, &undone),
            Request::TpcAbort { transaction } => self.tpc_abort(&transaction),
            Request::ServerStatus => self.server_status(),
            Request::Ping => Outcome::DONE,
            other => self.handle_iteration(other, blocking),
        }
    }

    fn handle_iteration(
        &mut self,
        request: Request<'_>,
        blocking: &dyn Blocking,
    ) -> Outcome<'static> {
        match request {
            Request::IteratorStart { start, stop } => self.iterator_start(start, stop, blocking),
            Request::IteratorNext { iterator } => self.iterator_next(iterator, blocking),
            Request::IteratorRecordStart { iterator, tid } => {
                self.iterator_record_start(iterator, tid)
            }
            Request::IteratorRecordNext { iterator } => {
                self.iterator_record_next(iterator, blocking)
            }
            Request::IteratorGc { iterators } => self.iterator_gc(&iterators),
            Request::UndoLog { first, last } => self.undo_info(first, last, &Value::None, blocking),
            Request::UndoInfo {
                first,
                last,
                specification,
            } => self.undo_info(first, last, &specification, blocking),
            other => self.handle_blob(other, blocking),
        }
    }

    fn handle_blob(&mut self, request: Request<'_>, blocking: &dyn Blocking) -> Outcome<'static> {
        match request {
            Request::StoreBlobStart => self.store_blob_start(blocking),
            Request::StoreBlobChunk { chunk } => self.store_blob_chunk(&chunk, blocking),
            Request::StoreBlobEnd {
                oid,
                serial,
                data,
                transaction,
            } => self.store_blob_end(&transaction, oid, serial, &data),
            Request::StoreBlobShared {
                oid,
                serial,
                data,
                filename,
                transaction,
            } => self.store_blob_shared(&transaction, oid, serial, &data, &filename),
            other => errors::not_served(other.method()),
        }
    }
}

/// So much of a client's words is shown in the log.
const LOGGED_CHARS: usize = 100;

/// A client's words, so that they neither fill the log nor forge lines of it.
fn in_the_log(text: &str) -> String {
    let shown = text.chars().take(LOGGED_CHARS);
    shown
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Runs `work` where it may wait, and brings its result back.
fn waiting<R, E: From<StorageError>>(
    blocking: &dyn Blocking,
    work: impl FnOnce() -> Result<R, E>,
) -> Result<R, E> {
    let mut work = Some(work);
    let mut result = None;
    blocking.run(&mut || result = work.take().map(|work| work()));
    // `Blocking` runs what it is given; if it did not, nothing was read.
    result.unwrap_or_else(|| Err(StorageError::WouldBlock.into()))
}

/// A map from storage names to what serves them.
pub type DatabaseMap = BTreeMap<String, Arc<Database>>;

#[cfg(test)]
mod tests;
