use std::time::{Duration, Instant};

use clap::Args;

use super::ask::{Nodes, told};
use super::status::{lag, progress};
use super::table::size;
use super::{AskedNode, Done, Failure, OwnNode, Say, Server, node_address, problems, seconds};
use crate::config::Address;
use crate::replication::admin::{AdminRequest, ClusterStatus, Outcome};
use crate::replication::types::NodeId;
use crate::stats::replication::GroupStatus;

/// A learner that is no more than this behind can vote: it has these entries
/// by the time that the change is in the log.
const NEAR_TRANSACTIONS: u64 = 1000;
/// How long for, where no `--timeout` says it: tens of GB go over a usual network.
const DEFAULT_PATIENCE: &str = "3600";
/// The same line of progress is not said again for so long.
const REPEAT: Duration = Duration::from_secs(10);

/// `zeod cluster join`
#[derive(Debug, Args)]
pub struct Join {
    #[command(flatten)]
    pub own: OwnNode,

    /// Follow, and do not vote: for a backup, a remote site, or a node that is delayed on purpose
    #[arg(long)]
    learner: bool,

    /// Have the storages that are here replaced by the cluster's
    #[arg(long)]
    replace: bool,

    /// Ask the node at this replication address to be let in, and not those in <replication>
    #[arg(long, value_name = "HOST:PORT", value_parser = node_address)]
    via: Option<Address>,

    /// Wait no longer than this until the node has caught up
    #[arg(short, long, value_name = "SECONDS", default_value = DEFAULT_PATIENCE, value_parser = seconds)]
    timeout: Duration,
}

/// `zeod cluster promote`
#[derive(Debug, Args)]
pub struct Promote {
    #[command(flatten)]
    pub asked: AskedNode,

    /// The node's id
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: NodeId,

    /// Wait no longer than this until the node has caught up
    #[arg(short, long, value_name = "SECONDS", default_value = DEFAULT_PATIENCE, value_parser = seconds)]
    timeout: Duration,
}

impl Join {
    pub fn run(&self, server: &Server, nodes: &Nodes, say: Say<'_>) -> Done {
        if !self.learner && server.section.apply_delay != Duration::ZERO {
            return Err(Failure::Usage(format!(
                "{}: apply-delay is set, and a node that is late cannot vote; add --learner, or \
                 take the key out",
                server.config.source.display()
            )));
        }
        let (id, address) = (server.id(), server.address()?);
        let deadline = Instant::now() + self.timeout;
        let is_member = self.check_here(server, &address, nodes)?;
        let peers = self.peers(server)?;
        if !is_member {
            check_number(id, &peers, nodes)?;
        }
        let (via, outcomes) = ask_to_join(server, &address, &peers, nodes)?;
        told(&outcomes, say)?;
        let waiting = Waiting {
            id,
            address: via,
            deadline,
            is_to_vote: !self.learner,
        };
        waiting.until_caught_up(nodes, say)?;
        if self.learner {
            say(format!("node {id} is a learner"));
            return Ok(());
        }
        waiting.promote(nodes, say)
    }

    /// Is the node's own server ready to join, and nothing in its way? True: it
    /// belongs to the cluster already, or did.
    fn check_here(&self, server: &Server, address: &str, nodes: &Nodes) -> Result<bool, Failure> {
        let status = nodes.glance(address).map_err(|problem| {
            Failure::Failed(format!(
                "this node's own zeod does not answer ({problem}); start it first"
            ))
        })?;
        if status.node != server.id() {
            return Err(Failure::Failed(format!(
                "the zeod that runs at {address} is node {}, and {} says {}; restart it with its \
                 configuration",
                status.node,
                server.config.source.display(),
                server.id()
            )));
        }
        let is_member = status.node(status.node).is_some_and(|own| own.in_cluster);
        if is_member || self.replace {
            return Ok(is_member);
        }
        let mut groups = status.storages.iter();
        match groups.find(|group| group.last_transaction.is_some()) {
            None => Ok(false),
            Some(group) => Err(Failure::Failed(format!(
                "storage {} has data here already: {}, last transaction {}. What the cluster has \
                 takes its place; what is the same is not copied again. Add --replace if that is \
                 meant",
                group.storage,
                size(group.size_bytes),
                group.last_transaction.as_deref().unwrap_or_default()
            ))),
        }
    }

    /// Where nodes are that can let this one in.
    fn peers(&self, server: &Server) -> Result<Vec<String>, Failure> {
        let peers = server.section.peers.iter().map(|peer| &peer.address);
        let peers: Vec<String> = match &self.via {
            Some(via) => vec![via.to_string()],
            None => peers.map(ToString::to_string).collect(),
        };
        if peers.is_empty() {
            return Err(Failure::Usage(format!(
                "{}: <replication> names no peer to ask; add \"peer ID HOST:PORT\", or give --via \
                 HOST:PORT",
                server.config.source.display()
            )));
        }
        Ok(peers)
    }
}

/// A voter that has lost its log has forgotten what it voted for, and would
/// vote again.
fn check_number(id: NodeId, peers: &[String], nodes: &Nodes) -> Done {
    let mut known = peers.iter().filter_map(|peer| nodes.status(peer).ok());
    let votes = |group: &GroupStatus| group.member(id).is_some_and(|member| member.is_voter);
    if known.any(|status| status.storages.iter().any(votes)) {
        return Err(Failure::Failed(format!(
            "the cluster has a node {id} that votes already, and this server has never belonged to \
             it, or has lost its log. Correct \"node-id\"; or, if it is that node, take it out by \
             \"zeod cluster remove {id}\" on another one, and give it a number that was never used"
        )));
    }
    Ok(())
}

/// Asks the nodes in turn; the address of the one that let this one in.
fn ask_to_join(
    server: &Server,
    address: &str,
    peers: &[String],
    nodes: &Nodes,
) -> Result<(String, Vec<Outcome>), Failure> {
    let request = AdminRequest::Join {
        node: server.id(),
        address: address.to_owned(),
        storages: server.storages(),
    };
    let mut problems = Vec::new();
    for peer in peers {
        match nodes.change(peer, &request) {
            Ok(outcomes) => return Ok((peer.clone(), outcomes)),
            // One that is not there is named already.
            Err(problem) if problem.starts_with(peer.as_str()) => {
                problems.push(format!("\n  {problem}"));
            }
            Err(problem) => problems.push(format!("\n  {peer}: {problem}")),
        }
    }
    Err(Failure::Failed(format!(
        "no node lets this one in:{}",
        problems.concat()
    )))
}

impl Promote {
    pub fn run(&self, address: &str, nodes: &Nodes, say: Say<'_>) -> Done {
        let waiting = Waiting {
            id: self.id,
            address: address.to_owned(),
            deadline: Instant::now() + self.timeout,
            is_to_vote: true,
        };
        waiting.until_caught_up(nodes, say)?;
        waiting.promote(nodes, say)
    }
}

/// Waits for a learner.
struct Waiting {
    id: NodeId,
    /// Who is asked.
    address: String,
    deadline: Instant,
    /// It may lack next to nothing then.
    is_to_vote: bool,
}

impl Waiting {
    fn until_caught_up(&self, nodes: &Nodes, say: Say<'_>) -> Done {
        let mut said: Option<(String, Instant)> = None;
        loop {
            let line = match nodes.status(&self.address) {
                Ok(status) => match self.missing(&status)? {
                    None => return Ok(()),
                    Some(line) => line,
                },
                // It may be restarted; the others go on.
                Err(problem) => problem,
            };
            let is_new = said
                .as_ref()
                .is_none_or(|(last, at)| *last != line || at.elapsed() > REPEAT);
            if Instant::now() > self.deadline {
                return Err(Failure::Failed(format!(
                    "node {} has not caught up in time ({line}). It goes on; \"zeod cluster promote \
                     {}\" lets it vote then",
                    self.id, self.id
                )));
            }
            if is_new {
                say(line.clone());
                said = Some((line, Instant::now()));
            }
            nodes.wait();
        }
    }

    /// What the node still lacks; none once it is near enough.
    fn missing(&self, status: &ClusterStatus) -> Result<Option<String>, Failure> {
        let mut lines = Vec::new();
        for group in &status.storages {
            if let Some(line) = self.missing_of(status, group)? {
                lines.push(format!("storage {}: {line}", group.storage));
            }
        }
        if status.storages.is_empty() {
            return Err(Failure::Failed(format!(
                "the node at {} has no storages",
                self.address
            )));
        }
        let abstains = status.node(self.id).is_some_and(|node| node.abstains);
        if lines.is_empty() && self.is_to_vote && abstains {
            lines.push("what it got is not yet in its storages".to_owned());
        }
        Ok((!lines.is_empty()).then(|| lines.join("; ")))
    }

    fn missing_of(
        &self,
        status: &ClusterStatus,
        group: &GroupStatus,
    ) -> Result<Option<String>, Failure> {
        if !group.has_quorum() {
            return Ok(Some("no leader".to_owned()));
        }
        let Some(member) = group.member(self.id) else {
            return Err(Failure::Failed(format!(
                "node {} is no member of storage {}; \"zeod cluster join\" on that node makes it one",
                self.id, group.storage
            )));
        };
        if member.is_voter {
            return Ok(None);
        }
        Ok(match (&member.catch_up, member.lag) {
            (Some(catch_up), _) => Some(progress(catch_up)),
            (None, Some(behind)) if behind.transactions <= NEAR_TRANSACTIONS => None,
            // A node that is late on purpose stays so, and is complete.
            (None, Some(behind)) if behind.seconds <= problems::delay(status, member) => None,
            (None, Some(behind)) => Some(format!("{} behind", lag(behind))),
            (None, None) => Some("not heard of yet".to_owned()),
        })
    }

    fn promote(&self, nodes: &Nodes, say: Say<'_>) -> Done {
        let request = AdminRequest::Promote { node: self.id };
        let outcomes = nodes
            .change(&self.address, &request)
            .map_err(Failure::Failed)?;
        told(&outcomes, say)
    }
}
