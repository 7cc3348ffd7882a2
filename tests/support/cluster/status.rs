//! What `zeod cluster status --json` says.

use serde_json::Value;

/// What one node knows of the cluster: of its first storage.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The id of the leader, as the node itself sees it.
    pub leader: Option<u64>,
    pub term: Option<u64>,
    /// All members by id, learners too.
    pub members: Vec<Member>,
    /// Bytes that the node was given because the log did not have them any more.
    pub caught_up_bytes: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub id: u64,
    pub is_voter: bool,
    /// How many transactions it is behind, where that is known.
    pub lag: Option<u64>,
}

impl View {
    /// From the command's output.
    pub fn of(status: &Value) -> Option<Self> {
        let storage = status.get("storages")?.get(0)?;
        let own = status.get("own").and_then(|own| own.get(0));
        let own = own.unwrap_or(storage);
        let members = storage.get("members")?.as_array()?;
        let mut members: Vec<_> = members.iter().filter_map(Member::of).collect();
        members.sort_by_key(|member| member.id);
        Some(Self {
            leader: own.get("leader").and_then(Value::as_u64),
            term: own.get("term").and_then(Value::as_u64),
            members,
            caught_up_bytes: own
                .get("caught_up_bytes")
                .and_then(Value::as_u64)
                .unwrap_or_default(),
        })
    }

    /// Who belongs to the cluster, and who votes.
    pub fn membership(&self) -> Vec<(u64, bool)> {
        let members = self.members.iter();
        members.map(|member| (member.id, member.is_voter)).collect()
    }

    /// Nobody is behind, as far as this node knows.
    pub fn is_caught_up(&self) -> bool {
        let mut lags = self.members.iter().filter_map(|member| member.lag);
        lags.all(|lag| lag == 0)
    }
}

impl Member {
    fn of(value: &Value) -> Option<Self> {
        let lag = value.get("lag").and_then(|lag| lag.get("transactions"));
        Some(Self {
            id: value.get("node")?.as_u64()?,
            is_voter: value.get("is_voter")?.as_bool()?,
            lag: lag.and_then(Value::as_u64),
        })
    }
}
