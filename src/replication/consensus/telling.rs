//! Followers learn how far entries are committed.
//!
//! openraft tells each of them with a message of its own after each commit, and
//! until that is answered no entries follow. Here the next entries tell it, and
//! only where none follow, or where somebody waits for it, a message that nobody
//! waits for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::LogId;
use openraft::ServerState;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::group::{Core, Group};
use crate::replication::types::NodeId;

/// What was not told for so long is told by a message of its own; looked at twice
/// as rarely at most.
const PAUSE: Duration = Duration::from_millis(2);

/// Who knows what, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Telling {
    state: Mutex<State>,
    /// There is something to be told, and nobody looks.
    wake: Notify,
    /// Somebody waits for what can be told.
    urgent: Notify,
}

#[derive(Debug, Default)]
struct State {
    others: BTreeMap<NodeId, Other>,
    /// This node has applied entries before this index; the last of them.
    applied: u64,
    last: Option<LogId<NodeId>>,
    is_looking: bool,
}

/// What another node knows. All of these are indexes of first entries that are not
/// meant any more.
#[derive(Clone, Copy, Debug, Default)]
struct Other {
    /// It has entries up to here,
    has: u64,
    /// knows that they are committed up to here,
    told: u64,
    /// and somebody there waits for them up to here.
    wanted: u64,
    /// It is being told just now.
    is_being_told: bool,
}

impl Other {
    /// Up to here there is something to tell.
    fn tellable(&self, applied: u64) -> u64 {
        self.has.min(applied)
    }

    fn is_behind(&self, applied: u64) -> bool {
        !self.is_being_told && self.told < self.tellable(applied)
    }

    /// Can it be told what somebody waits for there?
    fn is_urgent(&self, applied: u64) -> bool {
        self.is_behind(applied) && self.told < self.wanted && self.wanted <= self.tellable(applied)
    }
}

impl Telling {
    /// `node` has followed: it has entries before index `has`, and was told that
    /// those before `committed` are committed.
    pub(super) fn followed(&self, node: NodeId, has: u64, committed: u64) {
        let mut state = self.state.lock();
        let other = state.others.entry(node).or_default();
        other.has = has.max(other.has);
        other.told = other.told.max(committed.min(other.has));
        self.wake_up(&mut state);
    }

    /// Somebody on `node` waits for the entries before `wanted`.
    fn want(&self, node: NodeId, wanted: u64) {
        let mut state = self.state.lock();
        let other = state.others.entry(node).or_default();
        other.wanted = wanted.max(other.wanted);
        self.wake_up(&mut state);
    }

    /// This node has applied entries up to `last`.
    pub(super) fn applied(&self, last: Option<LogId<NodeId>>) {
        let mut state = self.state.lock();
        state.last = last;
        state.applied = last.map_or(0, |last| last.index + 1);
        self.wake_up(&mut state);
    }

    fn wake_up(&self, state: &mut State) {
        let applied = state.applied;
        if state.others.values().any(|other| other.is_urgent(applied)) {
            self.urgent.notify_one();
        }
        let is_due = state.others.values().any(|other| other.is_behind(applied));
        if is_due && !std::mem::replace(&mut state.is_looking, true) {
            self.wake.notify_one();
        }
    }

    /// Those who wait for what can be told; they are about to be told.
    fn take_urgent(&self) -> Vec<NodeId> {
        self.take(Other::is_urgent)
    }

    /// Those that could have been told more of what stands before `applied`; they are
    /// about to be told.
    fn take_behind(&self, applied: u64) -> Vec<NodeId> {
        self.take(|other, _| other.is_behind(applied))
    }

    fn take(&self, is_meant: impl Fn(&Other, u64) -> bool) -> Vec<NodeId> {
        let mut state = self.state.lock();
        let applied = state.applied;
        let others = state.others.iter_mut();
        let meant = others.filter(|(_, other)| is_meant(other, applied));
        let taken = meant.map(|(&node, other)| {
            other.is_being_told = true;
            node
        });
        taken.collect()
    }

    /// `node` was told, or could not be: then nothing is known of it until it follows
    /// again.
    fn was_told(&self, node: NodeId, is_reached: bool) {
        let mut state = self.state.lock();
        if !is_reached {
            state.others.remove(&node);
        } else if let Some(other) = state.others.get_mut(&node) {
            other.is_being_told = false;
        }
        self.wake_up(&mut state);
    }

    /// Where entries end that can be told of.
    fn applied_now(&self) -> u64 {
        self.state.lock().applied
    }

    /// Stops looking if there is nothing more to be told.
    fn rest(&self) -> bool {
        let mut state = self.state.lock();
        let applied = state.applied;
        state.is_looking = state.others.values().any(|other| other.is_behind(applied));
        !state.is_looking
    }

    /// Under another leader others have other things.
    pub(super) fn forget(&self) {
        self.state.lock().others.clear();
    }
}

impl Group {
    /// Somebody on `node` waits until that node has applied the entry: it is told
    /// as soon as the entry is applied here.
    pub fn hurry(&self, node: NodeId, index: u64) {
        if node != self.core.node {
            self.core.telling.want(node, index + 1);
        }
    }
}

/// Tells what somebody waits for, and what nothing else tells, until the group is
/// stopped.
pub(super) async fn run(core: Arc<Core>) {
    let mut stopped = core.stopped.subscribe();
    tokio::select! {
        _ = stopped.wait_for(|&stopped| stopped) => {}
        () = hurry(&core) => {}
        () = look(&core) => {}
    }
}

async fn hurry(core: &Arc<Core>) {
    loop {
        core.telling.urgent.notified().await;
        core.tell_committed(core.telling.take_urgent());
    }
}

async fn look(core: &Arc<Core>) {
    loop {
        core.telling.wake.notified().await;
        loop {
            let applied = core.telling.applied_now();
            tokio::time::sleep(PAUSE).await;
            core.tell_committed(core.telling.take_behind(applied));
            if core.telling.rest() {
                break;
            }
        }
    }
}

impl Core {
    /// Tells `nodes` what is applied here.
    fn tell_committed(self: &Arc<Self>, nodes: Vec<NodeId>) {
        let applied = self.telling.state.lock().last;
        let (vote, membership) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow();
            let membership = Arc::clone(&metrics.membership_config);
            let leads = metrics.state == ServerState::Leader;
            (metrics.vote, Some(membership).filter(|_| leads))
        };
        for to in nodes {
            let membership = membership.as_ref().map(|it| it.membership());
            let Some(member) = membership.and_then(|it| it.get_node(&to)).cloned() else {
                self.telling.was_told(to, false);
                continue;
            };
            let rpc = AppendEntriesRequest {
                vote,
                prev_log_id: None,
                entries: Vec::new(),
                leader_commit: applied,
            };
            let core = Arc::clone(self);
            tokio::spawn(async move {
                let patience = core.timers.election_timeout;
                let answer = core.network.append(to, &member, rpc, patience).await;
                core.telling.was_told(to, answer.is_ok());
                if let Ok(AppendEntriesResponse::HigherVote(vote)) = answer {
                    core.accept(vote.leader_id.term).await;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::CommittedLeaderId;

    use super::*;

    fn apply(telling: &Telling, index: u64) {
        telling.applied(Some(LogId::new(CommittedLeaderId::new(1, 1), index)));
    }

    #[test]
    fn who_has_an_entry_and_does_not_know_that_it_is_committed_is_told() {
        let telling = Telling::default();
        telling.followed(2, 8, 7);
        telling.followed(3, 5, 5);
        assert!(telling.take_behind(telling.applied_now()).is_empty());
        apply(&telling, 7);
        assert_eq!(telling.take_behind(telling.applied_now()), [2]);
        // The message that brought the entries has told it, too.
        telling.followed(3, 8, 8);
        telling.followed(2, 8, 8);
        telling.was_told(2, true);
        assert!(telling.take_behind(telling.applied_now()).is_empty());
        assert!(telling.rest());
    }

    #[test]
    fn who_waits_is_told_once_the_entry_is_there_and_here() {
        let telling = Telling::default();
        telling.want(2, 8);
        apply(&telling, 7);
        assert!(telling.take_urgent().is_empty());
        telling.followed(2, 8, 7);
        assert_eq!(telling.take_urgent(), [2]);
        assert!(telling.take_urgent().is_empty());
        telling.was_told(2, true);
        assert_eq!(telling.take_urgent(), [2]);
        telling.followed(2, 8, 8);
        telling.was_told(2, true);
        assert!(telling.take_urgent().is_empty());
    }

    #[test]
    fn who_is_not_reached_is_told_when_it_follows_again() {
        let telling = Telling::default();
        apply(&telling, 7);
        telling.followed(2, 8, 7);
        assert_eq!(telling.take_behind(8), [2]);
        telling.was_told(2, false);
        assert!(telling.rest());
        telling.followed(2, 8, 7);
        assert_eq!(telling.take_behind(8), [2]);
    }

    #[test]
    fn a_message_tells_no_more_than_whoever_gets_it_has() {
        let telling = Telling::default();
        apply(&telling, 9);
        telling.followed(2, 5, 10);
        telling.followed(2, 10, 5);
        assert_eq!(telling.take_behind(telling.applied_now()), [2]);
    }
}
