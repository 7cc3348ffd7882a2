use std::io;

use thiserror::Error;

use super::file::pack::ReferenceError;
use crate::disk::is_full;
use crate::types::{Oid, Tid};

/// What can go wrong in a storage. Callers branch on the variants; the text is
/// for the log and for the client.
#[derive(Debug, Error)]
pub enum StorageError {
    /// There is no such object, or not at that time (ZODB's POSKeyError).
    #[error("no object {oid}{}", serial.map(|s| format!(" with serial {s}")).unwrap_or_default())]
    NoSuchObject {
        /// The object.
        oid: Oid,
        /// The revision, where one was asked for.
        serial: Option<Tid>,
    },
    /// There is no blob file for that revision (ZODB's POSKeyError).
    #[error("No blob file at {path}")]
    NoSuchBlob {
        /// The object.
        oid: Oid,
        /// The revision.
        serial: Tid,
        /// Where the file should be.
        path: String,
    },
    /// The storage has no blob directory.
    #[error("Blobs are not supported")]
    BlobsNotSupported,
    /// A client named a file in a shared blob directory that is not to be touched.
    #[error("blob file {name:?}: {problem}")]
    BadBlobFile {
        /// As the client named it.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The read would wait for the device, and the caller asked not to wait.
    #[error("the data is not in memory")]
    WouldBlock,
    /// The storage takes no changes, by its configuration.
    #[error("the storage is read-only")]
    ReadOnly,
    /// An earlier write failed; the storage takes no more until it is reopened.
    #[error(
        "writing stopped after an error ({cause}); reads go on. Free the disk or repair it, then restart the server"
    )]
    WritingStopped {
        /// The first error, in words.
        cause: String,
    },
    /// The disk is full, or a quota is.
    #[error("no space for {needed_bytes} more bytes: {cause}")]
    NoSpace {
        /// What the transaction needs.
        needed_bytes: u64,
        /// The system's words.
        cause: io::Error,
    },
    /// The `quota` of the storage's configuration is used up.
    #[error("The storage quota has been exceeded.")]
    QuotaExceeded,
    /// User, description or extension are longer than the format can hold.
    #[error("{what}")]
    MetadataTooLong {
        /// ZODB's words for it.
        what: &'static str,
    },
    /// The operation does not exist for this kind of storage.
    #[error("{storage} does not support {operation}")]
    Unsupported {
        /// The storage.
        storage: String,
        /// The operation's protocol name.
        operation: &'static str,
    },
    /// A record without data; on disk it would mean that the object was deleted.
    #[error("the record of {oid} is empty")]
    EmptyRecord {
        /// The object.
        oid: Oid,
    },
    /// The prescribed transaction id does not come after the last one.
    #[error("transaction id {tid} does not come after the last transaction {last}")]
    TidNotLater {
        /// The id that the client prescribed.
        tid: Tid,
        /// The storage's last transaction.
        last: Tid,
    },
    /// A pack runs already.
    #[error("Already packing")]
    AlreadyPacking,
    /// The pack time is the one that means "none".
    #[error("Invalid pack time")]
    InvalidPackTime,
    /// The storage was packed to a later time before.
    #[error("Already packed to a later time")]
    PackedLater,
    /// Whoever decides for this storage said no, or cannot be asked.
    #[error("{why}")]
    Elsewhere {
        /// In words.
        why: String,
    },
    /// The storage is being closed; the pack left everything as it was.
    #[error("the pack was interrupted")]
    PackInterrupted,
    /// A pack found a reference to an object that does not exist. What else is
    /// missing cannot be known, so nothing is collected.
    #[error(
        "the record at byte {position} refers to object {oid}, which does not exist. \
         Pack without garbage collection (pack-gc false), or repair the object"
    )]
    DanglingReference {
        /// The missing object.
        oid: Oid,
        /// Where the record is that refers to it.
        position: u64,
    },
    /// A pack found a record whose references cannot be told.
    #[error("the references of the record at byte {position} cannot be told: {source}")]
    UnknownReferences {
        /// Where the record is.
        position: u64,
        /// Why.
        source: ReferenceError,
    },
    /// The bytes on disk break a rule of the format.
    #[error("{file}: {problem} at byte {position}")]
    Corrupt {
        /// The file.
        file: String,
        /// Which rule.
        problem: String,
        /// Where.
        position: u64,
    },
    /// The file is not of a kind that can be served, is in use, or cannot be opened.
    #[error("{file}: {problem}")]
    CannotOpen {
        /// The file.
        file: String,
        /// Why, and what to do.
        problem: String,
    },
    /// No transaction that can be undone has this id.
    #[error("{reason}")]
    NotUndoable {
        /// ZODB's words for it.
        reason: &'static str,
    },
    /// Later changes stand against undoing a transaction.
    #[error("the transaction cannot be undone: {}", describe(failures))]
    CannotUndo {
        /// For each object that is in the way, why.
        failures: Vec<UndoFailure>,
    },
    /// Another program has changed the file under the running server.
    #[error(
        "{file} was changed by another program: {what}. Nothing is written to it any more. \
         Put the file back that belongs there (stop the other program first), then restart the server"
    )]
    ChangedOutside {
        /// The file.
        file: String,
        /// What is different.
        what: String,
    },
    /// What another server says that has the storage.
    #[error("{0}")]
    Remote(Box<dyn std::error::Error + Send + Sync>),
    /// The system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's words.
        source: io::Error,
    },
}

/// An object that keeps a transaction from being undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoFailure {
    /// The object.
    pub oid: Oid,
    /// Why, in ZODB's words.
    pub reason: String,
}

fn describe(failures: &[UndoFailure]) -> String {
    let one = |failure: &UndoFailure| format!("{}: {}", failure.oid, failure.reason);
    failures.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl StorageError {
    /// The object does not exist.
    pub fn no_such_object(oid: Oid) -> Self {
        Self::NoSuchObject { oid, serial: None }
    }

    /// For `map_err` of what takes space: a full disk is told apart.
    pub fn no_space_or_io(
        needed_bytes: u64,
        doing: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        move |cause| {
            if is_full(&cause) {
                Self::NoSpace {
                    needed_bytes,
                    cause,
                }
            } else {
                Self::io(doing)(cause)
            }
        }
    }

    /// For `map_err`: an I/O error with what was being done.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::WouldBlock => Self::WouldBlock,
            _ => Self::Io {
                doing: doing.into(),
                source,
            },
        }
    }
}

/// The result of a storage operation.
pub type Result<T> = std::result::Result<T, StorageError>;
