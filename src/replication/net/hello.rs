//! The first thing that two nodes say to each other on a connection.
//!
//! ```text
//! 0   8   "zeodpeer"
//! 8   2   length of the body
//! 10      body
//!     4   CRC-32 of all before
//! ```
//!
//! The body of a hello begins with the newest and the oldest protocol version
//! that the node speaks; the rest of it is that of version 1:
//!
//! ```text
//! 4   1   what the connection is for
//! 5   8   id of the node that connects; 0: a tool
//! 13  8   id of the node that it wants; 0: any
//! 21      the storage's name
//! ```
//!
//! The answer's body: verdict (1), protocol version (2), id of the node (8).
//! Numbers are little-endian.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::bounds::{Lane, MAX_GROUP_BYTES, MAX_HELLO_BYTES};
use crate::replication::peers::StreamKind;
use crate::replication::types::NodeId;

/// The protocol that this code speaks.
const VERSION: u16 = 1;
/// The oldest one that it can speak, too.
const OLDEST_VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"zeodpeer";
/// How a TLS record of a handshake begins, and one that ends it.
const TLS_HANDSHAKE: u8 = 0x16;
const TLS_ALERT: u8 = 0x15;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Calls.
    Calls(Lane),
    /// One stream.
    Stream(StreamKind),
}

const PURPOSES: [(u8, Purpose); 7] = [
    (1, Purpose::Calls(Lane::Urgent)),
    (2, Purpose::Calls(Lane::Entries)),
    (3, Purpose::Calls(Lane::Service)),
    (16, Purpose::Stream(StreamKind::Zeo)),
    (17, Purpose::Stream(StreamKind::CatchUp)),
    (18, Purpose::Stream(StreamKind::Staging)),
    (19, Purpose::Stream(StreamKind::Fetch)),
];

/// What the node that connects says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What for.
    pub purpose: Purpose,
    /// Who it is.
    pub from: NodeId,
    /// Whom it wants.
    pub to: NodeId,
    /// The storage that it is about; on connections for calls each call says that itself.
    pub group: String,
}

/// What the other one thinks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Welcome,
    /// The node that it wants is another one.
    OtherNode,
    /// It has the same id.
    SameId,
    /// They have no version in common.
    Version,
    /// There are too many connections.
    Full,
}

const VERDICTS: [(u8, Verdict); 5] = [
    (0, Verdict::Welcome),
    (1, Verdict::OtherNode),
    (2, Verdict::SameId),
    (3, Verdict::Version),
    (4, Verdict::Full),
];

/// The answer to a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Whether it goes on.
    pub verdict: Verdict,
    /// Who answers.
    pub node: NodeId,
}

/// Why two ends do not get to talk.
#[derive(Debug, Error)]
pub enum HelloError {
    /// The network.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It speaks TLS.
    #[error(
        "it speaks TLS, and this node does not: set certificate, key and authority in \
         <replication> on all nodes, or on none"
    )]
    Tls,
    /// It speaks anything else.
    #[error("what answers there is no zeod, or not its replication address")]
    Stranger,
    /// Damaged, or made by chance.
    #[error("its first message is damaged: {0}")]
    Damaged(&'static str),
    /// It is too new, or too old.
    #[error(
        "it speaks versions {oldest} to {newest} of the protocol between nodes, this node \
         {OLDEST_VERSION} to {VERSION}: upgrade the older one"
    )]
    Version {
        /// Its oldest.
        oldest: u16,
        /// Its newest.
        newest: u16,
    },
}

/// Sends a hello.
pub async fn write_hello<S>(stream: &mut S, hello: &Hello) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let mut body = Vec::new();
    body.extend(VERSION.to_le_bytes());
    body.extend(OLDEST_VERSION.to_le_bytes());
    let code = PURPOSES.iter().find(|(_, known)| *known == hello.purpose);
    body.push(code.map_or(0, |(code, _)| *code));
    body.extend(hello.from.to_le_bytes());
    body.extend(hello.to.to_le_bytes());
    body.extend(hello.group.as_bytes());
    write(stream, &body).await
}

/// What the other end says first.
pub async fn read_hello<S>(stream: &mut S) -> Result<Hello, HelloError>
where
    S: AsyncRead + Unpin,
{
    let body = read(stream).await?;
    let mut rest = &body[..];
    let newest = u16::from_le_bytes(take(&mut rest)?);
    let oldest = u16::from_le_bytes(take(&mut rest)?);
    if newest < OLDEST_VERSION || oldest > VERSION {
        return Err(HelloError::Version { oldest, newest });
    }
    let [code] = take(&mut rest)?;
    let purpose = PURPOSES.iter().find(|(known, _)| *known == code);
    let &(_, purpose) = purpose.ok_or(HelloError::Damaged("its purpose is not known"))?;
    let from = u64::from_le_bytes(take(&mut rest)?);
    let to = u64::from_le_bytes(take(&mut rest)?);
    if rest.len() > MAX_GROUP_BYTES {
        return Err(HelloError::Damaged("the storage's name is too long"));
    }
    let group = str::from_utf8(rest)
        .map_err(|_| HelloError::Damaged("the storage's name is not UTF-8"))?
        .to_owned();
    Ok(Hello {
        purpose,
        from,
        to,
        group,
    })
}

/// Answers a hello.
pub async fn write_welcome<S>(stream: &mut S, welcome: Welcome) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let mut body = Vec::new();
    let code = VERDICTS.iter().find(|(_, known)| *known == welcome.verdict);
    body.push(code.map_or(u8::MAX, |(code, _)| *code));
    body.extend(VERSION.to_le_bytes());
    body.extend(welcome.node.to_le_bytes());
    write(stream, &body).await
}

/// The answer to a hello.
pub async fn read_welcome<S>(stream: &mut S) -> Result<Welcome, HelloError>
where
    S: AsyncRead + Unpin,
{
    let body = read(stream).await?;
    let mut rest = &body[..];
    let [code] = take(&mut rest)?;
    let version = u16::from_le_bytes(take(&mut rest)?);
    let verdict = VERDICTS.iter().find(|(known, _)| *known == code);
    let &(_, verdict) = verdict.ok_or(HelloError::Damaged("its verdict is not known"))?;
    if verdict == Verdict::Version || !(OLDEST_VERSION..=VERSION).contains(&version) {
        let (oldest, newest) = (version, version);
        return Err(HelloError::Version { oldest, newest });
    }
    let node = u64::from_le_bytes(take(&mut rest)?);
    if !rest.is_empty() {
        return Err(HelloError::Damaged("it is too long"));
    }
    Ok(Welcome { verdict, node })
}

async fn write<S>(stream: &mut S, body: &[u8]) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let too_long = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the storage's name is too long",
        )
    };
    if body.len() > MAX_HELLO_BYTES {
        return Err(too_long());
    }
    let mut message = MAGIC.to_vec();
    let length = u16::try_from(body.len()).map_err(|_| too_long())?;
    message.extend(length.to_le_bytes());
    message.extend(body);
    message.extend(crc32fast::hash(&message).to_le_bytes());
    stream.write_all(&message).await?;
    stream.flush().await
}

/// Not a byte more than the message: what follows may be a stream's.
async fn read<S>(stream: &mut S) -> Result<Vec<u8>, HelloError>
where
    S: AsyncRead + Unpin,
{
    let mut magic = [0; MAGIC.len()];
    // Others may say less than this, and then wait.
    let (first, others) = magic.split_at_mut(1);
    stream.read_exact(first).await?;
    match first {
        [TLS_HANDSHAKE | TLS_ALERT] => return Err(HelloError::Tls),
        _ if first != &MAGIC[..1] => return Err(HelloError::Stranger),
        _ => stream.read_exact(others).await?,
    };
    if magic != MAGIC {
        return Err(HelloError::Stranger);
    }
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let size = usize::from(u16::from_le_bytes(length));
    if size > MAX_HELLO_BYTES {
        return Err(HelloError::Damaged("it is too long"));
    }
    let mut body = vec![0; size];
    stream.read_exact(&mut body).await?;
    let mut checksum = [0; 4];
    stream.read_exact(&mut checksum).await?;
    let mut hasher = crc32fast::Hasher::new();
    for part in [&magic[..], &length, &body] {
        hasher.update(part);
    }
    if hasher.finalize() != u32::from_le_bytes(checksum) {
        return Err(HelloError::Damaged("its checksum is wrong"));
    }
    Ok(body)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], HelloError> {
    let (taken, after) = rest
        .split_first_chunk()
        .ok_or(HelloError::Damaged("it is too short"))?;
    *rest = after;
    Ok(*taken)
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
