//! What the kernel does for a TCP connection: send at once, not keep much that
//! is unsent, and notice that the other end is gone.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::limits::Limits;

/// So many unanswered questions mean that the client is gone; Linux goes by the
/// user timeout instead.
const PROBES: u32 = 3;
/// What the kernel takes.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(32_767);
const MAX_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);
/// So much longer than a connection's own clock the kernel's runs. It also
/// counts for a client that acknowledges and does not read; for that one the
/// connection's is to go off first, which says in the log what waited.
const MARGIN: Duration = Duration::from_secs(30);
/// The kernel takes no more from the server while so much waits to be sent.
/// Left to itself it takes 4 MB, from each client that does not read.
const MAX_UNSENT_IN_KERNEL_BYTES: u32 = 256 << 10;

/// Sets a new connection up. What is sent and not acknowledged ends it after the
/// stall time and a margin.
pub fn set_up(stream: &TcpStream, limits: &Limits) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(MAX_UNSENT_IN_KERNEL_BYTES)?;
    let patience = (limits.stall_time + MARGIN).min(MAX_USER_TIMEOUT);
    socket.set_tcp_user_timeout(Some(patience))?;
    if !limits.keepalive_time.is_zero() {
        let idle = limits.keepalive_time.clamp(MIN_INTERVAL, MAX_INTERVAL);
        let keepalive = TcpKeepalive::new()
            .with_time(idle)
            .with_interval((idle / PROBES).max(MIN_INTERVAL))
            .with_retries(PROBES);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::ZeodSection;

    async fn stream_with(keepalive_time: Duration, stall_time: Duration) -> TcpStream {
        let section = ZeodSection {
            stall_time,
            keepalive_time,
            ..ZeodSection::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        super::set_up(&stream, &Limits::new(&section, None)).unwrap();
        stream
    }

    #[tokio::test]
    async fn the_kernel_is_told_how_long_to_wait() {
        let seconds = Duration::from_secs;
        let stream = stream_with(seconds(90), seconds(120)).await;
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(90));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(30));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(seconds(150)));
        let unsent = socket.tcp_notsent_lowat().unwrap();
        assert_eq!(unsent, MAX_UNSENT_IN_KERNEL_BYTES);
    }

    #[tokio::test]
    async fn times_are_brought_to_what_the_kernel_takes_and_zero_is_never() {
        let second = Duration::from_secs(1);
        let stream = stream_with(Duration::from_millis(1), second).await;
        let idle = SockRef::from(&stream).tcp_keepalive_time();
        assert_eq!(idle.unwrap(), MIN_INTERVAL);
        let stream = stream_with(Duration::MAX, second).await;
        let idle = SockRef::from(&stream).tcp_keepalive_time();
        assert_eq!(idle.unwrap(), MAX_INTERVAL);
        let stream = stream_with(Duration::ZERO, Duration::MAX).await;
        assert!(!SockRef::from(&stream).keepalive().unwrap());
    }
}
