//! Messages on a connection for calls: a length and a checksum in front, then
//! the id of the call, then the message.
//!
//! ```text
//! 0   4   length of what follows the header: id and message
//! 4   4   CRC-32 of that
//! 8   8   id of the call; 0: a sign of life, without a message
//! 16      message
//! ```
//!
//! Numbers are little-endian.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::bounds::FIRST_BYTES;

/// Length and checksum.
const HEADER_BYTES: usize = 8;
const ID_BYTES: usize = 8;
/// What stands before a message.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + ID_BYTES;
/// The id that asks for a sign of life, and answers it.
pub const SIGN_OF_LIFE: u64 = 0;

/// Why no further frame can be read.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The network.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It ends within a frame.
    #[error("the connection ended within a message")]
    Cut,
    /// A length that no message has.
    #[error("a message of {length} bytes, where {max} are allowed")]
    Length {
        /// As it stands in the frame.
        length: u32,
        /// The longest there may be.
        max: usize,
    },
    /// Bytes changed on their way.
    #[error("the checksum of a message is wrong")]
    Checksum,
}

/// A frame in the making: the message is appended to it.
#[derive(Debug)]
pub struct Unsealed(Vec<u8>);

impl Unsealed {
    /// Room for a message of about so many bytes.
    pub fn with_capacity(message_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(OVERHEAD_BYTES + message_bytes);
        bytes.resize(OVERHEAD_BYTES, 0);
        Self(bytes)
    }

    /// Where the message goes.
    pub fn message(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// The frame's length; what its header says is less.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The frame. None: too long for a length of four bytes.
    pub fn seal(mut self, id: u64) -> Option<Vec<u8>> {
        let length = u32::try_from(self.0.len() - HEADER_BYTES).ok()?;
        let (header, payload) = self.0.split_first_chunk_mut::<HEADER_BYTES>()?;
        payload
            .first_chunk_mut::<ID_BYTES>()?
            .copy_from_slice(&id.to_le_bytes());
        let checksum = crc32fast::hash(payload);
        let header_value = u64::from(length) | u64::from(checksum) << 32;
        *header = header_value.to_le_bytes();
        Some(self.0)
    }
}

/// The next frame's id and message, of at most `max` bytes together; None: the
/// other end has closed the connection between two frames.
pub async fn read<R>(reader: &mut R, max: usize) -> Result<Option<(u64, Bytes)>, FrameError>
where
    R: AsyncRead + Unpin,
{
    let mut header = BytesMut::with_capacity(HEADER_BYTES);
    if reader
        .take(HEADER_BYTES as u64)
        .read_buf(&mut header)
        .await?
        == 0
    {
        return Ok(None);
    }
    fill(reader, &mut header, HEADER_BYTES).await?;
    let length = header.get_u32_le();
    let checksum = header.get_u32_le();
    let wanted = match usize::try_from(length) {
        Ok(wanted) if (ID_BYTES..=max).contains(&wanted) => wanted,
        _ => return Err(FrameError::Length { length, max }),
    };
    let mut payload = BytesMut::with_capacity(wanted.min(FIRST_BYTES));
    fill(reader, &mut payload, wanted).await?;
    if crc32fast::hash(&payload) != checksum {
        return Err(FrameError::Checksum);
    }
    let id = payload.get_u64_le();
    Ok(Some((id, payload.freeze())))
}

/// Reads until there are `wanted` bytes; takes no more memory than twice what
/// has arrived.
async fn fill<R>(reader: &mut R, bytes: &mut BytesMut, wanted: usize) -> Result<(), FrameError>
where
    R: AsyncRead + Unpin,
{
    while bytes.len() < wanted {
        let missing = wanted - bytes.len();
        if bytes.len() == bytes.capacity() {
            bytes.reserve(missing.min(bytes.len().max(FIRST_BYTES)));
        }
        if reader.take(missing as u64).read_buf(bytes).await? == 0 {
            return Err(FrameError::Cut);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: u64, message: &[u8]) -> Vec<u8> {
        let mut unsealed = Unsealed::with_capacity(message.len());
        unsealed.message().extend_from_slice(message);
        unsealed.seal(id).unwrap()
    }

    async fn error(bytes: &[u8]) -> String {
        let result = read(&mut &bytes[..], 1000).await;
        result.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in() {
        let long = vec![7; 300_000];
        let mut sent = frame(1, b"first");
        sent.extend(frame(u64::MAX, &long));
        sent.extend(frame(SIGN_OF_LIFE, b""));
        let mut reader = &sent[..];
        for (id, message) in [(1, &b"first"[..]), (u64::MAX, &long), (0, b"")] {
            let (got_id, got) = read(&mut reader, 1 << 20).await.unwrap().unwrap();
            assert_eq!((got_id, &got[..]), (id, message));
        }
        assert!(read(&mut reader, 1 << 20).await.unwrap().is_none());
    }

    /// The layout is what older nodes speak: it does not change by chance.
    #[test]
    fn the_layout_stays() {
        let payload = [2, 1, 0, 0, 0, 0, 0, 0, b'h', b'i'];
        let sealed = frame(258, b"hi");
        assert_eq!(sealed[..4], [10, 0, 0, 0]);
        assert_eq!(sealed[4..8], crc32fast::hash(&payload).to_le_bytes());
        assert_eq!(sealed[8..], payload);
    }

    #[tokio::test]
    async fn every_changed_bit_and_every_cut_is_noticed() {
        let sent = frame(5, b"message");
        for at in 0..sent.len() * 8 {
            let mut changed = sent.clone();
            changed[at / 8] ^= 1 << (at % 8);
            error(&changed).await;
        }
        for length in 1..sent.len() {
            assert_eq!(
                error(&sent[..length]).await,
                "the connection ended within a message"
            );
        }
    }

    #[tokio::test]
    async fn a_length_that_cannot_be_takes_no_memory() {
        for length in [0, 7, 1001, u32::MAX] {
            let mut header = length.to_le_bytes().to_vec();
            header.extend([0; 100]);
            let expected = format!("a message of {length} bytes, where 1000 are allowed");
            assert_eq!(error(&header).await, expected);
        }
    }
}
