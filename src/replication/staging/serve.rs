//! The other end: takes files that others stage, gives those that others lack.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Staging, send_file};
use crate::replication::catch_up::link::{Link, converse};
use crate::replication::catch_up::message::Message;
use crate::replication::catch_up::{CatchUpError, Progress, RateLimit};
use crate::storage::staging::{FileDigest, StagingArea};
use crate::storage::{BlobDirectory, BlobFile, StorageError};
use crate::types::{Oid, Tid};

impl Staging {
    /// Serves a stream of [`StreamKind::Staging`](crate::replication::peers::StreamKind):
    /// returns when the other has what it wanted to give acknowledged.
    pub async fn take<S>(&self, stream: &mut S) -> Result<(), CatchUpError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let area = Arc::clone(self.area());
        let (rate, progress) = (RateLimit::default(), Progress::default());
        converse(stream, &rate, &progress, move |link, _| {
            let files = match link.receive()? {
                Message::Stage(files) => files,
                other => return Err(Link::unexpected(&other)),
            };
            take_files(link, &area, &files)?;
            link.send(&Message::Stored)?;
            match link.receive()? {
                Message::Finished => link.send(&Message::Goodbye),
                other => Err(Link::unexpected(&other)),
            }
        })
        .await
    }

    /// Serves a stream of [`StreamKind::Fetch`](crate::replication::peers::StreamKind).
    pub async fn lend<S>(&self, stream: &mut S) -> Result<(), CatchUpError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let area = Arc::clone(self.area());
        let blobs = self.blobs.clone();
        let (rate, progress) = (RateLimit::default(), Progress::default());
        converse(stream, &rate, &progress, move |link, _| {
            loop {
                match link.receive()? {
                    Message::Fetch(file, blob) => {
                        match find(&area, blobs.as_deref(), file, blob)? {
                            Some(found) => {
                                link.send(&Message::File(0))?;
                                send_file(link, &found)?;
                            }
                            None => link.send(&Message::NotHere)?,
                        }
                    }
                    Message::Finished => return link.send(&Message::Goodbye),
                    other => return Err(Link::unexpected(&other)),
                }
            }
        })
        .await
    }
}

fn take_files(
    link: &mut Link,
    area: &Arc<StagingArea>,
    files: &[FileDigest],
) -> Result<(), CatchUpError> {
    let mut asked = BTreeSet::new();
    let lacking: Vec<u32> = (0_u32..)
        .zip(files)
        .filter(|(_, file)| !area.claim(file) && asked.insert(**file))
        .map(|(number, _)| number)
        .collect();
    link.send(&Message::Lacking(lacking.clone()))?;
    for number in lacking {
        match link.receive()? {
            Message::File(found) if found == number => {}
            other => return Err(Link::unexpected(&other)),
        }
        let file = usize::try_from(number).ok().and_then(|at| files.get(at));
        if let Some(file) = file {
            receive_file(link, area, *file)?;
        }
    }
    Ok(())
}

/// Takes a file, durably.
pub fn receive_file(
    link: &mut Link,
    area: &Arc<StagingArea>,
    file: FileDigest,
) -> Result<(), CatchUpError> {
    let mut receiving = area.receive()?;
    let mut left = file.length;
    loop {
        match link.receive()? {
            Message::Data(piece) => {
                left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                    CatchUpError::Protocol(format!("{file} is longer than it says"))
                })?;
                receiving.write(&piece)?;
            }
            Message::DataEnd => break,
            other => return Err(Link::unexpected(&other)),
        }
    }
    receiving.finish(Some(file))?;
    Ok(())
}

fn find(
    area: &StagingArea,
    blobs: Option<&BlobDirectory>,
    file: FileDigest,
    blob: Option<(Oid, Tid)>,
) -> Result<Option<BlobFile>, StorageError> {
    if area.has(&file)
        && let Some(found) = area.open_file(&file)?
    {
        return Ok(Some(found));
    }
    let (Some(blobs), Some((oid, tid))) = (blobs, blob) else {
        return Ok(None);
    };
    match blobs.open_revision(oid, tid) {
        Ok(found) if found.length_bytes == file.length => Ok(Some(found)),
        Ok(_) | Err(StorageError::NoSuchBlob { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
