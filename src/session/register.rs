//! `register`, `get_info`, and bringing a cache up to date.

use std::sync::Arc;

use super::access::Access;
use super::elsewhere::Awaited;
use super::{Outcome, Registered, Session, Tally, in_the_log, waiting};
use crate::transaction::Blocking;
use crate::types::Tid;
use crate::wire::{Exception, LEADERSHIP, MessageId, Reply, Value};

impl Session {
    /// Chooses a storage. From the transaction that the reply names on, the
    /// client is told of everything.
    pub(super) fn register(
        &mut self,
        storage: &str,
        read_only: bool,
        id: &MessageId<'_>,
    ) -> Outcome<'_> {
        let database = self.databases.get(storage);
        // A remote's client has registered with its own server.
        let authority = database.filter(|_| self.remote.is_none());
        let authority = authority.and_then(|database| database.authority()).cloned();
        match authority {
            Some(authority) if self.registered.is_none() && self.awaited.is_empty() => {
                let awaited = Awaited::Register {
                    storage: storage.to_owned(),
                    read_only,
                    id: id.clone().into_owned(),
                };
                self.when_up_to_date(&authority, awaited)
            }
            _ => self.register_now(storage, read_only),
        }
    }

    pub(super) fn register_now(&mut self, storage: &str, read_only: bool) -> Outcome<'_> {
        let label = &self.label;
        if self.registered.is_some() || !self.awaited.is_empty() {
            return Outcome::Error(Exception::ValueError(
                "duplicate register() call".to_owned(),
            ));
        }
        let Some(database) = self.databases.get(storage) else {
            let known: Vec<_> = self.databases.keys().map(String::as_str).collect();
            let known = known.join(", ");
            let asked = in_the_log(storage);
            tracing::warn!("({label}) asks for storage {asked:?}; there is {known}");
            return Outcome::Error(Exception::ValueError(format!("unknown storage: {storage}")));
        };
        let peer = self.peer.as_ref();
        let Some(access) = self.access.access(storage, peer) else {
            let peer = peer.map(|peer| format!("{peer} ({})", peer.fingerprint_name()));
            let peer = peer.unwrap_or_default();
            tracing::warn!(
                "({label}) may not use storage {storage}: no <access> list of it names the \
                 certificate {peer}"
            );
            return Outcome::Error(Exception::StorageError {
                message: format!("this client's certificate gives no access to storage {storage}"),
            });
        };
        let may_only_read = access == Access::ReadOnly;
        // `read-only` in <zeo> is about this server's clients. Those of other nodes of a cluster, whose
        // changes come here, are asked there.
        let server_is_read_only = database.options.read_only && self.remote.is_none();
        let storage_is_read_only = server_is_read_only || database.storage.is_read_only();
        if !read_only && may_only_read {
            tracing::info!("({label}) may only read storage {storage}, and wants to write it");
            return Outcome::Error(Exception::ReadOnly);
        }
        if !read_only && storage_is_read_only {
            return Outcome::Error(Exception::ReadOnly);
        }
        let database = Arc::clone(database);
        let leadership = self.remote.and_then(|_| database.term());
        let seen = match self.remote {
            None => database.register(&self.inbox),
            Some(_) => database.storage.last_tid(),
        };
        tracing::info!(
            "({label}) connected to storage {storage}{}{}",
            if read_only { ", read-only" } else { "" },
            peer.map(|peer| format!(", certificate {peer}"))
                .unwrap_or_default()
        );
        let read_only = read_only || storage_is_read_only;
        self.client.note_registered(storage, read_only);
        self.tally = Tally::in_shard(database.stats.requests.choose_shard());
        self.registered = Some(Registered {
            database,
            may_only_read,
            read_only,
            seen,
            transaction: None,
            deputy: None,
            remote: self.remote,
            leadership,
            iterators: super::Iterators::default(),
            upload: None,
            sends: super::BlobSends::default(),
        });
        Outcome::Reply(Reply::Tid(seen))
    }
}

impl Registered {
    /// What a client wants to know of the storage.
    pub(super) fn get_info(&self) -> Outcome<'_> {
        let storage = &self.database.storage;
        let description = storage.description();
        let interface = |&(module, name): &(&'static str, &'static str)| {
            Value::Tuple(vec![Value::Str(module.into()), Value::Str(name.into())])
        };
        let interfaces = description.interfaces.iter().map(interface).collect();
        let mut info = vec![
            ("length", number(storage.object_count())),
            ("size", number(storage.size_bytes())),
            ("name", Value::Str(description.name.as_str().into())),
            ("supportsUndo", Value::Bool(description.supports_undo)),
            (
                "supports_record_iternext",
                Value::Bool(description.supports_record_iternext),
            ),
            ("interfaces", Value::Tuple(interfaces)),
        ];
        // Clients get what the reference gives.
        info.extend(self.leadership.map(|term| (LEADERSHIP, number(term))));
        Outcome::Reply(Reply::Value(dict(info)))
    }

    /// What the client missed since `tid`; None tells it to drop its cache.
    pub(super) fn get_invalidations(&self, tid: Tid, blocking: &dyn Blocking) -> Outcome<'_> {
        if tid > self.seen {
            tracing::error!(
                "storage {}: a client has seen transaction {tid}, the storage's last is {}. \
                 Was the database restored from a backup? Then remove that client's cache files \
                 (or restart it, if it has none)",
                self.database.name,
                self.seen
            );
        }
        let answer = waiting(blocking, || {
            self.database.invalidations_since(tid, self.seen)
        });
        match answer {
            Ok(Some(answer)) => {
                tracing::debug!("{} invalidations up to {}", answer.oids.len(), answer.tid);
                let oids = answer
                    .oids
                    .iter()
                    .map(|oid| Value::Bytes(oid.0.to_vec().into()));
                let tid = Value::Bytes(answer.tid.0.to_vec().into());
                let answer = vec![tid, Value::List(oids.collect())];
                Outcome::Reply(Reply::Value(Value::Tuple(answer)))
            }
            Ok(None) => Outcome::DONE,
            Err(error) => error.into(),
        }
    }
}

/// A dict with the given keys.
pub(super) fn dict<'v>(items: impl IntoIterator<Item = (&'static str, Value<'v>)>) -> Value<'v> {
    Value::Dict(
        items
            .into_iter()
            .map(|(key, value)| (Value::Str(key.into()), value))
            .collect(),
    )
}

/// A count as Python's int.
pub(super) fn number(count: u64) -> Value<'static> {
    Value::from_i128(i128::from(count))
}
