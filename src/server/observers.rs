//! Those who ask how the server is: over HTTP at `status-address`, in ZEO 4's
//! way at `monitor-address`.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::ServerError;
use super::listener::{Accepted, Listeners};
use crate::config::Config;
use crate::status::{self, CONNECTION_TIME, MAX_CONNECTIONS, Snapshot, Watched};

/// What observers find; it answers until it is closed.
#[derive(Debug, Default)]
pub struct Observers(Vec<Listening>);

#[derive(Debug)]
struct Listening {
    how: How,
    listeners: Arc<Listeners>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Http,
    Monitor,
}

impl Observers {
    /// Answers at the addresses that are configured, if any.
    pub async fn start(config: &Config, watched: &Arc<Watched>) -> Result<Self, ServerError> {
        let mut observers = Self::default();
        if let Some(address) = &config.zeod.status_address {
            let listeners = Listeners::bind_on_this_machine(address).await?;
            observers.listen(How::Http, listeners, watched);
        }
        if let Some(address) = &config.zeo.monitor_address {
            let listeners = Listeners::bind(address).await?;
            observers.listen(How::Monitor, listeners, watched);
        }
        Ok(observers)
    }

    fn listen(&mut self, how: How, listeners: Listeners, watched: &Arc<Watched>) {
        for address in listeners.addresses() {
            tracing::info!("{} at {address}", how.name());
        }
        let listeners = Arc::new(listeners);
        let watched = Arc::clone(watched);
        let task = tokio::spawn(accept(how, Arc::clone(&listeners), watched));
        self.0.push(Listening {
            how,
            listeners,
            task,
        });
    }

    /// Lines `status ADDRESS` and `monitor ADDRESS` for the address file.
    pub fn lines(&self) -> Vec<String> {
        let lines = |listening: &Listening| {
            let name = listening.how.name();
            let addresses = listening.listeners.addresses().into_iter();
            addresses.map(move |address| format!("{name} {address}"))
        };
        self.0.iter().flat_map(lines).collect()
    }

    /// Answers nobody any more.
    pub async fn close(self) {
        for listening in self.0 {
            listening.task.abort();
            // It is cancelled; its listeners are free then.
            let _ = listening.task.await;
            if let Some(listeners) = Arc::into_inner(listening.listeners) {
                listeners.close();
            }
        }
    }
}

impl How {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "status",
            Self::Monitor => "monitor",
        }
    }
}

/// Serves who comes, so many at the same time; the others wait where the system
/// keeps those who were not accepted.
async fn accept(how: How, listeners: Arc<Listeners>, watched: Arc<Watched>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = listeners.accept().await;
        let watched = Arc::clone(&watched);
        tokio::spawn(async move {
            match accepted {
                Accepted::Tcp(stream, _) => serve(how, stream, watched).await,
                Accepted::Unix(stream, _) => serve(how, stream, watched).await,
            }
            drop(place);
        });
    }
}

async fn serve<S>(how: How, mut stream: S, watched: Arc<Watched>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if how == How::Http {
        return status::serve(stream, watched).await;
    }
    let text = move || status::monitor_text(&Snapshot::of(&watched), SystemTime::now());
    let sent = async {
        let text = tokio::task::spawn_blocking(text).await?;
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    };
    match tokio::time::timeout(CONNECTION_TIME, sent).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("monitor: {error}"),
        Err(_) => tracing::debug!("monitor: not read within {} s", CONNECTION_TIME.as_secs()),
    }
}
