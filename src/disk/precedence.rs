//! Lets commits go before work that can wait, where both write to one disk.
//!
//! A small sync waits behind a large one: for the device, and for the file
//! system's journal. So packs and uploads write in pieces, one at a time, begin
//! none while a commit is being written, and choose the pieces' size by how
//! long commits take on this disk. While no commits come, pieces are large.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Pieces while no commits come.
const QUIET_PIECE_BYTES: u64 = 4 << 20;
/// The largest and smallest piece, and the first, while commits come.
const MAX_PIECE_BYTES: u64 = 2 << 20;
const MIN_PIECE_BYTES: u64 = 64 << 10;
const FIRST_PIECE_BYTES: u64 = 128 << 10;
/// Commits come as long as the last is no older than this.
const QUIET_AFTER: Duration = Duration::from_secs(1);
/// A piece waits for commits no longer than so many of them usually take, lest
/// many writers keep a pack from coming to its end.
const PATIENCE_COMMITS: u32 = 4;
/// A commit that took longer than this met a stall; that says nothing of the disk.
const MAX_USUAL: Duration = Duration::from_millis(20);

/// Who goes first on the disk of one storage.
///
/// Invariant: at most one piece is being written, and none begins while a
/// commit is, unless it has waited for as long as it has to.
#[derive(Debug)]
pub struct Precedence {
    state: Mutex<State>,
    /// Told when the last commit under way is written.
    clear: Condvar,
    /// Held while a piece is written.
    turn: Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// Commits being written.
    first: usize,
    last_commit: Option<Instant>,
    /// How long commits have taken of late that met no piece.
    usual: Duration,
    piece_bytes: u64,
    pieces_begun: u64,
    is_piece_under_way: bool,
}

/// A commit is being written as long as this lives.
#[derive(Debug)]
pub struct First<'a> {
    precedence: &'a Precedence,
    begun: Instant,
    /// Pieces begun before it; None where it came into one.
    pieces_begun: Option<u64>,
}

impl Default for Precedence {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                first: 0,
                last_commit: None,
                usual: Duration::ZERO,
                piece_bytes: FIRST_PIECE_BYTES,
                pieces_begun: 0,
                is_piece_under_way: false,
            }),
            clear: Condvar::new(),
            turn: Mutex::new(()),
        }
    }
}

impl Precedence {
    /// A commit begins to be written.
    pub fn first(&self) -> First<'_> {
        let mut state = self.state.lock();
        state.first += 1;
        First {
            precedence: self,
            begun: Instant::now(),
            pieces_begun: (!state.is_piece_under_way).then_some(state.pieces_begun),
        }
    }

    /// After so many bytes work that can wait is to make them durable.
    pub fn piece_bytes(&self) -> u64 {
        let state = self.state.lock();
        if state.is_quiet() {
            QUIET_PIECE_BYTES
        } else {
            state.piece_bytes
        }
    }

    /// Makes a piece of `bytes` durable by `work`, once no commit is under way.
    pub fn later<T>(&self, bytes: u64, work: impl FnOnce() -> T) -> T {
        let _turn = self.turn.lock();
        self.let_commits_pass();
        let begun = Instant::now();
        let result = work();
        let mut state = self.state.lock();
        state.is_piece_under_way = false;
        state.adapt(bytes, begun.elapsed());
        result
    }

    fn let_commits_pass(&self) {
        let mut state = self.state.lock();
        let deadline = Instant::now() + state.usual * PATIENCE_COMMITS;
        while state.first > 0 {
            if self.clear.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.pieces_begun += 1;
        state.is_piece_under_way = true;
    }
}

impl State {
    fn is_quiet(&self) -> bool {
        self.first == 0
            && self
                .last_commit
                .is_none_or(|last| last.elapsed() > QUIET_AFTER)
    }

    /// A commit that comes while a piece is written waits for its end, and then
    /// takes its own time: so a piece is to take little more than a commit. What
    /// each sync takes by itself, which is most of it on slow disks, is in both.
    fn adapt(&mut self, bytes: u64, took: Duration) {
        if self.is_quiet() || bytes < self.piece_bytes / 2 {
            return;
        }
        if took > self.usual * 5 / 4 {
            self.piece_bytes = (self.piece_bytes / 2).max(MIN_PIECE_BYTES);
        } else if took < self.usual * 9 / 8 {
            self.piece_bytes = (self.piece_bytes * 2).min(MAX_PIECE_BYTES);
        }
    }

    /// `met_piece`: what others' pieces cost it is not the commit's own time;
    /// if it counted, larger pieces would make for still larger ones.
    fn commit_took(&mut self, took: Duration, met_piece: bool) {
        /// One in so many parts of what is taken for usual comes from the last commit.
        const WEIGHT: u32 = 16;
        let took = took.min(MAX_USUAL);
        if self.usual.is_zero() {
            self.usual = took;
        } else if !met_piece {
            self.usual = (self.usual * (WEIGHT - 1) + took) / WEIGHT;
        }
        self.last_commit = Some(Instant::now());
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        let mut state = self.precedence.state.lock();
        state.first -= 1;
        let met_piece = self.pieces_begun != Some(state.pieces_begun);
        state.commit_took(self.begun.elapsed(), met_piece);
        if state.first == 0 {
            self.precedence.clear.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    fn with_usual(usual: Duration) -> Precedence {
        let precedence = Precedence::default();
        {
            let mut state = precedence.state.lock();
            state.usual = usual;
            state.last_commit = Some(Instant::now());
        }
        precedence
    }

    #[test]
    fn a_piece_begins_when_the_commit_is_written() {
        // So long that the test fails by the commit's being passed, not by the clock.
        let precedence = with_usual(Duration::from_mins(1));
        let step = AtomicU32::new(0);
        thread::scope(|scope| {
            let first = precedence.first();
            scope.spawn(|| {
                precedence.later(1, || {
                    assert_eq!(step.fetch_add(1, Ordering::SeqCst), 1);
                });
            });
            thread::sleep(Duration::from_millis(20));
            assert_eq!(step.fetch_add(1, Ordering::SeqCst), 0);
            drop(first);
        });
        assert_eq!(step.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_piece_does_not_wait_for_ever() {
        let precedence = with_usual(Duration::from_millis(1));
        let _first = precedence.first();
        let begun = Instant::now();
        precedence.later(1, || ());
        assert!(begun.elapsed() >= Duration::from_millis(4));
    }

    #[test]
    fn pieces_are_written_one_at_a_time() {
        let precedence = Precedence::default();
        let at_once = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        precedence.later(1, || {
                            assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0);
                            thread::yield_now();
                            at_once.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
    }

    #[test]
    fn pieces_fit_the_disk_while_commits_come() {
        let precedence = Precedence::default();
        assert_eq!(precedence.piece_bytes(), QUIET_PIECE_BYTES);
        drop(precedence.first());
        assert_eq!(precedence.piece_bytes(), FIRST_PIECE_BYTES);
        let usual = Duration::from_millis(10);
        let mut state = precedence.state.lock();
        state.usual = usual;
        for (took, expected) in [
            (usual * 2, FIRST_PIECE_BYTES / 2),
            (usual * 2, MIN_PIECE_BYTES),
            (usual, MIN_PIECE_BYTES * 2),
            (usual * 6 / 5, MIN_PIECE_BYTES * 2),
            (usual, MIN_PIECE_BYTES * 4),
        ] {
            let bytes = state.piece_bytes;
            state.adapt(bytes, took);
            assert_eq!(state.piece_bytes, expected);
        }
        // The last piece of a file says nothing.
        let before = state.piece_bytes;
        state.adapt(before / 2 - 1, usual * 9);
        assert_eq!(state.piece_bytes, before);
        for _ in 0..9 {
            state.adapt(MAX_PIECE_BYTES, usual);
        }
        assert_eq!(state.piece_bytes, MAX_PIECE_BYTES);
    }

    #[test]
    fn a_stall_is_not_taken_for_usual() {
        let precedence = with_usual(Duration::from_millis(1));
        let mut state = precedence.state.lock();
        state.commit_took(Duration::from_mins(1), false);
        assert!(state.usual < Duration::from_millis(3));
    }

    #[test]
    fn a_commit_that_met_a_piece_does_not_count() {
        let usual = Duration::from_mins(1);
        let precedence = with_usual(usual);
        precedence.later(1, || drop(precedence.first()));
        assert_eq!(precedence.state.lock().usual, usual);
        drop(precedence.first());
        assert!(precedence.state.lock().usual < usual);
    }
}
