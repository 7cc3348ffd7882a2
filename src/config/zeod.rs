//! What zeod can do beyond Python's server: the `<zeod>` section.

use std::path::PathBuf;
use std::time::Duration;

use super::{Address, ReplicationSection};

/// The `<zeod>` section. Every key may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZeodSection {
    /// Where health, metrics and status are answered over HTTP. `None`: nowhere.
    /// A port alone means this machine only.
    pub status_address: Option<Address>,
    /// Whose rights the server takes once it listens: a user's name, or
    /// `USER:GROUP`. `None`: it keeps those that it was started with.
    pub user: Option<String>,
    /// Connections at the same time.
    pub max_connections: usize,
    /// The longest message that is taken from a client.
    pub max_message_bytes: usize,
    /// The largest transaction that is taken, without its blobs.
    pub max_transaction_bytes: u64,
    /// A client for which more than this waits, unread, is cut off.
    pub max_unsent_bytes: usize,
    /// What the messages of all clients together may take; a client that wants
    /// more waits, or is cut off.
    pub memory_budget_bytes: usize,
    /// A client that reads nothing for so long, while something waits for it, is
    /// cut off; also the kernel's limit for what is sent and not acknowledged.
    pub stall_time: Duration,
    /// After so long without a word from a client the kernel asks whether it is
    /// still there. Zero: never.
    pub keepalive_time: Duration,
    /// How long a stop waits for voted transactions and for connections to end.
    pub shutdown_time: Duration,
    /// The file in which the password of the private key stands.
    pub key_password_file: Option<PathBuf>,
    /// The command that writes the password of the private key to its output;
    /// run by `/bin/sh`.
    pub key_password_command: Option<String>,
    /// Who may use which storage; a storage without a section is open to all
    /// whom `<ssl>` lets in.
    pub access: Vec<AccessSection>,
    /// The nodes that this server is one of. `None`: it serves alone.
    pub replication: Option<ReplicationSection>,
}

/// An `<access STORAGE>` section: who may use a storage, by certificates.
///
/// A certificate is named by `sha256:` and its fingerprint in hex (colons
/// allowed), or by its subject, `CN=…,O=…`, or by its common name alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessSection {
    /// The storage's name.
    pub storage: String,
    /// Who may read and write.
    pub read_write: Vec<String>,
    /// Who may only read.
    pub read_only: Vec<String>,
}

impl Default for ZeodSection {
    fn default() -> Self {
        Self {
            status_address: None,
            user: None,
            max_connections: 20_000,
            max_message_bytes: 256 << 20,
            max_transaction_bytes: 16 << 30,
            max_unsent_bytes: 16 << 20,
            memory_budget_bytes: 1 << 30,
            stall_time: Duration::from_mins(2),
            keepalive_time: Duration::from_mins(1),
            shutdown_time: Duration::from_secs(5),
            key_password_file: None,
            key_password_command: None,
            access: Vec::new(),
            replication: None,
        }
    }
}
