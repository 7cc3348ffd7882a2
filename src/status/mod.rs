//! What the server tells of itself: over HTTP, and to those who watched older
//! ZEO servers.
//!
//! ```text
//! /healthz      is it to be left alone?    200, or 503 with the reason
//! /readyz       is it to be sent clients?  200, or 503 with the reason
//! /readyz/read  the same for clients that only read
//! /metrics      Prometheus' text format; `metrics` has the names
//! /status.json  the same and the clients; `snapshot` has the fields
//! monitor       the text of ZEO 4's monitor server
//! ```
//!
//! All are made from a [`Snapshot`] of what [`Watched`] leads to, by functions
//! that decide and format and do nothing else. `http` puts them on a connection.

mod exposition;
mod health;
mod http;
mod metrics;
mod monitor;
mod process;
mod replication;
mod snapshot;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

pub use http::serve;
pub use monitor::text as monitor_text;
pub use snapshot::{Limits, Snapshot};

use crate::session::Databases;
use crate::stats::Clients;
use crate::stats::replication::NodeSource;

/// A connection that asks for the status ends after this, whatever it did.
pub const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// So many of them are served at the same time; the next ones wait.
pub const MAX_CONNECTIONS: usize = 32;

/// What the server is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It takes no clients yet; what it is at, for people.
    Starting(String),
    /// It takes clients.
    Ready,
    /// It takes no more clients, and ends.
    Stopping,
}

/// The way to all that is told: shared by the server, which sets it, and those
/// who answer.
#[derive(Debug)]
pub struct Watched {
    started: SystemTime,
    limits: Limits,
    clients: Arc<Clients>,
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
struct State {
    phase: Phase,
    addresses: Vec<String>,
    /// None: they are not open yet.
    databases: Option<Arc<Databases>>,
    /// None: the server is alone.
    node: Option<Arc<dyn NodeSource>>,
}

impl Watched {
    /// A server that begins to start.
    pub fn new(limits: Limits) -> Self {
        Self {
            started: SystemTime::now(),
            limits,
            clients: Arc::default(),
            state: Mutex::new(State {
                phase: Phase::Starting("beginning".to_owned()),
                addresses: Vec::new(),
                databases: None,
                node: None,
            }),
        }
    }

    /// Where connections are counted.
    pub fn clients(&self) -> &Arc<Clients> {
        &self.clients
    }

    /// Clients come in at these addresses, now or soon.
    pub fn set_addresses(&self, addresses: Vec<String>) {
        self.state.lock().addresses = addresses;
    }

    /// The storages are open.
    pub fn set_databases(&self, databases: Arc<Databases>) {
        self.state.lock().databases = Some(databases);
    }

    /// The server is one of several.
    pub fn set_node(&self, node: Arc<dyn NodeSource>) {
        self.state.lock().node = Some(node);
    }

    /// The server goes on to `phase`.
    pub fn set_phase(&self, phase: Phase) {
        self.state.lock().phase = phase;
    }
}
