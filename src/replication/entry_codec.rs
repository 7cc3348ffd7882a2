//! openraft's types as bytes, in the log and between nodes: our own layout, so
//! that neither a new openraft nor a new serde changes what older nodes wrote.
//!
//! [`encode`] puts the version of the layout in front, [`decode`] refuses
//! versions that it does not know and bytes that are left over. Numbers are
//! little-endian. Decoded payloads share the memory that they were decoded from.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use openraft::{
    CommittedLeaderId, Entry, EntryPayload, LeaderId, LogId, Membership, SnapshotMeta,
    StoredMembership, Vote,
};
use thiserror::Error;

use super::types::{Command, Member, NodeId, Types};

/// The layout that this code writes. Version 1 is the only one so far.
pub const VERSION: u8 = 1;

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Written by a newer zeod, or not by zeod at all.
    #[error("layout version {0}, where this zeod knows version {VERSION} only")]
    Version(u8),
    /// The bytes end early.
    #[error("{0} ends early")]
    Short(&'static str),
    /// A value that the layout does not have.
    #[error("{what} cannot be {value}")]
    Value {
        /// What it would be.
        what: &'static str,
        /// What stands there.
        value: u64,
    },
    /// A text that is not UTF-8.
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    /// More bytes than the value has.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

/// What has a layout here. Without the version: that stands once in front of all.
pub trait Layout: Sized {
    /// Appends it to `out`.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads it from where `from` stands.
    fn take(from: &mut Reader) -> Result<Self, DecodeError>;

    /// At least so many bytes does it take: `out` does not have to grow while a payload is copied.
    fn size_hint(&self) -> usize {
        0
    }
}

/// `value` with the version in front.
pub fn encode<T: Layout>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + value.size_hint() + ROOM_FOR_SMALL_PARTS);
    out.push(VERSION);
    value.put(&mut out);
    out
}

/// The value that [`encode`] made `bytes` of.
pub fn decode<T: Layout>(bytes: Bytes) -> Result<T, DecodeError> {
    let mut from = Reader::new(bytes)?;
    let value = T::take(&mut from)?;
    from.finish()?;
    Ok(value)
}

/// An entry in the layout of [`encode`], in two pieces: the payload is shared, not copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryPieces {
    /// All but the payload.
    pub head: Vec<u8>,
    /// What the command carries; empty for other entries.
    pub payload: Bytes,
}

/// `entry` as [`encode`] would have it.
pub fn encode_entry(entry: &Entry<Types>) -> EntryPieces {
    let mut head = Vec::with_capacity(1 + ENTRY_HEAD_SIZE);
    head.push(VERSION);
    entry.log_id.put(&mut head);
    let payload = match &entry.payload {
        EntryPayload::Normal(Command(payload)) => {
            head.push(NORMAL);
            put_length(payload.len(), &mut head);
            payload.clone()
        }
        other => {
            other.put(&mut head);
            Bytes::new()
        }
    };
    EntryPieces { head, payload }
}

/// Reads values one after the other.
#[derive(Debug)]
pub struct Reader(Bytes);

impl Reader {
    /// Behind the version, if that is known.
    pub fn new(mut bytes: Bytes) -> Result<Self, DecodeError> {
        match bytes.first() {
            Some(&VERSION) => {
                drop(bytes.split_to(1));
                Ok(Self(bytes))
            }
            Some(&version) => Err(DecodeError::Version(version)),
            None => Err(DecodeError::Short("the version")),
        }
    }

    /// The next `length` bytes, shared.
    pub fn bytes(&mut self, length: u64, what: &'static str) -> Result<Bytes, DecodeError> {
        match usize::try_from(length) {
            Ok(length) if length <= self.0.len() => Ok(self.0.split_to(length)),
            _ => Err(DecodeError::Short(what)),
        }
    }

    /// The end: nothing may be left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let &byte = self.0.first().ok_or(DecodeError::Short(what))?;
        drop(self.0.split_to(1));
        Ok(byte)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let &number = self.0.first_chunk().ok_or(DecodeError::Short(what))?;
        drop(self.0.split_to(size_of::<u64>()));
        Ok(u64::from_le_bytes(number))
    }

    /// How many values follow, each of at least `least` bytes: so nobody makes room for what cannot be there.
    pub(super) fn count(&mut self, least: u64, what: &'static str) -> Result<usize, DecodeError> {
        let count = self.u64(what)?;
        let left = self.0.len() as u64;
        match count.checked_mul(least) {
            Some(size) if size <= left => usize::try_from(count).map_err(|_| short(what)),
            _ => Err(short(what)),
        }
    }

    fn text(&mut self, what: &'static str) -> Result<String, DecodeError> {
        let length = self.u64(what)?;
        let text = self.bytes(length, what)?;
        String::from_utf8(text.into()).map_err(|_| DecodeError::Text(what))
    }

    fn flag(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(value(what, other)),
        }
    }
}

const fn short(what: &'static str) -> DecodeError {
    DecodeError::Short(what)
}

fn value(what: &'static str, value: u8) -> DecodeError {
    DecodeError::Value {
        what,
        value: value.into(),
    }
}

pub(super) fn put_u64(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(super) fn put_length(length: usize, out: &mut Vec<u8>) {
    put_u64(length as u64, out);
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_length(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// What `size_hint` does not count, as a rule.
const ROOM_FOR_SMALL_PARTS: usize = 64;
/// Index, term, node.
const LOG_ID_SIZE: usize = 24;
/// Log id, kind, length of the payload.
const ENTRY_HEAD_SIZE: usize = LOG_ID_SIZE + 9;
/// A blank entry.
const SMALLEST_ENTRY: u64 = 25;

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

const SUCCESS: u8 = 0;
const PARTIAL_SUCCESS: u8 = 1;
const CONFLICT: u8 = 2;
const HIGHER_VOTE: u8 = 3;

impl Layout for LogId<NodeId> {
    fn put(&self, out: &mut Vec<u8>) {
        put_u64(self.index, out);
        put_u64(self.leader_id.term, out);
        put_u64(self.leader_id.node_id, out);
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        let index = from.u64("a log index")?;
        let term = from.u64("a term")?;
        let node_id = from.u64("a node id")?;
        Ok(Self::new(CommittedLeaderId::new(term, node_id), index))
    }
}

impl<T: Layout> Layout for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.is_some().into());
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        let is_some = from.flag("an optional value's mark")?;
        is_some.then(|| T::take(from)).transpose()
    }
}

impl Layout for Vote<NodeId> {
    fn put(&self, out: &mut Vec<u8>) {
        put_u64(self.leader_id.term, out);
        put_u64(self.leader_id.node_id, out);
        out.push(self.committed.into());
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        let term = from.u64("a term")?;
        let node_id = from.u64("a node id")?;
        Ok(Self {
            leader_id: LeaderId::new(term, node_id),
            committed: from.flag("a vote's commitment")?,
        })
    }
}

impl Layout for Membership<NodeId, Member> {
    fn put(&self, out: &mut Vec<u8>) {
        let configs = self.get_joint_config();
        put_length(configs.len(), out);
        for voters in configs {
            put_length(voters.len(), out);
            for &voter in voters {
                put_u64(voter, out);
            }
        }
        put_length(self.nodes().count(), out);
        for (&node, member) in self.nodes() {
            put_u64(node, out);
            put_text(&member.address, out);
        }
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        let mut configs = Vec::new();
        for _ in 0..from.count(8, "the voters")? {
            let mut voters = BTreeSet::new();
            for _ in 0..from.count(8, "the voters")? {
                voters.insert(from.u64("a voter")?);
            }
            configs.push(voters);
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..from.count(16, "the members")? {
            let node = from.u64("a node id")?;
            let address = from.text("a member's address")?;
            nodes.insert(node, Member { address });
        }
        Ok(Self::new(configs, nodes))
    }
}

impl Layout for StoredMembership<NodeId, Member> {
    fn put(&self, out: &mut Vec<u8>) {
        self.log_id().put(out);
        self.membership().put(out);
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        let log_id = Layout::take(from)?;
        Ok(Self::new(log_id, Layout::take(from)?))
    }
}

impl Layout for EntryPayload<Types> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Blank => out.push(BLANK),
            Self::Normal(Command(payload)) => {
                out.push(NORMAL);
                put_length(payload.len(), out);
                out.extend_from_slice(payload);
            }
            Self::Membership(membership) => {
                out.push(MEMBERSHIP);
                membership.put(out);
            }
        }
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        match from.u8("an entry's kind")? {
            BLANK => Ok(Self::Blank),
            NORMAL => {
                let length = from.u64("a payload's length")?;
                Ok(Self::Normal(Command(from.bytes(length, "a payload")?)))
            }
            MEMBERSHIP => Ok(Self::Membership(Layout::take(from)?)),
            other => Err(value("an entry's kind", other)),
        }
    }

    fn size_hint(&self) -> usize {
        match self {
            Self::Normal(Command(payload)) => 9 + payload.len(),
            _ => 1,
        }
    }
}

impl Layout for Entry<Types> {
    fn put(&self, out: &mut Vec<u8>) {
        self.log_id.put(out);
        self.payload.put(out);
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            log_id: Layout::take(from)?,
            payload: Layout::take(from)?,
        })
    }

    fn size_hint(&self) -> usize {
        LOG_ID_SIZE + self.payload.size_hint()
    }
}

impl Layout for AppendEntriesRequest<Types> {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.prev_log_id.put(out);
        self.leader_commit.put(out);
        put_length(self.entries.len(), out);
        for entry in &self.entries {
            entry.put(out);
        }
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        let vote = Layout::take(from)?;
        let prev_log_id = Layout::take(from)?;
        let leader_commit = Layout::take(from)?;
        let count = from.count(SMALLEST_ENTRY, "the entries")?;
        let entries = (0..count)
            .map(|_| Layout::take(from))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            vote,
            prev_log_id,
            entries,
            leader_commit,
        })
    }

    fn size_hint(&self) -> usize {
        let entries: usize = self.entries.iter().map(Layout::size_hint).sum();
        17 + 2 + 8 + entries
    }
}

impl Layout for AppendEntriesResponse<NodeId> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Success => out.push(SUCCESS),
            Self::PartialSuccess(matching) => {
                out.push(PARTIAL_SUCCESS);
                matching.put(out);
            }
            Self::Conflict => out.push(CONFLICT),
            Self::HigherVote(vote) => {
                out.push(HIGHER_VOTE);
                vote.put(out);
            }
        }
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        match from.u8("an append's outcome")? {
            SUCCESS => Ok(Self::Success),
            PARTIAL_SUCCESS => Ok(Self::PartialSuccess(Layout::take(from)?)),
            CONFLICT => Ok(Self::Conflict),
            HIGHER_VOTE => Ok(Self::HigherVote(Layout::take(from)?)),
            other => Err(value("an append's outcome", other)),
        }
    }
}

impl Layout for VoteRequest<NodeId> {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.last_log_id.put(out);
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            vote: Layout::take(from)?,
            last_log_id: Layout::take(from)?,
        })
    }
}

impl Layout for VoteResponse<NodeId> {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        out.push(self.vote_granted.into());
        self.last_log_id.put(out);
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            vote: Layout::take(from)?,
            vote_granted: from.flag("whether the vote was granted")?,
            last_log_id: Layout::take(from)?,
        })
    }
}

impl Layout for SnapshotMeta<NodeId, Member> {
    fn put(&self, out: &mut Vec<u8>) {
        self.last_log_id.put(out);
        self.last_membership.put(out);
        put_text(&self.snapshot_id, out);
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            last_log_id: Layout::take(from)?,
            last_membership: Layout::take(from)?,
            snapshot_id: from.text("a snapshot's id")?,
        })
    }
}

#[cfg(test)]
#[path = "entry_codec_tests.rs"]
mod tests;
