use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use parking_lot::Mutex;

use super::super::*;
use crate::config::load;
use crate::replication::admin::{AdminReply, AdminRequest, ClusterStatus};
use crate::replication::peers::{
    BoxFuture, PeerError, PeerStream, Peers, Reply, Request, StreamKind,
};
use crate::replication::types::Member;
use crate::stats::replication::{GroupRole, GroupStatus, Lag, MemberStatus, NodeStatus};

/// What a node answers; none: it is not there.
type Answer = dyn FnMut(&str, AdminRequest) -> Option<AdminReply> + Send;

struct Scripted(Mutex<Box<Answer>>);

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Peers for Scripted {
    fn call<'a>(
        &'a self,
        to: NodeId,
        member: &'a Member,
        _: &'a str,
        request: Request,
        _: Duration,
    ) -> BoxFuture<'a, Result<Reply, PeerError>> {
        let Request::Admin(text) = request else {
            panic!("{request:?}");
        };
        let request = AdminRequest::from_json(&text).unwrap();
        let answer = (self.0.lock())(&member.address, request);
        Box::pin(async move {
            answer
                .map(|answer| Reply::Admin(answer.to_json()))
                .ok_or_else(|| unreachable(to, member))
        })
    }

    fn stream<'a>(
        &'a self,
        to: NodeId,
        member: &'a Member,
        _: &'a str,
        _: StreamKind,
    ) -> BoxFuture<'a, Result<PeerStream, PeerError>> {
        Box::pin(async move { Err(unreachable(to, member)) })
    }
}

fn unreachable(node: NodeId, member: &Member) -> PeerError {
    PeerError::unreachable(node, member, io::ErrorKind::ConnectionRefused.into())
}

/// Node 1 leads storage 1, nodes 2 and 3 vote, too.
pub fn group() -> GroupStatus {
    let member = |node| MemberStatus {
        node,
        address: format!("db{node}:8101"),
        is_voter: true,
        is_reached: Some(true),
        lag: Some(Lag::default()),
        ..MemberStatus::default()
    };
    GroupStatus {
        storage: "1".to_owned(),
        node: 1,
        role: GroupRole::Leader,
        term: 4,
        leader: Some(1),
        size_bytes: 3 << 20,
        last_transaction: Some("03f0000000000001".to_owned()),
        members: (1..=3).map(member).collect(),
        ..GroupStatus::default()
    }
}

pub fn status() -> ClusterStatus {
    let node = |node| NodeStatus {
        node,
        address: format!("db{node}:8101"),
        version: "0.1.0".to_owned(),
        in_cluster: true,
        begins: false,
        log_bytes: 5 << 20,
        log_limit_bytes: 1 << 30,
        apply_delay_seconds: 0.0,
        abstains: false,
        standstills: Vec::new(),
    };
    ClusterStatus {
        node: 1,
        nodes: (1..=3).map(node).collect(),
        storages: vec![group()],
        own: Vec::new(),
    }
}

/// A node that belongs to no cluster and has no data.
pub fn alone(node: NodeId) -> ClusterStatus {
    let mut status = status();
    status.node = node;
    status.nodes.truncate(1);
    status.nodes[0].node = node;
    status.nodes[0].in_cluster = false;
    let group = &mut status.storages[0];
    *group = GroupStatus {
        storage: "1".to_owned(),
        node,
        ..GroupStatus::default()
    };
    status
}

/// A directory with the configuration of node 3.
pub struct Host(tempfile::TempDir);

impl Host {
    pub fn new() -> Self {
        Self::with("")
    }

    pub fn with(keys: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let text = format!(
            "<zeo>\n address 127.0.0.1:8100\n</zeo>\n<filestorage 1>\n path {path}/Data.fs\n\
             </filestorage>\n<zeod>\n<replication>\n node-id 3\n address db3:8101\n\
             directory {path}/raft\n peer 1 db1:8101\n peer 2 db2:8101\n{keys}</replication>\n</zeod>\n"
        );
        std::fs::write(directory.path().join("zeo.conf"), text).unwrap();
        Self(directory)
    }

    pub fn log(&self) -> std::path::PathBuf {
        self.0.path().join("raft")
    }

    /// Runs a command line after `zeod cluster`; what it said, and how it ended.
    pub fn run(
        &self,
        line: &[&str],
        answer: impl FnMut(&str, AdminRequest) -> Option<AdminReply> + Send + 'static,
    ) -> (Vec<String>, Done) {
        #[derive(Debug, Parser)]
        struct Line {
            #[command(flatten)]
            cluster: ClusterArguments,
        }
        let path = self.0.path().join("zeo.conf");
        let (command, rest) = line.split_first().unwrap();
        let path_text = path.to_str().unwrap();
        let line = [&["cluster", command, "-C", path_text], rest].concat();
        let server = Server::new(load(&path, &|_| None).unwrap()).unwrap();
        let peers = Arc::new(Scripted(Mutex::new(Box::new(answer))));
        let mut nodes = Nodes::through(peers).unwrap();
        nodes.poll = Duration::from_millis(1);
        let mut said = Vec::new();
        let mut say = |line| said.push(line);
        let command = Line::parse_from(line).cluster.command;
        let done = command.run_with(&server, &nodes, &mut say);
        (said, done)
    }
}
