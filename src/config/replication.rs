//! Redundancy: the `<replication>` section in `<zeod>`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Address;

/// How often a leader lets the others know that it lives. Several of them fit
/// into an election time-out, so that one that is lost or late changes nothing;
/// at this rate they cost a few kB per second and node.
pub const DEFAULT_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
/// After so long without a word from the leader another one is looked for.
/// Commits come back in about twice that after a leader's death; a sync of a
/// disk that others use, or a loaded host, is silent for a few tenths of a second.
pub const DEFAULT_ELECTION_TIMEOUT: Duration = Duration::from_millis(600);
/// A client that is refused waits 9 s before it tries again, and gives up with
/// 30 s: so a registration waits longer than elections take, and shorter than that.
pub const DEFAULT_REGISTER_WAIT: Duration = Duration::from_secs(20);
/// Longer than an election and a few that fail; shorter than what people take
/// for a site that hangs.
pub const DEFAULT_QUORUM_WAIT: Duration = Duration::from_secs(5);
/// Some 100,000 usual transactions: who was away for a restart gets these from
/// the log. Who was away for longer gets the tail of `Data.fs`, which is as good.
pub const DEFAULT_LOG_SIZE_BYTES: u64 = 1 << 30;

/// Heartbeats that must fit into an election time-out: with fewer, one that is
/// late would cost the leader its place.
pub const HEARTBEATS_PER_ELECTION: u32 = 4;
/// Node ids are 1 to this; they travel as 64 bits, and administrators type them.
pub const MAX_NODE_ID: u64 = u32::MAX as u64;

/// The `<replication>` section: this server is one of several with the same
/// storages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationSection {
    /// This node's name among the nodes, 1 to [`MAX_NODE_ID`]; no other has it,
    /// nor ever had.
    pub node_id: u64,
    /// Where this node listens for the others, and where they reach it: TCP with
    /// a host. Port 0 is for tests.
    pub address: Address,
    /// The directory of the log and of what this node knows of the others.
    pub directory: PathBuf,
    /// Other nodes, for the first contact; never this one, no id or address
    /// twice. Who belongs to the cluster is in its log, not here.
    pub peers: Vec<Peer>,
    /// Certificates. `None`: nodes talk without encryption, and who can reach
    /// their addresses is one of them.
    pub tls: Option<ReplicationTls>,
    /// How often a leader lets the others know that it lives.
    pub heartbeat_interval: Duration,
    /// After so long without the leader another one is looked for; at least
    /// [`HEARTBEATS_PER_ELECTION`] times `heartbeat_interval`.
    pub election_timeout: Duration,
    /// How long a client that wants to write waits for a leader.
    pub register_wait: Duration,
    /// After so long without a quorum clients that write are turned away; at
    /// least `election_timeout`.
    pub quorum_wait: Duration,
    /// What this node sends a node that is behind, in bytes per second. `None`:
    /// as fast as it goes.
    pub catch_up_bytes_per_second: Option<u64>,
    /// So much log is kept for nodes that are behind.
    pub log_size_bytes: u64,
    /// Entries are applied so late. Only a node that does not vote may have one.
    pub apply_delay: Duration,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub node_id: u64,
    /// Where it listens for nodes: TCP with host and port.
    pub address: Address,
}

/// What nodes show each other. All are PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationTls {
    /// This node's certificate, and those that lead to the authority; it is
    /// shown to clients and servers.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the nodes' certificates, and nobody else's.
    pub authority: PathBuf,
}

impl ReplicationSection {
    /// Does everything stay on this machine, as far as the addresses tell?
    pub fn is_on_loopback(&self) -> bool {
        is_loopback(&self.address) && self.peers.iter().all(|peer| is_loopback(&peer.address))
    }
}

/// Does the address lead to this machine? Of names only `localhost` is known to.
pub(super) fn is_loopback(address: &Address) -> bool {
    match address {
        Address::Unix(_) => true,
        Address::Tcp { host: None, .. } => false,
        Address::Tcp {
            host: Some(host), ..
        } => {
            let number: Option<IpAddr> = host.parse().ok();
            number.map_or(host == "localhost", |number| {
                number.to_canonical().is_loopback()
            })
        }
    }
}
