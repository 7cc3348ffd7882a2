//! How a connection ends, and what is said about it.

use std::io;
use std::time::Duration;

use crate::stats::Client;

/// Why a connection ends.
#[derive(Debug)]
pub enum End {
    /// The client closed it.
    Closed,
    /// The network did.
    Io(io::Error),
    /// The client broke a rule; it is cut off.
    CutOff(String),
    /// The server stops.
    Stopping,
    /// The client is cut off at a limit of the server's.
    AtLimit(Limit, String),
    /// The client held its locks for longer than this.
    TransactionTimeout(Duration),
}

impl End {
    /// Why the server ended it, in one word for the statistics.
    fn cut_off(&self) -> Option<&'static str> {
        match self {
            Self::Closed | Self::Stopping => None,
            Self::Io(error) => {
                // The kernel has given the client's host up.
                (error.kind() == io::ErrorKind::TimedOut).then_some("unreachable")
            }
            Self::CutOff(_) => Some("rule"),
            Self::AtLimit(limit, _) => Some(match limit {
                Limit::MessageLength => "message_length",
                Limit::Unsent => "unsent",
                Limit::StalledReader => "stalled_reader",
                Limit::StalledSender => "stalled_sender",
                Limit::Memory => "memory",
            }),
            Self::TransactionTimeout(_) => Some("transaction_timeout"),
        }
    }
}

/// The limits that cost a client its connection.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// A message was too long.
    MessageLength,
    /// More waited for the client than may wait.
    Unsent,
    /// The client did not read what waited for it.
    StalledReader,
    /// The client did not go on with a message that it had begun.
    StalledSender,
    /// A long message waited too long for memory.
    Memory,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        // TLS would have its end announced, which Python does not do. The
        // frames' lengths tell whether anything is missing.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Closed;
        }
        Self::Io(error)
    }
}

impl From<String> for End {
    fn from(why: String) -> Self {
        Self::CutOff(why)
    }
}

/// Says why a connection ended, and counts it.
pub fn log_end(label: &str, client: &Client, end: &End) {
    if let Some(reason) = end.cut_off() {
        client.note_cut_off(reason);
    }
    match end {
        End::Closed => tracing::info!("({label}) disconnected"),
        End::Io(error) => tracing::info!("({label}) disconnected: {error}"),
        End::CutOff(why) | End::AtLimit(_, why) => {
            tracing::warn!("({label}) connection closed: {why}");
        }
        End::Stopping => tracing::debug!("({label}) connection closed: the server stops"),
        End::TransactionTimeout(limit) => {
            let seconds = limit.as_secs_f64();
            tracing::error!(
                critical = true,
                "({label}) Transaction timeout after {seconds} seconds"
            );
        }
    }
}
