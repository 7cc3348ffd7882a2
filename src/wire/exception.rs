use std::fmt;

use super::encoder::{EncodeError, Encoder};
use super::pickle::read_value;
use super::remote_exception::RemoteException;
use super::request::TransactionKey;
use super::value::Value;
use crate::types::{Oid, Tid};

/// What a server raises. On the wire an exception is its class path, and its
/// attributes as a dict where it has any, or else its arguments as a tuple;
/// the client's factories rebuild it from these.
/// Source: ZEO asyncio/marshal.py, ZODB POSException.py.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exception {
    /// No such object, or no such revision of it.
    PosKeyError {
        /// The object.
        oid: Oid,
        /// The revision, where one was asked for.
        serial: Option<Tid>,
    },
    /// Two transactions changed an object.
    ConflictError {
        /// The object.
        oid: Option<Oid>,
        /// Its committed serial.
        committed: Tid,
        /// The serial that the client had read.
        read: Tid,
        /// Its class, where it is known.
        class_name: Option<String>,
    },
    /// An object that was to stay as it is has changed.
    ReadConflictError {
        /// The object.
        oid: Option<Oid>,
        /// Its committed serial.
        committed: Tid,
        /// The serial that the client had read.
        read: Tid,
        /// Its class, where it is known.
        class_name: Option<String>,
    },
    /// The storage may not be written.
    ReadOnly,
    /// An operation that does not fit the state of the transaction.
    StorageTransactionError {
        /// Why.
        message: String,
    },
    /// A request names a transaction that is not the current one.
    NotTheCurrentTransaction {
        /// The current one.
        current: Option<TransactionKey>,
        /// The one that the request names.
        given: TransactionKey,
    },
    /// A storage's error without a class of its own.
    StorageError {
        /// Why.
        message: String,
    },
    /// The storage is broken.
    StorageSystemError {
        /// Why.
        message: String,
    },
    /// A transaction cannot be undone.
    UndoError {
        /// Why.
        reason: String,
        /// The object that is in the way.
        oid: Option<Oid>,
    },
    /// A transaction cannot be undone, for several reasons.
    MultipleUndoErrors(Vec<(Oid, String)>),
    /// An error of a FileStorage.
    FileStorageError {
        /// Why.
        message: String,
    },
    /// The file may not grow further.
    FileStorageQuotaError {
        /// Why.
        message: String,
    },
    /// A pack failed.
    PackError {
        /// Why.
        message: String,
    },
    /// The storage cannot do this.
    Unsupported {
        /// Why.
        message: String,
    },
    /// Python's `ValueError`.
    ValueError(String),
    /// Python's `TypeError`.
    TypeError(String),
    /// Python's `KeyError`.
    KeyError(String),
    /// Python's `NotImplementedError`.
    NotImplementedError(String),
    /// Any other class with a message.
    Other {
        /// `module.Class`.
        class: String,
        /// Its only argument.
        message: String,
    },
    /// What another server raised, passed on as it came.
    Remote(RemoteException),
}

type Written = Result<(), EncodeError>;

const CONFLICT_MESSAGE: &str = "database conflict error";
const READ_CONFLICT_MESSAGE: &str = "database read conflict error";

impl Exception {
    /// The class path that clients know it by.
    pub fn class(&self) -> &str {
        match self {
            Self::PosKeyError { .. } => "ZODB.POSException.POSKeyError",
            Self::ConflictError { .. } => "ZODB.POSException.ConflictError",
            Self::ReadConflictError { .. } => "ZODB.POSException.ReadConflictError",
            Self::ReadOnly => "ZODB.POSException.ReadOnlyError",
            Self::StorageTransactionError { .. } | Self::NotTheCurrentTransaction { .. } => {
                "ZODB.POSException.StorageTransactionError"
            }
            Self::StorageError { .. } => "ZODB.POSException.StorageError",
            Self::StorageSystemError { .. } => "ZODB.POSException.StorageSystemError",
            Self::UndoError { .. } => "ZODB.POSException.UndoError",
            Self::MultipleUndoErrors(errors) if errors.is_empty() => "ZODB.POSException.UndoError",
            Self::MultipleUndoErrors(_) => "ZODB.POSException.MultipleUndoErrors",
            Self::FileStorageError { .. } => "ZODB.FileStorage.FileStorage.FileStorageError",
            Self::FileStorageQuotaError { .. } => {
                "ZODB.FileStorage.FileStorage.FileStorageQuotaError"
            }
            Self::PackError { .. } => "ZODB.FileStorage.FileStorage.PackError",
            Self::Unsupported { .. } => "ZODB.POSException.Unsupported",
            Self::ValueError(_) => "builtins.ValueError",
            Self::TypeError(_) => "builtins.TypeError",
            Self::KeyError(_) => "builtins.KeyError",
            Self::NotImplementedError(_) => "builtins.NotImplementedError",
            Self::Other { class, .. } => class,
            Self::Remote(exception) => exception.class(),
        }
    }

    /// Writes (class path, attributes or arguments).
    pub(super) fn encode(&self, encoder: &mut Encoder<'_>) -> Written {
        encoder.begin_tuple(2)?;
        encoder.str(self.class())?;
        self.encode_state(encoder)?;
        encoder.end_tuple(2);
        Ok(())
    }

    fn encode_state(&self, encoder: &mut Encoder<'_>) -> Written {
        match self {
            Self::PosKeyError { oid, serial } => {
                let length = 1 + usize::from(serial.is_some());
                encoder.begin_tuple(length)?;
                encoder.bytes(&oid.0)?;
                if let Some(serial) = serial {
                    encoder.bytes(&serial.0)?;
                }
                encoder.end_tuple(length);
                Ok(())
            }
            Self::ConflictError {
                oid,
                committed,
                read,
                class_name,
            } => {
                let serials = (*committed, *read);
                encode_conflict(
                    encoder,
                    CONFLICT_MESSAGE,
                    *oid,
                    class_name.as_deref(),
                    serials,
                )
            }
            Self::ReadConflictError {
                oid,
                committed,
                read,
                class_name,
            } => {
                let serials = (*committed, *read);
                let class_name = class_name.as_deref();
                encode_conflict(encoder, READ_CONFLICT_MESSAGE, *oid, class_name, serials)
            }
            Self::ReadOnly => {
                encoder.begin_tuple(0)?;
                encoder.end_tuple(0);
                Ok(())
            }
            Self::NotTheCurrentTransaction { current, given } => {
                encoder.begin_tuple(2)?;
                match current {
                    Some(current) => encode_key(encoder, current)?,
                    None => encoder.none(),
                }
                encode_key(encoder, given)?;
                encoder.end_tuple(2);
                Ok(())
            }
            Self::UndoError { reason, oid } => encode_undo(encoder, reason, *oid),
            Self::MultipleUndoErrors(errors) => encode_undo_errors(encoder, errors),
            Self::Remote(exception) => encoder.value(&exception.state()),
            _ => {
                encoder.begin_tuple(1)?;
                encoder.str(self.message())?;
                encoder.end_tuple(1);
                Ok(())
            }
        }
    }

    /// The message of those that are described by one.
    fn message(&self) -> &str {
        match self {
            Self::StorageTransactionError { message }
            | Self::StorageError { message }
            | Self::StorageSystemError { message }
            | Self::FileStorageError { message }
            | Self::FileStorageQuotaError { message }
            | Self::PackError { message }
            | Self::Unsupported { message }
            | Self::ValueError(message)
            | Self::TypeError(message)
            | Self::KeyError(message)
            | Self::NotImplementedError(message)
            | Self::Other { message, .. } => message,
            Self::UndoError { reason, .. } => reason,
            Self::ConflictError { .. } => CONFLICT_MESSAGE,
            Self::ReadConflictError { .. } => READ_CONFLICT_MESSAGE,
            Self::ReadOnly => "the storage is read-only",
            Self::PosKeyError { .. } => "no such object",
            Self::NotTheCurrentTransaction { .. } => "not the current transaction",
            Self::MultipleUndoErrors(_) => "several objects cannot be undone",
            Self::Remote(_) => "raised by another server",
        }
    }
}

fn encode_conflict(
    encoder: &mut Encoder<'_>,
    message: &str,
    oid: Option<Oid>,
    class_name: Option<&str>,
    (committed, read): (Tid, Tid),
) -> Written {
    encoder.begin_dict(4)?;
    encoder.str("message")?;
    encoder.str(message)?;
    encoder.str("oid")?;
    encode_oid(encoder, oid)?;
    encoder.str("class_name")?;
    match class_name {
        Some(class_name) => encoder.str(class_name)?,
        None => encoder.none(),
    }
    encoder.str("serials")?;
    encoder.begin_tuple(2)?;
    encoder.bytes(&committed.0)?;
    encoder.bytes(&read.0)?;
    encoder.end_tuple(2);
    encoder.end_dict(4);
    Ok(())
}

fn encode_undo(encoder: &mut Encoder<'_>, reason: &str, oid: Option<Oid>) -> Written {
    encoder.begin_dict(2)?;
    encoder.str("_reason")?;
    encoder.str(reason)?;
    encoder.str("_oid")?;
    encode_oid(encoder, oid)?;
    encoder.end_dict(2);
    Ok(())
}

/// ZODB hands the first pair on as (reason, oid), so that the oid stands under
/// `_reason`; the client rebuilds the exception from `_errs` alone.
fn encode_undo_errors(encoder: &mut Encoder<'_>, errors: &[(Oid, String)]) -> Written {
    let Some((first_oid, first_reason)) = errors.first() else {
        return encode_undo(encoder, "unknown", None);
    };
    encoder.begin_dict(3)?;
    encoder.str("_reason")?;
    encoder.bytes(&first_oid.0)?;
    encoder.str("_oid")?;
    encoder.str(first_reason)?;
    encoder.str("_errs")?;
    encoder.begin_list(errors.len())?;
    for (oid, reason) in errors {
        encoder.begin_tuple(2)?;
        encoder.bytes(&oid.0)?;
        encoder.str(reason)?;
        encoder.end_tuple(2);
    }
    encoder.end_list(errors.len());
    encoder.end_dict(3);
    Ok(())
}

fn encode_oid(encoder: &mut Encoder<'_>, oid: Option<Oid>) -> Written {
    encoder.bytes_or_none(oid.as_ref().map(|oid| &oid.0[..]))
}

fn encode_key(encoder: &mut Encoder<'_>, key: &TransactionKey) -> Written {
    match key {
        TransactionKey::Int(number) => encoder.value(&Value::from_i128(*number)),
        // It was written by us; what is not readable was not.
        TransactionKey::Bytes(pickle) => encoder.value(&read_value(pickle).unwrap_or(Value::None)),
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Remote(exception) = self {
            return exception.fmt(f);
        }
        let class = self.class().rsplit('.').next().unwrap_or_default();
        write!(f, "{class}: {}", self.message())?;
        match self {
            Self::PosKeyError { oid, serial } => {
                write!(f, ": {oid}")?;
                match serial {
                    Some(serial) => write!(f, " of {serial}"),
                    None => Ok(()),
                }
            }
            Self::ConflictError {
                oid,
                committed,
                read,
                class_name,
            }
            | Self::ReadConflictError {
                oid,
                committed,
                read,
                class_name,
            } => {
                if let Some(oid) = oid {
                    write!(f, ": oid {oid}")?;
                }
                if let Some(class_name) = class_name {
                    write!(f, ", class {class_name}")?;
                }
                write!(f, ", read {read}, committed {committed}")
            }
            Self::UndoError { oid: Some(oid), .. } => write!(f, ": oid {oid}"),
            Self::MultipleUndoErrors(errors) => {
                for (oid, reason) in errors {
                    write!(f, "; {oid}: {reason}")?;
                }
                Ok(())
            }
            Self::NotTheCurrentTransaction { current, given } => {
                write!(f, ": {given:?}, current is {current:?}")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Exception {}

#[cfg(test)]
#[path = "exception_tests.rs"]
mod tests;
