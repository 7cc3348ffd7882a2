//! A node whose other nodes are gone for good goes on alone: `zeod cluster init --survivor`.
//!
//! What its log holds behind its `Data.fs` may have been acknowledged, and nobody is left who could say how
//! far. So all of it counts: before raft starts each storage's log is ended by a membership of this node
//! alone ([`GroupLog::end_alone`]), and then raft does the rest as ever: elects this node, commits and applies.
//! After a crash before the marker is gone the next start does all of it again, which does no harm.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::MembershipState;
use thiserror::Error;

use super::applier::Applier;
use super::log::{GroupLog, Log};
use super::marker::{BOOTSTRAP, Bootstrap, Membership};
use super::node::{NodeError, NodeOptions, StorageOptions};
use super::opening;
use super::types::{Member, NodeId};

/// What an administrator has asked for, as a start finds it.
#[derive(Debug)]
pub struct Survivor {
    /// This node.
    node: NodeId,
    /// Where others will reach it.
    own: Member,
    directory: PathBuf,
}

/// Why this node cannot go on alone.
#[derive(Debug, Error)]
pub enum SurvivorError {
    /// Another node was meant.
    #[error("it was written for node {asked}, and this is node {node}; remove it")]
    OtherNode {
        /// That one.
        asked: NodeId,
        /// This one.
        node: NodeId,
    },
    /// A lone voter must not be late, and all that it would wait for is in its log.
    #[error(
        "this node is to go on alone, and with apply-delay each of its commits would take so long; take \
         apply-delay out of the configuration"
    )]
    Delayed,
    /// There is nothing that it could go on with.
    #[error(
        "storage {storage} has no log here with which this node could go on alone. Remove that file; \"zeod \
         cluster init\" begins a new cluster with what is in the storages"
    )]
    NoLog {
        /// The storage.
        storage: String,
    },
}

impl Survivor {
    /// Reads the marker. None: nobody has asked for this.
    pub fn asked(
        options: &NodeOptions,
        own: &Member,
        log: &Log,
        storages: &[StorageOptions],
    ) -> Result<Option<Self>, NodeError> {
        let asked = Bootstrap::read(&options.directory)?.filter(|asked| asked.survivor);
        let Some(asked) = asked else {
            return Ok(None);
        };
        let survivor = Self {
            node: options.node,
            own: own.clone(),
            directory: options.directory.clone(),
        };
        let without_log = storages
            .iter()
            .find(|storage| !log.has_group(&storage.name));
        if asked.node != options.node {
            let (asked, node) = (asked.node, options.node);
            return Err(survivor.cannot(SurvivorError::OtherNode { asked, node }));
        }
        if options.apply_delay != Duration::ZERO {
            return Err(survivor.cannot(SurvivorError::Delayed));
        }
        if let Some(StorageOptions { name, .. }) = without_log {
            let storage = name.clone();
            return Err(survivor.cannot(SurvivorError::NoLog { storage }));
        }
        Ok(Some(survivor))
    }

    /// Has this node be the only one with a vote on storage `name`. It will not listen to the others any more.
    pub async fn end(
        &self,
        name: &str,
        applier: &Arc<Applier>,
        log: &mut GroupLog,
    ) -> Result<(), NodeError> {
        self.give_up(&opening::members(applier, log).await?)?;
        let (known, _) = applier.applied();
        let ended = log.end_alone(self.own.clone(), known).await?;
        let Some(end) = ended else {
            let storage = name.to_owned();
            return Err(self.cannot(SurvivorError::NoLog { storage }));
        };
        let next = known.map_or(0, |known| known.index + 1);
        tracing::warn!(
            "storage {name}: this node goes on alone, by entry {} of term {} of its log; entries from {} on are \
             written to Data.fs now. The former other nodes must not be started again with their logs",
            end.index,
            end.leader_id.term,
            next
        );
        Ok(())
    }

    /// Before they are members no more: a crash may come between.
    fn give_up(&self, members: &MembershipState<NodeId, Member>) -> Result<(), NodeError> {
        let read = Membership::read(&self.directory)?;
        let known = read.unwrap_or_else(|| Membership::new(self.node));
        let mut now = known.clone();
        for members in [members.committed(), members.effective()] {
            now.gone.extend(members.nodes().map(|(node, _)| *node));
        }
        now.gone.remove(&self.node);
        if now != known {
            now.write(&self.directory)?;
        }
        Ok(())
    }

    /// All storages have been seen to.
    pub fn done(&self) -> Result<(), NodeError> {
        Ok(Bootstrap::remove(&self.directory)?)
    }

    fn cannot(&self, why: SurvivorError) -> NodeError {
        NodeError::Survivor {
            marker: self.directory.join(BOOTSTRAP),
            why,
        }
    }
}
