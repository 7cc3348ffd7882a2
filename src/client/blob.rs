//! Blobs, in pieces: none is ever held in memory.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::connection::Connection;
use super::error::CallError;
use crate::types::{Oid, Tid};
use crate::wire::{Request, ServerNotice, TransactionKey, Value};

/// Blobs are sent in pieces of this size, as the reference does.
pub const BLOB_PIECE_BYTES: usize = 59_000;
/// So many pieces are read from the file at once.
const PIECES_AT_ONCE: usize = 16;

/// Where the pieces of a fetched blob go.
type Write = Box<dyn FnMut(&[u8]) -> io::Result<()> + Send>;

/// A blob that the server sends.
pub(super) struct BlobSink {
    oid: Oid,
    serial: Tid,
    write: Write,
    failure: Option<CallError>,
    is_complete: bool,
}

impl fmt::Debug for BlobSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobSink({} {})", self.oid, self.serial)
    }
}

impl BlobSink {
    /// Takes what is for it; false for all else.
    pub(super) fn take(&mut self, notice: &ServerNotice<'_>) -> bool {
        let (ServerNotice::BlobStart { oid, serial }
        | ServerNotice::BlobChunk { oid, serial, .. }
        | ServerNotice::BlobStop { oid, serial }) = notice
        else {
            return false;
        };
        if (*oid, *serial) != (self.oid, self.serial) {
            return false;
        }
        match notice {
            // After an error the rest comes all the same, and is dropped.
            ServerNotice::BlobChunk { chunk, .. } if self.failure.is_none() => {
                if let Err(error) = (self.write)(chunk) {
                    self.failure = Some(CallError::file(&error));
                }
            }
            ServerNotice::BlobStop { .. } => self.is_complete = true,
            _ => {}
        }
        true
    }

    fn into_result(self) -> Result<(), CallError> {
        match self.failure {
            Some(failure) => Err(failure),
            None if self.is_complete => Ok(()),
            None => Err(CallError::Answer { method: "sendBlob" }),
        }
    }
}

impl Connection {
    /// Fetches a blob; `write` is given its pieces in order, by the task that
    /// reads from the server. One blob is fetched at a time.
    pub async fn fetch_blob(
        &self,
        oid: Oid,
        serial: Tid,
        write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> Result<(), CallError> {
        // Kept until the reply, also where the caller gives up before: the
        // pieces come all the same.
        let turn = Arc::clone(&self.shared.fetch_turn).lock_owned().await;
        self.shared.set_sink(BlobSink {
            oid,
            serial,
            write: Box::new(write),
            failure: None,
            is_complete: false,
        });
        let (sender, receiver) = oneshot::channel();
        let shared = Arc::downgrade(&self.shared);
        let on_reply = move |reply: Result<Value<'_>, CallError>| {
            let sink = shared.upgrade().and_then(|shared| shared.take_sink());
            let result = match (reply, sink) {
                (Err(error), _) => Err(error),
                (Ok(_), Some(sink)) => sink.into_result(),
                (Ok(_), None) => Err(CallError::Answer { method: "sendBlob" }),
            };
            drop(turn);
            let _ = sender.send(result);
        };
        let request = Request::SendBlob { oid, serial };
        self.send_with(&request, Box::new(on_reply)).await?;
        receiver
            .await
            .unwrap_or_else(|_| Err(CallError::Disconnected("this process stops".into())))
    }

    /// Sends a blob and its record as part of a transaction. `read` appends to
    /// the buffer what stands from the given position on, up to the given
    /// number of bytes; nothing at the end. It is run where it may wait.
    pub async fn store_blob(
        &self,
        oid: Oid,
        serial: Tid,
        data: &[u8],
        transaction: TransactionKey,
        mut read: impl FnMut(u64, usize, &mut Vec<u8>) -> io::Result<()> + Send + 'static,
    ) -> Result<(), CallError> {
        // The pieces of two blobs must not mix.
        let _turn = self.shared.upload_turn.lock().await;
        self.send_one_way(&Request::StoreBlobStart).await?;
        let mut position = 0;
        let mut buffer = Vec::new();
        loop {
            (read, buffer) = tokio::task::spawn_blocking(move || {
                buffer.clear();
                read(position, BLOB_PIECE_BYTES * PIECES_AT_ONCE, &mut buffer)?;
                Ok((read, buffer))
            })
            .await
            .map_err(|error| CallError::File(error.to_string().into()))?
            .map_err(|error: io::Error| CallError::file(&error))?;
            if buffer.is_empty() {
                break;
            }
            for piece in buffer.chunks(BLOB_PIECE_BYTES) {
                let chunk = piece.into();
                self.send_one_way(&Request::StoreBlobChunk { chunk })
                    .await?;
            }
            position += buffer.len() as u64;
        }
        self.send_one_way(&Request::StoreBlobEnd {
            oid,
            serial,
            data: data.into(),
            transaction,
        })
        .await
    }
}
