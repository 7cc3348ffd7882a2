//! Storages whose transactions are not always decided by this server: those of
//! a cluster, where the leader decides, and those that stand in front of
//! another server.

use std::fmt;
use std::sync::Arc;

use super::buffer::TransactionBuffer;
use super::committer::CommitRequest;
use super::inbox::{Delivery, Inbox};
use super::vote::Attached;
use crate::storage::{Result, Staged};
use crate::types::{Oid, Tid};
use crate::wire::{Exception, Value};

/// Larger data of one transaction travels beside the log.
pub const MAX_INLINE_BYTES: u64 = 1 << 20;

/// Counts leaderships. What was voted under one is worth nothing under another.
pub type Term = u64;

/// A session of another server, for which a session here acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// The other server.
    pub node: u64,
    /// Its number for the session.
    pub session: u64,
}

/// Knows who decides the transactions of one storage.
pub trait Authority: fmt::Debug + Send + Sync {
    /// The leadership under which this server decides now. None: another does, or nobody.
    fn term(&self) -> Option<Term>;

    /// Packs that all have been asked for so far.
    fn pack_orders(&self) -> u64 {
        0
    }

    /// Takes copies of what is too large for the log, to be given to others. May
    /// wait for the disk. Only who can decide here has others.
    fn attach(&self, voted: &Staged) -> Result<Attached> {
        let _ = voted;
        Ok(Attached::default())
    }

    /// Gives these files to enough others; then leaves
    /// [`Delivery::Attached`](super::Delivery::Attached).
    fn distribute(&self, attached: &Attached, inbox: &Arc<Inbox>) {
        let _ = attached;
        inbox.push(Delivery::Attached(Ok(())));
    }

    /// Commits what was voted here. The answer comes through the origin's inbox
    /// when everybody is told.
    fn finish(&self, request: CommitRequest);

    /// Transactions that wait to be written.
    fn waiting(&self) -> usize;

    /// The way of one session's transactions to whoever decides them.
    fn deputy(&self, inbox: &Arc<Inbox>) -> Box<dyn Deputy>;

    /// Sees to it that the storage here has all that was acknowledged to anybody
    /// before this call; then leaves [`Delivery::UpToDate`](super::Delivery::UpToDate).
    /// That takes as long as it takes to find a leader, with a bound; one that
    /// only reads gets what there is after that.
    fn catch_up(&self, inbox: &Arc<Inbox>, read_only: bool);

    /// Could a client that writes be served now, as far as is known? Where it could
    /// not, another server may: clients that come are made to wait a little.
    fn takes_changes(&self) -> bool {
        true
    }

    /// `count` oids that were never given out by anybody. May wait for others.
    fn new_oids(&self, count: usize) -> Result<Vec<Oid>>;

    /// Has the storage packed everywhere; `done` is called when it is done here.
    fn pack(&self, stop: Tid, done: PackDone);
}

/// Is called with the end of a pack.
pub type PackDone = Box<dyn FnOnce(Result<()>) + Send>;

/// Acts for one session where its transactions are decided. Calls do not wait:
/// answers come into the session's inbox. When it is dropped, what it holds
/// there is given up.
pub trait Deputy: fmt::Debug + Send {
    /// Sends what is new in the transaction and asks for a vote. The answer is
    /// [`Delivery::VotedElsewhere`](super::Delivery::VotedElsewhere).
    fn vote(&mut self, transaction: TransactionBuffer);

    /// After an answer: the transaction, to be given to the next vote if there were conflicts.
    fn take_back(&mut self) -> Option<TransactionBuffer>;

    /// Finishes what was voted. The answer is
    /// [`Delivery::Finished`](super::Delivery::Finished), in its place among the
    /// invalidations.
    fn finish(&mut self);

    /// Gives the transaction up, whatever its state.
    fn abort(&mut self);
}

/// What came of a vote that was decided elsewhere.
#[derive(Clone, Debug)]
pub enum VotedElsewhere {
    /// It can be finished. What the client is told: the objects that it does not know of.
    Voted(Value<'static>),
    /// What the client is to resolve, as it is told.
    Conflicts(Value<'static>),
    /// The transaction is over.
    Failed(Exception),
}
