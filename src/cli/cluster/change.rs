use clap::Args;

use super::ask::{Nodes, told};
use super::table::count;
use super::{AskedNode, Done, Failure, OwnNode, Say, Server};
use crate::replication::admin::{AdminRequest, ClusterStatus};
use crate::replication::types::NodeId;

/// `zeod cluster leave`
#[derive(Debug, Args)]
pub struct Leave {
    #[command(flatten)]
    pub own: OwnNode,
}

/// `zeod cluster remove`
#[derive(Debug, Args)]
pub struct Remove {
    #[command(flatten)]
    pub asked: AskedNode,

    /// The node's id
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: NodeId,
}

/// `zeod cluster transfer-leader`
#[derive(Debug, Args)]
pub struct TransferLeader {
    #[command(flatten)]
    pub asked: AskedNode,

    /// The node that is to lead; not given: the voter that is best up to date
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: Option<NodeId>,

    /// Only this storage; not given: all that the node leads that is asked, or all for an ID
    #[arg(long, value_name = "NAME")]
    storage: Option<String>,
}

/// `zeod cluster snapshot`
#[derive(Debug, Args)]
pub struct Snapshot {
    #[command(flatten)]
    pub asked: AskedNode,

    /// Only this storage
    #[arg(long, value_name = "NAME")]
    storage: Option<String>,
}

impl Leave {
    pub fn run(server: &Server, nodes: &Nodes, say: Say<'_>) -> Done {
        let (id, address) = (server.id(), server.address()?);
        let status = nodes.status(&address).map_err(Failure::Failed)?;
        if status.node(id).is_some_and(|own| !own.in_cluster) {
            say(format!("node {id} belongs to no cluster"));
            return Ok(());
        }
        take_out(id, &address, &status, nodes, say)?;
        say(format!(
            "node {id} has left; its data stay where they are. For a server of its own take \
             <replication> out of {} and move {} away",
            server.config.source.display(),
            server.section.directory.display()
        ));
        Ok(())
    }
}

impl Remove {
    pub fn run(&self, address: &str, nodes: &Nodes, say: Say<'_>) -> Done {
        let status = nodes.status(address).map_err(Failure::Failed)?;
        let mut groups = status.storages.iter();
        if !groups.any(|group| group.member(self.id).is_some()) {
            say(format!("node {} is no member", self.id));
            return Ok(());
        }
        take_out(self.id, address, &status, nodes, say)
    }
}

fn take_out(
    id: NodeId,
    address: &str,
    status: &ClusterStatus,
    nodes: &Nodes,
    say: Say<'_>,
) -> Done {
    for group in &status.storages {
        let mut voters = group.voters();
        if voters.next().is_some_and(|only| only.node == id) && voters.next().is_none() {
            return Err(Failure::Failed(format!(
                "node {id} is the only one that votes on storage {}, and a cluster needs one. To go \
                 back to a server alone, stop it and take <replication> out of its configuration",
                group.storage
            )));
        }
    }
    let outcomes = nodes
        .change(address, &AdminRequest::Remove { node: id })
        .map_err(Failure::Failed)?;
    told(&outcomes, say)?;
    let others = |group: &&crate::stats::replication::GroupStatus| {
        let voters = group.voters().filter(|voter| voter.node != id).count();
        (voters % 2 == 0).then_some(voters)
    };
    if let Some(voters) = status.storages.iter().find_map(|group| others(&group)) {
        say(format!(
            "{} are left that vote. An even number stands the loss of no more nodes than one \
             fewer",
            count(voters as u64, "node")
        ));
    }
    Ok(())
}

impl TransferLeader {
    pub fn run(&self, address: &str, nodes: &Nodes, say: Say<'_>) -> Done {
        let request = AdminRequest::Transfer {
            storage: self.storage.clone(),
            to: self.id,
        };
        let outcomes = nodes.change(address, &request).map_err(Failure::Failed)?;
        told(&outcomes, say)
    }
}

impl Snapshot {
    pub fn run(&self, address: &str, nodes: &Nodes, say: Say<'_>) -> Done {
        let request = AdminRequest::Snapshot {
            storage: self.storage.clone(),
        };
        let outcomes = nodes.change(address, &request).map_err(Failure::Failed)?;
        told(&outcomes, say)
    }
}
