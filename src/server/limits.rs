//! The bounds of what clients can make the server hold or wait for: those that
//! the configuration sets, those that are fixed, and what is in use of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::memory::MemoryBudget;
use crate::config::ZeodSection;
use crate::status;

/// Longest message of a client that has not registered: nobody knows yet
/// whether it is one of ours.
pub const MAX_STRANGERS_FRAME_BYTES: usize = 64 << 10;
/// Longest first message: the protocol's name.
pub const MAX_HELLO_BYTES: usize = 64;
/// What a client that is cut off was answered before is sent within this time.
pub const LINGER_TIME: Duration = Duration::from_secs(2);
/// A client has to name its protocol within this time; before that, it has as
/// much for its TLS handshake.
pub const HELLO_TIME: Duration = Duration::from_secs(30);
/// A server that takes no changes greets clients so much later: a stock client goes
/// to the server that greets it first. Those that only read are served after that.
pub const LATE_GREETING: Duration = Duration::from_secs(10);
/// The password of the server's key has to be told within this time; somebody
/// may have to type it.
pub const PASSWORD_TIME: Duration = Duration::from_mins(1);
/// What a connection reads at once; longer messages get a buffer of their own.
pub const READ_BYTES: usize = 64 << 10;
/// Answers, or a transaction, of this size are not counted towards the memory
/// budget: small requests are served when it is used up, too.
pub const UNCOUNTED_BYTES: usize = 64 << 10;
/// A client that is waited for has to take, or send, so much within the stall
/// time: a byte now and then is no life.
pub const LIVELY_BYTES: usize = 64 << 10;
/// How often a client whose message waits for memory looks again.
pub const MEMORY_RETRY: Duration = Duration::from_millis(100);
/// `stall-time` is at least this: less would cut off who is only slow.
const MIN_STALL_TIME: Duration = Duration::from_secs(1);
/// More than this is for ever.
const MAX_STALL_TIME: Duration = Duration::from_hours(24 * 365);
/// What a stop waits for the tasks of connections that are cut off, and for
/// work that was begun on other threads.
pub const ABORT_TIME: Duration = Duration::from_secs(5);
/// How often the index is saved.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_mins(10);
/// A client that holds its locks for longer is cut off, where
/// `transaction-timeout` is not set.
pub const DEFAULT_TRANSACTION_TIMEOUT: Duration = Duration::from_mins(5);
/// Open files that are kept for databases, logs, large transactions and blobs.
const RESERVED_DESCRIPTORS: usize = 128;
/// Refused connections are logged so often at most.
const REFUSALS_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The limits that the configuration sets; see [`ZeodSection`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at the same time.
    pub max_connections: usize,
    /// The longest message of a registered client. Its memory is only taken as
    /// the bytes arrive.
    pub max_message_bytes: usize,
    /// A client for which more than this waits is cut off.
    pub max_unsent_bytes: usize,
    /// What all clients' messages may take together.
    pub memory_budget_bytes: usize,
    /// A client that stands still for so long while it is waited for is cut off.
    pub stall_time: Duration,
    /// After so long without a word the kernel asks whether the client is still
    /// there. Zero: never.
    pub keepalive_time: Duration,
}

impl Limits {
    /// Those of the configuration; what cannot hold is lowered, with a warning.
    /// `max_descriptors` is how many files the process may have open.
    pub fn new(section: &ZeodSection, max_descriptors: Option<usize>) -> Self {
        let mut limits = Self {
            max_connections: section.max_connections,
            max_message_bytes: section.max_message_bytes.max(READ_BYTES),
            max_unsent_bytes: section.max_unsent_bytes.max(2 * UNCOUNTED_BYTES),
            memory_budget_bytes: section.memory_budget_bytes.max(2 * READ_BYTES),
            stall_time: section.stall_time.clamp(MIN_STALL_TIME, MAX_STALL_TIME),
            keepalive_time: section.keepalive_time,
        };
        // With its length before it.
        let longest = limits.memory_budget_bytes - READ_BYTES;
        if limits.max_message_bytes > longest {
            tracing::warn!(
                "max-message-size is {} bytes, but memory-budget {}: messages of more than \
                 {longest} are refused",
                limits.max_message_bytes,
                limits.memory_budget_bytes
            );
            limits.max_message_bytes = longest;
        }
        if let Some(descriptors) = max_descriptors {
            let possible = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(1);
            if possible < limits.max_connections {
                let message = format!(
                    "max-connections is {}, but the limit of {descriptors} open files allows \
                     {possible}: raise that limit (LimitNOFILE with systemd, ulimit -n), or lower \
                     max-connections",
                    limits.max_connections
                );
                // Who has set nothing has asked for nothing that cannot be had.
                if limits.max_connections == ZeodSection::default().max_connections {
                    tracing::info!("{message}");
                } else {
                    tracing::warn!("{message}");
                }
                limits.max_connections = possible;
            }
        }
        limits
    }

    /// As observers are told.
    pub fn status(&self, max_transaction_bytes: u64) -> status::Limits {
        status::Limits {
            max_connections: self.max_connections,
            max_message_bytes: self.max_message_bytes,
            max_transaction_bytes,
            max_unsent_bytes: self.max_unsent_bytes,
            memory_budget_bytes: self.memory_budget_bytes,
            stall_seconds: self.stall_time.as_secs_f64(),
        }
    }

    /// Connections and files have lower file descriptors than this.
    pub fn high_descriptor(&self) -> usize {
        self.max_connections + RESERVED_DESCRIPTORS / 2
    }

    /// A client whose unread answers take more than this is not read from until
    /// it has read some. The other half of what may wait is for what others
    /// tell it, which cannot be kept back.
    pub fn answers_bytes(&self) -> usize {
        self.max_unsent_bytes / 2
    }

    /// What others may leave for a client behind answers that it does not read.
    pub fn behind_bytes(&self) -> usize {
        self.max_unsent_bytes - self.answers_bytes()
    }
}

/// The limits, and what all connections together use of them.
#[derive(Debug)]
pub struct Bounds {
    /// The limits.
    pub limits: Limits,
    /// The memory that is left.
    pub memory: Arc<MemoryBudget>,
    refusals: Mutex<Refusals>,
}

/// Connections that were refused and are not in the log yet.
#[derive(Debug, Default)]
struct Refusals {
    unlogged: u64,
    logged_at: Option<Instant>,
}

impl Bounds {
    /// Nothing is used.
    pub fn new(limits: Limits) -> Self {
        Self {
            memory: Arc::new(MemoryBudget::new(limits.memory_budget_bytes)),
            limits,
            refusals: Mutex::default(),
        }
    }

    /// Notes that a client at `address` was not let in.
    pub fn note_refused(&self, address: &str) {
        let mut refusals = self.refusals.lock();
        refusals.unlogged += 1;
        let now = Instant::now();
        let is_due = |at| now.saturating_duration_since(at) >= REFUSALS_LOG_INTERVAL;
        if refusals.logged_at.is_none_or(is_due) {
            tracing::error!(
                "({address}) refused: there are {} connections already (max-connections); \
                 {} refused since the last such line",
                self.limits.max_connections,
                refusals.unlogged
            );
            *refusals = Refusals {
                unlogged: 0,
                logged_at: Some(now),
            };
        }
    }
}

/// Lets the process have as many open files as the system allows it; how many
/// that are. None: any number.
pub fn raise_descriptor_limit() -> Option<usize> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let mut current = limit.maximum;
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!("the limit of open files stays {:?}: {error}", limit.current);
        current = limit.current;
    }
    current.map(|count| usize::try_from(count).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_no_more_than_open_files_allow() {
        let section = ZeodSection::default();
        let limits = Limits::new(&section, Some(1024));
        assert_eq!(limits.max_connections, 1024 - RESERVED_DESCRIPTORS);
        for plenty in [None, Some(1 << 20)] {
            let limits = Limits::new(&section, plenty);
            assert_eq!(limits.max_connections, section.max_connections);
        }
    }

    #[test]
    fn a_message_is_no_longer_than_the_memory_for_all() {
        let section = ZeodSection {
            memory_budget_bytes: 1 << 20,
            ..ZeodSection::default()
        };
        assert_eq!(
            Limits::new(&section, None).max_message_bytes,
            (1 << 20) - READ_BYTES
        );
    }
}
