//! The way to the other nodes, over TCP, with or without TLS.
//!
//! ```text
//! network        what asks others: a link for each node and lane
//! link           calls that wait, and the connection that comes back
//! conversation   a connection seen from the node that calls
//! listener       what lets others in
//! answer         a connection seen from the node that is called
//! connect        making a connection;  tls: encrypting it
//! hello          the first message each way
//! frame          messages on a connection;  message: what they say
//! socket         TCP, and what goes through it
//! known          what is known of the others, for observers and the log
//! bounds         what may be held or waited for
//! memory         a network with faults from a seed, for simulations
//! ```
//!
//! Heartbeats never wait behind entries, entries of one storage never behind
//! another's, nothing behind bulk: each has its own connection. A connection
//! for calls carries many at a time, and its answers come as they are ready.

mod answer;
mod bounds;
mod connect;
mod conversation;
mod frame;
mod hello;
mod known;
mod link;
mod listener;
#[cfg(test)]
pub mod memory;
mod message;
mod network;
mod socket;
mod tls;

pub use known::PeerReport;
pub use listener::Listener;
pub use network::{NetOptions, Network};
pub use tls::{PeerTls, TlsSettings};

#[cfg(test)]
mod tests;
