//! What administrators ask of nodes, and what they are told: JSON in
//! `Request::Admin` and `Reply::Admin`. `zeod cluster` asks, a node answers.
//!
//! A request is for all storages unless it names one. A node passes on to the
//! leader of each what only that can do. Asking again for what is done already
//! is no error, so that a command that was interrupted can be given again.

use serde::{Deserialize, Serialize};

use super::types::NodeId;
use crate::stats::replication::{GroupStatus, NodeStatus};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum AdminRequest {
    /// How is the cluster? Answered by [`AdminReply::Status`], also by a node that
    /// belongs to none.
    Status {
        /// Ask nobody else, and tell what this node knows.
        #[serde(default)]
        only_here: bool,
    },
    /// Make this node a learner of all storages. Asked of a node that is in the
    /// cluster. Who is a voter already stays one.
    Join {
        /// Its id.
        node: NodeId,
        /// Where the other nodes reach it.
        address: String,
        /// The storages that it has; they must be the cluster's.
        storages: Vec<String>,
    },
    /// Let a learner vote. Refused while it is far behind, and for one that is
    /// behind on purpose.
    Promote {
        /// Its id.
        node: NodeId,
    },
    /// Take a node out. One that leads hands over first. The node itself may be
    /// gone for good, or be the one that is asked.
    Remove {
        /// Its id.
        node: NodeId,
    },
    /// Have another node lead.
    Transfer {
        /// Only this storage.
        #[serde(default)]
        storage: Option<String>,
        /// That node; none: the voter that is best up to date.
        #[serde(default)]
        to: Option<NodeId>,
    },
    /// Note down durably what is applied, on the node that is asked, and drop
    /// the log that nobody needs.
    Snapshot {
        /// Only this storage.
        #[serde(default)]
        storage: Option<String>,
    },
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "kebab-case")]
pub enum AdminReply {
    /// How the cluster is.
    Status(ClusterStatus),
    /// What became of it, by storage.
    Done {
        /// In the order of their names.
        storages: Vec<Outcome>,
    },
    /// Nothing was done.
    Refused {
        /// Why, and what to do.
        why: String,
    },
}

/// What became of a request for one storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The storage.
    pub storage: String,
    /// In words, for people: what was done, or was so already.
    #[serde(default)]
    pub done: String,
    /// Why it was not done.
    #[serde(default)]
    pub failed: Option<String>,
}

/// The cluster as far as the node that was asked could find out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterStatus {
    /// Who was asked.
    pub node: NodeId,
    /// That node, and those that answered it, by id.
    pub nodes: Vec<NodeStatus>,
    /// Each storage, as its leader sees it; as the node that was asked sees it
    /// where no leader is known or it does not answer.
    pub storages: Vec<GroupStatus>,
    /// Each storage as the node that was asked sees it; empty where that is the
    /// same.
    pub own: Vec<GroupStatus>,
}

impl AdminRequest {
    /// As it travels.
    pub fn to_json(&self) -> String {
        to_json(self)
    }

    /// Reads a request; the error is for who asked.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| {
            let version = env!("CARGO_PKG_VERSION");
            format!(
                "zeod {version} does not understand the request ({error}); use the zeod of the node"
            )
        })
    }
}

impl AdminReply {
    /// As it travels.
    pub fn to_json(&self) -> String {
        to_json(self)
    }

    /// Reads a reply; the error is for people.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| {
            let version = env!("CARGO_PKG_VERSION");
            format!("zeod {version} does not understand the node's answer: {error}")
        })
    }
}

/// These types have no maps with keys that are no text, so it does not fail.
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl Outcome {
    /// It was done, or was so already.
    pub fn done(storage: impl Into<String>, done: impl Into<String>) -> Self {
        Self {
            storage: storage.into(),
            done: done.into(),
            failed: None,
        }
    }

    /// It was not.
    pub fn failed(storage: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            storage: storage.into(),
            done: String::new(),
            failed: Some(why.into()),
        }
    }
}

impl ClusterStatus {
    /// The node with this id, if it answered.
    pub fn node(&self, id: NodeId) -> Option<&NodeStatus> {
        self.nodes.iter().find(|node| node.node == id)
    }

    /// The storage as the node that was asked sees it.
    pub fn own_view(&self, storage: &str) -> Option<&GroupStatus> {
        let mut views = self.own.iter().chain(&self.storages);
        views.find(|group| group.storage == storage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_were_written() {
        for (request, json) in [
            (
                AdminRequest::Status { only_here: true },
                r#"{"ask":"status","only_here":true}"#,
            ),
            (
                AdminRequest::Join {
                    node: 3,
                    address: "db3:8101".to_owned(),
                    storages: vec!["1".to_owned()],
                },
                r#"{"ask":"join","node":3,"address":"db3:8101","storages":["1"]}"#,
            ),
            (
                AdminRequest::Promote { node: 3 },
                r#"{"ask":"promote","node":3}"#,
            ),
            (
                AdminRequest::Remove { node: 3 },
                r#"{"ask":"remove","node":3}"#,
            ),
            (
                AdminRequest::Transfer {
                    storage: None,
                    to: Some(2),
                },
                r#"{"ask":"transfer","storage":null,"to":2}"#,
            ),
            (
                AdminRequest::Snapshot {
                    storage: Some("main".to_owned()),
                },
                r#"{"ask":"snapshot","storage":"main"}"#,
            ),
        ] {
            assert_eq!(request.to_json(), json);
            assert_eq!(AdminRequest::from_json(json), Ok(request));
        }
        let short = AdminRequest::from_json(r#"{"ask":"transfer"}"#);
        let nothing = AdminRequest::Transfer {
            storage: None,
            to: None,
        };
        assert_eq!(short, Ok(nothing));
    }

    #[test]
    fn what_is_not_understood_is_said_so() {
        for json in ["", "{}", r#"{"ask":"dance"}"#, r#"{"ask":"join"}"#] {
            let error = AdminRequest::from_json(json).unwrap_err();
            assert!(error.contains("does not understand"), "{error}");
            assert!(AdminReply::from_json(json).is_err());
        }
    }

    #[test]
    fn replies_are_read_as_they_were_written() {
        let group = GroupStatus {
            storage: "1".to_owned(),
            leader: Some(2),
            without_quorum_seconds: Some(1.5),
            ..GroupStatus::default()
        };
        let status = ClusterStatus {
            node: 1,
            nodes: vec![NodeStatus::default()],
            storages: vec![group],
            own: Vec::new(),
        };
        assert_eq!(status.own_view("1").unwrap().leader, Some(2));
        for reply in [
            AdminReply::Status(status),
            AdminReply::Done {
                storages: vec![Outcome::done("1", "was so"), Outcome::failed("2", "no")],
            },
            AdminReply::Refused {
                why: "no".to_owned(),
            },
        ] {
            assert_eq!(AdminReply::from_json(&reply.to_json()), Ok(reply));
        }
    }
}
