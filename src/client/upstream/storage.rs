use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::blobs::Blobs;
use super::iterate::Transactions;
use super::{Shared, describe};
use crate::client::{CallError, LoadedRevision};
use crate::disk::Access;
use crate::storage::{
    BlobDirectory, BlobFile, Committing, Condition, CurrentRecord, CurrentSerial, Description,
    HistoryEntry, Reservation, Result, Revision, Staged, Storage, StorageError,
    TransactionIterator, UndoableTransaction,
};
use crate::types::{Oid, Tid};
use crate::wire::{Request, Value};

/// So many transactions are asked for at once, for the undo log.
const UNDO_LOG_PAGE: i64 = 100;
/// How the reference ends a `record_iternext` of a storage without objects.
const NO_RECORDS: &str = "builtins.ValueError";

/// A storage that another server has.
pub(super) struct Upstream {
    shared: Arc<Shared>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("servers", &self.shared.options.servers)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn load(&self, oid: Oid, before: Tid) -> Result<Option<LoadedRevision>> {
        let shared = Arc::clone(&self.shared);
        self.shared.wait(async move {
            let load = |live: super::Live| {
                let shared = Arc::clone(&shared);
                async move { load(&shared, &live, oid, before).await }
            };
            shared.ask(load).await
        })
    }
}

/// Loads a revision, and keeps it in the cache if it is the current one.
async fn load(
    shared: &Arc<Shared>,
    live: &super::Live,
    oid: Oid,
    before: Tid,
) -> std::result::Result<Option<LoadedRevision>, CallError> {
    let (sender, receiver) = oneshot::channel();
    let keeping = Arc::clone(shared);
    let epoch = live.epoch;
    let on_reply = move |reply: std::result::Result<Value<'_>, CallError>| {
        let loaded = reply.and_then(LoadedRevision::from_value);
        // Here, between what the server told before and after, and not later.
        if let Ok(Some(revision)) = &loaded {
            keeping.cache.lock().insert(epoch, oid, revision);
        }
        let _ = sender.send(loaded);
    };
    let request = Request::LoadBefore { oid, tid: before };
    live.connection
        .send_with(&request, Box::new(on_reply))
        .await?;
    let stopped = |_| Err(CallError::Disconnected("this server stops".into()));
    receiver.await.unwrap_or_else(stopped)
}

impl Storage for Upstream {
    fn description(&self) -> &Description {
        self.shared.description()
    }

    fn blobs(&self) -> Option<&Arc<BlobDirectory>> {
        self.shared.blobs.as_ref().map(Blobs::directory)
    }

    fn open_blob(&self, oid: Oid, serial: Tid) -> Result<BlobFile> {
        let blobs = self.shared.blobs.as_ref();
        blobs
            .ok_or(StorageError::BlobsNotSupported)?
            .open(&self.shared, oid, serial)
    }

    fn is_read_only(&self) -> bool {
        self.shared.is_read_only.load(Ordering::Acquire)
    }

    fn last_tid(&self) -> Tid {
        self.shared.last_told()
    }

    fn object_count(&self) -> u64 {
        self.shared.object_count.load(Ordering::Acquire)
    }

    fn size_bytes(&self) -> u64 {
        self.shared.size_bytes.load(Ordering::Acquire)
    }

    fn load_before(
        &self,
        oid: Oid,
        before: Tid,
        access: Access,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Revision>> {
        if let Some(found) = self.shared.cache.lock().get(oid, before, buffer) {
            return Ok(Some(found));
        }
        if access == Access::Cached {
            return Err(StorageError::WouldBlock);
        }
        Ok(self.load(oid, before)?.map(|loaded| {
            *buffer = loaded.data;
            Revision {
                data: 0..buffer.len(),
                serial: loaded.serial,
                end: loaded.end,
            }
        }))
    }

    fn load_serial(&self, oid: Oid, serial: Tid, access: Access) -> Result<Vec<u8>> {
        if access == Access::Cached {
            return Err(StorageError::WouldBlock);
        }
        self.shared
            .call(move |server| async move { server.load_serial(oid, serial).await })
    }

    fn current_serial(&self, oid: Oid, access: Access) -> Result<Option<CurrentSerial>> {
        if access == Access::Cached {
            return Err(StorageError::WouldBlock);
        }
        let serial = self
            .shared
            .call(move |server| async move { server.get_tid(oid).await });
        match serial {
            Ok(serial) => Ok(Some(CurrentSerial {
                serial,
                exists: true,
            })),
            Err(StorageError::NoSuchObject { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn history(&self, oid: Oid, size: u64) -> Result<Vec<HistoryEntry>> {
        let lines = self
            .shared
            .call(move |server| async move { server.history(oid, size).await })?;
        let entries = lines.into_iter().map(describe::history_entry);
        entries
            .collect::<Option<_>>()
            .ok_or_else(|| describe::misunderstood("history"))
    }

    fn next_record(&self, from: Option<Oid>) -> Result<Option<CurrentRecord>> {
        let next = self
            .shared
            .call(move |server| async move { server.record_iternext(from).await });
        match next {
            Ok(record) => Ok(Some(record)),
            Err(StorageError::Remote(error)) => match error.downcast::<CallError>() {
                Ok(error) if error.remote().is_some_and(|r| r.class() == NO_RECORDS) => Ok(None),
                Ok(error) => Err(StorageError::Remote(error)),
                Err(error) => Err(StorageError::Remote(error)),
            },
            Err(error) => Err(error),
        }
    }

    fn iterate(
        &self,
        start: Option<Tid>,
        stop: Option<Tid>,
    ) -> Result<Box<dyn TransactionIterator>> {
        Ok(Box::new(Transactions::start(&self.shared, start, stop)?))
    }

    /// Nothing: after a start clients verify their caches.
    fn last_invalidations(&self, _: usize) -> Result<Vec<(Tid, Vec<Oid>)>> {
        Ok(Vec::new())
    }

    fn undo_log(&self, visit: &mut dyn FnMut(UndoableTransaction) -> bool) -> Result<()> {
        let mut first = 0;
        loop {
            let last = first + UNDO_LOG_PAGE;
            let page = self.shared.call(move |server| async move {
                server.undo_info(first, last, Value::None).await
            })?;
            let is_last = page.len() < usize::try_from(UNDO_LOG_PAGE).unwrap_or(0);
            for described in page {
                let transaction = describe::undoable(described);
                if !visit(transaction.ok_or_else(|| describe::misunderstood("undoInfo"))?) {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
            first = last;
        }
    }

    fn new_oids(&self, count: usize) -> Result<Vec<Oid>> {
        self.shared
            .call(move |server| async move { server.new_oids(count as u64).await })
    }

    fn prepare(&self, _: &Staged) -> Result<Box<dyn Reservation>> {
        Err(self.unsupported("vote"))
    }

    fn append(&self, _: &mut [Committing]) -> Result<()> {
        Err(self.unsupported("tpc_finish"))
    }

    fn publish(&self, _: &[Committing]) {}

    fn condition(&self) -> Condition {
        Condition {
            kind: "zeoclient",
            ..Condition::default()
        }
    }

    fn close(&self) -> Result<()> {
        self.shared.runtime.stop();
        Ok(())
    }
}
