//! What clients ask for.

pub(super) mod arguments;
mod build;
mod decode;
mod encode;
mod method;

use std::borrow::Cow;

use super::value::Value;
use crate::types::{Oid, Tid};

pub use decode::decode;
pub use encode::{encode_heartbeat, encode_request};
pub use method::Method;

/// A message's id: any value, kept as its own bytes in the connection's format
/// and echoed verbatim. It names no memo entry, so it stands in any message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MessageId<'a>(pub(super) Cow<'a, [u8]>);

impl MessageId<'_> {
    /// The same id, borrowing nothing.
    pub fn into_owned(self) -> MessageId<'static> {
        MessageId(Cow::Owned(self.0.into_owned()))
    }

    /// The id as it is written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The client's name for a transaction: in practice the address of a Python
/// object. It is compared for equality and not interpreted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TransactionKey {
    /// An integer.
    Int(i128),
    /// Anything else, as a pickle.
    Bytes(Box<[u8]>),
}

/// A frame of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// Only shows that the client lives.
    Heartbeat,
    /// Something to do.
    Call {
        /// What the reply must name.
        id: MessageId<'a>,
        /// Whether no reply is wanted, not even an error.
        one_way: bool,
        /// What to do.
        request: Request<'a>,
    },
}

/// Why a frame gives no [`Message`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The payload is no message; the connection is to be closed.
    #[error("malformed message: {detail} (at byte {offset})")]
    Malformed {
        /// How many bytes of the payload had been read.
        offset: usize,
        /// What is wrong.
        detail: String,
    },
    /// No such method; the connection is to be closed.
    #[error("unknown method \"{name}\"")]
    UnknownMethod {
        /// Its name, escaped and shortened.
        name: String,
    },
    /// The arguments do not fit the method. A call gets a `TypeError`, or, where
    /// an oid is wrong, a `POSKeyError`; a one-way message closes the connection.
    #[error("{method}: {detail}")]
    BadArguments {
        /// What the reply must name.
        id: MessageId<'static>,
        /// Whether no reply is possible.
        one_way: bool,
        /// The method's name on the wire.
        method: &'static str,
        /// An oid was wanted and what is there is none, so it names no object.
        names_no_object: bool,
        /// What is wrong.
        detail: String,
    },
}

/// What a client can ask for. The arguments are those of the Python server's
/// methods of the names that [`Request::method`] gives.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are the protocol's
pub enum Request<'a> {
    /// Choose a storage; the first request of every client.
    Register {
        storage: Cow<'a, str>,
        read_only: bool,
    },
    /// What the storage is and can do.
    GetInfo,
    /// The last transaction's tid.
    LastTransaction,
    /// What has changed since a tid.
    GetInvalidations { tid: Tid },
    /// New oids, as many as asked for at most.
    NewOids { count: u64 },
    /// One new oid.
    NewOid,
    /// Remove what is not needed after a time (seconds since 1970).
    Pack { time: f64, wait: bool },
    /// An object's revision before a tid.
    LoadBefore { oid: Oid, tid: Tid },
    /// One revision of an object.
    LoadSerial { oid: Oid, serial: Tid },
    /// The serial of an object's current revision.
    GetTid { oid: Oid },
    /// The last revisions of an object.
    History { oid: Oid, size: u64 },
    /// The current record of the object after the one that `next` names.
    RecordIternext { next: Option<Oid> },
    /// Begin a transaction.
    TpcBegin {
        transaction: TransactionKey,
        user: Cow<'a, [u8]>,
        description: Cow<'a, [u8]>,
        /// A pickled dict, or empty.
        extension: Vec<u8>,
        tid: Option<Tid>,
        status: u8,
    },
    /// Write a record.
    Store {
        oid: Oid,
        serial: Tid,
        data: Cow<'a, [u8]>,
        transaction: TransactionKey,
    },
    /// Write a record of another storage, with its serial.
    Restore {
        oid: Oid,
        serial: Tid,
        data: Option<Cow<'a, [u8]>>,
        previous: Option<Tid>,
        transaction: TransactionKey,
    },
    /// Remove an object.
    DeleteObject {
        oid: Oid,
        serial: Tid,
        transaction: TransactionKey,
    },
    /// Hold an object at its revision.
    CheckCurrentSerial {
        oid: Oid,
        serial: Tid,
        transaction: TransactionKey,
    },
    /// Make sure that a transaction can be finished.
    Vote { transaction: TransactionKey },
    /// Commit it.
    TpcFinish { transaction: TransactionKey },
    /// Forget it.
    TpcAbort { transaction: TransactionKey },
    /// Undo a transaction, as a part of another.
    Undo {
        undone: Cow<'a, [u8]>,
        transaction: TransactionKey,
    },
    /// Describe past transactions.
    UndoLog { first: i64, last: i64 },
    /// Describe those past transactions that have the given values.
    UndoInfo {
        first: i64,
        last: i64,
        specification: Value<'a>,
    },
    /// A blob follows.
    StoreBlobStart,
    /// A part of the blob.
    StoreBlobChunk { chunk: Cow<'a, [u8]> },
    /// The blob is complete; its record.
    StoreBlobEnd {
        oid: Oid,
        serial: Tid,
        data: Cow<'a, [u8]>,
        transaction: TransactionKey,
    },
    /// A blob that lies in the shared directory, and its record.
    StoreBlobShared {
        oid: Oid,
        serial: Tid,
        data: Cow<'a, [u8]>,
        filename: Cow<'a, str>,
        transaction: TransactionKey,
    },
    /// Send a blob.
    SendBlob { oid: Oid, serial: Tid },
    /// Iterate over transactions.
    IteratorStart {
        start: Option<Tid>,
        stop: Option<Tid>,
    },
    /// The next transaction.
    IteratorNext { iterator: u64 },
    /// Iterate over the records of the transaction that was handed out last.
    IteratorRecordStart { iterator: u64, tid: Tid },
    /// The next record.
    IteratorRecordNext { iterator: u64 },
    /// Forget iterators.
    IteratorGc { iterators: Vec<u64> },
    /// The server's counters.
    ServerStatus,
    /// A name for the client in the log.
    SetClientLabel { label: Cow<'a, str> },
    /// Nothing, in order.
    Ping,
}

impl Request<'_> {
    /// Must the answer show everything that was acknowledged to anybody before
    /// the request came?
    pub fn is_barrier(&self) -> bool {
        matches!(
            self,
            Self::Ping | Self::LastTransaction | Self::GetInvalidations { .. }
        )
    }

    /// The method's name on the wire.
    pub fn method(&self) -> &'static str {
        self.kind().name()
    }

    /// The method.
    pub fn kind(&self) -> Method {
        match self {
            Self::Register { .. } => Method::Register,
            Self::GetInfo => Method::GetInfo,
            Self::LastTransaction => Method::LastTransaction,
            Self::GetInvalidations { .. } => Method::GetInvalidations,
            Self::NewOids { .. } => Method::NewOids,
            Self::NewOid => Method::NewOid,
            Self::Pack { .. } => Method::Pack,
            Self::LoadBefore { .. } => Method::LoadBefore,
            Self::LoadSerial { .. } => Method::LoadSerial,
            Self::GetTid { .. } => Method::GetTid,
            Self::History { .. } => Method::History,
            Self::RecordIternext { .. } => Method::RecordIternext,
            Self::TpcBegin { .. } => Method::TpcBegin,
            Self::Store { .. } => Method::Store,
            Self::Restore { .. } => Method::Restore,
            Self::DeleteObject { .. } => Method::DeleteObject,
            Self::CheckCurrentSerial { .. } => Method::CheckCurrentSerial,
            Self::Vote { .. } => Method::Vote,
            Self::TpcFinish { .. } => Method::TpcFinish,
            Self::TpcAbort { .. } => Method::TpcAbort,
            Self::Undo { .. } => Method::Undo,
            Self::UndoLog { .. } => Method::UndoLog,
            Self::UndoInfo { .. } => Method::UndoInfo,
            Self::StoreBlobStart => Method::StoreBlobStart,
            Self::StoreBlobChunk { .. } => Method::StoreBlobChunk,
            Self::StoreBlobEnd { .. } => Method::StoreBlobEnd,
            Self::StoreBlobShared { .. } => Method::StoreBlobShared,
            Self::SendBlob { .. } => Method::SendBlob,
            Self::IteratorStart { .. } => Method::IteratorStart,
            Self::IteratorNext { .. } => Method::IteratorNext,
            Self::IteratorRecordStart { .. } => Method::IteratorRecordStart,
            Self::IteratorRecordNext { .. } => Method::IteratorRecordNext,
            Self::IteratorGc { .. } => Method::IteratorGc,
            Self::ServerStatus => Method::ServerStatus,
            Self::SetClientLabel { .. } => Method::SetClientLabel,
            Self::Ping => Method::Ping,
        }
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod picklers;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
