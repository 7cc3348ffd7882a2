//! The other nodes over TCP.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::bounds::Lane;
use super::connect::{self, Own, Target};
use super::frame::Unsealed;
use super::hello::Purpose;
use super::known::{Known, PeerReport};
use super::link::{CallError, Link};
use super::message;
use super::socket::Meter;
use super::tls::PeerTls;
use crate::replication::peers::{
    BoxFuture, PeerError, PeerStream, Peers, Reply, Request, StreamKind,
};
use crate::replication::types::{Member, NodeId};

/// How a node talks to others.
#[derive(Debug)]
pub struct NetOptions {
    /// This node; [`NOBODY`](crate::replication::types::NOBODY): a tool, which
    /// is no member of the cluster.
    pub node: NodeId,
    /// None: without encryption, and everybody is let in.
    pub tls: Option<Arc<PeerTls>>,
}

/// The way to the other nodes; connections are made when they are needed. A call
/// to node [`NOBODY`](crate::replication::types::NOBODY) goes to whichever
/// node is at the address. Clones are the same.
#[derive(Clone)]
pub struct Network {
    own: Arc<Own>,
    /// One for each node and lane, and of the lane for entries one for each storage.
    links: Arc<Mutex<HashMap<Target, Arc<Link>>>>,
}

impl Network {
    /// Nothing is connected yet.
    pub fn new(options: NetOptions) -> Self {
        let NetOptions { node, tls } = options;
        let known = Known::default();
        Self {
            own: Arc::new(Own { node, tls, known }),
            links: Arc::default(),
        }
    }

    /// The nodes that were asked so far, as observers are told.
    pub fn reports(&self) -> Vec<PeerReport> {
        self.own.known.reports()
    }

    pub(super) fn own(&self) -> &Arc<Own> {
        &self.own
    }

    async fn ask(
        &self,
        to: NodeId,
        member: &Member,
        group: &str,
        request: Request,
        patience: Duration,
    ) -> Result<Reply, PeerError> {
        let began = Instant::now();
        let lane = lane_of(&request);
        let unreachable = |source| PeerError::unreachable(to, member, source);
        let message = unsealed(group, &request).map_err(unreachable)?;
        drop(request);
        let link = self.link(to, member, lane, group);
        let result = link.call(message, began + patience).await;
        let is_urgent = lane == Lane::Urgent && result.is_ok();
        let peer = self.own.known.meet(to, &member.address);
        peer.note_call(result.is_ok(), is_urgent.then(|| began.elapsed()));
        match result {
            Ok(answer) => message::reply_of(answer).map_err(|error| unreachable(invalid(error))),
            Err(CallError::Failed(error)) => Err(unreachable(error)),
            Err(CallError::Late) => Err(PeerError::silent(to, member, patience)),
        }
    }

    fn link(&self, to: NodeId, member: &Member, lane: Lane, group: &str) -> Arc<Link> {
        let target = Target {
            node: to,
            address: member.address.clone(),
            purpose: Purpose::Calls(lane),
            // Entries of one storage do not wait behind those of another.
            group: match lane {
                Lane::Entries => group.to_owned(),
                Lane::Urgent | Lane::Service => String::new(),
            },
        };
        let mut links = self.links.lock();
        if let Some(link) = links.get(&target) {
            return Arc::clone(link);
        }
        // Of an address that the node has left.
        links.retain(|other, link| {
            other.node != to || other.address == member.address || !link.is_idle()
        });
        let link = Arc::new(Link::new(Arc::clone(&self.own), target.clone(), lane));
        links.insert(target, Arc::clone(&link));
        link
    }

    async fn open_stream(
        &self,
        to: NodeId,
        member: &Member,
        group: &str,
        kind: StreamKind,
    ) -> Result<PeerStream, PeerError> {
        let target = Target {
            node: to,
            address: member.address.clone(),
            purpose: Purpose::Stream(kind),
            group: group.to_owned(),
        };
        let meter = Arc::<Meter>::default();
        let peer = self.own.known.meet(to, &member.address);
        meter.belongs_to(Arc::clone(&peer));
        let opened = connect::open(&self.own, &target, meter).await;
        opened.map_err(|error| {
            peer.note_failure(&member.address, &error);
            PeerError::unreachable(to, member, error)
        })
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network of node {}", self.own.node)
    }
}

impl Peers for Network {
    fn call<'a>(
        &'a self,
        to: NodeId,
        member: &'a Member,
        group: &'a str,
        request: Request,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Reply, PeerError>> {
        Box::pin(self.ask(to, member, group, request, patience))
    }

    fn stream<'a>(
        &'a self,
        to: NodeId,
        member: &'a Member,
        group: &'a str,
        kind: StreamKind,
    ) -> BoxFuture<'a, Result<PeerStream, PeerError>> {
        Box::pin(self.open_stream(to, member, group, kind))
    }
}

fn lane_of(request: &Request) -> Lane {
    match request {
        Request::Append(append) if !append.entries.is_empty() => Lane::Entries,
        Request::Service(_) | Request::Admin(_) => Lane::Service,
        _ => Lane::Urgent,
    }
}

fn unsealed(group: &str, request: &Request) -> io::Result<Unsealed> {
    let mut unsealed = Unsealed::with_capacity(0);
    match message::put_request(group, request, unsealed.message()) {
        Ok(()) => Ok(unsealed),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
