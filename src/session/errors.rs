//! The storage's errors in the words of the protocol.

use super::Outcome;
use crate::client::CallError;
use crate::storage::StorageError;
use crate::transaction::{BufferError, Conflict, VoteError};
use crate::wire::{self, Exception};

impl From<StorageError> for Exception {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NoSuchObject { oid, serial } => Self::PosKeyError { oid, serial },
            StorageError::NoSuchBlob { oid, serial, .. } => Self::PosKeyError {
                oid,
                serial: Some(serial),
            },
            StorageError::BlobsNotSupported => Self::TypeError(error.to_string()),
            // The reference's error has nothing but the name.
            StorageError::BadBlobFile { name, .. } => Self::ValueError(name),
            StorageError::ReadOnly => Self::ReadOnly,
            StorageError::QuotaExceeded => Self::FileStorageQuotaError {
                message: error.to_string(),
            },
            StorageError::MetadataTooLong { what } => Self::FileStorageError {
                message: what.to_owned(),
            },
            StorageError::AlreadyPacking | StorageError::InvalidPackTime => {
                Self::FileStorageError {
                    message: error.to_string(),
                }
            }
            StorageError::Unsupported { .. } => Self::Unsupported {
                message: error.to_string(),
            },
            StorageError::Elsewhere { why } => Self::StorageError { message: why },
            StorageError::TidNotLater { .. } | StorageError::EmptyRecord { .. } => {
                Self::StorageTransactionError {
                    message: error.to_string(),
                }
            }
            StorageError::NotUndoable { reason } => Self::UndoError {
                reason: reason.to_owned(),
                oid: None,
            },
            StorageError::CannotUndo { failures } => Self::MultipleUndoErrors(
                failures
                    .into_iter()
                    .map(|failure| (failure.oid, failure.reason))
                    .collect(),
            ),
            StorageError::Remote(error) => match error.downcast::<CallError>() {
                Ok(error) => (*error).into(),
                Err(error) => Self::StorageError {
                    message: error.to_string(),
                },
            },
            StorageError::PackedLater
            | StorageError::PackInterrupted
            | StorageError::DanglingReference { .. }
            | StorageError::UnknownReferences { .. }
            | StorageError::WouldBlock
            | StorageError::WritingStopped { .. }
            | StorageError::NoSpace { .. }
            | StorageError::ChangedOutside { .. }
            | StorageError::Corrupt { .. }
            | StorageError::CannotOpen { .. }
            | StorageError::Io { .. } => {
                tracing::error!("a request failed: {error}");
                Self::StorageSystemError {
                    message: error.to_string(),
                }
            }
        }
    }
}

impl From<VoteError> for Exception {
    fn from(error: VoteError) -> Self {
        match error {
            VoteError::Conflict(Conflict {
                oid,
                committed,
                read,
                data,
            }) => Self::ConflictError {
                oid: Some(oid),
                committed,
                read,
                class_name: data.as_deref().and_then(wire::class_name),
            },
            VoteError::ReadConflict {
                oid,
                committed,
                read,
            } => Self::ReadConflictError {
                oid: Some(oid),
                committed,
                read,
                class_name: None,
            },
            VoteError::Storage(error) => error.into(),
            VoteError::Spill(error) => {
                tracing::error!("a vote failed: {error}");
                Self::StorageSystemError {
                    message: error.to_string(),
                }
            }
        }
    }
}

impl From<&BufferError> for Exception {
    fn from(error: &BufferError) -> Self {
        let message = error.to_string();
        match error {
            // Not its subclass TransactionTooLargeError, which the stock client
            // does not know: it would raise a ServerException.
            BufferError::TooManyOperations
            | BufferError::TooLarge { .. }
            | BufferError::NoMemory { .. } => Self::StorageTransactionError { message },
            BufferError::Spill(_) | BufferError::Blob(_) => Self::StorageSystemError { message },
        }
    }
}

/// The answer to what this server does not do.
pub fn not_served(method: &'static str) -> Outcome<'static> {
    Outcome::Error(Exception::Unsupported {
        message: format!("this server does not offer {method}"),
    })
}
