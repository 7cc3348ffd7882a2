//! All requests and answers there and back.

use std::fmt::Debug;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, Vote};

use super::*;
use crate::replication::types::Command;

fn requests() -> Vec<Request> {
    let log_id = LogId::new(CommittedLeaderId::new(3, 1), 9);
    let entry = |payload| Entry { log_id, payload };
    vec![
        Request::Append(AppendEntriesRequest {
            vote: Vote::new_committed(3, 1),
            prev_log_id: Some(log_id),
            entries: vec![
                entry(EntryPayload::Blank),
                entry(EntryPayload::Normal(Command(Bytes::from_static(
                    b"command",
                )))),
            ],
            leader_commit: None,
        }),
        Request::RaftVote(VoteRequest::new(Vote::new(4, 2), Some(log_id))),
        Request::PreVote {
            term: 5,
            last_log: Some(log_id),
        },
        Request::PreVote {
            term: u64::MAX,
            last_log: None,
        },
        Request::LetGo { term: 6 },
        Request::Stand { term: 7 },
        Request::ReadIndex,
        Request::Service(Bytes::from_static(b"\0\xff")),
        Request::Admin("{\"größe\": 1}".to_owned()),
    ]
}

fn replies() -> Vec<Reply> {
    let log_id = LogId::new(CommittedLeaderId::new(3, 1), 9);
    let member = Member {
        address: "[::1]:8101".to_owned(),
    };
    let refused = |leader| Reply::Refused {
        leader,
        why: "no leader".to_owned(),
    };
    vec![
        Reply::Append(AppendEntriesResponse::PartialSuccess(Some(log_id))),
        Reply::Append(AppendEntriesResponse::HigherVote(Vote::new(4, 2))),
        Reply::RaftVote(VoteResponse::new(Vote::new(4, 2), None, true)),
        Reply::PreVote {
            granted: true,
            term: 5,
        },
        Reply::Done,
        Reply::ReadIndex(None),
        Reply::ReadIndex(Some(log_id)),
        Reply::Service(Bytes::new()),
        Reply::Admin("{}".to_owned()),
        refused(None),
        refused(Some((7, member))),
    ]
}

/// It comes back as it was; its beginnings, and what has more bytes, are
/// refused; other bytes of its length never lead to a panic.
fn check<T: Debug>(value: &T, bytes: &[u8], of: impl Fn(Bytes) -> Result<T, DecodeError>) {
    let back = of(Bytes::copy_from_slice(bytes)).unwrap();
    assert_eq!(format!("{back:?}"), format!("{value:?}"));
    for length in 0..bytes.len() {
        let short = of(Bytes::copy_from_slice(&bytes[..length]));
        assert!(short.is_err(), "{value:?} up to {length}: {short:?}");
    }
    let more = [bytes, b"\0"].concat();
    let trailing = of(more.into()).unwrap_err();
    assert_eq!(trailing, DecodeError::Trailing(1), "{value:?}");
    for at in 0..bytes.len() {
        for byte in [0, 0x7f, 0xff] {
            let mut changed = bytes.to_vec();
            changed[at] = byte;
            let _ = of(changed.into());
        }
    }
}

#[test]
fn requests_come_out_as_they_went_in() {
    for request in requests() {
        let mut bytes = Vec::new();
        put_request("main", &request, &mut bytes).unwrap();
        check(&("main".to_owned(), request), &bytes, request_of);
    }
    let long = "a".repeat(MAX_GROUP_BYTES + 1);
    assert!(put_request(&long, &Request::ReadIndex, &mut Vec::new()).is_err());
}

#[test]
fn answers_come_out_as_they_went_in() {
    for reply in replies() {
        let mut bytes = Vec::new();
        put_reply(&reply, &mut bytes);
        check(&reply, &bytes, reply_of);
    }
}

#[test]
fn what_is_not_known_is_refused() {
    let unknown = [VERSION, 99, 0, 0, 0, 0, 0, 0, 0, 0];
    let error = request_of(Bytes::copy_from_slice(&unknown)).unwrap_err();
    assert_eq!(error.to_string(), "a request's kind cannot be 99");
    let error = reply_of(Bytes::copy_from_slice(&unknown)).unwrap_err();
    assert_eq!(error.to_string(), "an answer's kind cannot be 99");
}

/// Payloads are not copied on their way in: appends are large.
#[test]
fn a_payload_shares_the_message() {
    let mut bytes = Vec::new();
    put_request("1", &requests()[0], &mut bytes).unwrap();
    let message = Bytes::from(bytes);
    let range = message.as_ptr_range();
    let (_, Request::Append(append)) = request_of(message.clone()).unwrap() else {
        panic!("another request");
    };
    let EntryPayload::Normal(Command(payload)) = &append.entries[1].payload else {
        panic!("another entry");
    };
    assert!(range.contains(&payload.as_ptr()));
}
