//! Large data and blobs of transactions, on enough nodes before the entry that
//! names them is proposed.
//!
//! The node that proposes takes them into its area
//! ([`StagingArea`](crate::storage::staging::StagingArea)), and [`Staging::stage`]
//! gives them to the others, all at once; it returns when enough have them
//! durably, and goes on with the rest in the background. A node that applies an
//! entry whose files it lacks asks the others for them ([`Staging::fetch`]).
//!
//! ```text
//! stage: we   Stage(digests)      File, data (each)        Finished
//!        they       Lacking(which)         Stored                  Goodbye
//! fetch: we   Fetch(digest)                 Finished
//!        they              File, data               Goodbye
//! ```

mod fetch;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};

use super::catch_up::link::{Link, converse};
use super::catch_up::message::Message;
use super::catch_up::{CatchUpError, Progress, RateLimit};
use super::peers::{Peers, StreamKind};
use super::types::{Member, NodeId};
use crate::disk::Access;
use crate::storage::staging::{FileDigest, StagingArea};
use crate::storage::{BlobDirectory, BlobFile};
pub use fetch::Trouble;

/// So many transfers to one node go on at once …
const TRANSFERS_PER_NODE: usize = 4;
/// … and so many wait. A node that is slower than that fetches what it lacks.
const WAITING_PER_NODE: usize = 60;
/// Files are sent in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;
/// So many files go with one transaction; a message has to hold their digests.
pub const MAX_FILES: usize = 20_000;

/// Why files did not get to enough nodes.
#[derive(Debug, Error)]
pub enum StagingError {
    /// Too many nodes do not have them.
    #[error("a transaction's data did not get to enough nodes: {}", failures.join("; "))]
    NotEnough {
        /// What went wrong with each.
        failures: Vec<String>,
    },
    /// A transaction has more files than one message can name.
    #[error("a transaction with {0} blobs; {MAX_FILES} at most can be replicated")]
    TooMany(usize),
}

/// The files of one storage on their way.
#[derive(Debug)]
pub struct Staging {
    group: String,
    peers: Arc<dyn Peers>,
    area: Arc<StagingArea>,
    /// Committed blobs, for nodes that come late.
    blobs: Option<Arc<BlobDirectory>>,
    gates: Mutex<BTreeMap<NodeId, Arc<Gate>>>,
}

/// Keeps a slow node from gathering work without end.
#[derive(Debug)]
struct Gate {
    /// Those that go on or wait.
    begun: Semaphore,
    going_on: Semaphore,
}

impl Staging {
    /// For storage `group`.
    pub fn new(
        group: impl Into<String>,
        peers: Arc<dyn Peers>,
        area: Arc<StagingArea>,
        blobs: Option<Arc<BlobDirectory>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            group: group.into(),
            peers,
            area,
            blobs,
            gates: Mutex::default(),
        })
    }

    /// What lies here.
    pub fn area(&self) -> &Arc<StagingArea> {
        &self.area
    }

    /// Gives `files`, which are in our area, to `others`. Returns when `is_enough`
    /// says so of the nodes that have them (without us); the rest get them in the
    /// background. An error when it can no longer become enough.
    pub async fn stage(
        self: &Arc<Self>,
        others: Vec<(NodeId, Member)>,
        files: Vec<FileDigest>,
        is_enough: impl Fn(&BTreeSet<NodeId>) -> bool,
    ) -> Result<BTreeSet<NodeId>, StagingError> {
        if files.len() > MAX_FILES {
            return Err(StagingError::TooMany(files.len()));
        }
        let mut have = BTreeSet::new();
        let mut possible: BTreeSet<NodeId> = others.iter().map(|(node, _)| *node).collect();
        let mut failures = Vec::new();
        let (done, mut outcomes) = mpsc::unbounded_channel();
        let files: Arc<[FileDigest]> = files.into();
        for (node, member) in others {
            let (staging, files, done) = (Arc::clone(self), Arc::clone(&files), done.clone());
            tokio::spawn(async move {
                let outcome = staging.give(node, &member, files).await;
                // Nobody waits any more once there are enough.
                let _ = done.send((node, outcome));
            });
        }
        drop(done);
        while !is_enough(&have) {
            if !is_enough(&possible) {
                return Err(StagingError::NotEnough { failures });
            }
            match outcomes.recv().await {
                Some((node, Ok(()))) => {
                    have.insert(node);
                }
                Some((node, Err(why))) => {
                    // A node that is not reached, or has no room, is told of elsewhere, and once.
                    tracing::debug!("storage {}: node {node}: {why}", self.group);
                    possible.remove(&node);
                    failures.push(format!("node {node}: {why}"));
                }
                None => return Err(StagingError::NotEnough { failures }),
            }
        }
        Ok(have)
    }

    async fn give(
        &self,
        node: NodeId,
        member: &Member,
        files: Arc<[FileDigest]>,
    ) -> Result<(), String> {
        let gate = self.gate(node);
        let Ok(_begun) = gate.begun.try_acquire() else {
            return Err("it is too slow; it gets the data later".to_owned());
        };
        let Ok(_going_on) = gate.going_on.acquire().await else {
            return Err("stopped".to_owned());
        };
        let kind = StreamKind::Staging;
        let opened = self.peers.stream(node, member, &self.group, kind).await;
        let mut stream = opened.map_err(|error| error.to_string())?;
        let area = Arc::clone(&self.area);
        let (rate, progress) = (RateLimit::default(), Progress::default());
        converse(&mut stream, &rate, &progress, move |link, _| {
            give_files(link, &area, &files)
        })
        .await
        .map_err(|error| error.to_string())
    }

    fn gate(&self, node: NodeId) -> Arc<Gate> {
        let mut gates = self.gates.lock();
        let gate = gates.entry(node).or_insert_with(|| {
            Arc::new(Gate {
                begun: Semaphore::new(TRANSFERS_PER_NODE + WAITING_PER_NODE),
                going_on: Semaphore::new(TRANSFERS_PER_NODE),
            })
        });
        Arc::clone(gate)
    }
}

fn give_files(
    link: &mut Link,
    area: &StagingArea,
    files: &[FileDigest],
) -> Result<(), CatchUpError> {
    link.send(&Message::Stage(files.to_vec()))?;
    let lacking = match link.receive()? {
        Message::Lacking(lacking) => lacking,
        other => return Err(Link::unexpected(&other)),
    };
    for number in lacking {
        let file = usize::try_from(number).ok().and_then(|at| files.get(at));
        let opened = match file {
            Some(file) => area.open_file(file)?,
            None => None,
        };
        let Some(opened) = opened else {
            return Err(CatchUpError::Protocol(format!("there is no file {number}")));
        };
        link.send(&Message::File(number))?;
        send_file(link, &opened)?;
    }
    match link.receive()? {
        Message::Stored => finish(link),
        other => Err(Link::unexpected(&other)),
    }
}

fn finish(link: &mut Link) -> Result<(), CatchUpError> {
    link.send(&Message::Finished)?;
    match link.receive()? {
        Message::Goodbye => Ok(()),
        other => Err(Link::unexpected(&other)),
    }
}

fn send_file(link: &Link, file: &BlobFile) -> Result<(), CatchUpError> {
    let mut out = link.data_out();
    let mut piece = Vec::new();
    let mut at = 0;
    while at < file.length_bytes {
        file.read_piece(at, PIECE_BYTES, Access::Wait, &mut piece)?;
        at += piece.len() as u64;
        out.write_all(&piece).map_err(CatchUpError::Broken)?;
    }
    out.end()
}

#[cfg(test)]
mod tests;
