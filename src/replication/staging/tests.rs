use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::disk::{Disk, RealDisk};
use crate::replication::peers::{BoxFuture, PeerError, PeerStream, Reply, Request};
use crate::storage::StagedBody;
use crate::types::{Oid, Tid};

/// A node with its area.
struct Node {
    directory: TempDir,
    staging: Arc<Staging>,
}

/// The other nodes, some of which fail.
#[derive(Debug, Default)]
struct Network {
    nodes: Mutex<HashMap<NodeId, Arc<Staging>>>,
    /// A node's streams break after so many bytes to it.
    broken: Mutex<HashMap<NodeId, u64>>,
    /// A node takes nothing.
    silent: Mutex<BTreeSet<NodeId>>,
    streams: AtomicUsize,
}

impl Network {
    /// Passes on so much and no more of what goes to a node.
    fn maybe_broken(&self, to: NodeId, stream: DuplexStream) -> DuplexStream {
        let Some(limit) = self.broken.lock().get(&to).copied() else {
            return stream;
        };
        let (front, back) = duplex(64 << 10);
        tokio::spawn(async move {
            let (from_us, mut to_us) = tokio::io::split(stream);
            let (mut from_node, mut to_node) = tokio::io::split(back);
            let mut limited = tokio::io::AsyncReadExt::take(from_us, limit);
            tokio::select! {
                _ = tokio::io::copy(&mut limited, &mut to_node) => {}
                _ = tokio::io::copy(&mut from_node, &mut to_us) => {}
            }
        });
        front
    }
}

impl Peers for Network {
    fn call<'a>(
        &'a self,
        _: NodeId,
        _: &'a Member,
        _: &'a str,
        _: Request,
        _: Duration,
    ) -> BoxFuture<'a, Result<Reply, PeerError>> {
        unreachable!("staging calls nobody")
    }

    fn stream<'a>(
        &'a self,
        to: NodeId,
        member: &'a Member,
        _: &'a str,
        kind: StreamKind,
    ) -> BoxFuture<'a, Result<PeerStream, PeerError>> {
        Box::pin(async move {
            self.streams.fetch_add(1, Ordering::Relaxed);
            let Some(staging) = self.nodes.lock().get(&to).cloned() else {
                let refused = std::io::ErrorKind::ConnectionRefused.into();
                return Err(PeerError::unreachable(to, member, refused));
            };
            let (here, there) = duplex(64 << 10);
            let mut there = self.maybe_broken(to, there);
            let silent = self.silent.lock().contains(&to);
            tokio::spawn(async move {
                if silent {
                    std::future::pending::<()>().await;
                }
                let served = match kind {
                    StreamKind::Staging => staging.take(&mut there).await,
                    StreamKind::Fetch => staging.lend(&mut there).await,
                    other => unreachable!("{other:?}"),
                };
                drop(served);
            });
            Ok(Box::new(here) as PeerStream)
        })
    }
}

fn node(network: &Arc<Network>, id: NodeId) -> Node {
    let directory = tempfile::tempdir().unwrap();
    let staging = open(network, directory.path());
    network.nodes.lock().insert(id, Arc::clone(&staging));
    Node { directory, staging }
}

fn open(network: &Arc<Network>, directory: &Path) -> Arc<Staging> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let blobs = BlobDirectory::open(Arc::clone(&disk), &directory.join("blobs"), false).unwrap();
    let data = directory.join("Data.fs");
    let area = StagingArea::open(disk, &data, Some(&blobs), Arc::default()).unwrap();
    let peers: Arc<dyn Peers> = Arc::clone(network) as Arc<dyn Peers>;
    Staging::new("1", peers, area, Some(blobs))
}

fn others(ids: impl IntoIterator<Item = NodeId>) -> Vec<(NodeId, Member)> {
    ids.into_iter().map(|id| (id, Member::default())).collect()
}

fn body(seed: u8, length: usize) -> StagedBody {
    let pattern = (0..253_u8).cycle().take(length);
    StagedBody::Memory(pattern.map(|at| seed ^ at).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_staged_is_durable_on_enough_nodes_and_later_on_the_rest() {
    let network = Arc::new(Network::default());
    let nodes: Vec<Node> = (1..=3).map(|id| node(&network, id)).collect();
    let files: Vec<FileDigest> = [(1, 3_000_000), (2, 10), (1, 3_000_000), (3, 0)]
        .map(|(seed, length)| nodes[0].staging.area().take_body(&body(seed, length)))
        .map(Result::unwrap)
        .to_vec();
    let have = nodes[0]
        .staging
        .stage(others([2, 3]), files.clone(), |have| !have.is_empty())
        .await
        .unwrap();
    for id in &have {
        let at = usize::try_from(*id - 1).unwrap();
        // What was acknowledged outlives the node: a start finds it.
        let again = open(&network, nodes[at].directory.path());
        assert!(files.iter().all(|file| again.area().has(file)));
    }
    let both = |have: &BTreeSet<NodeId>| have.len() == 2;
    let all = nodes[0].staging.stage(others([2, 3]), files.clone(), both);
    assert_eq!(all.await.unwrap(), BTreeSet::from([2, 3]));
    let area = nodes[2].staging.area();
    area.clean(&std::collections::HashSet::new(), Duration::ZERO);
    assert_eq!(area.bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_nodes_matter_only_when_there_are_too_many() {
    let network = Arc::new(Network::default());
    let nodes: Vec<Node> = [1, 2, 3].map(|id| node(&network, id)).into();
    network.broken.lock().insert(3, 100_000);
    network.silent.lock().insert(4);
    let area = nodes[0].staging.area();
    let file = area.take_body(&body(5, 2_000_000)).unwrap();
    // Of five nodes: we, 2; 3 breaks, 4 is silent, 5 is not there.
    let two = |have: &BTreeSet<NodeId>| !have.is_empty();
    let staged = nodes[0].staging.stage(others(2..=5), vec![file], two);
    assert_eq!(staged.await.unwrap(), BTreeSet::from([2]));
    let three = |have: &BTreeSet<NodeId>| have.len() >= 2;
    let staged = nodes[0]
        .staging
        .stage(others([2, 3, 5]), vec![file], three)
        .await;
    let error = staged.unwrap_err().to_string();
    assert!(
        error.contains("node 3: ") && error.contains("node 5: "),
        "{error}"
    );
    assert_eq!(nodes[2].staging.area().bytes(), 0, "nothing half is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_gathers_no_work_without_end() {
    let network = Arc::new(Network::default());
    let nodes: Vec<Node> = [1, 2, 3].map(|id| node(&network, id)).into();
    network.silent.lock().insert(3);
    let area = nodes[0].staging.area();
    let one = |have: &BTreeSet<NodeId>| !have.is_empty();
    for number in 0..100_u8 {
        let file = area
            .take_body(&body(number, 50 + usize::from(number)))
            .unwrap();
        let staged = nodes[0].staging.stage(others([2, 3]), vec![file], one);
        assert_eq!(staged.await.unwrap(), BTreeSet::from([2]));
    }
    let to_slow = network.streams.load(Ordering::Relaxed) - 100;
    assert!(to_slow <= TRANSFERS_PER_NODE, "{to_slow} streams");
    assert_eq!(nodes[1].staging.area().bytes(), area.bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lacks_a_file_gets_it_from_whoever_has_it() {
    let network = Arc::new(Network::default());
    let nodes: Vec<Node> = [1, 2, 3].map(|id| node(&network, id)).into();
    let file = nodes[1]
        .staging
        .area()
        .take_body(&body(9, 700_000))
        .unwrap();
    let everyone = || others([1, 2, 3, 7]);
    nodes[2].staging.fetch(file, None, everyone, |_| {}).await;
    assert!(nodes[2].staging.area().has(&file));

    // A blob whose entry all others have behind them lies in its place only.
    let blobs = nodes[0].staging.blobs.clone().unwrap();
    let (oid, tid) = (Oid::from_u64(4), Tid::from_u64(5));
    let mut upload = blobs.upload().unwrap();
    upload.write(b"the blob").unwrap();
    let area = nodes[0].staging.area();
    let pending = upload.finish();
    let file = area.take_blob(&pending).unwrap();
    blobs.place_received(oid, tid, pending).unwrap();
    area.release(&[file]);
    nodes[1]
        .staging
        .fetch(file, Some((oid, tid)), everyone, |_| {})
        .await;
    assert!(nodes[1].staging.area().has(&file));

    // It is not anywhere yet: whoever waits gets it when it comes.
    let file = nodes[0].staging.area().take_body(&body(1, 9)).unwrap();
    nodes[0].staging.area().release(&[file]);
    let waiting = {
        let staging = Arc::clone(&nodes[2].staging);
        tokio::spawn(async move { staging.fetch(file, None, || others([1, 2]), |_| {}).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    nodes[1].staging.area().take_body(&body(1, 9)).unwrap();
    tokio::time::timeout(Duration::from_mins(1), waiting)
        .await
        .unwrap()
        .unwrap();
    assert!(nodes[2].staging.area().has(&file));
}

#[tokio::test]
async fn a_node_that_is_silent_or_has_nothing_holds_nobody_up() {
    let network = Arc::new(Network::default());
    let nodes: Vec<_> = (1..=4).map(|id| node(&network, id)).collect();
    let file = nodes[2].staging.area().take_body(&body(3, 9)).unwrap();
    network.silent.lock().insert(1);
    let told = Mutex::new(Vec::new());
    let fetching = nodes[3].staging.fetch(
        file,
        None,
        || others([1, 2, 3]),
        |trouble| told.lock().push(trouble),
    );
    tokio::time::timeout(Duration::from_mins(1), fetching)
        .await
        .unwrap();
    assert!(nodes[3].staging.area().has(&file));
    assert!(told.lock().is_empty(), "{told:?}");
}

#[tokio::test]
async fn a_file_that_does_not_come_is_told_of() {
    let network = Arc::new(Network::default());
    let nodes: Vec<_> = (1..=3).map(|id| node(&network, id)).collect();
    let file = nodes[0].staging.area().take_body(&body(3, 9)).unwrap();
    nodes[0].staging.area().release(&[file]);
    network.silent.lock().insert(1);
    let trouble = trouble(&nodes[2], file, &[1, 2]).await;
    let Trouble::Late(why) = &trouble else {
        panic!("{trouble:?}");
    };
    assert!(why.contains("node 1 says nothing"), "{why}");
    assert!(why.contains("node 2: it does not have it"), "{why}");
}

#[tokio::test]
async fn a_file_that_no_other_node_has_will_not_come() {
    let network = Arc::new(Network::default());
    let nodes: Vec<_> = (1..=3).map(|id| node(&network, id)).collect();
    let file = nodes[0].staging.area().take_body(&body(3, 9)).unwrap();
    nodes[0].staging.area().release(&[file]);
    let nowhere = trouble(&nodes[2], file, &[1, 2]).await;
    let Trouble::Nowhere(why) = &nowhere else {
        panic!("{nowhere:?}");
    };
    assert!(why.contains("is on no node any more"), "{why}");
    // Who is not reached may have it, and so may those that are not known yet.
    let late = trouble(&nodes[2], file, &[1, 2, 7]).await;
    assert!(matches!(&late, Trouble::Late(_)), "{late:?}");
    let late = trouble(&nodes[2], file, &[]).await;
    assert!(matches!(&late, Trouble::Late(_)), "{late:?}");
}

/// What is told first of a file that does not come.
async fn trouble(node: &Node, file: FileDigest, ids: &[NodeId]) -> Trouble {
    let (tell, mut told) = mpsc::unbounded_channel();
    let ids = || others(ids.iter().copied());
    let tell = |trouble| tell.send(trouble).unwrap();
    tokio::select! {
        () = node.staging.fetch(file, None, ids, tell) => unreachable!("nobody has it"),
        trouble = told.recv() => trouble.unwrap(),
    }
}
