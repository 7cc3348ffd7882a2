//! Undo: what can be undone, and asking for it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::register::{dict, number};
use super::{Outcome, Registered, waiting};
use crate::storage::UndoableTransaction;
use crate::transaction::Blocking;
use crate::types::Tid;
use crate::wire::{self, Reply, TransactionKey, Value};

impl Registered {
    /// Adds the undoing of a transaction to the current one. `undone` is an id
    /// as `undoLog` gives it.
    pub(super) fn undo(&mut self, key: &TransactionKey, undone: &[u8]) -> Outcome<'static> {
        // What is no id is no transaction's: the vote will say so.
        let tid = tid_of(undone).unwrap_or(Tid::ZERO);
        self.collect(key, false, |buffer| buffer.undo(tid))
    }

    /// The transactions that can be undone and have what `specification` (a
    /// dict, or None) says, newest first: those from number `first` up to
    /// number `last`; a negative `last` means so many.
    pub(super) fn undo_info(
        &mut self,
        first: i64,
        last: i64,
        specification: &Value<'_>,
        blocking: &dyn Blocking,
    ) -> Outcome<'static> {
        if !self.database.storage.description().supports_undo {
            return Outcome::Reply(Reply::Value(Value::Tuple(Vec::new())));
        }
        let last = if last < 0 {
            first.saturating_sub(last)
        } else {
            last
        };
        let mut place = 0;
        let mut found = Vec::new();
        let mut visit = |transaction: UndoableTransaction| {
            if place >= last {
                return false;
            }
            let description = description_of(transaction);
            if matches_all(&description, specification) {
                if place >= first {
                    found.push(description);
                }
                place += 1;
            }
            place < last
        };
        match waiting(blocking, || self.database.storage.undo_log(&mut visit)) {
            Ok(()) => Outcome::Reply(Reply::Value(Value::List(found))),
            Err(error) => error.into(),
        }
    }
}

/// A transaction's id in `undoLog`: the tid in base64.
fn id_of(tid: Tid) -> String {
    STANDARD.encode(tid.0)
}

/// The tid that an id of `undoLog` names. Python's decoder skips what is not
/// base64, such as the newline that its encoder puts at the end.
fn tid_of(id: &[u8]) -> Option<Tid> {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let id: Vec<u8> = id.iter().copied().filter(is_base64).collect();
    Tid::from_slice(&STANDARD.decode(id).ok()?)
}

/// What `undoLog` says of a transaction. Keys of the extension win over its own.
fn description_of(transaction: UndoableTransaction) -> Value<'static> {
    let UndoableTransaction { meta, size_bytes } = transaction;
    let tid = meta.tid.unwrap_or_default();
    let own = [
        ("id", Value::Bytes(id_of(tid).into_bytes().into())),
        ("time", Value::Float(tid.to_unix_seconds())),
        ("user_name", Value::Bytes(meta.user.into())),
        ("size", number(size_bytes)),
        ("description", Value::Bytes(meta.description.into())),
    ];
    let Value::Dict(extension) = wire::read_dict_lenient(&meta.extension).into_owned() else {
        return dict(own);
    };
    let is_extension = |key: &str| {
        extension
            .iter()
            .any(|(other, _)| other.as_str() == Some(key))
    };
    let Value::Dict(mut items) = dict(own.into_iter().filter(|(key, _)| !is_extension(key))) else {
        return Value::None;
    };
    items.extend(extension);
    Value::Dict(items)
}

/// Has the description every pair of the specification? A `Prefix` stands for
/// every path that begins with it.
fn matches_all(description: &Value<'_>, specification: &Value<'_>) -> bool {
    let Value::Dict(wanted) = specification else {
        return true;
    };
    let Value::Dict(items) = description else {
        return false;
    };
    wanted.iter().all(|(key, wanted)| {
        // An extension can have keys that are no text. The last of equal ones counts.
        let mut found = items.iter().rev().filter(|(name, _)| name == key);
        let actual = found.next().map_or(&Value::None, |(_, value)| value);
        match (wanted, actual) {
            (Value::Prefix { path }, Value::Bytes(user)) => {
                wire::prefix_matches(path, &String::from_utf8_lossy(user))
            }
            (Value::Prefix { path }, Value::Str(user)) => wire::prefix_matches(path, user),
            (wanted, actual) => wanted == actual,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_base64_with_or_without_a_newline() {
        let tid = Tid::from_u64(0x040d_2f14_e3b0_a1a9);
        // base64.encodebytes of Python, with and without its newline.
        assert_eq!(id_of(tid), "BA0vFOOwoak=");
        assert_eq!(tid_of(b"BA0vFOOwoak="), Some(tid));
        assert_eq!(tid_of(b"BA0vFOOwoak=\n"), Some(tid));
        assert_eq!(tid_of(b"BA0v"), None);
    }
}
