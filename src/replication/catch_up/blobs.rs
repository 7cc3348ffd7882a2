//! The blobs that the records of a file need.

use std::io::Write as _;
use std::sync::Arc;

use super::link::Link;
use super::message::{BlobNeed, Message, NO_BLOB};
use super::progress::{Phase, Progress};
use super::{CatchUpError, Result};
use crate::disk::Access;
use crate::storage::{BlobDirectory, BlobFile, StorageError};
use crate::types::{Oid, Tid};

/// So many blobs are asked for at once.
const AT_ONCE: usize = 4096;
/// They are read in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// Sender: sends those that the receiver lacks.
pub fn answer(link: &Link, blobs: Option<&BlobDirectory>, needs: &[BlobNeed]) -> Result<()> {
    for (number, &(oid, tid, length)) in (0_u32..).zip(needs) {
        let opened = match blobs {
            Some(blobs) => blobs.open_revision(oid, tid),
            None => Err(StorageError::BlobsNotSupported),
        };
        match opened {
            Ok(blob) if blob.length_bytes == length => {}
            Ok(blob) => {
                link.send(&Message::Blob(number, blob.length_bytes))?;
                send(link, &blob)?;
            }
            Err(StorageError::NoSuchBlob { .. } | StorageError::BlobsNotSupported) => {
                link.send(&Message::NoBlob(number))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    link.send(&Message::BlobsEnd)
}

fn send(link: &Link, blob: &BlobFile) -> Result<()> {
    let mut out = link.data_out();
    let mut piece = Vec::new();
    let mut position = 0;
    while position < blob.length_bytes {
        blob.read_piece(position, PIECE_BYTES, Access::Wait, &mut piece)?;
        position += piece.len() as u64;
        out.write_all(&piece).map_err(CatchUpError::Broken)?;
    }
    out.end()
}

/// Receiver: gets those that are not here, or not in their length, and puts
/// them in place.
pub fn receive(
    link: &mut Link,
    blobs: &Arc<BlobDirectory>,
    needed: &[(Oid, Tid)],
    progress: &Progress,
) -> Result<()> {
    progress.begin(Phase::Blobs, needed.len() as u64);
    let mut done = 0;
    for needed in needed.chunks(AT_ONCE) {
        let mut needs = Vec::with_capacity(needed.len());
        for &(oid, tid) in needed {
            needs.push((oid, tid, length_here(blobs, oid, tid)?));
        }
        link.send(&Message::NeedBlobs(needs))?;
        receive_some(link, blobs, needed, |at| progress.at(done + at))?;
        done += needed.len() as u64;
        progress.at(done);
    }
    Ok(())
}

fn length_here(blobs: &BlobDirectory, oid: Oid, tid: Tid) -> Result<u64> {
    match blobs.open_revision(oid, tid) {
        Ok(blob) => Ok(blob.length_bytes),
        Err(StorageError::NoSuchBlob { .. }) => Ok(NO_BLOB),
        Err(error) => Err(error.into()),
    }
}

fn receive_some(
    link: &mut Link,
    blobs: &Arc<BlobDirectory>,
    needed: &[(Oid, Tid)],
    mut at: impl FnMut(u64),
) -> Result<()> {
    let find = |number: u32| {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        needed
            .get(place)
            .copied()
            .ok_or_else(|| CatchUpError::Protocol(format!("nobody asked for blob {number}")))
    };
    loop {
        match link.receive()? {
            Message::Blob(number, length) => {
                let (oid, tid) = find(number)?;
                at(u64::from(number));
                receive_one(link, blobs, oid, tid, length)?;
            }
            Message::NoBlob(number) => {
                let (oid, tid) = find(number)?;
                if length_here(blobs, oid, tid)? == NO_BLOB {
                    tracing::warn!(
                        "the blob of {oid} of {tid} is on neither node; \
                         whoever asks for it gets an error"
                    );
                }
            }
            Message::BlobsEnd => return Ok(()),
            other => return Err(Link::unexpected(&other)),
        }
    }
}

fn receive_one(
    link: &mut Link,
    blobs: &Arc<BlobDirectory>,
    oid: Oid,
    tid: Tid,
    length: u64,
) -> Result<()> {
    let mut upload = blobs.upload()?;
    loop {
        match link.receive()? {
            Message::Data(piece) => {
                upload.write(&piece)?;
                if upload.is_write_back_due() {
                    upload.write_back()?;
                }
            }
            Message::DataEnd => break,
            other => return Err(Link::unexpected(&other)),
        }
    }
    if upload.length_bytes() != length {
        return Err(CatchUpError::Protocol(format!(
            "the blob of {oid} has {} bytes instead of {length}",
            upload.length_bytes()
        )));
    }
    Ok(blobs.place_received(oid, tid, upload.finish())?)
}
