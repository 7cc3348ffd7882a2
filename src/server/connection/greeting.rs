//! The first words of a connection.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::End;
use crate::server::limits::{LATE_GREETING, MAX_HELLO_BYTES};
use crate::session::{self, Databases};
use crate::wire::{self, ClientHello, FRAME_HEADER_BYTES, Format};

/// A server that takes no changes looks so often whether it does again.
const LATE_GREETING_STEP: Duration = Duration::from_millis(25);

/// Says which protocol is spoken here, and hears which the client speaks. It is said
/// at once where `takes_changes`, and else when it does, but within [`LATE_GREETING`].
pub async fn greet<S>(
    stream: &mut S,
    format: Format,
    takes_changes: impl Fn() -> bool,
) -> Result<ClientHello, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut header = [0; FRAME_HEADER_BYTES];
    let (first, rest) = header.split_at_mut(1);
    // Monitors do not wait for the greeting.
    let spoke_first = tokio::select! {
        biased;
        () = until(&takes_changes) => None,
        read = stream.read(first) => Some(read?),
    };
    let mut greeting = Vec::new();
    wire::put_frame(&mut greeting, format.greeting());
    stream.write_all(&greeting).await?;
    let read = match spoke_first {
        Some(read) => read,
        None => stream.read(first).await?,
    };
    if read == 0 {
        return Err(End::Closed);
    }
    stream.read_exact(rest).await?;
    if wire::is_tls(header) {
        return Err(End::CutOff(
            "a TLS client, but this address is not encrypted: give <zeo> an <ssl> section, or \
             take it from the client"
                .to_owned(),
        ));
    }
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length > MAX_HELLO_BYTES {
        return Err(End::CutOff(format!(
            "a first message of {length} bytes; this is no ZEO client"
        )));
    }
    let mut hello = vec![0; length];
    stream.read_exact(&mut hello).await?;
    ClientHello::parse(&hello).map_err(|error| End::CutOff(error.to_string()))
}

/// Waits until the server takes changes, or for [`LATE_GREETING`].
async fn until(takes_changes: impl Fn() -> bool) {
    let waiting = async {
        while !takes_changes() {
            tokio::time::sleep(LATE_GREETING_STEP).await;
        }
    };
    // Whoever is greeted late learns from `register` what can be done for him.
    let _ = tokio::time::timeout(LATE_GREETING, waiting).await;
}

/// Answers a monitor, and closes.
pub async fn answer_ruok<S: AsyncWrite + Unpin>(stream: &mut S, databases: &Databases) -> End {
    let mut answer = Vec::new();
    wire::put_frame(&mut answer, session::ruok(databases).as_bytes());
    let sent = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    sent.await.map_or_else(End::Io, |()| End::Closed)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::DuplexStream;
    use tokio::time::Instant;

    use super::*;

    const STEP: Duration = Duration::from_secs(3);

    async fn read_frame(stream: &mut DuplexStream) -> Vec<u8> {
        let length = stream.read_u32().await.unwrap();
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        payload
    }

    async fn send(stream: &mut DuplexStream, payload: &[u8]) {
        let mut frame = Vec::new();
        wire::put_frame(&mut frame, payload);
        stream.write_all(&frame).await.unwrap();
    }

    /// When a client that waits for it is greeted by a server that takes changes
    /// after `able_after`.
    async fn greeted_after(able_after: Option<Duration>) -> Duration {
        let (mut client, mut server) = tokio::io::duplex(1 << 10);
        let is_able = AtomicBool::new(able_after == Some(Duration::ZERO));
        let becoming_able = async {
            if let Some(after) = able_after {
                tokio::time::sleep(after).await;
                is_able.store(true, Ordering::Relaxed);
            }
        };
        let begun = Instant::now();
        let conversation = async {
            assert_eq!(read_frame(&mut client).await, b"M5");
            let after = begun.elapsed();
            send(&mut client, b"M5").await;
            after
        };
        let takes_changes = || is_able.load(Ordering::Relaxed);
        let greeting = greet(&mut server, Format::Msgpack, takes_changes);
        let (hello, (), after) = tokio::join!(greeting, becoming_able, conversation);
        assert!(matches!(hello, Ok(ClientHello::Speak(Format::Msgpack))));
        after
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_no_changes_greets_late() {
        assert_eq!(greeted_after(Some(Duration::ZERO)).await, Duration::ZERO);
        let soon = greeted_after(Some(STEP)).await;
        assert!((STEP..STEP + 2 * LATE_GREETING_STEP).contains(&soon));
        let late = greeted_after(None).await;
        assert!((LATE_GREETING..LATE_GREETING + LATE_GREETING_STEP).contains(&late));
    }

    #[tokio::test(start_paused = true)]
    async fn who_speaks_first_does_not_wait() {
        let (mut client, mut server) = tokio::io::duplex(1 << 10);
        send(&mut client, b"ruok").await;
        let begun = Instant::now();
        let hello = greet(&mut server, Format::Pickle, || false).await;
        assert!(matches!(hello, Ok(ClientHello::Ruok)));
        assert_eq!(read_frame(&mut client).await, b"Z5");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        drop(client);
        let (client, mut server) = tokio::io::duplex(1 << 10);
        drop(client);
        let gone = greet(&mut server, Format::Pickle, || false).await;
        assert!(gone.is_err());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
