//! Iteration over the history: transactions, and their records.

use std::collections::HashMap;

use super::register::number;
use super::{Outcome, Registered, waiting};
use crate::storage::{DataRecord, RecordIterator, TransactionIterator};
use crate::transaction::Blocking;
use crate::types::{Tid, TransactionMeta};
use crate::wire::{self, Exception, Reply, Value};

/// A client can have so many iterators open at once.
const MAX_ITERATORS: usize = 1000;

/// The iterators that a client has open.
#[derive(Debug, Default)]
pub(super) struct Iterators {
    next: u64,
    open: HashMap<u64, OpenIterator>,
}

#[derive(Debug)]
enum OpenIterator {
    /// Over transactions, with the id of the last one given.
    Transactions(Box<dyn TransactionIterator>, Option<Tid>),
    /// Over the records of one transaction.
    Records(Box<dyn RecordIterator>),
}

impl Iterators {
    fn add(&mut self, iterator: OpenIterator) -> Result<u64, Exception> {
        if self.open.len() >= MAX_ITERATORS {
            let message = format!("a client can have {MAX_ITERATORS} iterators at most");
            return Err(Exception::StorageError { message });
        }
        let number = self.next;
        self.next += 1;
        self.open.insert(number, iterator);
        Ok(number)
    }
}

impl Registered {
    /// Begins to go through the transactions from `start` to `stop`.
    pub(super) fn iterator_start(
        &mut self,
        start: Option<Tid>,
        stop: Option<Tid>,
        blocking: &dyn Blocking,
    ) -> Outcome<'static> {
        match waiting(blocking, || self.database.storage.iterate(start, stop)) {
            Ok(iterator) => self.add_iterator(OpenIterator::Transactions(iterator, None)),
            Err(error) => error.into(),
        }
    }

    /// The next transaction; None after the last, which ends the iterator.
    pub(super) fn iterator_next(&mut self, id: u64, blocking: &dyn Blocking) -> Outcome<'static> {
        let Some(OpenIterator::Transactions(iterator, last)) = self.iterators.open.get_mut(&id)
        else {
            return unknown(id);
        };
        match waiting(blocking, || iterator.next_transaction()) {
            Ok(Some(meta)) => {
                *last = meta.tid;
                Outcome::Reply(Reply::Value(transaction_item(meta)))
            }
            Ok(None) => {
                self.iterators.open.remove(&id);
                Outcome::DONE
            }
            Err(error) => error.into(),
        }
    }

    /// Begins to go through the records of the transaction given last.
    pub(super) fn iterator_record_start(&mut self, id: u64, tid: Tid) -> Outcome<'static> {
        let Some(OpenIterator::Transactions(iterator, last)) = self.iterators.open.get(&id) else {
            return unknown(id);
        };
        if *last != Some(tid) {
            return Outcome::Error(Exception::Other {
                class: "builtins.Exception".to_owned(),
                message: format!("Out-of-order request for record iterator for transaction {tid}"),
            });
        }
        match iterator.records() {
            Ok(records) => self.add_iterator(OpenIterator::Records(records)),
            Err(error) => error.into(),
        }
    }

    /// The next record; None after the last, which ends the iterator.
    pub(super) fn iterator_record_next(
        &mut self,
        id: u64,
        blocking: &dyn Blocking,
    ) -> Outcome<'static> {
        let Some(OpenIterator::Records(records)) = self.iterators.open.get_mut(&id) else {
            return unknown(id);
        };
        match waiting(blocking, || records.next_record()) {
            Ok(Some(record)) => Outcome::Reply(Reply::Value(record_item(record))),
            Ok(None) => {
                self.iterators.open.remove(&id);
                Outcome::DONE
            }
            Err(error) => error.into(),
        }
    }

    /// Ends iterators that the client has dropped.
    pub(super) fn iterator_gc(&mut self, ids: &[u64]) -> Outcome<'static> {
        for id in ids {
            self.iterators.open.remove(id);
        }
        Outcome::DONE
    }

    fn add_iterator(&mut self, iterator: OpenIterator) -> Outcome<'static> {
        match self.iterators.add(iterator) {
            Ok(id) => Outcome::Reply(Reply::Value(number(id))),
            Err(exception) => Outcome::Error(exception),
        }
    }
}

fn unknown(id: u64) -> Outcome<'static> {
    Outcome::Error(Exception::KeyError(id.to_string()))
}

/// (tid, status, user, description, extension)
fn transaction_item(meta: TransactionMeta) -> Value<'static> {
    let extension = wire::read_dict_lenient(&meta.extension).into_owned();
    Value::Tuple(vec![
        Value::Bytes(meta.tid.unwrap_or_default().0.to_vec().into()),
        Value::Str(char::from(meta.status).to_string().into()),
        Value::Bytes(meta.user.into()),
        Value::Bytes(meta.description.into()),
        extension,
    ])
}

/// (oid, tid, data, data_txn)
fn record_item(record: DataRecord) -> Value<'static> {
    let bytes = |bytes: [u8; 8]| Value::Bytes(bytes.to_vec().into());
    Value::Tuple(vec![
        bytes(record.oid.0),
        bytes(record.tid.0),
        record
            .data
            .map_or(Value::None, |data| Value::Bytes(data.into())),
        record.data_txn.map_or(Value::None, |tid| bytes(tid.0)),
    ])
}
