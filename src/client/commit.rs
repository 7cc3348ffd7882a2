//! The steps of a transaction. What it consists of goes one-way; an error of
//! the server's then closes the connection, as the protocol has it.

use super::connection::Connection;
use super::error::CallError;
use crate::types::{Oid, Tid, TransactionMeta};
use crate::wire::{Conflict, Request, TransactionKey, Value};

/// What a vote says about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoteItem {
    /// It was changed otherwise than this client wanted: its conflict was
    /// resolved by the server, or an undo changed it.
    Resolved(Oid),
    /// The client is to resolve this, store the result and vote again.
    Conflict(Conflict<'static>),
}

impl VoteItem {
    /// From the answer to `vote`.
    pub fn from_value(value: &Value<'_>) -> Result<Vec<Self>, CallError> {
        let item = |item: &Value<'_>| match item.as_oid() {
            Some(oid) => Some(Self::Resolved(oid)),
            None => item.as_conflict().map(Self::Conflict),
        };
        let items = match value {
            Value::None => Some(Vec::new()),
            value => value
                .as_items()
                .and_then(|items| items.iter().map(item).collect()),
        };
        items.ok_or(CallError::Answer { method: "vote" })
    }
}

impl Connection {
    /// Begins a transaction. A prescribed id is in `meta.tid`.
    pub async fn tpc_begin(
        &self,
        transaction: TransactionKey,
        meta: &TransactionMeta,
    ) -> Result<(), CallError> {
        self.send_one_way(&Request::TpcBegin {
            transaction,
            user: meta.user.as_slice().into(),
            description: meta.description.as_slice().into(),
            extension: meta.extension.clone(),
            tid: meta.tid,
            status: meta.status,
        })
        .await
    }

    /// Stores a new revision of an object that was seen at `serial`.
    pub async fn store(
        &self,
        oid: Oid,
        serial: Tid,
        data: &[u8],
        transaction: TransactionKey,
    ) -> Result<(), CallError> {
        self.send_one_way(&Request::Store {
            oid,
            serial,
            data: data.into(),
            transaction,
        })
        .await
    }

    /// Stores a revision of another storage, with its serial; without data the
    /// object ceases to exist.
    pub async fn restore(
        &self,
        oid: Oid,
        serial: Tid,
        data: Option<&[u8]>,
        previous: Option<Tid>,
        transaction: TransactionKey,
    ) -> Result<(), CallError> {
        self.send_one_way(&Request::Restore {
            oid,
            serial,
            data: data.map(Into::into),
            previous,
            transaction,
        })
        .await
    }

    /// Removes an object that was seen at `serial`.
    pub async fn delete_object(
        &self,
        oid: Oid,
        serial: Tid,
        transaction: TransactionKey,
    ) -> Result<(), CallError> {
        self.send_one_way(&Request::DeleteObject {
            oid,
            serial,
            transaction,
        })
        .await
    }

    /// Has an object stay as it was seen.
    pub async fn check_current_serial(
        &self,
        oid: Oid,
        serial: Tid,
        transaction: TransactionKey,
    ) -> Result<(), CallError> {
        self.send_one_way(&Request::CheckCurrentSerial {
            oid,
            serial,
            transaction,
        })
        .await
    }

    /// Undoes a transaction; `undone` is its id as `undoLog` gives it.
    pub async fn undo(&self, undone: &[u8], transaction: TransactionKey) -> Result<(), CallError> {
        let undone = undone.into();
        self.send_one_way(&Request::Undo {
            undone,
            transaction,
        })
        .await
    }

    /// Commits the transaction; its id.
    pub async fn tpc_finish(&self, transaction: TransactionKey) -> Result<Tid, CallError> {
        let request = Request::TpcFinish { transaction };
        self.ask(&request, |value| value.as_tid()).await
    }

    /// Gives the transaction up.
    pub async fn tpc_abort(&self, transaction: TransactionKey) -> Result<(), CallError> {
        let request = Request::TpcAbort { transaction };
        self.ask(&request, |_| Some(())).await
    }
}
