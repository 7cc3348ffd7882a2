//! The bounds of what clients can make the server hold or wait for.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Longest message that is taken from a client. Its memory is only taken as
/// the bytes arrive.
pub const MAX_FRAME_BYTES: usize = 256 << 20;
/// Longest message of a client that has not registered: nobody knows yet
/// whether it is one of ours.
pub const MAX_STRANGERS_FRAME_BYTES: usize = 64 << 10;
/// Longest first message: the protocol's name.
pub const MAX_HELLO_BYTES: usize = 64;
/// A client whose unread answers take more than this is not read from until
/// it has read some.
pub const MAX_OUTBOX_BYTES: usize = 8 << 20;
/// What a client is told by others is put behind its unread answers whatever
/// their size; with more than this it is cut off.
pub const MAX_BEHIND_BYTES: usize = 16 << 20;
/// What a client that is cut off was answered before is sent within this time.
pub const LINGER_TIME: Duration = Duration::from_secs(2);
/// A client that reads nothing for this long, while answers wait, is cut off.
pub const STALLED_TIME: Duration = Duration::from_mins(2);
/// A client has to name its protocol within this time; before that, it has as
/// much for its TLS handshake.
pub const HELLO_TIME: Duration = Duration::from_secs(30);
/// The password of the server's key has to be told within this time; somebody
/// may have to type it.
pub const PASSWORD_TIME: Duration = Duration::from_mins(1);
/// What a connection reads at once; the size of its buffer between messages.
pub const READ_BYTES: usize = 64 << 10;
/// Connections at the same time.
pub const MAX_CONNECTIONS: usize = 20_000;
/// What a stop waits for the tasks of connections that are cut off, and for
/// work that was begun on other threads.
pub const ABORT_TIME: Duration = Duration::from_secs(5);
/// How often the index is saved.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_mins(10);
/// A client that holds its locks for longer is cut off, where
/// `transaction-timeout` is not set.
pub const DEFAULT_TRANSACTION_TIMEOUT: Duration = Duration::from_mins(5);

/// Lets the process have as many open files as the system allows it.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!("the limit of open files stays {:?}: {error}", limit.current);
    }
}
