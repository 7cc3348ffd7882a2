//! Asking a server: what it is, what it holds, what has changed.

use super::connection::Connection;
use super::error::CallError;
use crate::types::{Oid, Tid};
use crate::wire::{LEADERSHIP, Request, Value};

/// What a storage is and can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Objects in it.
    pub length: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its name.
    pub name: String,
    /// Can transactions be undone?
    pub supports_undo: bool,
    /// Can its objects be enumerated?
    pub supports_record_iternext: bool,
    /// The interfaces that a client may rely on: module and name.
    pub interfaces: Vec<(String, String)>,
    /// Between the nodes of a cluster: the leadership for which this connection's
    /// transactions are taken, and for no other.
    pub leadership: Option<u64>,
}

/// A revision of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedRevision {
    /// The record.
    pub data: Vec<u8>,
    /// The transaction that wrote it.
    pub serial: Tid,
    /// The transaction that replaced it. None: it is the current one.
    pub end: Option<Tid>,
}

/// What has changed, up to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// That transaction.
    pub tid: Tid,
    /// The objects.
    pub oids: Vec<Oid>,
}

impl LoadedRevision {
    /// From the answer to `loadBefore`; None: the object did not exist yet.
    pub fn from_value(value: Value<'_>) -> Result<Option<Self>, CallError> {
        let misunderstood = CallError::Answer {
            method: "loadBefore",
        };
        let items = match value {
            Value::None => return Ok(None),
            Value::Tuple(items) | Value::List(items) => items,
            _ => return Err(misunderstood),
        };
        let Ok([data, serial, end]) = <[Value<'_>; 3]>::try_from(items) else {
            return Err(misunderstood);
        };
        let end = match end {
            Value::None => Some(None),
            end => end.as_tid().map(Some),
        };
        match (data, serial.as_tid(), end) {
            (Value::Bytes(data) | Value::ByteString(data), Some(serial), Some(end)) => {
                Ok(Some(Self {
                    data: data.into_owned(),
                    serial,
                    end,
                }))
            }
            _ => Err(misunderstood),
        }
    }
}

impl Connection {
    /// Chooses a storage: the last transaction, from which on the server tells
    /// of all others.
    pub async fn register(&self, storage: &str, read_only: bool) -> Result<Tid, CallError> {
        let storage = storage.into();
        let request = Request::Register { storage, read_only };
        let told = self.ask(&request, |value| match value {
            Value::None => Some(None),
            value => value.as_tid().map(Some),
        });
        match told.await? {
            Some(tid) => Ok(tid),
            // It has to be asked; or it cannot serve us, and closes now.
            None => self.last_transaction().await,
        }
    }

    /// What the storage is and can do.
    pub async fn get_info(&self) -> Result<Info, CallError> {
        self.ask(&Request::GetInfo, |value| read_info(&value)).await
    }

    /// The last transaction.
    pub async fn last_transaction(&self) -> Result<Tid, CallError> {
        self.ask(&Request::LastTransaction, |value| value.as_tid())
            .await
    }

    /// What has changed after `tid`. None: the server does not know any more.
    pub async fn get_invalidations(&self, tid: Tid) -> Result<Option<Changes>, CallError> {
        let request = Request::GetInvalidations { tid };
        self.ask(&request, |value| {
            if value == Value::None {
                return Some(None);
            }
            let [tid, oids] = value.as_items()? else {
                return None;
            };
            Some(Some(Changes {
                tid: tid.as_tid()?,
                oids: oids.as_oids()?,
            }))
        })
        .await
    }

    /// The data of one revision.
    pub async fn load_serial(&self, oid: Oid, serial: Tid) -> Result<Vec<u8>, CallError> {
        let request = Request::LoadSerial { oid, serial };
        self.ask(&request, |value| match value {
            Value::Bytes(data) | Value::ByteString(data) => Some(data.into_owned()),
            _ => None,
        })
        .await
    }

    /// The serial of an object's current revision.
    pub async fn get_tid(&self, oid: Oid) -> Result<Tid, CallError> {
        self.ask(&Request::GetTid { oid }, |value| value.as_tid())
            .await
    }

    /// Some oids that nobody ever had; servers give 100 at most.
    pub async fn new_oids(&self, count: u64) -> Result<Vec<Oid>, CallError> {
        self.ask(&Request::NewOids { count }, |value| value.as_oids())
            .await
    }

    /// The newest `size` revisions of an object, newest first: dicts, as ZODB
    /// describes them.
    pub async fn history(&self, oid: Oid, size: u64) -> Result<Vec<Value<'static>>, CallError> {
        self.ask(&Request::History { oid, size }, into_items).await
    }

    /// The transactions that can be undone, newest first, from number `first`
    /// up to number `last` (negative: so many), as dicts.
    pub async fn undo_info(
        &self,
        first: i64,
        last: i64,
        specification: Value<'_>,
    ) -> Result<Vec<Value<'static>>, CallError> {
        let request = Request::UndoInfo {
            first,
            last,
            specification,
        };
        self.ask(&request, into_items).await
    }

    /// Packs to a time in seconds since 1970; with `wait` until it is done.
    pub async fn pack(&self, time: f64, wait: bool) -> Result<(), CallError> {
        self.ask(&Request::Pack { time, wait }, |_| Some(())).await
    }

    /// A name for this client in the server's log.
    pub async fn set_client_label(&self, label: &str) -> Result<(), CallError> {
        let label = label.into();
        self.send_one_way(&Request::SetClientLabel { label }).await
    }

    /// Calls, and reads the answer.
    pub(super) async fn ask<T>(
        &self,
        request: &Request<'_>,
        read: impl FnOnce(Value<'static>) -> Option<T>,
    ) -> Result<T, CallError> {
        let value = self.call(request).await?;
        read(value).ok_or(CallError::Answer {
            method: request.method(),
        })
    }
}

fn into_items(value: Value<'static>) -> Option<Vec<Value<'static>>> {
    match value {
        Value::Tuple(items) | Value::List(items) => Some(items),
        _ => None,
    }
}

fn read_info(value: &Value<'_>) -> Option<Info> {
    let flag = |key| value.get(key).is_some_and(|flag| !flag.is_falsy());
    let count = |key| value.get(key).and_then(Value::as_count).unwrap_or(0);
    let pair = |pair: &Value<'_>| match pair.as_items()? {
        [module, name] => Some((module.as_str()?.to_owned(), name.as_str()?.to_owned())),
        _ => None,
    };
    let interfaces = value.get("interfaces").and_then(Value::as_items);
    let leadership = value.get(LEADERSHIP).and_then(Value::as_count);
    Some(Info {
        leadership,
        length: count("length"),
        size: count("size"),
        name: value.get("name")?.as_str()?.to_owned(),
        supports_undo: flag("supportsUndo"),
        supports_record_iternext: flag("supports_record_iternext"),
        interfaces: interfaces
            .unwrap_or_default()
            .iter()
            .filter_map(pair)
            .collect(),
    })
}
