use std::io;
use std::pin::Pin;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::Address;

/// Bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Any of them.
pub type BoxedStream = Box<dyn Stream>;

/// What stands between a connected socket and ZEO: nothing, or TLS.
pub trait Connector: Send + Sync {
    /// Makes of a connected stream one that ZEO is spoken on. `host` is the
    /// server's as it was configured; None for a unix socket.
    fn wrap<'c>(
        &'c self,
        stream: BoxedStream,
        host: Option<&'c str>,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxedStream>> + Send + 'c>>;
}

/// Nothing in between.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Connector for Plain {
    fn wrap<'c>(
        &'c self,
        stream: BoxedStream,
        _: Option<&'c str>,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxedStream>> + Send + 'c>> {
        Box::pin(std::future::ready(Ok(stream)))
    }
}

/// A server that has said nothing for so long is asked by the kernel whether it lives,
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
/// every so often,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// so many times.
const KEEPALIVE_PROBES: u32 = 3;
/// What is sent and not acknowledged for so long ends the connection.
const UNACKNOWLEDGED_TIME: Duration = Duration::from_mins(1);

/// Connects to a server. An address without a host is this machine's, as it is
/// for ZEO's client. Takes no longer than `patience`.
pub async fn connect(
    address: &Address,
    connector: &dyn Connector,
    patience: Duration,
) -> io::Result<BoxedStream> {
    let connected = async {
        match address {
            Address::Tcp { host, port } => {
                let host = host.as_deref().unwrap_or("127.0.0.1");
                let stream = TcpStream::connect((host, *port)).await?;
                set_up(&stream)?;
                connector.wrap(Box::new(stream), Some(host)).await
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await?;
                connector.wrap(Box::new(stream), None).await
            }
        }
    };
    match tokio::time::timeout(patience, connected).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no connection within {} s", patience.as_secs_f32()),
        )),
    }
}

/// Send at once, and notice that the other end is gone.
fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIME))?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
}
