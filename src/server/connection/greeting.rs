//! The first words of a connection.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::End;
use crate::server::limits::MAX_HELLO_BYTES;
use crate::session::{self, Databases};
use crate::wire::{self, ClientHello, FRAME_HEADER_BYTES, Format};

/// Says which protocol is spoken here, and hears which the client speaks.
pub async fn greet<S>(stream: &mut S, format: Format) -> Result<ClientHello, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut greeting = Vec::new();
    wire::put_frame(&mut greeting, format.greeting());
    stream.write_all(&greeting).await?;
    let mut header = [0; FRAME_HEADER_BYTES];
    if stream.read(&mut header[..1]).await? == 0 {
        return Err(End::Closed);
    }
    stream.read_exact(&mut header[1..]).await?;
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
