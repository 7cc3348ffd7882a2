//! A small blocking client that speaks ZEO's frames and leaves the bytes
//! inside them to its user: black-box tests send what no well-behaved client
//! would, and the benchmark must not pay for a codec.
//!
//! Layout of a frame: 4 bytes length, big endian, then that many bytes.

#![allow(
    dead_code,
    clippy::indexing_slicing,
    reason = "each test and bench that includes this module uses a part of it; a panic there is a failed test"
)]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long connecting, reading or writing may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The wire that this client chooses: protocol 5, pickles.
pub const Z5: &[u8] = b"Z5";

/// One connection to a server.
pub struct RawClient {
    stream: TcpStream,
    frames: FrameReader,
    last_id: i32,
    /// What the server said on its own while a reply was awaited.
    pub notices: VecDeque<Vec<u8>>,
}

impl RawClient {
    /// Connects and waits for nothing: the greeting is the first frame to read.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            frames: FrameReader::default(),
            last_id: 0,
            notices: VecDeque::new(),
        })
    }

    /// Connects, reads the greeting, answers `Z5` and registers for `storage`.
    pub fn open(address: SocketAddr, storage: &str, read_only: bool) -> io::Result<Self> {
        let mut client = Self::connect(address)?;
        client.handshake(Z5)?;
        let reply = client.call("register", &register_arguments(storage, read_only))?;
        match decode(&reply)? {
            Reply::Value(_) => Ok(client),
            Reply::Error(class) => Err(io::Error::other(format!("register: {class}"))),
        }
    }

    /// Reads the greeting, answers with `choice`, and returns the greeting.
    pub fn handshake(&mut self, choice: &[u8]) -> io::Result<Vec<u8>> {
        let greeting = self.read_frame(PATIENCE)?;
        self.send_frame(choice)?;
        Ok(greeting)
    }

    /// Sends bytes as they are, be they a frame or not.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends `payload` behind its length.
    pub fn send_frame(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut out = Vec::with_capacity(payload.len() + 4);
        push_frame(&mut out, |out| out.extend_from_slice(payload));
        self.send_raw(&out)
    }

    /// Sends a call and returns its message id; `arguments` is the pickled
    /// tuple without protocol mark and stop (see [`register_arguments`]).
    pub fn send_call(&mut self, method: &str, arguments: &[u8]) -> io::Result<i32> {
        self.last_id += 1;
        let mut out = Vec::new();
        push_request(&mut out, &int(self.last_id), false, method, arguments);
        self.send_raw(&out)?;
        Ok(self.last_id)
    }

    /// Sends a call that gets no reply.
    pub fn send_one_way(&mut self, method: &str, arguments: &[u8]) -> io::Result<()> {
        let mut out = Vec::new();
        push_request(&mut out, &int(0), true, method, arguments);
        self.send_raw(&out)
    }

    /// Calls and returns the payload of the reply. What the server says in
    /// between goes to `notices`.
    pub fn call(&mut self, method: &str, arguments: &[u8]) -> io::Result<Vec<u8>> {
        let id = self.send_call(method, arguments)?;
        loop {
            let payload = self.read_frame(PATIENCE)?;
            match head(&payload) {
                Some(head) if head.method == b".reply" && head.int_id() == Some(id) => {
                    return Ok(payload);
                }
                Some(head) if head.method == b".reply" => {
                    return Err(invalid(format!("{method}: a reply to another message")));
                }
                _ => self.notices.push_back(payload),
            }
        }
    }

    /// The next frame, or `TimedOut` after `patience`, or `UnexpectedEof`
    /// when the server has closed the connection.
    pub fn read_frame(&mut self, patience: Duration) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(payload) = self.frames.next()? {
                return Ok(payload.to_vec());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.frames.fill(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                other => other?,
            }
        }
    }

    /// True when the server closes within `patience` (by an end of file or a
    /// reset); what it still sends before is dropped.
    pub fn is_closed_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match self.read_frame(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(error) => return error.kind() != io::ErrorKind::TimedOut,
            }
        }
    }

    /// The socket and the frames already read from it, for loops that need both.
    pub fn parts(&mut self) -> (&mut TcpStream, &mut FrameReader) {
        (&mut self.stream, &mut self.frames)
    }
}

/// Cuts a byte stream into frames, reading in bulk.
pub struct FrameReader {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// A frame above this size is a mistake of the peer.
const MAX_FRAME_BYTES: usize = 64 << 20;
const BUFFER_BYTES: usize = 128 << 10;
const LENGTH_BYTES: usize = 4;

impl Default for FrameReader {
    fn default() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
        }
    }
}

impl FrameReader {
    /// The next complete frame among the bytes already read.
    pub fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let Some(size) = self.next_size()? else {
            return Ok(None);
        };
        let payload = self.start + LENGTH_BYTES;
        if self.end < payload + size {
            return Ok(None);
        }
        self.start = payload + size;
        Ok(Some(&self.buffer[payload..payload + size]))
    }

    /// Reads once, whatever is there; an end of file is an error.
    pub fn fill(&mut self, source: &mut impl Read) -> io::Result<()> {
        self.make_room()?;
        let count = source.read(&mut self.buffer[self.end..])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += count;
        Ok(())
    }

    fn next_size(&self) -> io::Result<Option<usize>> {
        let unread = &self.buffer[self.start..self.end];
        let Some(length) = unread.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let size = u32::from_be_bytes(*length) as usize;
        if size > MAX_FRAME_BYTES {
            return Err(invalid(format!("a frame of {size} bytes")));
        }
        Ok(Some(size))
    }

    fn make_room(&mut self) -> io::Result<()> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.start > 0 && self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let wanted = self.next_size()?.unwrap_or(0) + LENGTH_BYTES;
        if self.start + wanted > self.buffer.len() {
            self.buffer.resize(self.start + wanted, 0);
        }
        Ok(())
    }
}

/// Appends a frame whose payload `write` appends.
pub fn push_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    write(out);
    let size = u32::try_from(out.len() - start - LENGTH_BYTES).unwrap_or(u32::MAX);
    out[start..start + LENGTH_BYTES].copy_from_slice(&size.to_be_bytes());
}

/// Appends the frame of one message, (id, one-way flag, method, arguments) as a
/// protocol 3 pickle without memo, which is what the stock client sends.
pub fn push_request(out: &mut Vec<u8>, id: &[u8], one_way: bool, method: &str, arguments: &[u8]) {
    push_frame(out, |out| {
        out.extend_from_slice(b"\x80\x03(");
        out.extend_from_slice(id);
        out.extend_from_slice(&[b'K', u8::from(one_way)]);
        push_str(out, method);
        out.extend_from_slice(arguments);
        out.extend_from_slice(b"t.");
    });
}

/// The arguments of `register`.
pub fn register_arguments(storage: &str, read_only: bool) -> Vec<u8> {
    let mut out = Vec::new();
    push_str(&mut out, storage);
    out.push(if read_only { 0x88 } else { 0x89 });
    out.push(0x86);
    out
}

/// A pickled str.
pub fn push_str(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A pickled int, always in the four-byte form so that sizes are fixed.
pub fn int(value: i32) -> [u8; 5] {
    let [a, b, c, d] = value.to_le_bytes();
    [b'J', a, b, c, d]
}

/// What stands in front of a message's arguments.
pub struct Head<'a> {
    /// The pickled message id.
    pub id: &'a [u8],
    /// 0, 1 for one-way, 2 for an error.
    pub flag: u8,
    pub method: &'a [u8],
    /// The pickled arguments with `t.` behind.
    pub arguments: &'a [u8],
}

impl Head<'_> {
    /// The message id if it is a small int.
    pub fn int_id(&self) -> Option<i32> {
        match *self.id {
            [b'K', a] => Some(i32::from(a)),
            [b'M', a, b] => Some(i32::from(u16::from_le_bytes([a, b]))),
            [b'J', a, b, c, d] => Some(i32::from_le_bytes([a, b, c, d])),
            _ => None,
        }
    }
}

/// Splits a payload that was written without memo; None if it looks unlike that.
pub fn head(payload: &[u8]) -> Option<Head<'_>> {
    let rest = payload
        .strip_prefix(b"\x80\x03(")
        .or_else(|| payload.strip_prefix(b"\x80\x02("))?;
    let id_size = id_size(rest)?;
    let (id, rest) = rest.split_at_checked(id_size)?;
    let (flag, rest) = match rest {
        [b'K', flag, rest @ ..] => (*flag, rest),
        [0x88, rest @ ..] => (1, rest),
        [0x89, rest @ ..] => (0, rest),
        _ => return None,
    };
    let rest = rest.strip_prefix(b"X")?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (method, arguments) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some(Head {
        id,
        flag,
        method,
        arguments,
    })
}

/// The stock client uses ints and, for loadBefore, the tuple (oid, tid).
fn id_size(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'K', ..] => Some(2),
        [b'M', ..] => Some(3),
        [b'J', ..] => Some(5),
        [0x8a, size, ..] => Some(2 + usize::from(*size)),
        [b'C', 8, rest @ ..] if rest.len() > 18 && rest[8..10] == *b"C\x08" && rest[18] == 0x86 => {
            Some(21)
        }
        _ => None,
    }
}

/// A reply's meaning.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Value(serde_pickle::Value),
    /// The exception's class path and its arguments as text.
    Error(String),
}

/// Decodes the payload of a reply.
pub fn decode(payload: &[u8]) -> io::Result<Reply> {
    use serde_pickle::Value;
    let message = serde_pickle::value_from_slice(payload, serde_pickle::DeOptions::new())
        .map_err(|error| invalid(format!("an undecodable message: {error}")))?;
    let Value::Tuple(fields) = message else {
        return Err(invalid("a message that is no tuple".into()));
    };
    match <[Value; 4]>::try_from(fields) {
        Ok([_, Value::I64(2), _, Value::Tuple(error)]) => match error.as_slice() {
            [Value::String(class), arguments] => Ok(Reply::Error(format!("{class} {arguments}"))),
            _ => Err(invalid("an error reply without class".into())),
        },
        Ok([_, _, _, value]) => Ok(Reply::Value(value)),
        Err(_) => Err(invalid("a message that is no 4-tuple".into())),
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
