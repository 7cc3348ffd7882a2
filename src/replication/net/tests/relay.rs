//! A network between two nodes that can be held up.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::replication::types::Member;

/// What it lets through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    All,
    /// So many bytes of each connection towards the target.
    FirstBytes(usize),
    /// Nothing; connections made meanwhile never get anything through, nor
    /// are they closed.
    Nothing,
}

/// Accepts connections and carries their bytes to a target.
pub struct Relay {
    pub member: Member,
    flow: Arc<watch::Sender<Flow>>,
}

impl Relay {
    pub async fn start(target: &Member) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let flow = Arc::new(watch::Sender::new(Flow::All));
        let target: SocketAddr = target.address.parse().unwrap();
        let valve = Arc::clone(&flow);
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(target).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, valve.subscribe(), true));
                tokio::spawn(carry(far_in, near_out, valve.subscribe(), false));
            }
        });
        Self {
            member: Member { address },
            flow,
        }
    }

    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }
}

async fn carry(
    mut source: OwnedReadHalf,
    mut sink: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    is_forth: bool,
) {
    let mut chunk = vec![0; 10_000];
    let mut carried = 0;
    while let Ok(length @ 1..) = source.read(&mut chunk).await {
        carried += length;
        let is_open = |flow: &Flow| match *flow {
            Flow::All => true,
            Flow::FirstBytes(most) => !is_forth || carried <= most,
            Flow::Nothing => false,
        };
        if flow.wait_for(is_open).await.is_err() {
            return;
        }
        if sink.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
    // As a network does that drops everything, it does not tell of the end either.
    if flow.wait_for(|flow| *flow == Flow::All).await.is_ok() {
        let _ = sink.shutdown().await;
    }
}
