use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

fn log_ids() -> impl Strategy<Value = LogId<NodeId>> {
    any::<(u64, u64, u64)>()
        .prop_map(|(index, term, node)| LogId::new(CommittedLeaderId::new(term, node), index))
}

fn votes() -> impl Strategy<Value = Vote<NodeId>> {
    any::<(u64, u64, bool)>().prop_map(|(term, node, committed)| Vote {
        leader_id: LeaderId::new(term, node),
        committed,
    })
}

fn memberships() -> impl Strategy<Value = Membership<NodeId, Member>> {
    let members = any::<String>().prop_map(|address| Member { address });
    let configs = vec(btree_set(0..20_u64, 0..5), 0..3);
    (configs, btree_map(0..20_u64, members, 0..7))
        .prop_map(|(configs, nodes)| Membership::new(configs, nodes))
}

fn stored_memberships() -> impl Strategy<Value = StoredMembership<NodeId, Member>> {
    (option::of(log_ids()), memberships())
        .prop_map(|(log_id, membership)| StoredMembership::new(log_id, membership))
}

fn entries() -> impl Strategy<Value = Entry<Types>> {
    let payloads = prop_oneof![
        Just(EntryPayload::Blank),
        vec(any::<u8>(), 0..200)
            .prop_map(|bytes| EntryPayload::Normal(Command(Bytes::from(bytes)))),
        memberships().prop_map(EntryPayload::Membership),
    ];
    (log_ids(), payloads).prop_map(|(log_id, payload)| Entry { log_id, payload })
}

fn requests() -> impl Strategy<Value = AppendEntriesRequest<Types>> {
    let log_id = || option::of(log_ids());
    (votes(), log_id(), vec(entries(), 0..5), log_id()).prop_map(
        |(vote, prev_log_id, entries, leader_commit)| AppendEntriesRequest {
            vote,
            prev_log_id,
            entries,
            leader_commit,
        },
    )
}

/// It comes back as it was; its beginnings and what has more bytes are refused.
fn check<T: Layout + PartialEq + std::fmt::Debug>(value: &T) {
    check_bytes(value, |value, back| assert_eq!(value, back));
}

fn check_bytes<T: Layout>(value: &T, same: impl Fn(&T, &T)) {
    let bytes = Bytes::from(encode(value));
    assert!(bytes.len() > value.size_hint());
    same(value, &decode(bytes.clone()).unwrap());
    for length in 0..bytes.len() {
        assert!(
            decode::<T>(bytes.slice(..length)).is_err(),
            "cut to {length}"
        );
    }
    let longer: Bytes = bytes.iter().copied().chain([0]).collect();
    assert_eq!(decode::<T>(longer).err(), Some(DecodeError::Trailing(1)));
    let other: Bytes = [VERSION + 1].into_iter().chain(bytes.slice(1..)).collect();
    assert_eq!(
        decode::<T>(other).err(),
        Some(DecodeError::Version(VERSION + 1))
    );
}

proptest! {
    #[test]
    fn entries_come_back(entry in entries()) {
        check(&entry);
        let pieces = encode_entry(&entry);
        prop_assert_eq!([&pieces.head[..], &pieces.payload].concat(), encode(&entry));
    }

    #[test]
    fn votes_and_log_ids_come_back(vote in votes(), log_id in option::of(log_ids())) {
        check(&vote);
        check(&log_id);
        check(&VoteRequest { vote, last_log_id: log_id });
        for vote_granted in [false, true] {
            check(&VoteResponse { vote, vote_granted, last_log_id: log_id });
        }
        for response in [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(log_id),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(vote),
        ] {
            check(&response);
        }
    }

    #[test]
    fn memberships_come_back(
        last_membership in stored_memberships(),
        last_log_id in option::of(log_ids()),
        snapshot_id in any::<String>(),
    ) {
        check(&last_membership);
        check(&SnapshotMeta { last_log_id, last_membership, snapshot_id });
    }

    #[test]
    fn requests_come_back(request in requests()) {
        check_bytes(&request, |one, other| {
            assert_eq!(one.vote, other.vote);
            assert_eq!(one.prev_log_id, other.prev_log_id);
            assert_eq!(one.entries, other.entries);
            assert_eq!(one.leader_commit, other.leader_commit);
        });
    }

    /// What can be read at all is written the same way again, or was not in order (sets).
    #[test]
    fn garbage_is_no_danger(bytes in vec(any::<u8>(), 0..300)) {
        let bytes: Bytes = [VERSION].into_iter().chain(bytes).collect();
        if let Ok(entry) = decode::<Entry<Types>>(bytes.clone())
            && !matches!(entry.payload, EntryPayload::Membership(_))
        {
            prop_assert_eq!(encode(&entry), &bytes[..]);
        }
        drop(decode::<AppendEntriesRequest<Types>>(bytes.clone()));
        drop(decode::<SnapshotMeta<NodeId, Member>>(bytes.clone()));
        drop(decode::<VoteResponse<NodeId>>(bytes));
    }

    #[test]
    fn a_changed_byte_is_no_danger(
        request in requests(),
        at in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
    ) {
        let mut bytes = encode(&request);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = decode::<AppendEntriesRequest<Types>>(bytes.into()) {
            prop_assert!(at > 0, "the version");
            prop_assert!(encode(&other).len() <= encode(&request).len() + 8 * 20);
        }
    }
}

#[test]
fn a_count_makes_no_room_for_what_is_not_there() {
    let mut bytes = vec![VERSION];
    Vote::<NodeId>::default().put(&mut bytes);
    bytes.extend([0, 0]);
    put_u64(u64::MAX / SMALLEST_ENTRY, &mut bytes);
    let refused = decode::<AppendEntriesRequest<Types>>(bytes.into());
    assert_eq!(refused.err(), Some(DecodeError::Short("the entries")));
}

#[test]
fn the_layout_is_what_older_nodes_wrote() {
    let entry = Entry::<Types> {
        log_id: LogId::new(CommittedLeaderId::new(2, 3), 1),
        payload: EntryPayload::Normal(Command(Bytes::from_static(b"abc"))),
    };
    let mut expected = vec![1];
    for number in [1_u8, 2, 3] {
        expected.extend([number, 0, 0, 0, 0, 0, 0, 0]);
    }
    expected.extend([1, 3, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend(b"abc");
    assert_eq!(encode(&entry), expected);
}

#[test]
fn a_decoded_payload_shares_the_bytes() {
    let entry = Entry::<Types> {
        log_id: LogId::default(),
        payload: EntryPayload::Normal(Command(Bytes::from(vec![7; 1000]))),
    };
    let bytes = Bytes::from(encode(&entry));
    let whole = bytes.as_ptr_range();
    let entry: Entry<Types> = decode(bytes.clone()).unwrap();
    let EntryPayload::Normal(Command(payload)) = entry.payload else {
        panic!("a normal entry");
    };
    assert!(whole.contains(&payload.as_ptr()));
    assert_eq!(
        encode_entry(&Entry {
            log_id: LogId::default(),
            payload: EntryPayload::Normal(Command(payload.clone())),
        })
        .payload
        .as_ptr(),
        payload.as_ptr()
    );
}
