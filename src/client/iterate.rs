//! Going through a storage: its objects, its transactions and their records.

use super::connection::Connection;
use super::error::CallError;
use crate::storage::{CurrentRecord, DataRecord};
use crate::types::{Oid, Tid, TransactionMeta};
use crate::wire::{Request, Value, write_value};

impl Connection {
    /// The first object at or after `next` that exists; the server raises an
    /// error where there is none.
    pub async fn record_iternext(&self, next: Option<Oid>) -> Result<CurrentRecord, CallError> {
        self.ask(&Request::RecordIternext { next }, |value| {
            let [oid, serial, data, next] = value.as_items()? else {
                return None;
            };
            Some(CurrentRecord {
                oid: oid.as_oid()?,
                serial: serial.as_tid()?,
                data: data.as_bytes()?.to_vec(),
                next: match next {
                    Value::None => None,
                    next => Some(next.as_oid()?),
                },
            })
        })
        .await
    }

    /// Begins to go through the transactions from `start` to `stop`, both
    /// included; the iterator's number.
    pub async fn iterator_start(
        &self,
        start: Option<Tid>,
        stop: Option<Tid>,
    ) -> Result<u64, CallError> {
        let request = Request::IteratorStart { start, stop };
        self.ask(&request, |value| value.as_count()).await
    }

    /// The next transaction; None after the last, which ends the iterator.
    pub async fn iterator_next(&self, iterator: u64) -> Result<Option<TransactionMeta>, CallError> {
        let request = Request::IteratorNext { iterator };
        self.ask(&request, |value| match value {
            Value::None => Some(None),
            value => read_transaction(&value).map(Some),
        })
        .await
    }

    /// Begins to go through the records of transaction `tid`, which the
    /// iterator gave last; the new iterator's number.
    pub async fn iterator_record_start(&self, iterator: u64, tid: Tid) -> Result<u64, CallError> {
        let request = Request::IteratorRecordStart { iterator, tid };
        self.ask(&request, |value| value.as_count()).await
    }

    /// The next record; None after the last, which ends the iterator.
    pub async fn iterator_record_next(
        &self,
        iterator: u64,
    ) -> Result<Option<DataRecord>, CallError> {
        let request = Request::IteratorRecordNext { iterator };
        self.ask(&request, |value| match value {
            Value::None => Some(None),
            value => read_record(&value).map(Some),
        })
        .await
    }

    /// Ends iterators that were not gone through to their end.
    pub async fn iterator_gc(&self, iterators: Vec<u64>) -> Result<(), CallError> {
        self.send_one_way(&Request::IteratorGc { iterators }).await
    }
}

/// (tid, status, user, description, extension)
fn read_transaction(value: &Value<'_>) -> Option<TransactionMeta> {
    let [tid, status, user, description, extension] = value.as_items()? else {
        return None;
    };
    let status = match (status.as_str(), status.as_bytes()) {
        (Some(text), _) => text.as_bytes().first(),
        (None, bytes) => bytes?.first(),
    };
    let mut pickle = Vec::new();
    if !extension.is_falsy() && extension.as_bytes().is_none() {
        write_value(&mut pickle, extension).ok()?;
    }
    Some(TransactionMeta {
        tid: Some(tid.as_tid()?),
        status: *status?,
        user: text_bytes(user)?,
        description: text_bytes(description)?,
        extension: match extension.as_bytes() {
            Some(bytes) => bytes.to_vec(),
            None => pickle,
        },
    })
}

/// (oid, tid, data, data_txn)
fn read_record(value: &Value<'_>) -> Option<DataRecord> {
    let [oid, tid, data, data_txn] = value.as_items()? else {
        return None;
    };
    Some(DataRecord {
        oid: oid.as_oid()?,
        tid: tid.as_tid()?,
        data: match data {
            Value::None => None,
            data => Some(data.as_bytes()?.to_vec()),
        },
        data_txn: match data_txn {
            Value::None => None,
            tid => Some(tid.as_tid()?),
        },
    })
}

fn text_bytes(value: &Value<'_>) -> Option<Vec<u8>> {
    match (value.as_bytes(), value.as_str()) {
        (Some(bytes), _) => Some(bytes.to_vec()),
        (None, text) => text.map(|text| text.as_bytes().to_vec()),
    }
}
