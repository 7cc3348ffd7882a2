//! What the other server says, in the words of `storage`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::UpstreamOptions;
use crate::client::{CallError, Info};
use crate::storage::{Description, HistoryEntry, StorageError, UndoableTransaction};
use crate::types::{Tid, TransactionMeta};
use crate::wire::{RemoteException, Value, write_value};

/// What a client may rely on here, if it may there. Of others nothing is known.
const INTERFACES: [(&str, &str); 9] = [
    ("ZODB.interfaces", "IStorage"),
    ("ZODB.interfaces", "IMultiCommitStorage"),
    ("ZODB.interfaces", "IStorageRestoreable"),
    ("ZODB.interfaces", "IStorageIteration"),
    ("ZODB.interfaces", "IStorageUndoable"),
    ("ZODB.interfaces", "IStorageCurrentRecordIteration"),
    ("ZODB.interfaces", "IExternalGC"),
    ("zope.interface", "Interface"),
    BLOB_STORAGE,
];
/// Only with a directory for them.
const BLOB_STORAGE: (&str, &str) = ("ZODB.interfaces", "IBlobStorage");

/// What our clients are told of the storage.
pub(super) fn description(options: &UpstreamOptions, info: &Info) -> Description {
    let is_offered = |(module, name): &(&str, &str)| {
        let mut there = info.interfaces.iter();
        there.any(|(known_module, known)| known_module == module && known == name)
    };
    let has_blobs = options.blobs.is_some();
    let interfaces = INTERFACES.into_iter();
    Description {
        name: options.name.clone().unwrap_or_else(|| info.name.clone()),
        supports_undo: info.supports_undo,
        supports_record_iternext: info.supports_record_iternext,
        interfaces: interfaces
            .filter(|interface| has_blobs || *interface != BLOB_STORAGE)
            .filter(is_offered)
            .collect(),
    }
}

/// What the other server raised, for whoever branches on it; all else is kept
/// as it is, to be passed on.
pub(super) fn storage_error(error: CallError) -> StorageError {
    let raised = error
        .remote()
        .filter(|raised| raised.is_no_such_object())
        .map(|raised| {
            let state = raised.state();
            let arguments = state.as_items().unwrap_or_default();
            let oid = arguments.first().and_then(Value::as_oid);
            let serial = arguments.get(1).and_then(Value::as_tid);
            oid.map(|oid| StorageError::NoSuchObject { oid, serial })
        });
    match raised {
        Some(Some(error)) => error,
        _ if error.remote().is_some_and(RemoteException::is_read_only) => StorageError::ReadOnly,
        _ => StorageError::Remote(Box::new(error)),
    }
}

/// An answer that says something else than its method does.
pub(super) fn misunderstood(method: &'static str) -> StorageError {
    storage_error(CallError::Answer { method })
}

/// One line of an object's history, from what `history` says of it.
pub(super) fn history_entry(line: Value<'static>) -> Option<HistoryEntry> {
    let tid = line.get("tid")?.as_tid()?;
    let is_mapping_form = line.get("extension").is_some() && line.get("serial").is_some();
    let size_bytes = line.get("size").and_then(Value::as_count).unwrap_or(0);
    let user = bytes_of(line.get("user_name"));
    let description = bytes_of(line.get("description"));
    let extension = if is_mapping_form {
        line.get("extension").and_then(pickled).unwrap_or_default()
    } else {
        rest(
            line,
            &["time", "user_name", "description", "tid", "serial", "size"],
        )
    };
    Some(HistoryEntry {
        meta: TransactionMeta {
            tid: Some(tid),
            status: b' ',
            user,
            description,
            extension,
        },
        tid,
        size_bytes,
        is_mapping_form,
    })
}

/// A transaction that can be undone, from what `undoInfo` says of it.
pub(super) fn undoable(description: Value<'static>) -> Option<UndoableTransaction> {
    let id = description.get("id")?;
    let id = id.as_bytes().or_else(|| id.as_str().map(str::as_bytes))?;
    let tid = Tid::from_slice(&STANDARD.decode(id.trim_ascii()).ok()?)?;
    let size_bytes = description.get("size").and_then(Value::as_count);
    let user = bytes_of(description.get("user_name"));
    let text = bytes_of(description.get("description"));
    Some(UndoableTransaction {
        meta: TransactionMeta {
            tid: Some(tid),
            status: b' ',
            user,
            description: text,
            extension: rest(
                description,
                &["id", "time", "user_name", "size", "description"],
            ),
        },
        size_bytes: size_bytes.unwrap_or(0),
    })
}

fn bytes_of(value: Option<&Value<'_>>) -> Vec<u8> {
    let bytes = value.and_then(|value| {
        value
            .as_bytes()
            .or_else(|| value.as_str().map(str::as_bytes))
    });
    bytes.unwrap_or_default().to_vec()
}

/// The entries with other keys than `own`, pickled: the transaction's extension.
fn rest(dict: Value<'static>, own: &[&str]) -> Vec<u8> {
    let Value::Dict(mut entries) = dict else {
        return Vec::new();
    };
    entries.retain(|(key, _)| !key.as_str().is_some_and(|key| own.contains(&key)));
    pickled(&Value::Dict(entries)).unwrap_or_default()
}

fn pickled(value: &Value<'_>) -> Option<Vec<u8>> {
    let mut pickle = Vec::new();
    if !value.is_falsy() {
        write_value(&mut pickle, value).ok()?;
    }
    Some(pickle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Oid;
    use crate::wire::read_value;

    fn dict(entries: Vec<(&'static str, Value<'static>)>) -> Value<'static> {
        let entries = entries.into_iter();
        Value::Dict(entries.map(|(key, value)| (key.into(), value)).collect())
    }

    #[test]
    fn what_undo_info_says_becomes_a_transaction_again() {
        let tid = Tid::from_u64(0x040d_2f14_e3b0_a1a9);
        let id = STANDARD.encode(tid.0).into_bytes();
        let said = dict(vec![
            ("id", id.into()),
            ("time", 1.5.into()),
            ("user_name", b"u".to_vec().into()),
            ("size", 7_i64.into()),
            ("description", b"d".to_vec().into()),
            ("more", 1_i64.into()),
        ]);
        let read = undoable(said).unwrap();
        assert_eq!(read.meta.tid, Some(tid));
        assert_eq!(
            (&*read.meta.user, &*read.meta.description),
            (&b"u"[..], &b"d"[..])
        );
        assert_eq!(read.size_bytes, 7);
        let extension = read_value(&read.meta.extension).unwrap();
        assert_eq!(extension, dict(vec![("more", 1_i64.into())]));
        assert_eq!(undoable(Value::None), None);
    }

    #[test]
    fn a_line_of_history_keeps_its_form() {
        let tid = Tid::from_u64(5);
        let line = || {
            vec![
                ("tid", Value::from(tid)),
                ("size", 7_i64.into()),
                ("user_name", b"u".to_vec().into()),
            ]
        };
        let entry = history_entry(dict(line())).unwrap();
        assert_eq!((entry.tid, entry.size_bytes), (tid, 7));
        assert!(entry.meta.extension.is_empty() && !entry.is_mapping_form);
        let mut mapping = line();
        mapping.push(("serial", Value::from(tid)));
        mapping.push(("extension", dict(vec![("a", 1_i64.into())])));
        let entry = history_entry(dict(mapping)).unwrap();
        assert!(entry.is_mapping_form && !entry.meta.extension.is_empty());
    }

    #[test]
    fn missing_objects_are_told_from_other_errors() {
        let oid = Oid::from_u64(3);
        let arguments = Value::Tuple(vec![oid.into()]);
        let raised = RemoteException::new("ZODB.POSException.POSKeyError", &arguments);
        let error = storage_error(CallError::Remote(raised));
        assert!(
            matches!(error, StorageError::NoSuchObject { oid: found, serial: None } if found == oid)
        );
        let error = storage_error(CallError::Disconnected("gone".into()));
        assert!(matches!(error, StorageError::Remote(_)));
    }
}
