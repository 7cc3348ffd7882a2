use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::wire::{EncodeError, Exception, GreetingError, RemoteException, Value};

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// The server raised this.
    #[error("{0}")]
    Remote(RemoteException),
    /// The connection ended before the answer came; what was asked for may
    /// have been done or not.
    #[error("disconnected from the server: {0}")]
    Disconnected(Arc<str>),
    /// The answer is not what the method gives.
    #[error("{method}: the server's answer is not understood")]
    Answer {
        /// The method's name on the wire.
        method: &'static str,
    },
    /// An argument cannot be sent.
    #[error("{method}: {source}")]
    Argument {
        /// The method's name on the wire.
        method: &'static str,
        /// Why.
        source: EncodeError,
    },
    /// A blob's file on this side cannot be read or written.
    #[error("{0}")]
    File(Arc<str>),
}

impl CallError {
    /// For `map_err`: a file on this side.
    pub(super) fn file(error: &io::Error) -> Self {
        Self::File(error.to_string().into())
    }

    /// What the server raised, where it raised something.
    pub fn remote(&self) -> Option<&RemoteException> {
        match self {
            Self::Remote(exception) => Some(exception),
            _ => None,
        }
    }
}

impl From<CallError> for Exception {
    /// For a client of this server: what the other raised is passed on as it
    /// came; a lost connection has the name that it has in the reference.
    fn from(error: CallError) -> Self {
        match error {
            CallError::Remote(exception) => Self::Remote(exception),
            CallError::Disconnected(why) => Self::Remote(RemoteException::new(
                "ZEO.Exceptions.ClientDisconnected",
                &Value::Tuple(vec![Value::from(&*why)]),
            )),
            other => Self::StorageError {
                message: other.to_string(),
            },
        }
    }
}

/// Why there is no connection to a server.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The system says no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer said nothing in time.
    #[error(
        "the server has not greeted within {seconds} s; does it expect TLS, or is it no ZEO server?"
    )]
    Silent {
        /// How long it was waited for.
        seconds: u64,
    },
    /// It closed the connection instead of greeting.
    #[error("the server closed the connection without a greeting")]
    Closed,
    /// It speaks something else.
    #[error(transparent)]
    Protocol(#[from] GreetingError),
}
