//! What nodes may make each other hold or wait for.

use std::time::Duration;

/// The longest first message: whoever connects sends it before anything is
/// known of it.
pub const MAX_HELLO_BYTES: usize = 2 << 10;
/// The longest name of a storage.
pub const MAX_GROUP_BYTES: usize = 1 << 10;
/// A connection is made within this time, or the next attempt begins. Linux
/// asks again once, after a second.
pub const CONNECT_TIME: Duration = Duration::from_secs(2);
/// TLS and the answer to the hello follow within this time.
pub const GREETING_TIME: Duration = Duration::from_secs(3);
/// Who connects has so long for TLS and the hello.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// The second attempt to connect follows the first after this time,
pub const MIN_BACKOFF: Duration = Duration::from_millis(50);
/// and each further one after twice as much, up to this.
pub const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// How often silence is looked for.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(125);
/// A connection on which nothing is asked for so long is closed.
pub const IDLE_TIME: Duration = Duration::from_mins(5);
/// Of a frame that is longer than this the parts count as life while they go out.
pub const LONG_FRAME_BYTES: usize = 64 << 10;
/// What a connection reads or writes at once.
pub const BUFFER_BYTES: usize = 16 << 10;
/// The memory for a frame is first taken for so much, and then as bytes arrive.
pub const FIRST_BYTES: usize = 64 << 10;

/// Connections that have not said yet who they are; one more ends the oldest.
pub const MAX_STRANGERS: usize = 64;
/// Connections for calls, from all nodes: from each two, and one for each storage.
pub const MAX_CALL_CONNECTIONS: usize = 512;
/// Streams from all nodes; each forwarded client has one.
pub const MAX_STREAMS: usize = 4096;
/// Whoever is refused has so long to read why,
pub const LINGER_TIME: Duration = Duration::from_secs(1);
/// and may send so much meanwhile.
pub const MAX_LINGER_BYTES: u64 = 64 << 10;
/// Refused connections are logged so often at most.
pub const REFUSALS_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The kernel asks a silent node after this time whether it is still there,
pub const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
/// again after this time,
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// and so often before it gives up.
pub const KEEPALIVE_PROBES: u32 = 3;
/// What was sent and is not acknowledged ends a connection after this time.
pub const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Calls that differ in size travel on connections of their own, so that none
/// waits behind a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Heartbeats, raft votes, read indexes: what elections hang on.
    Urgent,
    /// Entries of one storage.
    Entries,
    /// What storages and administrators want.
    Service,
}

impl Lane {
    /// The longest message, with its id.
    pub const fn frame_bytes(self) -> usize {
        match self {
            Self::Urgent => 64 << 10,
            // A batch of transactions is an entry; larger ones are staged.
            Self::Entries => 64 << 20,
            Self::Service => 16 << 20,
        }
    }

    /// Calls of one connection that are under way; the others wait.
    pub const fn under_way(self) -> usize {
        match self {
            Self::Urgent => 1024,
            Self::Entries => 16,
            Self::Service => 256,
        }
    }

    /// A node that owes an answer, and of which nothing has come for so long, is
    /// asked for a sign of life; after three times as long its connection is given up.
    /// Handlers may take as long as they like: signs of life come from the connection.
    pub const fn ping_after(self) -> Duration {
        match self {
            // After a cut the kernel repeats what was lost ever more rarely; a
            // new connection is through sooner, and elections wait for it.
            Self::Urgent => Duration::from_millis(500),
            Self::Entries | Self::Service => Duration::from_secs(1),
        }
    }

    /// See [`Self::ping_after`].
    pub const fn silence(self) -> Duration {
        self.ping_after().saturating_mul(3)
    }

    /// What may wait to be sent on one connection; further calls wait until it is less.
    pub const fn queued_bytes(self) -> usize {
        match self {
            Self::Urgent => 1 << 20,
            // One of the longest.
            Self::Entries | Self::Service => self.frame_bytes() + FIRST_BYTES,
        }
    }
}
