//! Requests and their answers as bytes.
//!
//! ```text
//! request   version (1), kind (1), the storage's name, content
//! answer    version (1), kind (1), content
//! ```
//!
//! Version and numbers are those of `entry_codec`, as is raft's content; texts
//! and opaque bytes have their length (8) in front.

use bytes::Bytes;

use super::bounds::MAX_GROUP_BYTES;
use crate::replication::entry_codec::{DecodeError, Layout, Reader, VERSION};
use crate::replication::peers::{Reply, Request};
use crate::replication::types::Member;

// Of both: each request has the answer of the same number.
const APPEND: u8 = 1;
const RAFT_VOTE: u8 = 2;
const PRE_VOTE: u8 = 3;
const LET_GO: u8 = 4;
const STAND: u8 = 5;
const READ_INDEX: u8 = 6;
const SERVICE: u8 = 7;
const ADMIN: u8 = 8;
// Of answers only.
const DONE: u8 = 4;
const REFUSED: u8 = 9;

/// Appends a request about `group` to `out`.
pub fn put_request(group: &str, request: &Request, out: &mut Vec<u8>) -> Result<(), TooLong> {
    if group.len() > MAX_GROUP_BYTES {
        return Err(TooLong);
    }
    out.extend([VERSION, request_kind(request)]);
    put_bytes(group.as_bytes(), out);
    match request {
        Request::Append(append) => {
            out.reserve(append.size_hint());
            append.put(out);
        }
        Request::RaftVote(vote) => vote.put(out),
        Request::PreVote { term, last_log } => {
            put_u64(*term, out);
            last_log.put(out);
        }
        Request::LetGo { term } | Request::Stand { term } => put_u64(*term, out),
        Request::ReadIndex => {}
        Request::Service(bytes) => put_bytes(bytes, out),
        Request::Admin(text) => put_bytes(text.as_bytes(), out),
    }
    Ok(())
}

/// A storage's name that is longer than [`MAX_GROUP_BYTES`].
#[derive(Debug, thiserror::Error)]
#[error("the storage's name has more than {MAX_GROUP_BYTES} bytes")]
pub struct TooLong;

const fn request_kind(request: &Request) -> u8 {
    match request {
        Request::Append(_) => APPEND,
        Request::RaftVote(_) => RAFT_VOTE,
        Request::PreVote { .. } => PRE_VOTE,
        Request::LetGo { .. } => LET_GO,
        Request::Stand { .. } => STAND,
        Request::ReadIndex => READ_INDEX,
        Request::Service(_) => SERVICE,
        Request::Admin(_) => ADMIN,
    }
}

/// What [`put_request`] has written.
pub fn request_of(message: Bytes) -> Result<(String, Request), DecodeError> {
    let mut reader = Reader::new(message)?;
    let from = &mut reader;
    let kind = u8(from, "a request's kind")?;
    let group = text(from, "a storage's name")?;
    let request = match kind {
        APPEND => Request::Append(Layout::take(from)?),
        RAFT_VOTE => Request::RaftVote(Layout::take(from)?),
        PRE_VOTE => Request::PreVote {
            term: u64(from, "a term")?,
            last_log: Layout::take(from)?,
        },
        LET_GO => Request::LetGo {
            term: u64(from, "a term")?,
        },
        STAND => Request::Stand {
            term: u64(from, "a term")?,
        },
        READ_INDEX => Request::ReadIndex,
        SERVICE => Request::Service(bytes(from, "a request")?),
        ADMIN => Request::Admin(text(from, "a command")?),
        other => return Err(unknown("a request's kind", other)),
    };
    reader.finish()?;
    Ok((group, request))
}

/// Appends an answer to `out`.
pub fn put_reply(reply: &Reply, out: &mut Vec<u8>) {
    out.extend([VERSION, reply_kind(reply)]);
    match reply {
        Reply::Append(response) => response.put(out),
        Reply::RaftVote(response) => response.put(out),
        Reply::PreVote { granted, term } => {
            out.push((*granted).into());
            put_u64(*term, out);
        }
        Reply::Done => {}
        Reply::ReadIndex(index) => index.put(out),
        Reply::Service(bytes) => put_bytes(bytes, out),
        Reply::Admin(text) => put_bytes(text.as_bytes(), out),
        Reply::Refused { leader, why } => {
            out.push(leader.is_some().into());
            if let Some((node, member)) = leader {
                put_u64(*node, out);
                put_bytes(member.address.as_bytes(), out);
            }
            put_bytes(why.as_bytes(), out);
        }
    }
}

const fn reply_kind(reply: &Reply) -> u8 {
    match reply {
        Reply::Append(_) => APPEND,
        Reply::RaftVote(_) => RAFT_VOTE,
        Reply::PreVote { .. } => PRE_VOTE,
        Reply::Done => DONE,
        Reply::ReadIndex(_) => READ_INDEX,
        Reply::Service(_) => SERVICE,
        Reply::Admin(_) => ADMIN,
        Reply::Refused { .. } => REFUSED,
    }
}

/// What [`put_reply`] has written.
pub fn reply_of(message: Bytes) -> Result<Reply, DecodeError> {
    let mut reader = Reader::new(message)?;
    let from = &mut reader;
    let reply = match u8(from, "an answer's kind")? {
        APPEND => Reply::Append(Layout::take(from)?),
        RAFT_VOTE => Reply::RaftVote(Layout::take(from)?),
        PRE_VOTE => Reply::PreVote {
            granted: flag(from, "whether a vote would be granted")?,
            term: u64(from, "a term")?,
        },
        DONE => Reply::Done,
        READ_INDEX => Reply::ReadIndex(Layout::take(from)?),
        SERVICE => Reply::Service(bytes(from, "an answer")?),
        ADMIN => Reply::Admin(text(from, "an answer")?),
        REFUSED => Reply::Refused {
            leader: if flag(from, "whether a leader is known")? {
                let node = u64(from, "a node id")?;
                let address = text(from, "a member's address")?;
                Some((node, Member { address }))
            } else {
                None
            },
            why: text(from, "a reason")?,
        },
        other => return Err(unknown("an answer's kind", other)),
    };
    reader.finish()?;
    Ok(reply)
}

fn put_u64(number: u64, out: &mut Vec<u8>) {
    out.extend(number.to_le_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_u64(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn u8(from: &mut Reader, what: &'static str) -> Result<u8, DecodeError> {
    let byte = from.bytes(1, what)?;
    byte.first().copied().ok_or(DecodeError::Short(what))
}

fn u64(from: &mut Reader, what: &'static str) -> Result<u64, DecodeError> {
    let number = from.bytes(8, what)?;
    let bytes = number.first_chunk().ok_or(DecodeError::Short(what))?;
    Ok(u64::from_le_bytes(*bytes))
}

fn flag(from: &mut Reader, what: &'static str) -> Result<bool, DecodeError> {
    match u8(from, what)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(unknown(what, other)),
    }
}

fn bytes(from: &mut Reader, what: &'static str) -> Result<Bytes, DecodeError> {
    let length = u64(from, what)?;
    from.bytes(length, what)
}

fn text(from: &mut Reader, what: &'static str) -> Result<String, DecodeError> {
    let text = bytes(from, what)?;
    String::from_utf8(text.into()).map_err(|_| DecodeError::Text(what))
}

fn unknown(what: &'static str, value: u8) -> DecodeError {
    DecodeError::Value {
        what,
        value: value.into(),
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
