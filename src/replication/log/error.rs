use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::replication::types::NodeId;

/// Why a log cannot be opened.
#[derive(Debug, Error)]
pub enum LogError {
    /// Another process has it.
    #[error(
        "the log in {} is in use by another process; is zeod running already?", .0.display()
    )]
    InUse(PathBuf),
    /// It is another node's.
    #[error(
        "{}: this is the log of node {found}, not of node {node}; \
         give node-id {found} in <replication>, or another directory", path.display()
    )]
    OtherNode {
        /// The file that says so.
        path: PathBuf,
        /// Whose log it is.
        found: NodeId,
        /// Who wants to open it.
        node: NodeId,
    },
    /// The file that says whose log it is cannot be made sense of.
    #[error(
        "{}: {why}; without it nobody can tell which storages the log is of. Restore it, or move \
         the directory away and let this node join again under a new node-id", path.display()
    )]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The disk, or the rights to it.
    #[error("{}: {error}{}", path.display(), hint(error))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The engine refuses, and not because of damage.
    #[error("the log in {}: {why}", directory.display())]
    Engine {
        /// The log's directory.
        directory: PathBuf,
        /// What it says.
        why: String,
    },
    /// It is closed, dead, or open already.
    #[error("{0}")]
    Unusable(String),
}

impl LogError {
    pub(super) const fn io(path: PathBuf, error: io::Error) -> Self {
        Self::Io { path, error }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; the directory must be writable for the user that zeod runs as"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on the disk",
        _ => "",
    }
}

/// Whether a log has all that its node has ever acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogCondition {
    /// It has.
    Whole,
    /// Entries or a vote may be missing. The node may neither vote nor count for a
    /// quorum until it has caught up with what a leader committed after it came back.
    Damaged(String),
}

/// How the log fares; see [`Log::health`](super::Log::health).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogHealth {
    /// It takes entries.
    Well,
    /// No room on the disk: writes wait until there is. Nothing is lost.
    Full(String),
    /// A write or sync failed, so nobody knows what is on the disk. Nothing is done
    /// any more: this process must not serve these storages.
    Dead(String),
}
