//! The commands' way over a real network.

use std::sync::Arc;

use tokio::runtime::Runtime;

use super::super::*;
use super::status;
use crate::config::{ReplicationSection, ZeodSection, load};
use crate::replication::admin::{AdminReply, AdminRequest};
use crate::replication::net::{Listener, NetOptions, Network};
use crate::replication::peers::{BoxFuture, PeerHandler, PeerStream, Reply, Request, StreamKind};
use crate::replication::types::NOBODY;

/// A node that knows how its cluster is, and changes nothing.
struct Node;

impl PeerHandler for Node {
    fn call<'a>(&'a self, from: NodeId, group: &'a str, request: Request) -> BoxFuture<'a, Reply> {
        assert_eq!((from, group), (NOBODY, ""));
        let Request::Admin(text) = request else {
            panic!("{request:?}");
        };
        let reply = match AdminRequest::from_json(&text).unwrap() {
            AdminRequest::Status { .. } => Reply::Admin(AdminReply::Status(status()).to_json()),
            _ => Reply::Refused {
                leader: None,
                why: "not today".to_owned(),
            },
        };
        Box::pin(async { reply })
    }

    fn stream<'a>(
        &'a self,
        _: NodeId,
        _: &'a str,
        _: StreamKind,
        _: PeerStream,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

fn section() -> ReplicationSection {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zeo.conf");
    let text = "<zeo>\n address 2\n</zeo>\n<filestorage>\n path d\n</filestorage>\n<zeod>\n\
                <replication>\n node-id 1\n address h:1\n directory r\n</replication>\n</zeod>\n";
    std::fs::write(&path, text).unwrap();
    let config = load(&path, &|_| None).unwrap();
    config.zeod.replication.unwrap()
}

#[test]
fn a_node_is_asked_by_whoever_has_its_configuration() {
    let runtime = Runtime::new().unwrap();
    let node = 1;
    let network = Network::new(NetOptions { node, tls: None });
    let listener = runtime
        .block_on(Listener::bind("127.0.0.1:0", &network))
        .unwrap();
    let address = listener.addresses()[0].to_string();
    let serving = listener.serve(Arc::new(Node), std::future::pending());
    let server = runtime.spawn(serving);
    let nodes = Nodes::connected(&ZeodSection::default(), &section()).unwrap();
    assert_eq!(nodes.status(&address), Ok(status()));
    let refused = nodes.change(&address, &AdminRequest::Promote { node: 2 });
    let expected = format!("the node at {address} refuses: not today");
    assert_eq!(refused, Err(expected));
    server.abort();
}
