//! A TCP connection between nodes: set up, and its bytes counted.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::bounds::{KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, KEEPALIVE_TIME, USER_TIMEOUT};
use super::known::Peer;

/// What the connection has carried.
#[derive(Debug, Default)]
pub struct Meter {
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    peer: OnceLock<Arc<Peer>>,
}

impl Meter {
    /// Bytes that have come in.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that the kernel has taken.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// From now on known to be the traffic with `peer`; what was before counts.
    pub fn belongs_to(&self, peer: Arc<Peer>) {
        peer.count_received(self.received_bytes());
        peer.count_sent(self.sent_bytes());
        // One connection leads to one node only, and is told so once.
        let _ = self.peer.set(peer);
    }
}

/// The connection.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    meter: Arc<Meter>,
}

impl Socket {
    /// Sets `stream` up: sends at once, and notices that the other end is gone.
    pub fn new(stream: TcpStream, meter: Arc<Meter>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_TIME)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        socket.set_tcp_keepalive(&keepalive)?;
        Ok(Self { stream, meter })
    }

    fn count_sent(&self, sent: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = sent {
            let bytes = *bytes as u64;
            self.meter.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
            if let Some(peer) = self.meter.peer.get() {
                peer.count_sent(bytes);
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = (buffer.filled().len() - before) as u64;
        if bytes > 0 {
            let meter = &self.meter;
            meter.received_bytes.fetch_add(bytes, Ordering::Relaxed);
            if let Some(peer) = meter.peer.get() {
                peer.count_received(bytes);
            }
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count_sent(&sent);
        sent
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count_sent(&sent);
        sent
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
