//! Reading objects, and new object ids.

use super::register::{dict, number};
use super::{Outcome, Registered, waiting};
use crate::disk::Access;
use crate::storage::{HistoryEntry, StorageError};
use crate::transaction::Blocking;
use crate::types::{Oid, Tid};
use crate::wire::{self, Exception, Reply, Value};

/// A client gets so many oids at once at most.
const MAX_NEW_OIDS: u64 = 100;

/// The buffer of a record larger than this is not kept for the next one.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

impl Registered {
    /// The revision of an object that was current just before `tid`.
    pub(super) fn load_before<'s>(
        &self,
        oid: Oid,
        tid: Tid,
        buffer: &'s mut Vec<u8>,
        blocking: &dyn Blocking,
    ) -> Outcome<'s> {
        if buffer.len() > KEPT_BUFFER_BYTES {
            buffer.truncate(KEPT_BUFFER_BYTES);
            buffer.shrink_to_fit();
        }
        let storage = &self.database.storage;
        let revision = match storage.load_before(oid, tid, Access::Cached, buffer) {
            Err(StorageError::WouldBlock) => {
                let again = || storage.load_before(oid, tid, Access::Wait, buffer);
                waiting(blocking, again)
            }
            result => result,
        };
        match revision {
            Ok(Some(revision)) => Outcome::Reply(Reply::Loaded {
                data: buffer.get(revision.data).unwrap_or_default(),
                serial: revision.serial,
                end: revision.end,
            }),
            Ok(None) => Outcome::DONE,
            Err(error) => error.into(),
        }
    }

    /// The data of one revision.
    pub(super) fn load_serial<'s>(
        &self,
        oid: Oid,
        serial: Tid,
        buffer: &'s mut Vec<u8>,
        blocking: &dyn Blocking,
    ) -> Outcome<'s> {
        let storage = &self.database.storage;
        match waiting(blocking, || storage.load_serial(oid, serial, Access::Wait)) {
            Ok(data) => {
                *buffer = data;
                Outcome::Reply(Reply::Data(buffer))
            }
            Err(error) => error.into(),
        }
    }

    /// The newest serial of an object that exists.
    pub(super) fn get_tid(&self, oid: Oid, blocking: &dyn Blocking) -> Outcome<'_> {
        let storage = &self.database.storage;
        let current = match storage.current_serial(oid, Access::Cached) {
            Err(StorageError::WouldBlock) => {
                waiting(blocking, || storage.current_serial(oid, Access::Wait))
            }
            result => result,
        };
        match current {
            Ok(Some(current)) if current.exists => Outcome::Reply(Reply::Tid(current.serial)),
            Ok(_) => StorageError::no_such_object(oid).into(),
            Err(error) => error.into(),
        }
    }

    /// The newest `size` revisions of an object, newest first.
    pub(super) fn history(&self, oid: Oid, size: u64, blocking: &dyn Blocking) -> Outcome<'_> {
        let storage = &self.database.storage;
        match waiting(blocking, || storage.history(oid, size)) {
            Ok(entries) => {
                let lines = entries.into_iter().map(history_line);
                Outcome::Reply(Reply::Value(Value::List(lines.collect())))
            }
            Err(error) => error.into(),
        }
    }

    /// The first object at or after `next`, and where to go on.
    pub(super) fn record_iternext(
        &self,
        next: Option<Oid>,
        blocking: &dyn Blocking,
    ) -> Outcome<'_> {
        let storage = &self.database.storage;
        match waiting(blocking, || storage.next_record(next)) {
            Ok(Some(record)) => Outcome::Reply(Reply::Value(Value::Tuple(vec![
                Value::Bytes(record.oid.0.to_vec().into()),
                Value::Bytes(record.serial.0.to_vec().into()),
                Value::Bytes(record.data.into()),
                record
                    .next
                    .map_or(Value::None, |oid| Value::Bytes(oid.0.to_vec().into())),
            ]))),
            Ok(None) => Outcome::Error(Exception::ValueError("empty tree".to_owned())),
            Err(error) => error.into(),
        }
    }

    /// Some oids that nobody ever had.
    pub(super) fn new_oids(&self, count: u64, blocking: &dyn Blocking) -> Outcome<'_> {
        if self.read_only {
            return Outcome::Error(Exception::ReadOnly);
        }
        let count = usize::try_from(count.clamp(1, MAX_NEW_OIDS)).unwrap_or(1);
        match waiting(blocking, || self.database.new_oids(count)) {
            Ok(oids) => {
                let oids = oids.iter().map(|oid| Value::Bytes(oid.0.to_vec().into()));
                Outcome::Reply(Reply::Value(Value::List(oids.collect())))
            }
            Err(error) => error.into(),
        }
    }

    /// One oid that nobody ever had.
    pub(super) fn new_oid(&self, blocking: &dyn Blocking) -> Outcome<'_> {
        if self.read_only {
            return Outcome::Error(Exception::ReadOnly);
        }
        match waiting(blocking, || self.database.new_oids(1)) {
            Ok(oids) => match oids.first() {
                Some(&oid) => Outcome::Reply(Reply::Oid(oid)),
                None => Outcome::DONE,
            },
            Err(error) => error.into(),
        }
    }
}

/// What ZODB's `history` says of a revision: the transaction's extension with
/// some keys of its own. MappingStorage adds two more.
fn history_line(entry: HistoryEntry) -> Value<'static> {
    let tid = || Value::Bytes(entry.tid.0.to_vec().into());
    let extension = wire::read_dict_lenient(&entry.meta.extension).into_owned();
    let mut own = vec![
        ("time", Value::Float(entry.tid.to_unix_seconds())),
        ("user_name", Value::Bytes(entry.meta.user.into())),
        ("description", Value::Bytes(entry.meta.description.into())),
        ("tid", tid()),
        ("size", number(entry.size_bytes)),
    ];
    if entry.is_mapping_form {
        own.push(("serial", tid()));
        own.push(("extension", extension));
        return dict(own);
    }
    let own_keys: Vec<_> = own.iter().map(|&(key, _)| key).collect();
    let Value::Dict(mut items) = dict(own) else {
        return Value::None;
    };
    if let Value::Dict(extra) = extension {
        let is_own = |key: &Value<'_>| key.as_str().is_some_and(|key| own_keys.contains(&key));
        items.extend(extra.into_iter().filter(|(key, _)| !is_own(key)));
    }
    Value::Dict(items)
}
