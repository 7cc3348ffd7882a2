//! What is told of replication: counters that it increments, and its state at
//! one moment, for observers, for other nodes, and for `zeod cluster status`.
//!
//! The state travels as JSON between nodes of different versions: fields are
//! added, never changed in meaning, and what is missing has its default.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Counter, Gauge, Histogram, Observed};

/// Where the state of one replicated storage can be asked for.
pub trait GroupSource: fmt::Debug + Send + Sync {
    /// As this node knows it now; waits for nobody.
    fn status(&self) -> GroupStatus;
}

/// Where the state of the node can be asked for.
pub trait NodeSource: fmt::Debug + Send + Sync {
    /// Now; waits for nobody.
    fn status(&self) -> NodeStatus;
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its id.
    pub node: u64,
    /// Where the other nodes reach it.
    pub address: String,
    /// Of its zeod.
    pub version: String,
    /// Does it belong to a cluster? If not, nobody is served.
    pub in_cluster: bool,
    /// Is it asked to begin a cluster, and has not yet?
    pub begins: bool,
    /// What its log takes on the disk.
    pub log_bytes: u64,
    /// So much is kept for nodes that are behind; the key `log-size`.
    pub log_limit_bytes: u64,
    /// What is behind here is behind on purpose; the key `apply-delay`.
    pub apply_delay_seconds: f64,
    /// It may have forgotten what it had acknowledged, or is new, and has not yet applied what the
    /// cluster had committed at its start: on some storage it does not vote.
    pub abstains: bool,
    /// Its storages that cannot go on.
    pub standstills: Vec<NodeStandstill>,
}

/// A storage of a node that does not apply what its cluster has committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStandstill {
    /// Its name.
    pub storage: String,
    /// In words.
    pub why: String,
    /// What it takes to go on is on no node any more: the node has to join anew.
    pub is_lost: bool,
}

impl NodeStatus {
    /// Why it is of no use as yet. None: it belongs to a cluster.
    pub fn outside(&self) -> Option<String> {
        let node = self.node;
        if self.in_cluster {
            None
        } else if self.begins {
            Some(format!(
                "node {node} is about to begin its cluster; if it does not, its log says why"
            ))
        } else {
            Some(format!(
                "node {node} belongs to no cluster yet: use \"zeod cluster init\" on the first node, \
                 \"zeod cluster join\" on the others"
            ))
        }
    }
}

/// One replicated storage, as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupStatus {
    /// Its name.
    pub storage: String,
    /// Who tells this.
    pub node: u64,
    /// What that node is in the group.
    pub role: GroupRole,
    /// Raft's term.
    pub term: u64,
    /// Who leads, where that is known.
    pub leader: Option<u64>,
    /// For how long the node has known of no leader with a quorum behind it.
    /// None: there is one.
    pub without_quorum_seconds: Option<f64>,
    /// That has lasted so long that clients that write are turned away.
    pub turns_writers_away: bool,
    /// The error because of which the node does not go on.
    pub failed: Option<String>,
    /// Why the node applies nothing for a while, though nothing is wrong.
    pub held_up: Option<String>,
    /// Length of `Data.fs`.
    pub size_bytes: u64,
    /// The last transaction in it, in hex; none in an empty one.
    pub last_transaction: Option<String>,
    /// The last entry of the log.
    pub log_index: u64,
    /// The last entry that a quorum is known to have.
    pub committed_index: u64,
    /// The last entry that the storage has.
    pub applied_index: u64,
    /// A change of the members has begun and is not complete.
    pub is_changing: bool,
    /// All members by id, the node itself included.
    pub members: Vec<MemberStatus>,
    /// What is counted since the node's start.
    #[serde(flatten)]
    pub counts: GroupCounts,
    /// How long proposals took until they were committed; on the leader.
    #[serde(skip)]
    pub proposal_times: Observed,
}

/// What a node is in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupRole {
    /// It decides.
    Leader,
    /// It has a vote, and follows.
    Follower,
    /// It has a vote, and stands for election.
    Candidate,
    /// It follows and has no vote.
    Learner,
    /// It is no member, or was not told that it is.
    #[default]
    #[serde(other)]
    Outside,
}

/// A member of a group. What only the leader knows is none where another tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberStatus {
    /// Its id.
    pub node: u64,
    /// Where the other nodes reach it.
    pub address: String,
    /// Does it vote? If not, it is a learner.
    pub is_voter: bool,
    /// Does it answer? The leader itself does.
    pub is_reached: Option<bool>,
    /// The last transaction that it is known to have, in hex.
    pub last_transaction: Option<String>,
    /// What the leader has applied and this member has not.
    pub lag: Option<Lag>,
    /// It is being given what the log does not have any more. Known to itself and
    /// to who gives it.
    pub catch_up: Option<CatchUp>,
    /// Where its log ends. Known to itself, and to whoever asks it while nobody leads.
    pub log_end: Option<LogEnd>,
}

/// The last entry of a log. Of several logs the greatest one has all that was ever acknowledged
/// and is in one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct LogEnd {
    /// Raft's term in which it was proposed …
    pub term: u64,
    /// … and who led: a term can have two leaders, one after the other.
    pub leader: u64,
    /// Its place.
    pub index: u64,
}

impl fmt::Display for LogEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            term,
            leader,
            index,
        } = self;
        write!(f, "term {term} of node {leader}, entry {index}")
    }
}

/// What a member lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lag {
    /// Transactions.
    pub transactions: u64,
    /// Their records, or the part of `Data.fs` that they take.
    pub bytes: u64,
    /// Since when the oldest of them has been there; 0 where nothing lacks.
    pub seconds: f64,
}

/// How far giving a node what it lacks is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CatchUp {
    /// In words: "comparing", "receiving", "receiving blobs, 3 of 17".
    pub doing: String,
    /// So many bytes of this step are done …
    pub done_bytes: u64,
    /// … of so many. 0: they are not counted.
    pub total_bytes: u64,
}

/// What is counted of one group. Each number is since the node's start, but for
/// `staged_bytes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupCounts {
    /// Elections in which this node stood.
    pub elections: u64,
    /// Changes of the leader that this node has seen.
    pub leader_changes: u64,
    /// Leaderships that this node handed over.
    pub transfers: u64,
    /// Entries that this node proposed.
    pub proposals: u64,
    /// Of these, those that were not committed.
    pub proposals_refused: u64,
    /// Transactions of clients of this node that another one decided.
    pub forwarded: u64,
    /// Payloads and blobs that lie here for entries to come.
    pub staged_bytes: u64,
    /// All that came to lie here so.
    pub staged_bytes_total: u64,
    /// Bytes that this node was given because the log did not have them any more.
    pub caught_up_bytes: u64,
}

/// The same while it counts.
#[derive(Debug)]
#[allow(missing_docs, reason = "as in GroupCounts")]
pub struct GroupCounters {
    pub elections: Counter,
    pub leader_changes: Counter,
    pub transfers: Counter,
    pub proposals: Counter,
    pub proposals_refused: Counter,
    pub forwarded: Counter,
    pub staged_bytes: Gauge,
    pub staged_bytes_total: Counter,
    pub caught_up_bytes: Counter,
    /// How long proposals took until they were committed, in nanoseconds.
    pub proposal_times: Histogram,
}

impl Default for GroupCounters {
    fn default() -> Self {
        Self {
            elections: Counter::default(),
            leader_changes: Counter::default(),
            transfers: Counter::default(),
            proposals: Counter::default(),
            proposals_refused: Counter::default(),
            forwarded: Counter::default(),
            staged_bytes: Gauge::default(),
            staged_bytes_total: Counter::default(),
            caught_up_bytes: Counter::default(),
            proposal_times: Histogram::of_times(),
        }
    }
}

impl GroupCounters {
    /// What is counted so far.
    pub fn counts(&self) -> GroupCounts {
        GroupCounts {
            elections: self.elections.get(),
            leader_changes: self.leader_changes.get(),
            transfers: self.transfers.get(),
            proposals: self.proposals.get(),
            proposals_refused: self.proposals_refused.get(),
            forwarded: self.forwarded.get(),
            staged_bytes: self.staged_bytes.get(),
            staged_bytes_total: self.staged_bytes_total.get(),
            caught_up_bytes: self.caught_up_bytes.get(),
        }
    }
}

impl GroupRole {
    /// All, for metrics.
    pub const ALL: [Self; 5] = [
        Self::Leader,
        Self::Follower,
        Self::Candidate,
        Self::Learner,
        Self::Outside,
    ];

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Outside => "outside",
        }
    }
}

impl GroupStatus {
    /// Is there a leader with a quorum behind it, as far as the node knows?
    pub fn has_quorum(&self) -> bool {
        self.without_quorum_seconds.is_none()
    }

    /// What the node of `other` says of the end of its own log.
    pub fn learn_log_end(&mut self, other: &Self) {
        let end = other.member(other.node).and_then(|own| own.log_end);
        let members = self.members.iter_mut();
        for member in members.filter(|member| member.node == other.node) {
            member.log_end = end;
        }
    }

    /// Members that vote.
    pub fn voters(&self) -> impl Iterator<Item = &MemberStatus> {
        self.members.iter().filter(|member| member.is_voter)
    }

    /// The member with this id.
    pub fn member(&self, node: u64) -> Option<&MemberStatus> {
        self.members.iter().find(|member| member.node == node)
    }
}

impl CatchUp {
    /// From 0 to 100. None where it is not known how much there is.
    pub fn percent(&self) -> Option<u64> {
        let done = self.done_bytes.saturating_mul(100);
        done.checked_div(self.total_bytes)
            .map(|percent| percent.min(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_version_tells_is_understood() {
        let newer = r#"{"storage": "1", "role": "king", "term": 3, "mood": "good",
            "elections": 2, "members": [{"node": 1, "is_voter": true, "hat": {"size": 5}}]}"#;
        let status: GroupStatus = serde_json::from_str(newer).unwrap();
        assert_eq!(status.role, GroupRole::Outside);
        assert_eq!((status.term, status.counts.elections), (3, 2));
        assert_eq!(status.voters().count(), 1);
        assert_eq!(status.member(1).unwrap().lag, None);
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<GroupStatus>(&text).unwrap(), status);
    }

    #[test]
    fn what_is_counted_is_told() {
        let counters = GroupCounters::default();
        counters.proposals.add(3);
        counters.staged_bytes.set(7);
        let counts = counters.counts();
        assert_eq!((counts.proposals, counts.staged_bytes), (3, 7));
        assert_eq!(counts.elections, 0);
    }

    #[test]
    fn roles_are_called_alike_everywhere() {
        for role in GroupRole::ALL {
            let json = serde_json::to_string(&role).unwrap();
            assert_eq!(json, format!("\"{}\"", role.name()));
        }
    }

    #[test]
    fn progress_is_known_where_the_end_is() {
        let catch_up = |done_bytes, total_bytes| CatchUp {
            done_bytes,
            total_bytes,
            ..CatchUp::default()
        };
        assert_eq!(catch_up(1, 3).percent(), Some(33));
        assert_eq!(catch_up(9, 3).percent(), Some(100));
        assert_eq!(catch_up(9, 0).percent(), None);
    }
}
