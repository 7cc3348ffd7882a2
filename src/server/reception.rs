//! What becomes of a client that has come in.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::cluster::RemoteSession;
use super::drain::Connections;
use super::limits::Bounds;
use super::listener::Accepted;
use super::tls::Tls;
use super::{connection, tcp};
use crate::config::Config;
use crate::session::{Databases, Session};
use crate::stats::Clients;
use crate::status::Watched;
use crate::wire::Format;

/// What all connections share.
#[derive(Debug)]
pub struct Reception {
    /// What is served.
    pub databases: Arc<Databases>,
    /// Who is connected, for the statistics.
    pub clients: Arc<Clients>,
    /// The format that is offered.
    pub format: Format,
    /// How connections are encrypted. None: they are not.
    pub tls: Option<Arc<Tls>>,
    /// What clients may make the server hold.
    pub bounds: Arc<Bounds>,
}

impl Reception {
    /// For clients of `databases`, as configured.
    pub fn new(
        config: &Config,
        databases: &Arc<Databases>,
        watched: &Watched,
        tls: Option<Arc<Tls>>,
        bounds: &Arc<Bounds>,
    ) -> Arc<Self> {
        Arc::new(Self {
            databases: Arc::clone(databases),
            clients: Arc::clone(watched.clients()),
            format: if config.zeo.msgpack == Some(true) {
                Format::Msgpack
            } else {
                Format::Pickle
            },
            tls,
            bounds: Arc::clone(bounds),
        })
    }

    /// Serves a client in a task of its own, unless there are too many.
    pub fn receive(self: &Arc<Self>, accepted: Accepted, connections: &mut Connections) {
        let address = match &accepted {
            Accepted::Tcp(_, address) => address.to_string(),
            Accepted::Unix(_, path) => path.display().to_string(),
        };
        if connections.len() >= self.bounds.limits.max_connections {
            self.clients.refused.increment();
            return self.bounds.note_refused(&address);
        }
        let session = Session::new(Arc::clone(&self.databases), address);
        let inbox = Arc::clone(session.inbox());
        let connected = self.clients.enter(session.client());
        let reception = Arc::clone(self);
        connections.spawn(inbox, async move {
            let _connected = connected;
            match accepted {
                Accepted::Tcp(stream, _) => {
                    if let Err(error) = tcp::set_up(&stream, &reception.bounds.limits) {
                        tracing::debug!("({}) {error}", session.label());
                    }
                    reception.serve(stream, session).await;
                }
                Accepted::Unix(stream, _) => reception.serve(stream, session).await,
            }
        });
    }

    /// Serves a session of another node of the cluster in the same way.
    pub fn receive_remote(self: &Arc<Self>, session: RemoteSession, connections: &mut Connections) {
        let RemoteSession {
            stream,
            remote,
            mut stay,
        } = session;
        let name = format!("node {} session {}", remote.node, remote.session);
        let session = Session::new(Arc::clone(&self.databases), name).for_remote(remote);
        let inbox = Arc::clone(session.inbox());
        let connected = self.clients.enter(session.client());
        let reception = Arc::clone(self);
        connections.spawn(inbox, async move {
            let _connected = connected;
            let (databases, bounds) = (&reception.databases, &reception.bounds);
            tokio::select! {
                () = connection::serve(stream, session, databases, Format::Msgpack, bounds) => {}
                () = stay.closed() => {}
            }
        });
    }

    async fn serve<S>(&self, stream: S, session: Session)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (databases, format, bounds) = (&self.databases, self.format, &self.bounds);
        let Some(tls) = &self.tls else {
            return connection::serve(stream, session, databases, format, bounds).await;
        };
        // Apart, so that connections without TLS need no memory for it.
        let encrypted = Box::pin(async {
            let inbox = Arc::clone(session.inbox());
            let accepted = tokio::select! {
                accepted = tls.accept(stream) => accepted,
                // Nobody but a stop has anything for one who has not registered.
                () = poll_fn(|context| inbox.poll_filled(context.waker())) => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let session = session.with_peer(peer, Arc::clone(tls.access()));
                    connection::serve(stream, session, databases, format, bounds).await;
                }
                Err(why) => tracing::warn!("({}) refused: {why}", session.label()),
            }
        });
        encrypted.await;
    }
}
