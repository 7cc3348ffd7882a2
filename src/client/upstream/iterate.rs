//! The other server's history. An iterator belongs to the connection on which
//! it was begun, and ends with it.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Shared;
use crate::client::{CallError, Connection};
use crate::storage::{DataRecord, RecordIterator, Result, TransactionIterator};
use crate::types::{Tid, TransactionMeta};

/// Goes through transactions.
pub(super) struct Transactions {
    remote: Arc<Remote>,
    last: Option<Tid>,
}

/// Goes through the records of one transaction. Begun when the first is asked
/// for, as only then it may wait.
struct Records {
    transactions: Arc<Remote>,
    tid: Tid,
    remote: Option<Remote>,
}

/// An iterator there; it is ended there when it is dropped.
struct Remote {
    shared: Arc<Shared>,
    connection: Connection,
    number: u64,
    is_over: Mutex<bool>,
}

impl Drop for Remote {
    fn drop(&mut self) {
        if !*self.is_over.get_mut() {
            let connection = self.connection.clone();
            let numbers = vec![self.number];
            self.shared.runtime.spawn(async move {
                // With the connection it is gone anyway.
                let _ = connection.iterator_gc(numbers).await;
            });
        }
    }
}

impl Transactions {
    pub(super) fn start(
        shared: &Arc<Shared>,
        start: Option<Tid>,
        stop: Option<Tid>,
    ) -> Result<Self> {
        let asking = Arc::clone(shared);
        let (connection, number) = shared.wait(async move {
            let begin = |live: super::Live| async move {
                let number = live.connection.iterator_start(start, stop).await?;
                Ok((live.connection, number))
            };
            asking.ask(begin).await
        })?;
        Ok(Self {
            remote: Arc::new(Remote::new(shared, connection, number)),
            last: None,
        })
    }
}

impl Remote {
    fn new(shared: &Arc<Shared>, connection: Connection, number: u64) -> Self {
        Self {
            shared: Arc::clone(shared),
            connection,
            number,
            is_over: Mutex::new(false),
        }
    }

    /// Asks on the iterator's own connection.
    fn ask<T, A>(&self, ask: impl FnOnce(Connection, u64) -> A) -> Result<T>
    where
        T: Send + 'static,
        A: Future<Output = std::result::Result<T, CallError>> + Send + 'static,
    {
        let asked = ask(self.connection.clone(), self.number);
        self.shared.wait(asked)
    }
}

impl TransactionIterator for Transactions {
    fn next_transaction(&mut self) -> Result<Option<TransactionMeta>> {
        let next = self
            .remote
            .ask(|connection, number| async move { connection.iterator_next(number).await })?;
        self.last = next.as_ref().and_then(|meta| meta.tid);
        *self.remote.is_over.lock() = next.is_none();
        Ok(next)
    }

    fn records(&self) -> Result<Box<dyn RecordIterator>> {
        Ok(Box::new(Records {
            transactions: Arc::clone(&self.remote),
            tid: self.last.unwrap_or_default(),
            remote: None,
        }))
    }
}

impl RecordIterator for Records {
    fn next_record(&mut self) -> Result<Option<DataRecord>> {
        let remote = if let Some(remote) = self.remote.take() {
            remote
        } else {
            let tid = self.tid;
            let begin = move |connection: Connection, number| async move {
                connection.iterator_record_start(number, tid).await
            };
            let number = self.transactions.ask(begin)?;
            let connection = self.transactions.connection.clone();
            Remote::new(&self.transactions.shared, connection, number)
        };
        let remote = self.remote.insert(remote);
        let next = remote.ask(|connection, number| async move {
            connection.iterator_record_next(number).await
        })?;
        *remote.is_over.lock() = next.is_none();
        Ok(next)
    }
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transactions({})", self.remote.number)
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({})", self.tid)
    }
}
