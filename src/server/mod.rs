//! The running server: opens the storages, listens, and stops cleanly. Here,
//! and only here, the parts meet the runtime.

mod activation;
mod cluster;
mod connection;
mod drain;
mod entrance;
mod limits;
mod listener;
mod logging;
mod memory;
mod notify;
mod observers;
mod open;
mod packs;
mod pidfile;
mod privileges;
mod reception;
mod reload;
mod signals;
mod tcp;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::config::Config;
use crate::replication::node::NodeError;
use crate::session::Databases;
use crate::stats::replication::NodeSource;
use crate::status::{Phase, Watched};
use crate::storage::StorageError;
use activation::Handed;
use cluster::{Part, PartEvent};
use drain::Connections;
use entrance::Entrance;
use limits::{ABORT_TIME, Bounds, CHECKPOINT_INTERVAL, Limits};
use listener::Listeners;
pub use logging::LoggingError;
use observers::Observers;
pub use privileges::{Identity, Owner};
use reception::Reception;
use reload::Reload;
pub use reload::Reread;
use signals::{Signals, Wanted};
use tls::Tls;
pub use tls::{PeerFiles, PeerTlsError, TlsError, peer_tls};

/// Why the server did not start, or did not stop cleanly.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The log.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// A storage cannot be opened or closed.
    #[error("storage {name}: {source}")]
    Storage {
        /// Its name.
        name: String,
        /// Why.
        source: StorageError,
    },
    /// A kind of storage, or a setting, that this version does not serve.
    #[error("storage {name}: {what}")]
    NotServed {
        /// Its name.
        name: String,
        /// What is not served.
        what: String,
    },
    /// Connections cannot be encrypted as the configuration asks.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Connections between nodes cannot be encrypted as the configuration asks.
    #[error(transparent)]
    PeerTls(#[from] PeerTlsError),
    /// The cluster.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// This node cannot go on.
    #[error("replication has stopped: {0}; restart the server once the disk is well")]
    NodeFailed(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {problem}")]
    Listen {
        /// As configured.
        address: String,
        /// Why, and what to do.
        problem: String,
    },
    /// The user whose rights the server is to take.
    #[error("<zeod> user {user}: {problem}")]
    User {
        /// As configured.
        user: String,
        /// Why not, and what to do.
        problem: String,
    },
    /// A file for others to read, or the runtime.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's words.
        source: std::io::Error,
    },
}

impl ServerError {
    fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            doing: doing.into(),
            source,
        }
    }
}

/// Serves what `config` says until a signal ends it. `address_file` is written
/// once clients can connect; `reread` reads the configuration anew.
pub fn run(
    config: &Config,
    address_file: Option<&Path>,
    reread: &Reread<'_>,
) -> Result<(), ServerError> {
    // Before there are threads.
    let handed = Handed::take()?;
    let user = config.zeod.user.as_deref().map(Identity::resolve);
    let user = user.transpose()?;
    if let Some(user) = &user {
        user.check()?;
    }
    // As whom systemd has started it, for instance: nothing is left to do.
    let user = user.filter(|user| !user.is_own());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("zeod")
        .enable_all()
        .build()
        .map_err(ServerError::io("starting the runtime"))?;
    // What takes root's rights comes first: ports and the PID file.
    let entrance = runtime.block_on(Entrance::open(config, handed, user.as_ref()))?;
    if let Some(user) = &user {
        user.take()?;
    }
    // As the user, whom the files then belong to: so they can be opened anew.
    let logging = logging::init(config.eventlog.as_ref())?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let limits = Limits::new(&config.zeod, limits::raise_descriptor_limit());
    let bounds = Arc::new(Bounds::new(limits));
    entrance.report();
    // As the user, too, who will have to read the key again at a reload.
    let tls = Tls::of(config)?;
    let reload = Reload::new(config, reread, &logging, tls.clone());
    let stopped = runtime.block_on(serve(config, entrance, address_file, tls, &bounds, reload));
    if logging.lost_lines() > 0 {
        tracing::warn!("{} log lines could not be written", logging.lost_lines());
    }
    runtime.shutdown_timeout(ABORT_TIME);
    stopped
}

async fn serve(
    config: &Config,
    entrance: Entrance,
    address_file: Option<&Path>,
    tls: Option<Arc<Tls>>,
    bounds: &Arc<Bounds>,
    mut reload: Reload<'_>,
) -> Result<(), ServerError> {
    let Entrance {
        mut signals,
        listeners,
        pid_file: _pid_file,
        ..
    } = entrance;
    let listeners = listeners
        .numbered_from(bounds.limits.high_descriptor())
        .map_err(ServerError::io("listening"))?;
    // Before anything that takes its time, so that it can be seen from the start.
    let limits = bounds.limits.status(config.zeod.max_transaction_bytes);
    let watched = Arc::new(Watched::new(limits));
    let observers = Observers::start(config, &watched).await?;
    watched.set_addresses(listeners.addresses());
    let patience = tokio::spawn(notify::ask_for_time());
    let opening = |name: &str| {
        let what = format!("opening storage {name}");
        notify::status(&what);
        watched.set_phase(Phase::Starting(what));
    };
    let (databases, mut part) = open_storages(config, &opening).await?;
    if let Some(node) = part.node() {
        watched.set_node(Arc::clone(node) as Arc<dyn NodeSource>);
    }
    patience.abort();
    watched.set_databases(Arc::clone(&databases));
    watched.set_phase(Phase::Ready);
    let other_lines: Vec<_> = observers.lines().into_iter().chain(part.line()).collect();
    tell_addresses(&listeners, address_file, &other_lines)?;
    let reception = Reception::new(config, &databases, &watched, tls, bounds);
    let checkpoints = tokio::spawn(checkpoint_regularly(Arc::clone(&databases)));
    tokio::spawn(notify::feed_watchdog(Arc::clone(&databases)));
    tokio::spawn(packs::tell(Arc::clone(&databases)));
    let (connections, failed) =
        receive(&listeners, &reception, &mut part, &mut signals, &mut reload).await;
    notify::stopping();
    watched.set_phase(Phase::Stopping);
    checkpoints.abort();
    listeners.close();
    // What this node cannot do any more nobody is to wait for.
    let patience = match &failed {
        Some(_) => Duration::ZERO,
        None => reload.shutdown_time(),
    };
    connections.drain(patience, &mut signals).await;
    part.stop().await;
    let closed = close(&databases);
    observers.close().await;
    closed?;
    if let Some(why) = failed {
        return Err(ServerError::NodeFailed(why));
    }
    if let Some(path) = address_file {
        remove_address_file(path);
    }
    tracing::info!("stopped");
    Ok(())
}

/// Says where clients can connect, from now on.
fn tell_addresses(
    listeners: &Listeners,
    address_file: Option<&Path>,
    other_lines: &[String],
) -> Result<(), ServerError> {
    if let Some(path) = address_file {
        listeners
            .write_address_file(path, other_lines)
            .map_err(ServerError::io(format!("writing {}", path.display())))?;
    }
    for address in listeners.addresses() {
        tracing::info!("listening on {address}");
    }
    Ok(())
}

/// Opens what the configuration names, by itself or as part of a cluster.
async fn open_storages(
    config: &Config,
    opening: &(dyn Fn(&str) + Sync),
) -> Result<(Arc<Databases>, Part), ServerError> {
    if let Some(section) = &config.zeod.replication {
        let part = Part::start(config, section, opening).await?;
        return Ok((part.databases(), part));
    }
    let databases = tokio::task::block_in_place(|| open::databases(config, opening))?;
    Ok((databases, Part::default()))
}

/// Lets clients in until the server is asked to stop.
async fn receive(
    listeners: &Listeners,
    reception: &Arc<Reception>,
    part: &mut Part,
    signals: &mut Signals,
    reload: &mut Reload<'_>,
) -> (Connections, Option<String>) {
    let status = format!("serving on {}", listeners.addresses().join(", "));
    notify::ready(&status);
    let mut connections = Connections::default();
    loop {
        tokio::select! {
            accepted = listeners.accept() => {
                connections.forget_ended();
                reception.receive(accepted, &mut connections);
            }
            event = part.next() => match event {
                PartEvent::Remote(session) => {
                    connections.forget_ended();
                    reception.receive_remote(session, &mut connections);
                }
                PartEvent::Failed(why) => return (connections, Some(why)),
            },
            wanted = signals.next() => match wanted {
                Wanted::Stop => return (connections, None),
                // Nothing can be read again: the terminal was closed.
                Wanted::Reload if !reload.is_possible() => return (connections, None),
                Wanted::Reload => {
                    notify::reloading();
                    tokio::task::block_in_place(|| reload.run(&reception.databases));
                    notify::ready(&status);
                }
                Wanted::ReopenLogs => reopen_logs(reload.logging()),
            },
        }
    }
}

fn reopen_logs(logging: &logging::Logging) {
    let failures = logging.reopen();
    for failure in &failures {
        tracing::error!("{failure}");
    }
    if failures.is_empty() {
        tracing::info!("log files reopened");
    }
}

fn close(databases: &Databases) -> Result<(), ServerError> {
    let mut first_error = None;
    for (name, database) in databases {
        if let Err(source) = tokio::task::block_in_place(|| database.close()) {
            tracing::error!("storage {name}: {source}");
            first_error.get_or_insert(ServerError::Storage {
                name: name.clone(),
                source,
            });
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// Saves the indexes from time to time, so that a crash costs little reading.
async fn checkpoint_regularly(databases: Arc<Databases>) {
    let mut interval = tokio::time::interval(CHECKPOINT_INTERVAL);
    interval.tick().await;
    loop {
        interval.tick().await;
        for database in databases.values() {
            let storage = Arc::clone(&database.storage);
            match tokio::task::spawn_blocking(move || storage.checkpoint()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("storage {}: {error}", database.name),
                Err(error) => {
                    tracing::error!("storage {}: saving the index: {error}", database.name);
                }
            }
        }
    }
}

fn remove_address_file(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!("{}: {error}", path.display());
    }
}

/// The name under which a file is written before it takes its place.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    PathBuf::from(name)
}
