use std::ops::Range;

/// Bytes of the length that precedes every payload: big-endian, unsigned.
pub const FRAME_HEADER_BYTES: usize = size_of::<u32>();

/// What the start of a buffer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameStep {
    /// The frame's end has not arrived.
    Incomplete {
        /// How long the buffer must be before it is worth another look.
        needed_bytes: usize,
    },
    /// A whole frame; the next one starts at `payload.end`.
    Complete {
        /// Where the payload lies in the buffer.
        payload: Range<usize>,
    },
}

/// Why a frame is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The payload is, or would be, longer than allowed.
    #[error("a frame of {length} bytes is longer than the {max} allowed")]
    TooLong {
        /// Payload length in bytes.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
}

/// Looks for a frame at the start of `buffer`. The announced length is checked
/// against `max_frame_bytes` before anything is asked for.
pub fn next_frame(buffer: &[u8], max_frame_bytes: usize) -> Result<FrameStep, FrameError> {
    let Some((header, _)) = buffer.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(FrameStep::Incomplete {
            needed_bytes: FRAME_HEADER_BYTES,
        });
    };
    let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
    if length > max_frame_bytes {
        return Err(FrameError::TooLong {
            length,
            max: max_frame_bytes,
        });
    }
    let end = FRAME_HEADER_BYTES.saturating_add(length);
    if buffer.len() < end {
        return Ok(FrameStep::Incomplete { needed_bytes: end });
    }
    Ok(FrameStep::Complete {
        payload: FRAME_HEADER_BYTES..end,
    })
}

/// Appends a frame around `payload`, which must be shorter than 4 GiB (it is a
/// handshake or a status text); a longer one is left out.
pub fn put_frame(out: &mut Vec<u8>, payload: &[u8]) {
    debug_assert!(u32::try_from(payload.len()).is_ok(), "payload of 4 GiB");
    if let Ok(length) = u32::try_from(payload.len()) {
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(payload);
    }
}

/// Leaves room for a header; returns where the frame starts, for [`end_frame`].
pub(super) fn begin_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    start
}

/// Writes the length of what has been appended since [`begin_frame`]. A frame
/// that is too long for its header is taken back.
pub(super) fn end_frame(out: &mut Vec<u8>, start: usize) -> Result<(), FrameError> {
    let length = out.len().saturating_sub(start + FRAME_HEADER_BYTES);
    let header = out
        .get_mut(start..)
        .and_then(<[u8]>::first_chunk_mut::<FRAME_HEADER_BYTES>);
    if let (Some(header), Ok(length)) = (header, u32::try_from(length)) {
        *header = length.to_be_bytes();
        return Ok(());
    }
    out.truncate(start);
    Err(FrameError::TooLong {
        length,
        max: u32::MAX as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_frames_one_after_the_other() {
        let mut buffer = Vec::new();
        put_frame(&mut buffer, b"Z5");
        put_frame(&mut buffer, b"");
        assert_eq!(buffer, b"\0\0\0\x02Z5\0\0\0\0");
        let step = next_frame(&buffer, 10);
        assert_eq!(step, Ok(FrameStep::Complete { payload: 4..6 }));
        let step = next_frame(&buffer[6..], 10);
        assert_eq!(step, Ok(FrameStep::Complete { payload: 4..4 }));
    }

    #[test]
    fn asks_for_the_header_first_and_then_for_the_whole() {
        for (buffer, needed_bytes) in [(&b""[..], 4), (b"\0\0\0", 4), (b"\0\0\0\x02Z", 6)] {
            let step = next_frame(buffer, 10);
            assert_eq!(step, Ok(FrameStep::Incomplete { needed_bytes }));
        }
    }

    #[test]
    fn refuses_a_hostile_length_at_once() {
        let error = next_frame(b"\xff\xff\xff\xff", 1 << 20);
        let length = u32::MAX as usize;
        assert_eq!(
            error,
            Err(FrameError::TooLong {
                length,
                max: 1 << 20
            })
        );
        assert!(next_frame(b"\0\0\0\x0b", 10).is_err());
        assert!(next_frame(b"\0\0\0\x0a", 10).is_ok());
    }

    #[test]
    fn patches_the_length_of_a_frame_written_in_place() {
        let mut out = b"before".to_vec();
        let start = begin_frame(&mut out);
        out.extend_from_slice(b"abc");
        end_frame(&mut out, start).unwrap();
        assert_eq!(out, b"before\0\0\0\x03abc");
    }
}
