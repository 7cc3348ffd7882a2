use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::Failure;
use crate::config::{ReplicationSection, ZeodSection};
use crate::replication::admin::{AdminReply, AdminRequest, ClusterStatus, Outcome};
use crate::replication::net::{NetOptions, Network, PeerTls};
use crate::replication::peers::{PeerError, Peers, Reply, Request};
use crate::replication::types::{Member, NOBODY};
use crate::server::peer_tls;

/// The node asks the leaders and the other nodes before it answers.
const STATUS_PATIENCE: Duration = Duration::from_secs(10);
/// A node that is asked whether it is there, and no more.
const GLANCE_PATIENCE: Duration = Duration::from_secs(2);
/// A change of members waits for two entries of each storage's log, and a
/// transfer for an election.
const CHANGE_PATIENCE: Duration = Duration::from_mins(1);

/// The way to the nodes.
pub struct Nodes {
    runtime: Runtime,
    peers: Arc<dyn Peers>,
    /// How often is asked again while something is waited for.
    pub poll: Duration,
}

impl Nodes {
    /// As a tool that has the certificate of the node with the configuration
    /// `zeod`, of which `section` is a part.
    pub fn connected(zeod: &ZeodSection, section: &ReplicationSection) -> Result<Self, String> {
        let tls = match &section.tls {
            None => None,
            Some(tls) => {
                let settings = peer_tls(&tls.into(), zeod).map_err(|error| error.to_string())?;
                Some(Arc::new(PeerTls::new(settings)))
            }
        };
        let node = NOBODY;
        Self::through(Arc::new(Network::new(NetOptions { node, tls })))
    }

    /// With `peers` in the network's place.
    pub fn through(peers: Arc<dyn Peers>) -> Result<Self, String> {
        // A thread of its own keeps connections alive between questions.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| format!("starting the runtime: {error}"))?;
        Ok(Self {
            runtime,
            peers,
            poll: Duration::from_secs(1),
        })
    }

    /// What the node at `address` answers; the error says why it does not.
    pub fn ask(&self, address: &str, request: &AdminRequest) -> Result<AdminReply, String> {
        let patience = match request {
            AdminRequest::Status { only_here: true } => GLANCE_PATIENCE,
            AdminRequest::Status { only_here: false } => STATUS_PATIENCE,
            _ => CHANGE_PATIENCE,
        };
        let member = Member {
            address: address.to_owned(),
        };
        let request = Request::Admin(request.to_json());
        let call = self.peers.call(NOBODY, &member, "", request, patience);
        match self.runtime.block_on(call) {
            Ok(Reply::Admin(text)) => AdminReply::from_json(&text),
            Ok(Reply::Refused { why, .. }) => Err(format!("the node at {address} refuses: {why}")),
            Ok(_) => Err(format!("the node at {address} answers something else")),
            // Whoever is there was asked, so there is no id to name.
            Err(PeerError::Unreachable { source, .. }) => Err(format!("{address}: {source}")),
            Err(PeerError::Silent { patience, .. }) => {
                let seconds = patience.as_secs();
                Err(format!("{address} has not answered within {seconds} s"))
            }
        }
    }

    /// How the cluster is.
    pub fn status(&self, address: &str) -> Result<ClusterStatus, String> {
        self.status_of(address, false)
    }

    /// How the node is, as far as it knows itself.
    pub fn glance(&self, address: &str) -> Result<ClusterStatus, String> {
        self.status_of(address, true)
    }

    fn status_of(&self, address: &str, only_here: bool) -> Result<ClusterStatus, String> {
        match self.ask(address, &AdminRequest::Status { only_here })? {
            AdminReply::Status(status) => Ok(status),
            AdminReply::Refused { why } => Err(why),
            AdminReply::Done { .. } => Err(format!("the node at {address} answers something else")),
        }
    }

    /// What became of a change, by storage; an error where nothing was done.
    pub fn change(&self, address: &str, request: &AdminRequest) -> Result<Vec<Outcome>, String> {
        match self.ask(address, request)? {
            AdminReply::Done { storages } => Ok(storages),
            AdminReply::Refused { why } => Err(why),
            AdminReply::Status(_) => Err(format!("the node at {address} answers something else")),
        }
    }

    /// Lets time pass until something may have changed.
    pub fn wait(&self) {
        std::thread::sleep(self.poll);
    }
}

/// Tells what became of each storage; an error where one failed.
pub fn told(outcomes: &[Outcome], say: super::Say<'_>) -> super::Done {
    let mut failed = Vec::new();
    for outcome in outcomes {
        match &outcome.failed {
            None => say(format!("storage {}: {}", outcome.storage, outcome.done)),
            Some(why) => failed.push(format!("storage {}: {why}", outcome.storage)),
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(failed.join("\n")))
    }
}
