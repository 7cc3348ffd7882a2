//! What consensus is about here: the types that openraft is given.
//!
//! Vote, commit and index mean ZODB's elsewhere; in this module tree Raft's are
//! called `raft_vote`, `log_index` and so on where both could be meant.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::Tid;

/// Names a node in its cluster; chosen by the administrator, from 1 on.
pub type NodeId = u64;

/// The id of no node: in raft votes that only end a leadership, and of tools, which
/// ask nodes and are none.
pub const NOBODY: NodeId = 0;

openraft::declare_raft_types!(
    /// One named storage, replicated.
    pub Types:
        D = Command,
        R = Applied,
        NodeId = NodeId,
        Node = Member,
        Entry = openraft::Entry<Types>,
        SnapshotData = StateMark,
);

/// What an entry of the log carries, encoded; see `command.rs`. Clones share the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command(pub Bytes);

/// What applying an entry leads to, for whoever proposed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    /// It is part of the storage now, or needs nothing done.
    #[default]
    Done,
    /// It was proposed under a leadership that was over; nothing of it was done, on no node.
    Outdated,
}

/// A node of the cluster, as the others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where it listens for other nodes, as `host:port`.
    pub address: String,
}

/// A state of the storage, in place of a snapshot's bytes: the transfer itself
/// compares and copies `Data.fs` (see `catch_up`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateMark {
    /// The last transaction that was applied; stays when a pack drops it.
    pub last_tid: Tid,
    /// Length of `Data.fs` then.
    pub length: u64,
    /// How many packs were carried out before: files of different numbers are
    /// no prefixes of each other.
    pub packs: u64,
    /// The highest oid that may have been given out.
    pub reserved_oid: u64,
}
