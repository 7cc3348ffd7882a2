//! Blobs: taking them in pieces, and sending them in pieces. None is ever held
//! in memory.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Outbox, Outcome, Registered, Session, waiting};
use crate::disk::Access;
use crate::stats::StorageStats;
use crate::storage::StorageError;
use crate::storage::blob::{BlobFile, BlobUpload, PendingBlob};
use crate::transaction::{Blocking, BufferError};
use crate::types::{Oid, Tid};
use crate::wire::{Exception, MessageId, Method, Reply, ServerCall, TransactionKey};

/// Blobs are sent in pieces of this size, as the reference does.
const PIECE_BYTES: usize = 59_000;
/// So much of a blob is put out ahead of what the client has taken, so that
/// other answers do not wait behind it.
pub const SENT_AHEAD_BYTES: usize = 256 << 10;
/// A client can ask for so many blobs at once.
const MAX_SENDS: usize = 100;

/// The blobs that a client is sent, one after the other.
#[derive(Debug, Default)]
pub(super) struct BlobSends {
    queue: VecDeque<BlobSend>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct BlobSend {
    /// The request, answered at the end.
    request: MessageId<'static>,
    oid: Oid,
    serial: Tid,
    file: BlobFile,
    asked_at: Instant,
    /// None: nothing was sent yet.
    position: Option<u64>,
}

/// A blob that comes in pieces.
#[derive(Debug)]
pub(super) enum Upload {
    /// As far as it has come.
    Taking(BlobUpload),
    /// It could not be written. The rest of it is dropped, and the vote says why:
    /// only then is there a way to tell the client.
    Failed(StorageError),
}

impl Session {
    /// Is there more of a blob to be put out?
    pub fn is_sending(&self) -> bool {
        self.registered
            .as_ref()
            .is_some_and(|registered| !registered.sends.queue.is_empty())
    }

    /// Puts out pieces of the blobs that the client asked for, while not much
    /// else waits for it. An error says why the connection is to be closed.
    pub fn send_pieces(&mut self, out: &mut Outbox, blocking: &dyn Blocking) -> Result<(), String> {
        let Some(registered) = &mut self.registered else {
            return Ok(());
        };
        while out.unsent().len() < SENT_AHEAD_BYTES && !registered.sends.queue.is_empty() {
            let stats = &registered.database.stats;
            registered.sends.send_piece(out, stats, blocking)?;
        }
        Ok(())
    }
}

impl BlobSends {
    /// Puts out the next piece of the first blob, or its end.
    fn send_piece(
        &mut self,
        out: &mut Outbox,
        stats: &StorageStats,
        blocking: &dyn Blocking,
    ) -> Result<(), String> {
        let Some(send) = self.queue.front_mut() else {
            return Ok(());
        };
        let (oid, serial) = (send.oid, send.serial);
        let Some(position) = send.position else {
            out.call(&ServerCall::ReceiveBlobStart { oid, serial });
            send.position = Some(0);
            return Ok(());
        };
        let buffer = &mut self.buffer;
        let read = match send
            .file
            .read_piece(position, PIECE_BYTES, Access::Cached, buffer)
        {
            Err(StorageError::WouldBlock) => waiting(blocking, || {
                send.file
                    .read_piece(position, PIECE_BYTES, Access::Wait, buffer)
            }),
            read => read,
        };
        // What was sent cannot be taken back; without the end the client drops it.
        read.map_err(|error| format!("sendBlob of {oid}: {error}"))?;
        if self.buffer.is_empty() {
            out.call(&ServerCall::ReceiveBlobStop { oid, serial });
            out.reply(&send.request, &Reply::Nothing);
            let took = send.asked_at.elapsed();
            stats.requests.note_time(Method::SendBlob.number(), took);
            stats.blobs_sent.increment();
            self.queue.pop_front();
            if self.queue.is_empty() {
                self.buffer = Vec::new();
            }
        } else {
            out.call(&ServerCall::ReceiveBlobChunk {
                oid,
                serial,
                chunk: &self.buffer,
            });
            stats.blob_bytes_sent.add(self.buffer.len() as u64);
            send.position = Some(position + self.buffer.len() as u64);
        }
        Ok(())
    }
}

impl Registered {
    /// Begins to send a blob; the answer comes behind its last piece.
    pub(super) fn send_blob(
        &mut self,
        oid: Oid,
        serial: Tid,
        id: &MessageId<'_>,
        blocking: &dyn Blocking,
    ) -> Outcome<'static> {
        if self.sends.queue.len() >= MAX_SENDS {
            let message = format!("a client can ask for {MAX_SENDS} blobs at once at most");
            return Outcome::Error(Exception::StorageError { message });
        }
        let storage = &self.database.storage;
        match waiting(blocking, || storage.open_blob(oid, serial)) {
            Ok(file) => {
                let request = id.clone().into_owned();
                self.sends.queue.push_back(BlobSend {
                    request,
                    oid,
                    serial,
                    file,
                    asked_at: Instant::now(),
                    position: None,
                });
                Outcome::Later
            }
            Err(error) => error.into(),
        }
    }

    /// A blob follows, in pieces.
    pub(super) fn store_blob_start(&mut self, blocking: &dyn Blocking) -> Outcome<'static> {
        if self.read_only {
            return Outcome::Error(Exception::ReadOnly);
        }
        if self.upload.is_some() {
            return out_of_turn("storeBlobStart within a blob");
        }
        let storage = &self.database.storage;
        let upload = || {
            let blobs = storage.blobs().ok_or(StorageError::BlobsNotSupported)?;
            blobs.upload()
        };
        self.upload = Some(match waiting(blocking, upload) {
            Ok(upload) => Upload::Taking(upload),
            Err(error @ StorageError::BlobsNotSupported) => return error.into(),
            Err(error) => self.failed_upload(error),
        });
        Outcome::DONE
    }

    fn failed_upload(&self, error: StorageError) -> Upload {
        tracing::error!("a blob cannot be taken: {error}");
        self.note_full_disk(&error);
        Upload::Failed(error)
    }

    /// A piece of the blob.
    pub(super) fn store_blob_chunk(
        &mut self,
        chunk: &[u8],
        blocking: &dyn Blocking,
    ) -> Outcome<'static> {
        let upload = match &mut self.upload {
            Some(Upload::Taking(upload)) => upload,
            Some(Upload::Failed(_)) => return Outcome::DONE,
            None => return out_of_turn("storeBlobChunk without storeBlobStart"),
        };
        let mut written = upload.write(chunk);
        if written.is_ok() && upload.is_write_back_due() {
            written = waiting(blocking, || upload.write_back());
        }
        match written {
            Ok(()) => {
                let bytes = chunk.len() as u64;
                self.database.stats.blob_bytes_received.add(bytes);
            }
            Err(error) => self.upload = Some(self.failed_upload(error)),
        }
        Outcome::DONE
    }

    /// The blob is whole, and belongs to this record.
    pub(super) fn store_blob_end(
        &mut self,
        key: &TransactionKey,
        oid: Oid,
        serial: Tid,
        data: &[u8],
    ) -> Outcome<'static> {
        match self.upload.take() {
            Some(Upload::Taking(upload)) => {
                self.database.stats.blobs_received.increment();
                self.store_blob(key, oid, serial, data, upload.finish())
            }
            Some(Upload::Failed(error)) => {
                self.collect(key, true, |_| Err(BufferError::Blob(Box::new(error))))
            }
            None => out_of_turn("storeBlobEnd without storeBlobStart"),
        }
    }

    /// The blob lies in the shared directory already, under this name.
    pub(super) fn store_blob_shared(
        &mut self,
        key: &TransactionKey,
        oid: Oid,
        serial: Tid,
        data: &[u8],
        name: &str,
    ) -> Outcome<'static> {
        if let Err(exception) = self.current_transaction(key) {
            return Outcome::Error(exception);
        }
        let Some(blobs) = self.database.storage.blobs() else {
            return StorageError::BlobsNotSupported.into();
        };
        match blobs.adopt(oid, name) {
            Ok(blob) => self.store_blob(key, oid, serial, data, blob),
            Err(error) => error.into(),
        }
    }

    fn store_blob(
        &mut self,
        key: &TransactionKey,
        oid: Oid,
        serial: Tid,
        data: &[u8],
        blob: PendingBlob,
    ) -> Outcome<'static> {
        self.collect(key, true, |buffer| {
            buffer.store_blob(oid, serial, data, blob)
        })
    }
}

fn out_of_turn(what: &str) -> Outcome<'static> {
    Outcome::Error(Exception::StorageTransactionError {
        message: what.to_owned(),
    })
}
