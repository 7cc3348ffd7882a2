//! A file that an entry names comes from whoever has it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Staging, finish, serve};
use crate::replication::catch_up::link::{Link, converse};
use crate::replication::catch_up::message::Message;
use crate::replication::catch_up::{Progress, RateLimit};
use crate::replication::peers::StreamKind;
use crate::replication::types::{Member, NodeId};
use crate::storage::staging::FileDigest;
use crate::types::{Oid, Tid};

/// Another node is asked, too, when nothing has come for so long: a node that is
/// cut off neither answers nor refuses.
const NEXT_AFTER: Duration = Duration::from_millis(300);
/// More than a question and a short answer: the file itself is coming.
const ANSWER_BYTES: u64 = 1 << 10;
/// After this time without the file somebody is to know.
const TROUBLE_AFTER: Duration = Duration::from_secs(3);

/// Why a file has not come, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody has given it so far.
    Late(String),
    /// All others have answered, and none has it: it will not come.
    Nowhere(String),
}

/// The nodes that are being asked, and those that were.
#[derive(Default)]
struct Asked {
    calls: JoinSet<(NodeId, Result<bool, String>)>,
    under_way: BTreeMap<NodeId, Arc<Progress>>,
    failed: BTreeMap<NodeId, Failed>,
    moved_bytes: u64,
}

/// Why a node has not given it.
enum Failed {
    /// It does not have it.
    Lacks,
    /// Anything else, in words.
    Else(String),
}

impl Staging {
    /// Gets a file into our area; tries for as long as it takes. `blob`: where it
    /// lies on nodes that have the entry behind them. `others` is asked anew for
    /// each attempt; `trouble` is told why it takes so long.
    ///
    /// Dropped, it stops.
    pub async fn fetch(
        self: &Arc<Self>,
        file: FileDigest,
        blob: Option<(Oid, Tid)>,
        others: impl Fn() -> Vec<(NodeId, Member)>,
        trouble: impl Fn(Trouble),
    ) {
        let begun = Instant::now();
        let mut asked = Asked::default();
        while !self.area.has(&file) {
            let is_coming = asked.is_coming();
            if !is_coming {
                match asked.next(others()) {
                    Some((node, member)) => self.ask(&mut asked, node, member, file, blob),
                    None if begun.elapsed() > TROUBLE_AFTER => trouble(asked.trouble(file, blob)),
                    None => {}
                }
            }
            asked.wait().await;
        }
    }

    fn ask(
        self: &Arc<Self>,
        asked: &mut Asked,
        node: NodeId,
        member: Member,
        file: FileDigest,
        blob: Option<(Oid, Tid)>,
    ) {
        let (staging, progress) = (Arc::clone(self), Arc::new(Progress::default()));
        asked.under_way.insert(node, Arc::clone(&progress));
        asked.calls.spawn(async move {
            let found = staging.fetch_from(node, &member, file, blob, &progress);
            (node, found.await)
        });
    }

    /// False: it does not have it.
    async fn fetch_from(
        &self,
        node: NodeId,
        member: &Member,
        file: FileDigest,
        blob: Option<(Oid, Tid)>,
        progress: &Progress,
    ) -> Result<bool, String> {
        let kind = StreamKind::Fetch;
        let opened = self.peers.stream(node, member, &self.group, kind).await;
        let mut stream = opened.map_err(|error| error.to_string())?;
        let area = Arc::clone(&self.area);
        let rate = RateLimit::default();
        converse(&mut stream, &rate, progress, move |link, _| {
            link.send(&Message::Fetch(file, blob))?;
            let found = match link.receive()? {
                Message::File(_) => {
                    serve::receive_file(link, &area, file)?;
                    true
                }
                Message::NotHere => false,
                other => return Err(Link::unexpected(&other)),
            };
            finish(link)?;
            Ok(found)
        })
        .await
        .map_err(|error| error.to_string())
    }
}

impl Asked {
    /// Has a good deal of the file come since the last look?
    fn is_coming(&mut self) -> bool {
        let moved = self.under_way.values().map(|it| it.get().moved_bytes).sum();
        let before = std::mem::replace(&mut self.moved_bytes, moved);
        moved > before + ANSWER_BYTES
    }

    /// One that was not asked yet. None: all were, and those that had no file
    /// are to be asked again.
    fn next(&mut self, others: Vec<(NodeId, Member)>) -> Option<(NodeId, Member)> {
        let is_new = |(node, _): &(NodeId, Member)| {
            !self.under_way.contains_key(node) && !self.failed.contains_key(node)
        };
        others.into_iter().find(is_new)
    }

    /// Waits until somebody has answered, but not for long.
    async fn wait(&mut self) {
        let answer = async {
            match self.calls.join_next().await {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        };
        match tokio::time::timeout(NEXT_AFTER, answer).await {
            Ok(Ok((node, found))) => {
                self.under_way.remove(&node);
                let failed = match found {
                    Ok(true) => return,
                    Ok(false) => Failed::Lacks,
                    Err(why) => Failed::Else(why),
                };
                tracing::debug!("node {node}: a file: {failed}");
                self.failed.insert(node, failed);
            }
            // It has panicked: the file is asked for anew.
            Ok(Err(_)) => self.under_way.clear(),
            Err(_) => self.failed.clear(),
        }
    }

    /// Once all were asked.
    fn trouble(&self, file: FileDigest, blob: Option<(Oid, Tid)>) -> Trouble {
        let what = match blob {
            None => format!("the file {file} with the data of a transaction"),
            Some((oid, tid)) => {
                format!("the file {file}, the blob of object {oid} in transaction {tid},")
            }
        };
        let mut failed = self.failed.values();
        let all_lack_it = failed.all(|failed| matches!(failed, Failed::Lacks));
        let why = self.why();
        if all_lack_it && self.under_way.is_empty() && !self.failed.is_empty() {
            Trouble::Nowhere(format!("{what} is on no node any more: {why}"))
        } else {
            Trouble::Late(format!("{what} does not come: {why}"))
        }
    }

    fn why(&self) -> String {
        let failed = self.failed.iter();
        let failed = failed.map(|(node, why)| format!("node {node}: {why}"));
        let silent = self.under_way.keys();
        let silent = silent.map(|node| format!("node {node} says nothing"));
        let all: Vec<_> = failed.chain(silent).collect();
        if all.is_empty() {
            return "there is no other node".to_owned();
        }
        all.join("; ")
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacks => f.write_str("it does not have it"),
            Self::Else(why) => f.write_str(why),
        }
    }
}
