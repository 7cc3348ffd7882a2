//! The running server: opens the storages, listens, and stops cleanly. Here,
//! and only here, the parts meet the runtime.

mod connection;
mod limits;
mod listener;
mod logging;
mod open;
mod pidfile;
mod signals;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::session::Databases;
use crate::storage::StorageError;
use crate::wire::Format;
use limits::{CHECKPOINT_INTERVAL, SHUTDOWN_TIME};
use listener::Listeners;
pub use logging::LoggingError;
use pidfile::PidFile;
use signals::{Signals, Wanted};
use tls::Tls;
pub use tls::TlsError;

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
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {problem}")]
    Listen {
        /// As configured.
        address: String,
        /// Why, and what to do.
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

/// How the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It was asked to stop.
    Asked,
    /// It was asked to be started anew (SIGHUP), which is up to its parent.
    Restart,
}

/// Serves what `config` says until a signal ends it. `address_file` is written
/// once clients can connect.
pub fn run(config: &Config, address_file: Option<&Path>) -> Result<Stopped, ServerError> {
    let logging = logging::init(config.eventlog.as_ref())?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let tls = Tls::of(config)?;
    if let Some(address) = &config.zeo.monitor_address {
        tracing::warn!("monitor-address {address} is not served by this version of zeod");
    }
    limits::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("zeod")
        .enable_all()
        .build()
        .map_err(ServerError::io("starting the runtime"))?;
    let stopped = runtime.block_on(serve(config, address_file, &logging, tls));
    runtime.shutdown_timeout(SHUTDOWN_TIME);
    stopped
}

async fn serve(
    config: &Config,
    address_file: Option<&Path>,
    logging: &logging::Logging,
    tls: Option<Arc<Tls>>,
) -> Result<Stopped, ServerError> {
    // First of all, so that a signal during a long start is not lost.
    let mut signals = Signals::new().map_err(ServerError::io("catching signals"))?;
    let listeners = Listeners::bind(&config.zeo.address).await?;
    let _pid_file = PidFile::write(config);
    let databases = tokio::task::block_in_place(|| open::databases(config))?;
    if let Some(path) = address_file {
        listeners
            .write_address_file(path)
            .map_err(ServerError::io(format!("writing {}", path.display())))?;
    }
    for address in listeners.addresses() {
        tracing::info!("listening on {address}");
    }
    let format = if config.zeo.msgpack == Some(true) {
        Format::Msgpack
    } else {
        Format::Pickle
    };
    let mut connections = JoinSet::new();
    let checkpoints = tokio::spawn(checkpoint_regularly(Arc::clone(&databases)));
    let stopped = loop {
        tokio::select! {
            accepted = listeners.accept() => {
                while connections.try_join_next().is_some() {}
                listener::serve(accepted, &databases, format, tls.as_ref(), &mut connections);
            }
            wanted = signals.next() => match wanted {
                Wanted::Stop => break Stopped::Asked,
                Wanted::Restart => break Stopped::Restart,
                Wanted::ReopenLogs => reopen_logs(logging),
            },
        }
    };
    checkpoints.abort();
    listeners.close();
    stop(connections, &databases).await?;
    if let Some(path) = address_file {
        remove_address_file(path);
    }
    if logging.lost_lines() > 0 {
        tracing::warn!("{} log lines could not be written", logging.lost_lines());
    }
    tracing::info!("stopped");
    Ok(stopped)
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

/// Ends the connections, then the storages.
async fn stop(mut connections: JoinSet<()>, databases: &Databases) -> Result<(), ServerError> {
    tracing::info!("stopping: closing {} connections", connections.len());
    if tokio::time::timeout(SHUTDOWN_TIME, connections.shutdown())
        .await
        .is_err()
    {
        tracing::warn!(
            "some connections did not end within {} s",
            SHUTDOWN_TIME.as_secs()
        );
    }
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
