//! A network in memory, for simulations: messages are late, overtake each other
//! and get lost, all of it drawn from a seed. Time is tokio's; with a paused
//! clock and one thread a run is the same each time.
//!
//! What becomes of the Nth message from one node to another depends on the seed,
//! the two and N alone, so that a change in one corner of a simulation leaves
//! the rest of it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::replication::peers::{
    BoxFuture, PeerError, PeerHandler, PeerStream, Peers, Reply, Request, StreamKind,
};
use crate::replication::types::{Member, NodeId};

/// Who opens a stream waits so long for the other end.
const STREAM_PATIENCE: Duration = Duration::from_secs(5);
/// What is under way on a stream before its writer has to wait.
const STREAM_BYTES: usize = 64 << 10;

/// What messages are exposed to.
#[derive(Clone, Debug)]
pub struct Weather {
    /// So many of 1,000 messages get lost. Streams lose nothing.
    pub lost_per_mille: u64,
    /// How long the others are under way.
    pub delay: RangeInclusive<Duration>,
}

impl Default for Weather {
    /// A good local network.
    fn default() -> Self {
        Self {
            lost_per_mille: 0,
            delay: Duration::from_micros(100)..=Duration::from_micros(500),
        }
    }
}

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct MemoryNetwork {
    shared: Arc<Shared>,
}

struct Shared {
    seed: u64,
    began: Instant,
    state: Mutex<State>,
    /// Links were cut, healed or released.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<NodeId, Arc<Life>>,
    /// Nothing gets from the first to the second.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// What goes from the first to the second waits.
    held: BTreeSet<(NodeId, NodeId)>,
    weather: Weather,
    sent: BTreeMap<(NodeId, NodeId), u64>,
    counts: Counts,
}

/// What the network has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages, requests and answers, that were sent.
    pub sent: u64,
    /// Those that never arrived.
    pub lost: u64,
    /// Two runs in which the same messages met the same fate at the same time
    /// have the same one.
    pub digest: u64,
}

/// One run of a node's process, from its start until it is killed.
struct Life {
    node: NodeId,
    /// None: does not listen (yet, or any longer).
    handler: Mutex<Option<Arc<dyn PeerHandler>>>,
    over: watch::Sender<bool>,
}

/// A running node's place in the network.
pub struct Host {
    shared: Arc<Shared>,
    life: Arc<Life>,
}

impl MemoryNetwork {
    /// A network without nodes.
    pub fn new(seed: u64) -> Self {
        let shared = Shared {
            seed,
            began: Instant::now(),
            state: Mutex::default(),
            changed: watch::Sender::new(()),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Starts `node`'s process; a former one of it is killed.
    pub fn boot(&self, node: NodeId) -> Host {
        self.crash(node);
        let life = Arc::new(Life {
            node,
            handler: Mutex::default(),
            over: watch::Sender::new(false),
        });
        let mut state = self.shared.state.lock();
        state.running.insert(node, Arc::clone(&life));
        Host {
            shared: Arc::clone(&self.shared),
            life,
        }
    }

    /// Kills `node`'s process: what it was answering stays unanswered, its
    /// streams end, and who asks it learns at once that nobody is there. What
    /// it has sent still arrives.
    pub fn crash(&self, node: NodeId) {
        let life = self.shared.state.lock().running.remove(&node);
        if let Some(life) = life {
            life.over.send_replace(true);
            // The handler may know its way to the peers, and so this life.
            let handler = life.handler.lock().take();
            drop(handler);
        }
    }

    /// From now on the weather is so, everywhere.
    pub fn set_weather(&self, weather: Weather) {
        self.shared.state.lock().weather = weather;
    }

    /// From now on nothing gets from `from` to `to`, nor does what is under
    /// way; the other direction stays. Streams stand still.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.shared.state.lock().cut.insert((from, to));
        self.shared.changed.send_replace(());
    }

    /// Undoes [`Self::cut`].
    pub fn heal(&self, from: NodeId, to: NodeId) {
        self.shared.state.lock().cut.remove(&(from, to));
        self.shared.changed.send_replace(());
    }

    /// From now on what goes from `from` to `to` is on its way until
    /// [`Self::release`], and arrives then, old as it is.
    pub fn hold(&self, from: NodeId, to: NodeId) {
        self.shared.state.lock().held.insert((from, to));
    }

    /// Undoes [`Self::hold`].
    pub fn release(&self, from: NodeId, to: NodeId) {
        self.shared.state.lock().held.remove(&(from, to));
        self.shared.changed.send_replace(());
    }

    /// Nothing gets from one of `side` to one of `others`, nor back.
    pub fn part(&self, side: &[NodeId], others: &[NodeId]) {
        for &one in side {
            for &other in others {
                self.cut(one, other);
                self.cut(other, one);
            }
        }
    }

    /// Undoes all cuts and holds.
    pub fn heal_all(&self) {
        let mut state = self.shared.state.lock();
        state.cut.clear();
        state.held.clear();
        drop(state);
        self.shared.changed.send_replace(());
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.shared.state.lock().counts
    }
}

impl Host {
    /// The way from this node to the others.
    pub fn peers(&self) -> Arc<dyn Peers> {
        Arc::new(MemoryPeers {
            shared: Arc::clone(&self.shared),
            life: Arc::clone(&self.life),
        })
    }

    /// From now on `handler` answers the others.
    pub fn serve(&self, handler: Arc<dyn PeerHandler>) {
        if !*self.life.over.borrow() {
            *self.life.handler.lock() = Some(handler);
        }
    }
}

impl Shared {
    /// Takes a message from one node to another: true when it has arrived.
    async fn carry(&self, from: NodeId, to: NodeId) -> bool {
        let Some(delay) = self.fate(from, to) else {
            return false;
        };
        tokio::time::sleep(delay).await;
        self.until(|state| !state.held.contains(&(from, to))).await;
        let mut state = self.state.lock();
        let is_cut = state.cut.contains(&(from, to));
        state.counts.lost += u64::from(is_cut);
        !is_cut
    }

    /// How long the next message is under way; None: for ever.
    fn fate(&self, from: NodeId, to: NodeId) -> Option<Duration> {
        let mut state = self.state.lock();
        let number = state.sent.entry((from, to)).or_default();
        *number += 1;
        let link = mixed(mixed(self.seed, from), to);
        let drawn = mixed(link, *number);
        let is_cut = state.cut.contains(&(from, to));
        let is_lost = is_cut || drawn % 1_000 < state.weather.lost_per_mille;
        let delay = between(&state.weather.delay, mixed(drawn, 1));
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let counts = &mut state.counts;
        counts.sent += 1;
        counts.lost += u64::from(is_lost);
        counts.digest = mixed(mixed(counts.digest, drawn ^ u64::from(is_lost)), now);
        (!is_lost).then_some(delay)
    }

    fn running(&self, node: NodeId) -> Option<Arc<Life>> {
        self.state.lock().running.get(&node).cloned()
    }

    /// Waits until a link is as it should be.
    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        while !is_so(&self.state.lock()) {
            let _ = changed.changed().await;
        }
    }

    async fn open(&self, from: NodeId, to: NodeId) {
        let link = (from, to);
        self.until(|state| !state.cut.contains(&link) && !state.held.contains(&link))
            .await;
    }

    /// Delays bytes as the weather has it, and keeps them while the link is cut or held.
    async fn pump<R, W>(&self, from: NodeId, to: NodeId, mut source: R, mut sink: W)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut chunk = vec![0; STREAM_BYTES];
        while let Ok(length @ 1..) = source.read(&mut chunk).await {
            tokio::time::sleep(self.fate(from, to).unwrap_or_default()).await;
            self.open(from, to).await;
            if sink.write_all(&chunk[..length]).await.is_err() {
                return;
            }
        }
        self.open(from, to).await;
        let _ = sink.shutdown().await;
    }

    async fn join(&self, caller: &Life, there: &Life, near: DuplexStream, far: DuplexStream) {
        let (near_read, near_write) = tokio::io::split(near);
        let (far_read, far_write) = tokio::io::split(far);
        tokio::select! {
            biased;
            () = caller.end() => {}
            () = there.end() => {}
            _ = async {
                tokio::join!(
                    self.pump(caller.node, there.node, near_read, far_write),
                    self.pump(there.node, caller.node, far_read, near_write),
                )
            } => {}
        }
    }
}

impl Life {
    async fn end(&self) {
        let _ = self.over.subscribe().wait_for(|&over| over).await;
    }

    fn handler(&self) -> Option<Arc<dyn PeerHandler>> {
        self.handler.lock().clone()
    }
}

/// The network as one node sees it.
struct MemoryPeers {
    shared: Arc<Shared>,
    life: Arc<Life>,
}

/// What comes back from the other end; nothing: it got lost.
type Answer<T> = Result<T, io::Error>;

impl MemoryPeers {
    /// Runs `at_the_other_end` when a message has got there, and waits for
    /// what it returns.
    async fn ask<T, F>(
        &self,
        to: NodeId,
        member: &Member,
        patience: Duration,
        at_the_other_end: impl FnOnce(Arc<Life>, Arc<dyn PeerHandler>) -> F + Send + 'static,
    ) -> Result<T, PeerError>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let unreachable = |source| PeerError::unreachable(to, member, source);
        let deadline = Instant::now() + patience;
        let (answer, answered) = oneshot::channel();
        if *self.life.over.borrow() {
            return Err(unreachable(io::ErrorKind::NotConnected.into()));
        }
        let (shared, from) = (Arc::clone(&self.shared), self.life.node);
        // The other end works on, whoever has lost patience here.
        tokio::spawn(async move {
            if !shared.carry(from, to).await {
                return;
            }
            let found = shared.running(to).and_then(|life| {
                let handler = life.handler()?;
                Some((life, handler))
            });
            let result: Answer<T> = match found {
                Some((life, handler)) => {
                    let there = Arc::clone(&life);
                    tokio::select! {
                        biased;
                        () = there.end() => Err(io::ErrorKind::ConnectionReset.into()),
                        result = at_the_other_end(life, handler) => Ok(result),
                    }
                }
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            };
            if shared.carry(to, from).await {
                let _ = answer.send(result);
            }
        });
        let waited = tokio::time::timeout_at(deadline, answered).await;
        if let Ok(Ok(result)) = waited {
            return result.map_err(unreachable);
        }
        tokio::time::sleep_until(deadline).await;
        Err(PeerError::silent(to, member, patience))
    }
}

impl fmt::Debug for MemoryPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryPeers of node {}", self.life.node)
    }
}

impl Peers for MemoryPeers {
    fn call<'a>(
        &'a self,
        to: NodeId,
        member: &'a Member,
        group: &'a str,
        request: Request,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Reply, PeerError>> {
        let (from, group) = (self.life.node, group.to_owned());
        Box::pin(
            self.ask(to, member, patience, move |_, handler| async move {
                handler.call(from, &group, request).await
            }),
        )
    }

    fn stream<'a>(
        &'a self,
        to: NodeId,
        member: &'a Member,
        group: &'a str,
        kind: StreamKind,
    ) -> BoxFuture<'a, Result<PeerStream, PeerError>> {
        let (caller, group) = (Arc::clone(&self.life), group.to_owned());
        let shared = Arc::clone(&self.shared);
        let (near, joined_near) = tokio::io::duplex(STREAM_BYTES);
        Box::pin(async move {
            let opened = self.ask(
                to,
                member,
                STREAM_PATIENCE,
                move |there, handler| async move {
                    let (far, joined_far) = tokio::io::duplex(STREAM_BYTES);
                    let from = caller.node;
                    let serving = Arc::clone(&there);
                    tokio::spawn(async move {
                        tokio::select! {
                            biased;
                            () = serving.end() => {}
                            () = handler.stream(from, &group, kind, Box::new(far)) => {}
                        }
                    });
                    tokio::spawn(async move {
                        shared.join(&caller, &there, joined_near, joined_far).await;
                    });
                },
            );
            opened.await?;
            Ok(Box::new(near) as PeerStream)
        })
    }
}

/// A number that follows from both, and looks like chance (the finalizer of splitmix64).
fn mixed(seed: u64, value: u64) -> u64 {
    let mut mixed = seed.wrapping_add(value).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn between(range: &RangeInclusive<Duration>, drawn: u64) -> Duration {
    let width = range.end().saturating_sub(*range.start());
    let nanoseconds = u64::try_from(width.as_nanos()).unwrap_or(u64::MAX);
    *range.start() + Duration::from_nanos(drawn % nanoseconds.saturating_add(1))
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
