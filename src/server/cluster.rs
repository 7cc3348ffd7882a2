//! This server as a node of its cluster.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot};

use super::{ServerError, open};
use crate::config::{Address, Config, ReplicationSection, StorageConfig};
use crate::replication::consensus::TimerSettings;
use crate::replication::net::{PeerTls, TlsSettings};
use crate::replication::node::{Node, NodeOptions, StorageOptions};
use crate::replication::peers::PeerStream;
use crate::replication::replica::{Patience, ServeRemote};
use crate::session::Databases;
use crate::transaction::Remote;

/// Sessions of other nodes that have come and are not served yet.
const MAX_WAITING_REMOTES: usize = 128;

/// Sessions of other nodes that want to be served.
type Remotes = mpsc::Receiver<RemoteSession>;

/// A session of another node.
pub struct RemoteSession {
    /// The way to it.
    pub stream: PeerStream,
    /// Whose it is.
    pub remote: Remote,
    /// Closed when the session is to end: its node is not heard of any more.
    /// Dropped when it has ended.
    pub stay: oneshot::Sender<Infallible>,
}

/// This server's part in a cluster; nothing where there is none.
#[derive(Debug, Default)]
pub struct Part {
    node: Option<Arc<Node>>,
    remotes: Option<Remotes>,
    runtime: Option<Runtime>,
}

/// What comes from the cluster.
pub enum PartEvent {
    /// A session of another node wants to be served.
    Remote(RemoteSession),
    /// This node cannot go on, for this reason.
    Failed(String),
}

impl Part {
    /// Opens the storages as a node's, and begins to take part.
    pub async fn start(
        config: &Config,
        section: &ReplicationSection,
        opening: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, ServerError> {
        // An entry goes through many tasks, and through one thread fastest. Nor does
        // a session that keeps a thread busy hold up heartbeats.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("replication")
            .enable_all()
            .build()
            .map_err(ServerError::io("starting the replication's runtime"))?;
        let started = within(runtime.handle(), start(config, section, opening)).await;
        let (node, remotes) = match started {
            Ok(started) => started,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        Ok(Self {
            node: Some(node),
            remotes: Some(remotes),
            runtime: Some(runtime),
        })
    }

    /// The node.
    pub fn node(&self) -> Option<&Arc<Node>> {
        self.node.as_ref()
    }

    /// What it serves.
    pub fn databases(&self) -> Arc<Databases> {
        let databases = self.node.as_ref().map(|node| node.databases());
        Arc::new(databases.unwrap_or_default())
    }

    /// Where other nodes reach it, as a line of the address file.
    pub fn line(&self) -> Option<String> {
        let node = self.node.as_ref()?;
        Some(format!("replication {}", node.address()))
    }

    /// The next event; none, ever, where there is no cluster.
    pub async fn next(&mut self) -> PartEvent {
        let (Some(node), Some(remotes)) = (&self.node, &mut self.remotes) else {
            return std::future::pending().await;
        };
        tokio::select! {
            Some(session) = remotes.recv() => PartEvent::Remote(session),
            why = node.failed() => PartEvent::Failed(why),
        }
    }

    /// Takes no part any more. No client is left.
    pub async fn stop(&mut self) {
        // Nobody is let in any more.
        self.remotes = None;
        if let Some(node) = &self.node {
            node.stop().await;
        }
    }
}

impl Drop for Part {
    /// Nobody may wait for a runtime within another one.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Does it here; the tasks and sockets that it makes belong to another runtime.
async fn within<T>(runtime: &Handle, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context| {
        let _entered = runtime.enter();
        work.as_mut().poll(context)
    })
    .await
}

async fn start(
    config: &Config,
    section: &ReplicationSection,
    opening: &(dyn Fn(&str) + Sync),
) -> Result<(Arc<Node>, Remotes), ServerError> {
    let options = NodeOptions {
        node: section.node_id,
        address: address(&section.address),
        directory: section.directory.clone(),
        timers: TimerSettings {
            heartbeat_interval: section.heartbeat_interval,
            election_timeout: section.election_timeout,
        },
        patience: Patience {
            register: section.register_wait,
            read: section.quorum_wait,
        },
        quorum_wait: section.quorum_wait,
        log_size_bytes: section.log_size_bytes,
        apply_delay: section.apply_delay,
        catch_up_bytes_per_second: section.catch_up_bytes_per_second,
    };
    let mut storages = Vec::new();
    for named in &config.storages {
        let not_served = || ServerError::NotServed {
            name: named.name.clone(),
            what: "only a <filestorage>, by itself or in a <blobstorage>, can be replicated"
                .to_owned(),
        };
        let mut file = file_of(&named.storage, None).ok_or_else(not_served)?;
        let mut database = open::options(config);
        // Its clients take no part in what is written, and the node does.
        database.read_only |= std::mem::take(&mut file.read_only);
        storages.push(StorageOptions {
            name: named.name.clone(),
            file,
            database,
        });
    }
    let tls = peer_tls(config, section)?.map(|tls| Arc::new(PeerTls::new(tls)));
    let node = Node::start(options, storages, tls, opening).await?;
    let (sender, remotes) = mpsc::channel(MAX_WAITING_REMOTES);
    let serve: ServeRemote = Arc::new(move |stream, remote| {
        let sender = sender.clone();
        let (stay, ended) = oneshot::channel();
        let session = RemoteSession {
            stream,
            remote,
            stay,
        };
        Box::pin(async move {
            // Where nobody takes it the server stops, and the other end finds
            // the next leader.
            if sender.send(session).await.is_ok() {
                let _ = ended.await;
            }
        })
    });
    node.serve_remotes(&serve);
    Ok((node, remotes))
}

/// How connections between nodes are encrypted, from the files of the configuration.
pub fn peer_tls(
    config: &Config,
    section: &ReplicationSection,
) -> Result<Option<TlsSettings>, ServerError> {
    let Some(tls) = &section.tls else {
        return Ok(None);
    };
    Ok(Some(super::peer_tls(&tls.into(), &config.zeod)?))
}

fn file_of(
    storage: &StorageConfig,
    blob_dir: Option<PathBuf>,
) -> Option<crate::storage::file::FileOptions> {
    match storage {
        StorageConfig::File(file) => Some(open::file_options(file, blob_dir)),
        StorageConfig::Blob { blob_dir, base } => file_of(base, Some(blob_dir.clone())),
        _ => None,
    }
}

fn address(address: &Address) -> String {
    match address {
        Address::Tcp {
            host: Some(host),
            port,
        } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port } => format!("{}:{port}", host.as_deref().unwrap_or("0.0.0.0")),
        Address::Unix(path) => path.display().to_string(),
    }
}
