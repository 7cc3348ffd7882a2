//! Nodes that call each other over loopback, and what can be in between.

mod calls;
mod faults;
mod hostile;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, Vote};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::{Listener, NetOptions, Network};
use crate::replication::peers::{
    BoxFuture, PeerError, PeerHandler, PeerStream, Peers, Reply, Request, StreamKind,
};
use crate::replication::types::{Command, Member, NodeId};

/// No test waits so long for what should happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// A service that is held up until it is let go.
const HELD: &[u8] = b"held";
/// A service whose answer is too long.
const LONG_ANSWER: &[u8] = b"long answer";

/// Answers, and notes what it was asked.
struct Script {
    asked: Mutex<Vec<(NodeId, String, String)>>,
    done: Mutex<Vec<Bytes>>,
    let_go: Semaphore,
}

impl Script {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            asked: Mutex::default(),
            done: Mutex::default(),
            let_go: Semaphore::new(0),
        })
    }

    /// Until so many services are done.
    async fn done(&self, count: usize) -> Vec<Bytes> {
        loop {
            let done = self.done.lock().clone();
            if done.len() >= count {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl PeerHandler for Script {
    fn call<'a>(&'a self, from: NodeId, group: &'a str, request: Request) -> BoxFuture<'a, Reply> {
        Box::pin(async move {
            let shown = match &request {
                Request::Append(append) => format!("{} entries", append.entries.len()),
                other => format!("{other:?}"),
            };
            self.asked.lock().push((from, group.to_owned(), shown));
            match request {
                Request::Append(_) => Reply::Append(AppendEntriesResponse::Success),
                Request::ReadIndex => Reply::ReadIndex(None),
                Request::PreVote { term, .. } => Reply::PreVote {
                    granted: true,
                    term,
                },
                Request::Service(bytes) if bytes == LONG_ANSWER => {
                    Reply::Service(vec![0; 17 << 20].into())
                }
                Request::Service(bytes) => {
                    if bytes == HELD {
                        self.let_go.acquire().await.unwrap().forget();
                    }
                    self.done.lock().push(bytes.clone());
                    Reply::Service(bytes)
                }
                Request::Admin(text) => Reply::Admin(text),
                _ => Reply::Done,
            }
        })
    }

    /// Says who has come what for, and then echoes.
    fn stream<'a>(
        &'a self,
        from: NodeId,
        group: &'a str,
        kind: StreamKind,
        mut stream: PeerStream,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let greeting = format!("{from} {group} {kind:?}\n");
            stream.write_all(greeting.as_bytes()).await.unwrap();
            let mut chunk = vec![0; 1000];
            while let Ok(length @ 1..) = stream.read(&mut chunk).await {
                stream.write_all(&chunk[..length]).await.unwrap();
            }
            let _ = stream.shutdown().await;
        })
    }
}

/// A node that runs.
struct Node {
    network: Network,
    member: Member,
    script: Arc<Script>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Node {
    async fn start(node: NodeId) -> Self {
        Self::start_at(node, &format!("127.0.0.{}:0", node + 1)).await
    }

    async fn start_at(node: NodeId, address: &str) -> Self {
        let network = Network::new(NetOptions { node, tls: None });
        let script = Script::new();
        let listener = Listener::bind(address, &network).await.unwrap();
        let address = listener.addresses()[0].to_string();
        let (stop, stopped) = oneshot::channel();
        let handler = Arc::clone(&script) as Arc<dyn PeerHandler>;
        let task = tokio::spawn(listener.serve(handler, async {
            let _ = stopped.await;
        }));
        Self {
            network,
            member: Member { address },
            script,
            stop,
            task,
        }
    }

    /// Stops listening, and cuts all off.
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

async fn call(network: &Network, to: NodeId, member: &Member, request: Request) -> Reply {
    let reply = network.call(to, member, "main", request, PATIENCE).await;
    reply.unwrap()
}

async fn serve(network: &Network, to: NodeId, member: &Member, what: &[u8]) -> Bytes {
    let request = Request::Service(Bytes::copy_from_slice(what));
    match call(network, to, member, request).await {
        Reply::Service(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

/// Why a small call fails.
async fn refusal(network: &Network, to: NodeId, member: &Member) -> String {
    let asked = network.call(to, member, "main", Request::ReadIndex, PATIENCE);
    match asked.await {
        Err(PeerError::Unreachable { source, .. }) => source.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Entries with so many bytes in them; none: a heartbeat.
fn append(bytes: Option<usize>) -> Request {
    let log_id = LogId::new(CommittedLeaderId::new(1, 1), 1);
    let entries = bytes.map(|length| {
        let payload = EntryPayload::Normal(Command(vec![7; length].into()));
        Entry { log_id, payload }
    });
    Request::Append(AppendEntriesRequest {
        vote: Vote::new_committed(1, 1),
        prev_log_id: None,
        entries: entries.into_iter().collect(),
        leader_commit: None,
    })
}
