//! Sends the state of a storage to a node that the log cannot bring up to date.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};

use openraft::raft::SnapshotResponse;
use openraft::{LogId, Snapshot, Vote};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::applier::Applier;
use super::catch_up::{self, Origin, Progress, RateLimit};
use super::consensus::{CatchUp, CatchUpError};
use super::entry_codec::{DecodeError, decode};
use super::peers::{BoxFuture, PeerStream, Peers, StreamKind};
use super::receiving::Envelope;
use super::types::{Member, NodeId, Types};
use crate::storage::Storage;
use crate::storage::file::transfer::HeldFile;

/// So many states are held for transfers that have not begun.
const MAX_OFFERS: usize = 4;
/// An answer is a raft vote.
const MAX_ANSWER_BYTES: u32 = 1 << 16;

/// A state that a transfer may begin with.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Up to where in the log it is.
    pub log_id: LogId<NodeId>,
    /// What the receiver notes when it has it.
    pub note: super::note::Note,
    /// The file, however long it takes.
    pub held: HeldFile,
}

/// The last states that raft was told of.
#[derive(Debug, Default)]
pub struct Offers(Mutex<VecDeque<Offer>>);

impl Offers {
    /// Remembers one.
    pub fn add(&self, offer: Offer) {
        let mut offers = self.0.lock();
        offers.retain(|known| known.log_id != offer.log_id);
        if offers.len() >= MAX_OFFERS {
            offers.pop_front();
        }
        offers.push_back(offer);
    }

    fn find(&self, log_id: Option<LogId<NodeId>>) -> Option<Offer> {
        let offers = self.0.lock();
        let mut newest = offers.iter().rev();
        newest.find(|offer| Some(offer.log_id) == log_id).cloned()
    }
}

/// Sends the state of one storage.
#[derive(Debug)]
pub struct Sending {
    group: String,
    peers: Arc<dyn Peers>,
    applier: OnceLock<Weak<Applier>>,
    rate: RateLimit,
    /// The transfers under way, one to a node, and how far each is.
    progress: Mutex<Vec<(NodeId, Arc<Progress>)>>,
}

impl Sending {
    /// For storage `group`; no faster than `rate`.
    pub fn new(
        group: String,
        peers: Arc<dyn Peers>,
        applier: &Arc<Applier>,
        rate: RateLimit,
    ) -> Self {
        Self {
            group,
            peers,
            applier: OnceLock::from(Arc::downgrade(applier)),
            rate,
            progress: Mutex::default(),
        }
    }

    /// How far the transfer to a node is, if there is one.
    pub fn progress(&self, node: NodeId) -> Option<catch_up::CatchUpProgress> {
        let progress = self.progress.lock();
        let own = progress.iter().find(|(to, _)| *to == node);
        own.map(|(_, progress)| progress.get())
    }

    async fn send_state(
        &self,
        to: NodeId,
        member: &Member,
        vote: Vote<NodeId>,
        snapshot: &Snapshot<Types>,
        progress: &Arc<Progress>,
    ) -> Result<SnapshotResponse<NodeId>, String> {
        let applier = self.applier.get().and_then(Weak::upgrade);
        let applier = applier.ok_or("this node is stopping")?;
        let offer = applier.offers.find(snapshot.meta.last_log_id);
        let offer = offer.ok_or("the state is not held any more; it is tried again")?;
        let stream = self
            .peers
            .stream(to, member, &self.group, StreamKind::CatchUp);
        let mut stream = stream.await.map_err(|error| error.to_string())?;
        let envelope = Envelope {
            vote,
            meta: snapshot.meta.clone(),
            note: offer.note.clone(),
        };
        send_message(&mut stream, &super::entry_codec::encode(&envelope))
            .await
            .map_err(|error| error.to_string())?;
        let origin = Origin {
            held: offer.held,
            mark: offer.note.mark,
            blobs: applier.storage.blobs().cloned(),
        };
        catch_up::send(&mut stream, origin, &self.rate, progress)
            .await
            .map_err(|error| error.to_string())?;
        let answer = receive_message(&mut stream, MAX_ANSWER_BYTES)
            .await
            .map_err(|error| error.to_string())?;
        let vote = decode(answer.into()).map_err(|error: DecodeError| error.to_string())?;
        Ok(SnapshotResponse::new(vote))
    }
}

impl CatchUp for Sending {
    fn send<'a>(
        &'a self,
        to: NodeId,
        member: &'a Member,
        vote: Vote<NodeId>,
        snapshot: Snapshot<Types>,
        cancel: BoxFuture<'static, ()>,
    ) -> BoxFuture<'a, Result<SnapshotResponse<NodeId>, CatchUpError>> {
        Box::pin(async move {
            let progress = Arc::new(Progress::default());
            self.progress.lock().push((to, Arc::clone(&progress)));
            let sent = tokio::select! {
                sent = self.send_state(to, member, vote, &snapshot, &progress) => {
                    sent.map_err(|why| {
                        tracing::warn!("storage {}: node {to} is not up to date: {why}", self.group);
                        CatchUpError::Failed(why)
                    })
                }
                () = cancel => Err(CatchUpError::Cancelled),
            };
            let mut all = self.progress.lock();
            all.retain(|(_, known)| !Arc::ptr_eq(known, &progress));
            sent
        })
    }
}

/// Writes a message with its length in front.
pub(super) async fn send_message(stream: &mut PeerStream, bytes: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Reads one of no more than `limit` bytes.
pub(super) async fn receive_message(
    stream: &mut PeerStream,
    limit: u32,
) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length);
    if length > limit {
        let why = format!("a message of {length} bytes, where {limit} are the most");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
