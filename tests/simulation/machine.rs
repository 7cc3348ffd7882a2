//! A state machine in memory: the list of what was applied. At a crash it falls back to
//! what it has noted last, as `Data.fs` with its note does.

use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{
    Entry, EntryPayload, LogId, RaftSnapshotBuilder, SnapshotMeta, StorageError, StorageIOError,
    StoredMembership,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use zeod::replication::types::{Applied, Command, Member, NodeId, StateMark, Types};

use crate::chaos::Chance;
use crate::checks::Oracle;

type Error = StorageError<NodeId>;

/// A simulated transaction: who proposed it, as which of its own, under which term, with which tid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transaction {
    pub proposer: u64,
    pub number: u64,
    pub term: u64,
    pub tid: u64,
}

impl Transaction {
    pub fn command(&self) -> Command {
        let fields = [self.proposer, self.number, self.term, self.tid];
        let bytes: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.to_be_bytes())
            .collect();
        Command(Bytes::from(bytes))
    }

    pub fn of(command: &Command) -> Self {
        let fields: Vec<u64> = command
            .0
            .chunks(8)
            .map(|field| u64::from_be_bytes(field.try_into().unwrap()))
            .collect();
        Self {
            proposer: fields[0],
            number: fields[1],
            term: fields[2],
            tid: fields[3],
        }
    }
}

/// The whole state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub last: Option<LogId<NodeId>>,
    pub membership: StoredMembership<NodeId, Member>,
    pub transactions: Vec<Transaction>,
}

impl State {
    pub fn last_tid(&self) -> u64 {
        self.transactions.last().map_or(0, |last| last.tid)
    }

    fn apply(&mut self, entry: &Entry<Types>) -> Applied {
        let next = self.last.map_or(0, |last| last.index + 1);
        assert_eq!(entry.log_id.index, next, "applied once, and in order");
        self.last = Some(entry.log_id);
        match &entry.payload {
            EntryPayload::Blank => Applied::Done,
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                Applied::Done
            }
            EntryPayload::Normal(command) => {
                let transaction = Transaction::of(command);
                if transaction.term != entry.log_id.leader_id.term {
                    return Applied::Outdated;
                }
                assert!(
                    transaction.tid > self.last_tid(),
                    "tids increase: {transaction:?} after {}",
                    self.last_tid()
                );
                self.transactions.push(transaction);
                Applied::Done
            }
        }
    }
}

/// What outlives the process.
#[derive(Debug, Default)]
pub struct MachineDisk {
    pub noted: State,
    /// A whole state that is to be installed.
    pub incoming: Option<State>,
}

/// One process' state machine.
#[derive(Clone)]
pub struct Machine {
    pub node: NodeId,
    pub disk: Arc<Mutex<MachineDisk>>,
    pub state: Arc<Mutex<State>>,
    pub oracle: Arc<Oracle>,
    chance: Arc<Mutex<Chance>>,
    dead: Arc<Mutex<bool>>,
    /// Nothing is applied.
    stands_still: Arc<watch::Sender<bool>>,
}

impl Machine {
    pub fn open(
        node: NodeId,
        disk: Arc<Mutex<MachineDisk>>,
        oracle: Arc<Oracle>,
        seed: u64,
    ) -> Self {
        let state = {
            let mut disk = disk.lock();
            // A crash came between the transfer and its installation.
            let incoming = disk.incoming.take();
            if let Some(incoming) = incoming.filter(|state| state.last > disk.noted.last) {
                disk.noted = incoming;
            }
            disk.noted.clone()
        };
        Self {
            node,
            disk,
            state: Arc::new(Mutex::new(state)),
            oracle,
            chance: Arc::new(Mutex::new(Chance::new(seed))),
            dead: Arc::default(),
            stands_still: Arc::new(watch::Sender::new(false)),
        }
    }

    pub fn stand_still(&self, so: bool) {
        self.stands_still.send_replace(so);
    }

    pub fn crash(&self) {
        *self.dead.lock() = true;
    }

    #[allow(clippy::result_large_err, reason = "openraft's own")]
    fn alive(&self) -> Result<(), Error> {
        if *self.dead.lock() {
            let gone = std::io::Error::other("the process is gone");
            return Err(StorageIOError::write_state_machine(&gone).into());
        }
        Ok(())
    }

    fn snapshot(&self) -> Snapshot<Types> {
        let state = self.disk.lock().noted.clone();
        Snapshot {
            meta: SnapshotMeta {
                last_log_id: state.last,
                last_membership: state.membership,
                snapshot_id: format!("{:?}", state.last),
            },
            snapshot: Box::new(StateMark {
                length: state.transactions.len() as u64,
                ..StateMark::default()
            }),
        }
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, Error> {
        self.alive()?;
        self.disk.lock().noted = self.state.lock().clone();
        Ok(self.snapshot())
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<NodeId>>, StoredMembership<NodeId, Member>), Error> {
        let state = self.state.lock();
        Ok((state.last, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, Error>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        let mut results = Vec::new();
        let mut stands_still = self.stands_still.subscribe();
        for entry in entries {
            let _ = stands_still.wait_for(|so| !so).await;
            // Applying takes its time, and a crash may come in between.
            if self.chance.lock().below(8) == 0 {
                tokio::task::yield_now().await;
            }
            self.alive()?;
            let (applied, is_first) = {
                let mut state = self.state.lock();
                let applied = state.apply(&entry);
                (
                    applied,
                    self.oracle.applied(self.node, &entry, applied, &state),
                )
            };
            if is_first && self.chance.lock().below(16) == 0 {
                self.disk.lock().noted = self.state.lock().clone();
            }
            results.push(applied);
        }
        Ok(results)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<StateMark>, Error> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<NodeId, Member>,
        _: Box<StateMark>,
    ) -> Result<(), Error> {
        self.alive()?;
        // The transfer has put it on the disk before Raft was asked to install it.
        let mut disk = self.disk.lock();
        let incoming = disk.incoming.take().expect("it is there");
        assert_eq!(incoming.last, meta.last_log_id);
        disk.noted = incoming.clone();
        *self.state.lock() = incoming;
        self.oracle.count(|counts| counts.installs += 1);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, Error> {
        let snapshot = self.snapshot();
        Ok(snapshot.meta.last_log_id.is_some().then_some(snapshot))
    }
}
