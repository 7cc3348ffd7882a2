//! Raft hears no faster what is committed than this node applies it.
//!
//! On a commit openraft reads all entries from the one before to it, and hands them to the state
//! machine, however many wait there already: a node that is late, or stands still, would have all that
//! it lacks in memory, and again after each restart. So of what a leader says to be committed Raft is
//! told in pieces. A follower that keeps up notices nothing of it: what a message brings is told with
//! that message. The rest is told by [`run`] as soon as something was applied.
//!
//! A node that is elected before it has applied what it lacks is told nothing: as the leader it commits
//! all of that at once.

use std::sync::Arc;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::{LogId, RaftLogReader, Vote};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::group::{Core, ENTRIES_PER_CALL};
use crate::replication::types::{NodeId, Types};

/// Raft may have so many entries to apply whatever they are: a follower that keeps up has a few.
const FREE_ENTRIES: u64 = 32;
/// … and so many pieces besides: one is applied, the next one is ready. A piece is what one call of a
/// leader brings at most, or as much of the log ([`ENTRIES_PER_CALL`], and the log bounds the bytes).
const MAX_PIECES: usize = 2;
/// So many entries that are committed wait to be applied at most, as far as Raft knows.
pub const MAX_UNAPPLIED: u64 = FREE_ENTRIES + MAX_PIECES as u64 * (FREE_ENTRIES + ENTRIES_PER_CALL);

/// What Raft was told, and what it is not told yet.
#[derive(Debug, Default)]
pub(super) struct Pace {
    state: Mutex<State>,
    /// Something was withheld.
    withheld: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The leader that said the following.
    by: Option<Vote<NodeId>>,
    /// It is committed up to here,
    committed: Option<LogId<NodeId>>,
    /// and up to here the log of this node is its own.
    has: Option<LogId<NodeId>>,
    /// Something was withheld and is not told yet.
    is_owing: bool,
    /// The ends of the pieces that Raft was told of and that are not applied: the first index behind each.
    pieces: Vec<u64>,
}

/// A piece that Raft is being told of. Who does not come to know that Raft has listened forgets it: nobody
/// would tell Raft of what it does not know of.
#[derive(Debug)]
struct Begun<'a> {
    pace: &'a Pace,
    end: u64,
    is_told: bool,
}

impl Begun<'_> {
    fn keep(mut self) {
        self.is_told = true;
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            let mut state = self.pace.state.lock();
            let place = state.pieces.iter().position(|&end| end == self.end);
            place.map(|place| state.pieces.swap_remove(place));
        }
    }
}

/// What a message of a leader has told, and what was left of that.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    pace: &'a Pace,
    vote: Vote<NodeId>,
    committed: Option<LogId<NodeId>>,
    piece: Option<Begun<'a>>,
    is_whole: bool,
}

fn after(log_id: Option<LogId<NodeId>>) -> u64 {
    log_id.map_or(0, |log_id| log_id.index + 1)
}

impl Admitted<'_> {
    /// Raft has taken the message, whose last entry, or the one before it, is `last`.
    pub(super) fn taken(mut self, last: Option<LogId<NodeId>>) {
        if let Some(piece) = self.piece.take() {
            piece.keep();
        }
        let by = Some(self.vote);
        let mut state = self.pace.state.lock();
        if state.by > by {
            return;
        }
        if state.by != by {
            (state.by, state.committed, state.has) = (by, None, None);
        }
        state.has = state.has.max(last);
        state.committed = state.committed.max(self.committed);
        state.is_owing |= !self.is_whole;
        if state.is_owing {
            self.pace.withheld.notify_one();
        }
    }
}

impl State {
    /// Where the next piece begins. `applied` is the first index that is not applied.
    fn next(&mut self, applied: u64) -> u64 {
        self.pieces.retain(|&end| end > applied);
        self.pieces.iter().copied().fold(applied, u64::max)
    }
}

impl Pace {
    /// Takes from `rpc` what is not to be told yet; entries before index `applied` are applied.
    pub(super) fn admit(
        &self,
        rpc: &mut AppendEntriesRequest<Types>,
        applied: u64,
    ) -> Admitted<'_> {
        let committed = rpc.leader_commit;
        let mut admitted = Admitted {
            pace: self,
            vote: rpc.vote,
            committed,
            piece: None,
            is_whole: true,
        };
        if after(committed) <= applied + FREE_ENTRIES {
            return admitted;
        }
        let (next, has_room) = {
            let mut state = self.state.lock();
            (state.next(applied), state.pieces.len() < MAX_PIECES)
        };
        let first = rpc.entries.first().map(|entry| entry.log_id.index);
        // What came before may have been committed only now.
        let follows = first.is_some_and(|first| first <= next + FREE_ENTRIES);
        let last = rpc.entries.last().map(|entry| entry.log_id);
        let told = last.filter(|_| follows && has_room);
        rpc.leader_commit = told
            .zip(committed)
            .map(|(told, committed)| std::cmp::min_by_key(told, committed, |log_id| log_id.index));
        admitted.is_whole = rpc.leader_commit == committed;
        let end = after(rpc.leader_commit);
        admitted.piece = (end > next).then(|| self.begin(end));
        admitted
    }

    fn begin(&self, end: u64) -> Begun<'_> {
        self.state.lock().pieces.push(end);
        Begun {
            pace: self,
            end,
            is_told: false,
        }
    }

    /// The last entry that is known to be committed and here, whether Raft was told or not.
    pub(super) fn known(&self) -> Option<u64> {
        let state = self.state.lock();
        let known = state.has.min(state.committed);
        known.map(|known| known.index)
    }

    /// The next piece: whose word it is, and between which indexes it lies. No piece: Raft knows all
    /// that is known, or has enough to do.
    fn piece(&self, applied: u64) -> Piece {
        let mut state = self.state.lock();
        let from = state.next(applied);
        let end = after(state.has)
            .min(after(state.committed))
            .min(from + ENTRIES_PER_CALL);
        match state.by {
            Some(by) if from < end && state.pieces.len() < MAX_PIECES => {
                Piece::Is { by, from, end }
            }
            Some(_) if from < end => Piece::Later,
            _ => {
                state.is_owing = false;
                Piece::None
            }
        }
    }
}

enum Piece {
    Is {
        by: Vote<NodeId>,
        from: u64,
        end: u64,
    },
    /// Something has to be applied first.
    Later,
    None,
}

/// Tells what was withheld, until the group is stopped.
pub(super) async fn run<R: RaftLogReader<Types>>(core: Arc<Core>, mut log: R) {
    let mut stopped = core.stopped.subscribe();
    let telling = async {
        loop {
            core.pace.withheld.notified().await;
            core.tell_withheld(&mut log).await;
        }
    };
    tokio::select! {
        _ = stopped.wait_for(|&stopped| stopped) => {}
        () = telling => {}
    }
}

impl Core {
    /// Comes back when Raft knows all, or does not listen: to this leader, or at all.
    async fn tell_withheld<R: RaftLogReader<Types>>(&self, log: &mut R) {
        let mut applied = self.applied.subscribe();
        loop {
            let done = after(*applied.borrow_and_update());
            match self.pace.piece(done) {
                Piece::Is { by, from, end } => {
                    let entries = log.limited_get_log_entries(from, end).await;
                    let last = entries
                        .ok()
                        .and_then(|entries| Some(entries.last()?.log_id));
                    match last {
                        Some(last) if self.tell_raft(by, last).await => {}
                        Some(_) => return,
                        // A state came that reaches further, and is not in place yet.
                        None if applied.changed().await.is_err() => return,
                        None => {}
                    }
                }
                Piece::Later if applied.changed().await.is_err() => return,
                Piece::Later => {}
                Piece::None => return,
            }
        }
    }

    /// The same that a message of the leader without entries would tell. False: Raft has heard of a later
    /// leader, or stopped.
    async fn tell_raft(&self, by: Vote<NodeId>, committed: LogId<NodeId>) -> bool {
        let piece = self.pace.begin(committed.index + 1);
        let message = AppendEntriesRequest {
            vote: by,
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: Some(committed),
        };
        let answer = self.raft.append_entries(message).await;
        let is_taken = matches!(answer, Ok(AppendEntriesResponse::Success));
        if is_taken {
            piece.keep();
        }
        is_taken
    }
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, Entry, EntryPayload};

    use super::*;

    fn log_id(index: u64) -> LogId<NodeId> {
        LogId::new(CommittedLeaderId::new(1, 1), index)
    }

    /// A message of the leader of `term` that brings `entries`, and says that those before `committed`
    /// are committed.
    fn message(
        term: u64,
        entries: std::ops::Range<u64>,
        committed: u64,
    ) -> AppendEntriesRequest<Types> {
        AppendEntriesRequest {
            vote: Vote::new_committed(term, 1),
            prev_log_id: entries.start.checked_sub(1).map(log_id),
            leader_commit: committed.checked_sub(1).map(log_id),
            entries: entries
                .map(|index| Entry {
                    log_id: log_id(index),
                    payload: EntryPayload::Blank,
                })
                .collect(),
        }
    }

    /// What Raft, which takes the message, is told: entries before this index are committed.
    fn told(pace: &Pace, mut rpc: AppendEntriesRequest<Types>, applied: u64) -> u64 {
        let last = rpc.entries.last().map(|entry| entry.log_id);
        let admitted = pace.admit(&mut rpc, applied);
        admitted.taken(last.or(rpc.prev_log_id));
        after(rpc.leader_commit)
    }

    #[test]
    fn who_keeps_up_is_told_with_each_message() {
        let pace = Pace::default();
        assert_eq!(told(&pace, message(1, 0..10, 8), 0), 8);
        assert_eq!(told(&pace, message(1, 10..300, 280), 8), 280);
        // It lacks more still.
        assert_eq!(told(&pace, message(1, 300..600, 5000), 280), 600);
        assert_eq!(told(&pace, message(1, 600..900, 5000), 600), 900);
        assert_eq!(pace.known(), Some(899));
        assert!(matches!(pace.piece(600), Piece::None));
    }

    #[test]
    fn who_is_late_is_told_piece_by_piece() {
        let pace = Pace::default();
        assert_eq!(told(&pace, message(1, 0..300, 5000), 0), 300);
        assert_eq!(told(&pace, message(1, 300..600, 5000), 0), 600);
        assert_eq!(told(&pace, message(1, 600..900, 5000), 0), 0);
        assert_eq!(told(&pace, message(1, 900..1000, 5000), 0), 0);
        assert!(matches!(pace.piece(299), Piece::Later));
        let Piece::Is { from, end, .. } = pace.piece(300) else {
            panic!("one is applied");
        };
        assert_eq!((from, end), (600, 900));
        pace.begin(end).keep();
        assert!(matches!(pace.piece(300), Piece::Later));
        assert!(matches!(
            pace.piece(600),
            Piece::Is {
                from: 900,
                end: 1000,
                ..
            }
        ));
        assert_eq!(pace.known(), Some(999));
    }

    #[test]
    fn what_raft_has_not_taken_is_told_again() {
        let pace = Pace::default();
        told(&pace, message(1, 0..300, 5000), 0);
        told(&pace, message(1, 300..600, 5000), 0);
        drop(pace.admit(&mut message(1, 600..900, 5000), 300));
        assert!(matches!(pace.piece(300), Piece::None));
        assert_eq!(told(&pace, message(1, 600..900, 5000), 300), 900);
    }

    #[test]
    fn the_word_of_a_former_leader_is_none() {
        let pace = Pace::default();
        told(&pace, message(1, 0..300, 5000), 0);
        told(&pace, message(2, 300..301, 302), 0);
        told(&pace, message(1, 300..600, 5000), 0);
        assert_eq!(pace.known(), Some(300));
    }
}
