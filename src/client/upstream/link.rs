use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Live, Shared, describe};
use crate::client::{self, CallError, Changes, Connection, Listener, OpenError, Options};
use crate::config::Address;
use crate::transaction::{Database, Delivery};
use crate::types::{Oid, Tid};
use crate::wire::{RemoteException, ServerNotice};

/// One server may take so long to accept a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Between two rounds over all servers it waits so long,
const ROUND_TIME: Duration = Duration::from_secs(1);
/// and up to so much longer, so that not all come at once.
const JITTER_MS: u32 = 500;
/// As long as no server can be had, that is said so often.
const COMPLAINT_TIME: Duration = Duration::from_mins(1);
/// With a server that takes no changes it looks so often for one that does.
const FALLBACK_TIME: Duration = Duration::from_secs(30);
/// So many transactions may be told of while a connection is brought up to date.
const MAX_EARLY: usize = 10_000;

/// A registered connection that is not up to date yet.
struct Candidate {
    connection: Connection,
    feed: Arc<Feed>,
    /// Its place in the list.
    number: usize,
    address: Address,
    is_read_only: bool,
    /// The server's last transaction.
    last: Tid,
    epoch: u64,
}

/// Keeps a main connection, for ever.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut epoch = 0;
    let mut complaint = Complaint::default();
    let mut found = None;
    let mut first = 0;
    loop {
        let candidate = if let Some(candidate) = found.take() {
            Ok(candidate)
        } else {
            epoch += 1;
            find(&shared, epoch, shared.options.read_only_fallback, first).await
        };
        // One that lets us in and is of no use must not be all that is ever tried.
        first = candidate.as_ref().map_or(0, |found| found.number + 1);
        let linked = match candidate {
            Ok(candidate) => {
                let feed = Arc::clone(&candidate.feed);
                bring_up_to_date(&shared, candidate)
                    .await
                    .map(|live| (live, feed))
            }
            Err(why) => Err(why),
        };
        match linked {
            Ok((live, feed)) => {
                complaint = Complaint::default();
                first = 0;
                found = serve(&shared, &live, &mut epoch).await;
                *feed.state.lock() = FeedState::Over;
            }
            Err(why) => {
                complaint.say(&shared, &why);
                tokio::time::sleep(ROUND_TIME + jitter()).await;
            }
        }
    }
}

/// Until the connection is lost, or there is a better one, which is returned.
async fn serve(shared: &Arc<Shared>, live: &Live, epoch: &mut u64) -> Option<Candidate> {
    let looks = live.is_read_only && shared.options.read_only_fallback;
    loop {
        let better = tokio::select! {
            why = live.connection.ended() => {
                tracing::warn!("storage {}: lost {}: {why}", shared.served_as, live.address);
                None
            }
            () = tokio::time::sleep(FALLBACK_TIME), if looks => {
                *epoch += 1;
                match find(shared, *epoch, false, 0).await {
                    Ok(better) => Some(better),
                    Err(_) => continue,
                }
            }
        };
        lost(shared);
        live.connection.close();
        return better;
    }
}

/// There is no main connection any more.
fn lost(shared: &Shared) {
    shared.live.send_replace(None);
    let mut order = shared.order.lock();
    for client in order.give_up() {
        client.push(Delivery::Close(
            "the server behind this one was lost during a commit",
        ));
    }
    shared.tell(&mut order);
}

/// Says that there is no connection, at first and then from time to time.
#[derive(Default)]
struct Complaint(Option<Instant>);

impl Complaint {
    fn say(&mut self, shared: &Shared, why: &str) {
        why.clone_into(&mut shared.trouble.lock());
        if self.0.is_none_or(|last| last.elapsed() > COMPLAINT_TIME) {
            self.0 = Some(Instant::now());
            tracing::warn!("storage {}: no connection: {why}", shared.served_as);
        }
    }
}

fn jitter() -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let noise = now.map_or(0, |now| now.subsec_micros());
    Duration::from_millis(u64::from(noise % JITTER_MS))
}

/// The first server that can be had, beginning with number `first`. With `fallback`
/// one that takes no changes will do, if there is no other.
async fn find(
    shared: &Arc<Shared>,
    epoch: u64,
    fallback: bool,
    first: usize,
) -> Result<Candidate, String> {
    let mut reasons = Vec::new();
    let mut read_only = Vec::new();
    let servers = &shared.options.servers;
    let first = first.checked_rem(servers.len()).unwrap_or(0);
    let numbered = servers.iter().enumerate().cycle().skip(first);
    for (number, address) in numbered.take(servers.len()) {
        match register(shared, (number, address), shared.options.read_only, epoch).await {
            Ok(candidate) => return Ok(candidate),
            Err(Refusal { is_read_only, why }) => {
                if is_read_only {
                    read_only.push((number, address));
                }
                reasons.push(format!("{address}: {why}"));
            }
        }
    }
    for (number, address) in read_only.into_iter().filter(|_| fallback) {
        match register(shared, (number, address), true, epoch).await {
            Ok(candidate) => return Ok(candidate),
            Err(refusal) => reasons.push(format!("{address}: {}", refusal.why)),
        }
    }
    Err(reasons.join("; "))
}

struct Refusal {
    is_read_only: bool,
    why: String,
}

impl<E: ToString> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self {
            is_read_only: false,
            why: error.to_string(),
        }
    }
}

async fn register(
    shared: &Arc<Shared>,
    (number, address): (usize, &Address),
    is_read_only: bool,
    epoch: u64,
) -> Result<Candidate, Refusal> {
    let feed = Arc::new(Feed {
        shared: Arc::clone(shared),
        state: Mutex::new(FeedState::Early(Vec::new())),
    });
    let listening = Arc::clone(&feed);
    let listener = Listener::callback(move |notice| listening.take(notice));
    let connection = open(shared, address, listener).await?;
    let registered = connection
        .register(&shared.options.storage, is_read_only)
        .await;
    match registered {
        Ok(last) => Ok(Candidate {
            connection,
            feed,
            number,
            address: address.clone(),
            is_read_only,
            last,
            epoch,
        }),
        Err(error) => Err(Refusal {
            is_read_only: error.remote().is_some_and(RemoteException::is_read_only),
            why: error.to_string(),
        }),
    }
}

/// Connects, and says who we are.
pub(super) async fn open(
    shared: &Shared,
    address: &Address,
    listener: Listener,
) -> Result<Connection, OpenError> {
    let options = Options {
        greeting_time: CONNECT_TIME,
        ..Options::default()
    };
    let stream = client::connect(address, &*shared.connector, CONNECT_TIME).await?;
    Connection::open(stream, options, listener).await
}

/// Brings the cache, and what is known of the last transactions, up to what the
/// server has, and begins to use the connection. Our clients are sent away, as
/// the reference does it: they come back at once, and verify their caches.
async fn bring_up_to_date(shared: &Arc<Shared>, candidate: Candidate) -> Result<Live, String> {
    let Candidate {
        connection,
        feed,
        number: _,
        address,
        is_read_only,
        last,
        epoch,
    } = candidate;
    let why = |error: CallError| format!("{address}: {error}");
    if let Some(label) = &shared.options.label {
        // Registered clients only have a name in the other server's log.
        connection.set_client_label(label).await.map_err(why)?;
    }
    let info = connection.get_info().await.map_err(why)?;
    let database = shared.database().ok_or("this server stops")?;
    let is_first = shared.description.get().is_none();
    let up_to = if is_first {
        start_over(shared, &database, last)?
    } else {
        tell_what_was_missed(shared, &database, &connection, last)
            .await
            .map_err(|error| format!("{address}: {error}"))?
    };
    shared.note_size(Some(info.length), Some(info.size));
    let described = describe::description(&shared.options, &info);
    let _ = shared.description.set(described);
    shared.is_read_only.store(is_read_only, Ordering::Release);
    shared.cache.lock().begin(epoch);
    shared.order.lock().begin_after(up_to);
    feed.begin(up_to)?;
    if !is_first {
        database.close_connections("the server behind this one was connected anew");
    }
    tracing::info!(
        "storage {}: connected to {address}{}",
        shared.served_as,
        if is_read_only { ", read-only" } else { "" }
    );
    let live = Live {
        connection,
        address,
        is_read_only,
        epoch,
    };
    shared.live.send_replace(Some(live.clone()));
    Ok(live)
}

/// Tells our clients what was committed since the last connection was lost; up
/// to which transaction.
async fn tell_what_was_missed(
    shared: &Shared,
    database: &Database,
    connection: &Connection,
    last: Tid,
) -> Result<Tid, String> {
    let known = shared.last_told();
    if last == known {
        return Ok(last);
    }
    if last < known {
        return Err(format!(
            "it is behind: its last transaction is {last}, and {known} was seen here. Was its \
             database restored from a backup? Then restart this server, and remove the clients' \
             cache files"
        ));
    }
    let changes = connection.get_invalidations(known).await;
    match changes.map_err(|error| error.to_string())? {
        Some(changes) if changes.tid > known => {
            let Changes { tid, oids } = changes;
            shared.cache.lock().invalidate(&oids);
            database.announce(tid, oids, None, || shared.note_told(tid));
            Ok(tid)
        }
        Some(_) => Ok(last),
        None => start_over(shared, database, last),
    }
}

/// Nothing is known of what came before `last`.
fn start_over(shared: &Shared, database: &Database, last: Tid) -> Result<Tid, String> {
    shared.cache.lock().clear();
    shared.note_told(last);
    database.start_over().map_err(|error| error.to_string())?;
    Ok(last)
}

/// What a connection tells unasked.
struct Feed {
    shared: Arc<Shared>,
    state: Mutex<FeedState>,
}

enum FeedState {
    /// The connection is being brought up to date.
    Early(Vec<(Tid, Vec<Oid>)>),
    /// It is the main connection.
    Live,
    /// It is of no use: it was replaced, or told too much too early.
    Over,
}

impl Feed {
    fn take(&self, notice: ServerNotice<'_>) {
        match notice {
            ServerNotice::Invalidation { tid, oids } => {
                let mut state = self.state.lock();
                match &mut *state {
                    FeedState::Early(early) if early.len() < MAX_EARLY => early.push((tid, oids)),
                    FeedState::Early(_) => *state = FeedState::Over,
                    FeedState::Live => self.shared.arrived(tid, oids),
                    FeedState::Over => {}
                }
            }
            ServerNotice::Info { length, size } => {
                self.shared.note_size(length, size);
                if let Some(database) = self.shared.database() {
                    database.broadcast_info();
                }
            }
            // Blobs that somebody waits for are taken before.
            _ => {}
        }
    }

    /// Begins to tell what comes after `up_to`.
    fn begin(&self, up_to: Tid) -> Result<(), String> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, FeedState::Live) {
            FeedState::Early(early) => {
                for (tid, oids) in early {
                    if tid > up_to {
                        self.shared.arrived(tid, oids);
                    }
                }
                Ok(())
            }
            FeedState::Live | FeedState::Over => {
                *state = FeedState::Over;
                Err("too many transactions came before it was up to date".to_owned())
            }
        }
    }
}
