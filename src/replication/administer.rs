//! The administrator's requests, answered.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::admin::{AdminReply, AdminRequest, ClusterStatus, Outcome};
use super::consensus::{ChangeError, Leadership};
use super::net::Network;
use super::node::{Node, Served};
use super::peers::{Peers, Reply, Request};
use super::types::{Member, NodeId};
use crate::stats::replication::{GroupStatus, NodeStatus};

/// Another node is waited for so long: it tries for [`LEADER_PATIENCE`] itself.
const PEER_PATIENCE: Duration = Duration::from_secs(30);
/// … and so long for its state.
const GLANCE_PATIENCE: Duration = Duration::from_secs(2);
/// Leaders may change while something is asked of them, and a change that was begun by one is
/// completed by the next: a new try is made for so long …
const LEADER_PATIENCE: Duration = Duration::from_secs(20);
/// … at this pace.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// A learner has to be ready to vote within this time, and nearly up to date then within the same.
const PROMOTE_PATIENCE: Duration = Duration::from_secs(10);

impl Node {
    /// Answers a request in JSON.
    pub(super) async fn administer(&self, text: &str) -> String {
        let reply = match AdminRequest::from_json(text) {
            Ok(request) => self.answer(request).await,
            Err(why) => AdminReply::Refused { why },
        };
        reply.to_json()
    }

    async fn answer(&self, request: AdminRequest) -> AdminReply {
        match &request {
            AdminRequest::Status { only_here } => {
                AdminReply::Status(self.cluster_status(*only_here).await)
            }
            AdminRequest::Snapshot { storage } => {
                let mut outcomes = Vec::new();
                for (name, served) in self.named(storage.as_deref()) {
                    served.group.snapshot().await;
                    outcomes.push(Outcome::done(name, "what is applied is being saved"));
                }
                outcomes_or_unknown(outcomes, storage.as_deref())
            }
            AdminRequest::Join { node, storages, .. } => match self.why_not_join(*node, storages) {
                Some(why) => AdminReply::Refused { why },
                None => self.by_leaders(None, &request).await,
            },
            AdminRequest::Promote { node } => match self.why_not_promote(*node).await {
                Some(why) => AdminReply::Refused { why },
                None => self.by_leaders(None, &request).await,
            },
            AdminRequest::Remove { .. } => self.by_leaders(None, &request).await,
            AdminRequest::Transfer { storage, .. } => {
                self.by_leaders(storage.as_deref(), &request).await
            }
        }
    }

    fn why_not_join(&self, node: NodeId, storages: &[String]) -> Option<String> {
        if self.gone.contains(&node) {
            return Some(self.why_gone(node));
        }
        let own: Vec<_> = self.storages.keys().cloned().collect();
        let mut theirs = storages.to_vec();
        theirs.sort();
        if own != theirs {
            return Some(format!(
                "the cluster has the storages {}, node {node} has {}; both have to have the same",
                own.join(", "),
                theirs.join(", ")
            ));
        }
        self.status().outside()
    }

    /// A node that is late on purpose would make all commits late; enough of those that do not
    /// vote yet would be a cluster that elects nobody.
    async fn why_not_promote(&self, node: NodeId) -> Option<String> {
        let groups = self.storages.values().map(Served::status);
        let mut members = groups.flat_map(|group| group.members);
        // Whoever leads may know a member that this node does not know yet, and asks it.
        let address = members.find(|member| member.node == node)?.address;
        let deadline = Instant::now() + PROMOTE_PATIENCE;
        loop {
            let known = self.state_of(node, &address).await;
            let delay = known
                .as_ref()
                .map_or(0.0, |known| known.apply_delay_seconds);
            if delay > 0.0 {
                return Some(format!(
                    "node {node} is {delay} s late on purpose (apply-delay) and cannot vote; take \
                     the key out of its configuration and restart it first"
                ));
            }
            if known.as_ref().is_some_and(|known| !known.abstains) {
                return None;
            }
            if Instant::now() >= deadline {
                return Some(match known {
                    None => format!("node {node} does not answer at {address}; is it running?"),
                    Some(_) => format!(
                        "node {node} has not applied yet what the cluster had committed at its \
                         start, and does not vote before; try again later"
                    ),
                });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// A node, as it tells of itself. None: it does not.
    async fn state_of(&self, node: NodeId, address: &str) -> Option<NodeStatus> {
        if node == self.options.node {
            return Some(self.status());
        }
        let address = address.to_owned();
        let known = glance(self.network.clone(), node, Member { address }).await?;
        known.nodes.into_iter().find(|known| known.node == node)
    }

    fn named(&self, storage: Option<&str>) -> impl Iterator<Item = (&String, &Served)> {
        let is_wanted = move |name: &str| storage.is_none_or(|wanted| wanted == name);
        let storages = self.storages.iter();
        storages.filter(move |(name, _)| is_wanted(name))
    }

    /// Has each storage's leader do it.
    async fn by_leaders(&self, storage: Option<&str>, request: &AdminRequest) -> AdminReply {
        let mut outcomes = Vec::new();
        for (name, served) in self.named(storage) {
            outcomes.push(self.by_leader(name, served, request).await);
        }
        outcomes_or_unknown(outcomes, storage)
    }

    async fn by_leader(&self, name: &str, served: &Served, request: &AdminRequest) -> Outcome {
        let deadline = Instant::now() + LEADER_PATIENCE;
        let mut why = "no leader is known".to_owned();
        loop {
            let known = served.group.leadership().borrow().clone();
            match known {
                Leadership::Leader { .. } => match lead(served, request).await {
                    Ok(done) => return Outcome::done(name, done),
                    Err(error) if error.may_pass() => why = error.to_string(),
                    Err(error) => return Outcome::failed(name, error.to_string()),
                },
                Leadership::Follower { leader, member, .. } => {
                    match self.pass_on(name, leader, &member, request).await {
                        Ok(outcome) => return outcome,
                        Err(error) => why = error,
                    }
                }
                Leadership::Unknown => {}
            }
            if Instant::now() >= deadline {
                return Outcome::failed(name, why);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn pass_on(
        &self,
        name: &str,
        leader: NodeId,
        member: &Member,
        request: &AdminRequest,
    ) -> Result<Outcome, String> {
        let text = Request::Admin(request.to_json());
        let asked = self
            .network
            .call(leader, member, name, text, PEER_PATIENCE)
            .await;
        match asked {
            Ok(Reply::Admin(text)) => match AdminReply::from_json(&text)? {
                AdminReply::Done { storages } => storages
                    .into_iter()
                    .find(|outcome| outcome.storage == name)
                    .ok_or_else(|| format!("node {leader} has no storage {name}")),
                AdminReply::Refused { why } => Err(why),
                AdminReply::Status(_) => Err(format!("node {leader} answered something else")),
            },
            Ok(Reply::Refused { why, .. }) => Err(format!("node {leader}: {why}")),
            Ok(_) => Err(format!("node {leader} answered something else")),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn cluster_status(&self, only_here: bool) -> ClusterStatus {
        let own: Vec<GroupStatus> = self.storages.values().map(Served::status).collect();
        let mut status = ClusterStatus {
            node: self.options.node,
            nodes: vec![self.status()],
            storages: own.clone(),
            own: Vec::new(),
        };
        if only_here {
            return status;
        }
        let mut members: Vec<(NodeId, Member)> = Vec::new();
        for member in own.iter().flat_map(|group| &group.members) {
            if member.node != self.options.node && !members.iter().any(|m| m.0 == member.node) {
                let address = member.address.clone();
                members.push((member.node, Member { address }));
            }
        }
        let mut asked = JoinSet::new();
        for (node, member) in members {
            asked.spawn(glance(self.network.clone(), node, member));
        }
        for answer in asked.join_all().await.into_iter().flatten() {
            status.nodes.extend(answer.nodes);
            for group in answer.storages {
                let leads = group.leader == Some(group.node);
                let mut known = status.storages.iter_mut();
                let Some(known) = known.find(|known| known.storage == group.storage) else {
                    continue;
                };
                if leads && group.term >= known.term {
                    *known = group;
                } else if known.leader.is_none() {
                    known.learn_log_end(&group);
                }
            }
        }
        status.nodes.sort_by_key(|node| node.node);
        if status.storages != own {
            status.own = own;
        }
        status
    }

    /// This node as others are told of it.
    pub fn status(&self) -> NodeStatus {
        NodeStatus {
            node: self.options.node,
            address: self.member.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            in_cluster: self.is_in_cluster(),
            begins: self.is_asked_to_begin(),
            log_bytes: self.log_bytes(),
            log_limit_bytes: self.options.log_size_bytes,
            apply_delay_seconds: self.options.apply_delay.as_secs_f64(),
            abstains: self.storages.values().any(|served| served.group.abstains()),
            standstills: self
                .storages
                .values()
                .filter_map(Served::standstill)
                .collect(),
        }
    }
}

/// What a node knows by itself; None: it does not answer.
async fn glance(network: Network, node: NodeId, member: Member) -> Option<ClusterStatus> {
    let request = AdminRequest::Status { only_here: true };
    let text = Request::Admin(request.to_json());
    let call = network.call(node, &member, "", text, GLANCE_PATIENCE);
    match call.await {
        Ok(Reply::Admin(text)) => match AdminReply::from_json(&text) {
            Ok(AdminReply::Status(status)) => Some(status),
            _ => None,
        },
        _ => None,
    }
}

/// Does what only the leader of a storage can do; what was done.
async fn lead(served: &Served, request: &AdminRequest) -> Result<String, ChangeError> {
    let group = &served.group;
    match request {
        AdminRequest::Join { node, address, .. } => {
            let address = address.clone();
            group.add_learner(*node, Member { address }).await?;
            Ok(format!("node {node} gets everything"))
        }
        AdminRequest::Promote { node } => {
            group.promote(*node, PROMOTE_PATIENCE).await?;
            Ok(format!("node {node} votes"))
        }
        AdminRequest::Remove { node } => match group.remove(*node).await {
            Err(ChangeError::NoMember(_)) => Ok(format!("node {node} is no member")),
            removed => removed.map(|()| format!("node {node} is removed")),
        },
        AdminRequest::Transfer { to: Some(to), .. } if *to == group.status().node => {
            Ok(format!("node {to} leads already"))
        }
        AdminRequest::Transfer { to, .. } => match served.hand_over(*to).await {
            Ok(leader) => Ok(format!("node {leader} leads")),
            Err(error) => Err(ChangeError::NotHandedOver(error)),
        },
        AdminRequest::Status { .. } | AdminRequest::Snapshot { .. } => Ok(String::new()),
    }
}

fn outcomes_or_unknown(outcomes: Vec<Outcome>, storage: Option<&str>) -> AdminReply {
    match storage {
        Some(storage) if outcomes.is_empty() => AdminReply::Refused {
            why: format!("there is no storage {storage}"),
        },
        _ => AdminReply::Done { storages: outcomes },
    }
}
