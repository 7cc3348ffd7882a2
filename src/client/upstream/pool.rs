use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Live, Shared, link};
use crate::client::{CallError, Connection, Listener};
use crate::wire::ServerNotice;

/// So many of our clients' transactions are voted or being voted at once; the
/// next vote waits.
const MAX_LEASES: usize = 100;
/// So many connections are kept for the next transactions.
const MAX_IDLE: usize = 8;

/// Connections for transactions. The protocol has one transaction to a
/// connection, so each gets one from its vote to its end.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<Vec<Member>>,
    places: Arc<Semaphore>,
}

#[derive(Debug)]
struct Member {
    connection: Connection,
    /// Of the main connection when it was made.
    epoch: u64,
}

/// A connection, for one transaction. Dropped, it is closed, and the other
/// server gives up what was begun on it.
#[derive(Debug)]
pub(super) struct Lease {
    member: Member,
    _place: OwnedSemaphorePermit,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_LEASES)),
        }
    }
}

impl Lease {
    pub(super) fn connection(&self) -> &Connection {
        &self.member.connection
    }
}

impl Shared {
    /// A connection to the server of the main connection.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, CallError> {
        let place = Arc::clone(&self.pool.places).acquire_owned().await;
        let place = place.map_err(|_| CallError::Disconnected("this server stops".into()))?;
        let live = self.live_after(0).await?;
        loop {
            let idle = self.pool.idle.lock().pop();
            let member = match idle {
                Some(member) if member.is_good_for(&live) => member,
                Some(_) => continue,
                None => self.new_member(&live).await?,
            };
            return Ok(Lease {
                member,
                _place: place,
            });
        }
    }

    /// The transaction is over, and the connection is good for the next.
    pub(super) fn give_back(&self, lease: Lease) {
        let is_good = self
            .live
            .borrow()
            .as_ref()
            .is_some_and(|live| lease.member.is_good_for(live));
        let mut idle = self.pool.idle.lock();
        if is_good && idle.len() < MAX_IDLE {
            idle.push(lease.member);
        }
    }

    async fn new_member(self: &Arc<Self>, live: &Live) -> Result<Member, CallError> {
        let sizes = Arc::clone(self);
        // Of all that it is told, only the size is news: it comes to whom commits.
        let listener = Listener::callback(move |notice| {
            if let ServerNotice::Info { length, size } = notice {
                sizes.note_size(length, size);
            }
        });
        let connection = link::open(self, &live.address, listener)
            .await
            .map_err(|error| CallError::Disconnected(error.to_string().into()))?;
        connection.register(&self.options.storage, false).await?;
        if let Some(label) = &self.options.label {
            connection.set_client_label(label).await?;
        }
        Ok(Member {
            connection,
            epoch: live.epoch,
        })
    }
}

impl Member {
    fn is_good_for(&self, live: &Live) -> bool {
        self.epoch == live.epoch && self.connection.end().is_none()
    }
}
