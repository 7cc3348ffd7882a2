//! What is known of the other nodes: for observers, and so that the log tells
//! of a change once, not of each attempt.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::replication::types::{NOBODY, NodeId};

/// The round trip time that is told follows a new one by one part in so many.
const SMOOTHING: u32 = 8;

/// The nodes that this one has asked so far.
#[derive(Debug, Default)]
pub struct Known {
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
}

/// One other node.
#[derive(Debug)]
pub struct Peer {
    node: NodeId,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    state: Mutex<State>,
    /// It has been heard of: who waits before the next attempt need not.
    heard_of: Notify,
}

#[derive(Debug)]
struct State {
    address: String,
    connections: usize,
    since: Instant,
    last_error: Option<(String, Instant)>,
    /// The error that is in the log, until all is well again.
    logged: Option<String>,
    round_trip: Option<Duration>,
    calls: u64,
    failed_calls: u64,
}

/// Another node as observers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerReport {
    /// The node.
    pub node: NodeId,
    /// Where it was looked for last.
    pub address: String,
    /// Whether there is a connection for calls to it.
    pub is_connected: bool,
    /// For how long there has been one, or none.
    pub since: Duration,
    /// Bytes from it, in both directions of connecting, TLS included.
    pub received_bytes: u64,
    /// Bytes to it.
    pub sent_bytes: u64,
    /// How long its answers to urgent calls take, smoothed.
    pub round_trip: Option<Duration>,
    /// Calls that were made.
    pub calls: u64,
    /// Those that had no answer.
    pub failed_calls: u64,
    /// What went wrong last, and how long ago.
    pub last_error: Option<(String, Duration)>,
}

impl Known {
    /// The node, from now on known.
    pub fn meet(&self, node: NodeId, address: &str) -> Arc<Peer> {
        if node == NOBODY {
            // Whoever answers there: not a node to be told of.
            return Arc::new(Peer::new(node, address));
        }
        let mut peers = self.peers.lock();
        let peer = peers
            .entry(node)
            .or_insert_with(|| Arc::new(Peer::new(node, address)));
        Arc::clone(peer)
    }

    /// The node, if this one has ever asked it. Others may claim any id.
    pub fn find(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.peers.lock().get(&node).cloned()
    }

    /// All of them.
    pub fn reports(&self) -> Vec<PeerReport> {
        let peers = self.peers.lock();
        peers.values().map(|peer| peer.report()).collect()
    }
}

impl Peer {
    fn new(node: NodeId, address: &str) -> Self {
        let state = State {
            address: address.to_owned(),
            connections: 0,
            since: Instant::now(),
            last_error: None,
            logged: None,
            round_trip: None,
            calls: 0,
            failed_calls: 0,
        };
        Self {
            node,
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            state: Mutex::new(state),
            heard_of: Notify::new(),
        }
    }

    /// Counts bytes from it.
    pub fn count_received(&self, bytes: u64) {
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes to it.
    pub fn count_sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A connection for calls was made.
    pub fn note_connected(&self, address: &str) {
        let mut state = self.state.lock();
        address.clone_into(&mut state.address);
        state.connections += 1;
        if state.connections == 1 {
            state.since = Instant::now();
            state.logged = None;
            tracing::info!("replication: connected to node {} at {address}", self.node);
        }
    }

    /// A connection for calls has ended; `error`: not because it was idle.
    pub fn note_ended(&self, address: &str, error: Option<&io::Error>) {
        let mut state = self.state.lock();
        state.connections = state.connections.saturating_sub(1);
        if state.connections == 0 {
            state.since = Instant::now();
        }
        if let Some(error) = error {
            // TLS has a long word for it.
            let why = match error.kind() {
                io::ErrorKind::UnexpectedEof => "it was closed there".to_owned(),
                _ => error.to_string(),
            };
            self.note(&mut state, address, format!("connection lost: {why}"));
        }
    }

    /// No connection could be made.
    pub fn note_failure(&self, address: &str, error: &io::Error) {
        let mut state = self.state.lock();
        address.clone_into(&mut state.address);
        self.note(&mut state, address, error.to_string());
    }

    /// A call has ended so; `round_trip` where it says something about the network.
    pub fn note_call(&self, is_answered: bool, round_trip: Option<Duration>) {
        let mut state = self.state.lock();
        state.calls += 1;
        state.failed_calls += u64::from(!is_answered);
        if let Some(new) = round_trip {
            let old = state.round_trip.unwrap_or(new);
            state.round_trip = Some((old * (SMOOTHING - 1) + new) / SMOOTHING);
        }
    }

    /// It has connected to this node, and so can be reached again, presumably.
    pub fn note_heard_of(&self) {
        self.heard_of.notify_waiters();
    }

    /// Ready at the next [`Self::note_heard_of`].
    pub async fn heard_of(&self) {
        self.heard_of.notified().await;
    }

    fn note(&self, state: &mut State, address: &str, error: String) {
        if state.logged.as_ref() != Some(&error) {
            tracing::warn!("replication: node {} at {address}: {error}", self.node);
            state.logged = Some(error.clone());
        }
        state.last_error = Some((error, Instant::now()));
    }

    fn report(&self) -> PeerReport {
        let state = self.state.lock();
        let error = state.last_error.as_ref();
        PeerReport {
            node: self.node,
            address: state.address.clone(),
            is_connected: state.connections > 0,
            since: state.since.elapsed(),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            round_trip: state.round_trip,
            calls: state.calls,
            failed_calls: state.failed_calls,
            last_error: error.map(|(error, at)| (error.clone(), at.elapsed())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_to_a_peer_can_be_read() {
        let known = Known::default();
        assert!(known.find(2).is_none());
        let peer = known.meet(2, "a:1");
        assert!(Arc::ptr_eq(&peer, &known.find(2).unwrap()));
        let second = Duration::from_secs(1);
        peer.note_failure("a:1", &io::ErrorKind::ConnectionRefused.into());
        peer.note_connected("b:1");
        peer.note_connected("b:1");
        tokio::time::advance(second).await;
        peer.note_ended("b:1", None);
        peer.note_call(true, Some(8 * second));
        peer.note_call(true, Some(16 * second));
        peer.note_call(false, None);
        peer.count_received(3);
        peer.count_sent(4);
        let expected = PeerReport {
            node: 2,
            address: "b:1".to_owned(),
            is_connected: true,
            since: second,
            received_bytes: 3,
            sent_bytes: 4,
            round_trip: Some(9 * second),
            calls: 3,
            failed_calls: 1,
            last_error: Some(("connection refused".to_owned(), second)),
        };
        assert_eq!(known.reports(), [expected]);
        peer.note_ended("b:1", Some(&io::ErrorKind::ConnectionReset.into()));
        let report = &known.reports()[0];
        assert!(!report.is_connected);
        assert_eq!(report.since, Duration::ZERO);
        let (error, _) = report.last_error.as_ref().unwrap();
        assert_eq!(error, "connection lost: connection reset");
    }

    #[tokio::test]
    async fn nobody_is_not_told_of() {
        let known = Known::default();
        known.meet(NOBODY, "a:1").note_call(true, None);
        assert!(known.reports().is_empty());
    }
}
