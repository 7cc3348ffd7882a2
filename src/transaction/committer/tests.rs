//! The committer with a log whose appends wait until the test lets them go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::storage::{Result, Staged, StorageError};
use crate::transaction::object_locks::{LockRequest, ObjectLocks};
use crate::transaction::{Attached, Ticket};
use crate::types::{Tid, TransactionMeta};

const PATIENCE: Duration = Duration::from_secs(20);

/// How many appends may go on, and what was appended so far.
#[derive(Debug, Default)]
struct Gate {
    open: Mutex<usize>,
    opened: Condvar,
    entered: AtomicUsize,
    batches: Mutex<Vec<Vec<Tid>>>,
    fails: bool,
    panics: bool,
}

impl Gate {
    fn open(&self, appends: usize) {
        *self.open.lock() += appends;
        self.opened.notify_all();
    }

    fn await_entered(&self, appends: usize) {
        wait_until(|| self.entered.load(Ordering::SeqCst) >= appends);
    }
}

#[derive(Debug)]
struct GatedLog(Arc<Gate>);

impl CommitLog for GatedLog {
    fn append(&self, batch: &mut [Committing]) -> Result<()> {
        let gate = &self.0;
        gate.entered.fetch_add(1, Ordering::SeqCst);
        let mut open = gate.open.lock();
        while *open == 0 {
            let late = gate.opened.wait_for(&mut open, PATIENCE).timed_out();
            assert!(!late, "nobody lets this append go");
        }
        *open -= 1;
        let tids = batch.iter().map(|committing| committing.tid).collect();
        gate.batches.lock().push(tids);
        assert!(!gate.panics, "as the test wants it");
        if gate.fails {
            return Err(StorageError::ReadOnly);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Nothing;

impl Reservation for Nothing {}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it does not come about");
        thread::yield_now();
    }
}

/// A committer, and what it completed: tids and tickets in order.
struct Bench {
    committer: Committer,
    gate: Arc<Gate>,
    locks: Arc<ObjectLocks>,
    completed: Mutex<Vec<(Tid, Ticket)>>,
    failures: AtomicUsize,
}

impl Bench {
    fn new() -> Self {
        Self::with(Gate::default())
    }

    fn with(gate: Gate) -> Self {
        let gate = Arc::new(gate);
        let log = Box::new(GatedLog(Arc::clone(&gate)));
        Self {
            committer: Committer::new(log, TidClock::after(Tid::ZERO)),
            gate,
            locks: Arc::default(),
            completed: Mutex::default(),
            failures: AtomicUsize::new(0),
        }
    }

    /// Submits a transaction, with a prescribed tid where one is given.
    fn submit(&self, tid: Option<Tid>) -> Ticket {
        let inbox = Arc::new(Inbox::default());
        let wanted = LockRequest::Objects {
            changed: Vec::new(),
            checked: Vec::new(),
        };
        let (claim, _) = self.locks.request(&wanted, &inbox);
        let ticket = claim.ticket();
        let meta = TransactionMeta {
            tid,
            ..TransactionMeta::default()
        };
        let staged = Staged {
            meta,
            ..Staged::default()
        };
        let reservation = Box::new(Nothing);
        let request = CommitRequest {
            voted: Voted {
                staged,
                undone: Vec::new(),
                attached: Attached::default(),
                reservation,
            },
            origin: Origin {
                locks: Some(claim),
                inbox: Some(inbox),
                apart: None,
            },
            term: 0,
            remote: None,
        };
        let complete = |batch| self.complete(&batch);
        self.committer.submit(request, &Inline, &complete);
        ticket
    }

    fn complete(&self, batch: &Batch) {
        let failures = usize::from(batch.failure.is_some());
        self.failures.fetch_add(failures, Ordering::SeqCst);
        let tids = batch.committing.iter().map(|committing| committing.tid);
        let tickets = batch
            .origins
            .iter()
            .filter_map(|origin| Some(origin.locks.as_ref()?.ticket()));
        self.completed.lock().extend(tids.zip(tickets));
    }

    fn work(&self) {
        self.committer.work(&|batch| self.complete(&batch));
    }

    fn batch_sizes(&self) -> Vec<usize> {
        self.gate.batches.lock().iter().map(Vec::len).collect()
    }

    fn completed(&self) -> usize {
        self.completed.lock().len()
    }

    /// One leader that waits for its append, and `followers` that come meanwhile.
    fn crowd<'s>(
        &'s self,
        scope: &'s thread::Scope<'s, '_>,
        followers: usize,
    ) -> thread::ScopedJoinHandle<'s, Ticket> {
        let leader = scope.spawn(|| self.submit(None));
        self.gate.await_entered(1);
        let followers: Vec<_> = (0..followers)
            .map(|_| scope.spawn(|| self.submit(None)))
            .collect();
        for follower in followers {
            // It does not wait for the disk.
            follower.join().unwrap();
        }
        leader
    }
}

#[test]
fn a_lone_commit_is_done_on_its_own_thread() {
    let bench = Bench::new();
    bench.gate.open(3);
    for count in 1..=3 {
        bench.submit(None);
        assert_eq!(bench.completed(), count);
    }
    assert_eq!(bench.batch_sizes(), [1, 1, 1]);
}

#[test]
fn commits_that_come_during_another_share_one_sync() {
    let bench = Bench::new();
    thread::scope(|scope| {
        scope.spawn(|| bench.work());
        let leader = bench.crowd(scope, 20);
        bench.gate.open(2);
        leader.join().unwrap();
        wait_until(|| bench.completed() == 21);
        bench.committer.close();
    });
    assert_eq!(bench.batch_sizes(), [1, 20]);
}

#[test]
fn a_leader_does_not_wait_for_those_who_came_later() {
    let bench = Bench::new();
    thread::scope(|scope| {
        scope.spawn(|| bench.work());
        let leader = bench.crowd(scope, 3);
        bench.gate.open(1);
        // It returns while the others' append still waits.
        let ticket = leader.join().unwrap();
        assert_eq!(bench.completed(), 1);
        assert_eq!(bench.completed.lock()[0].1, ticket);
        bench.gate.await_entered(2);
        bench.gate.open(1);
        wait_until(|| bench.completed() == 4);
        bench.committer.close();
    });
}

#[test]
fn tids_are_in_the_order_of_completion() {
    let bench = Bench::new();
    thread::scope(|scope| {
        scope.spawn(|| bench.work());
        bench.gate.open(usize::MAX / 2);
        let submitters: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..100).map(|_| bench.submit(None)).collect::<Vec<_>>()))
            .collect();
        let mut tickets: Vec<_> = submitters
            .into_iter()
            .flat_map(|submitter| submitter.join().unwrap())
            .collect();
        wait_until(|| bench.completed() == 400);
        bench.committer.close();
        let completed = bench.completed.lock();
        assert!(completed.is_sorted_by(|(a, _), (b, _)| a < b));
        // Each exactly once, under the tid that the log saw.
        let mut answered: Vec<_> = completed.iter().map(|(_, ticket)| *ticket).collect();
        answered.sort();
        tickets.sort();
        assert_eq!(answered, tickets);
        let logged = bench.gate.batches.lock().concat();
        let tids: Vec<_> = completed.iter().map(|(tid, _)| *tid).collect();
        assert_eq!(logged, tids);
    });
}

#[test]
fn a_crowd_is_taken_in_bounded_batches() {
    let bench = Bench::new();
    thread::scope(|scope| {
        scope.spawn(|| bench.work());
        let leader = scope.spawn(|| bench.submit(None));
        bench.gate.await_entered(1);
        for _ in 0..=MAX_BATCH {
            bench.submit(None);
        }
        bench.gate.open(3);
        leader.join().unwrap();
        wait_until(|| bench.completed() == MAX_BATCH + 2);
        bench.committer.close();
    });
    assert_eq!(bench.batch_sizes(), [1, MAX_BATCH, 1]);
}

#[test]
fn a_prescribed_tid_is_kept_and_later_ones_come_after_it() {
    let bench = Bench::new();
    bench.gate.open(3);
    let ahead = Tid::from_u64(1 << 62);
    bench.submit(None);
    bench.submit(Some(ahead));
    bench.submit(None);
    let tids = bench.gate.batches.lock().concat();
    assert!(tids[0] < ahead && tids[1] == ahead && tids[2] > ahead);
}

#[test]
fn a_close_waits_for_what_was_handed_over() {
    let bench = Bench::new();
    thread::scope(|scope| {
        let worker = scope.spawn(|| bench.work());
        let leader = bench.crowd(scope, 5);
        bench.gate.open(1);
        leader.join().unwrap();
        bench.gate.await_entered(2);
        bench.committer.close();
        assert!(!worker.is_finished());
        bench.gate.open(1);
        worker.join().unwrap();
        assert_eq!(bench.completed(), 6);
    });
}

#[test]
fn what_comes_after_a_failure_is_still_answered() {
    let bench = Bench::with(Gate {
        fails: true,
        ..Gate::default()
    });
    thread::scope(|scope| {
        scope.spawn(|| bench.work());
        let leader = bench.crowd(scope, 2);
        bench.gate.open(3);
        leader.join().unwrap();
        wait_until(|| bench.completed() == 3);
        bench.submit(None);
        bench.committer.close();
    });
    assert_eq!(bench.completed(), 4);
    assert_eq!(bench.failures.load(Ordering::SeqCst), 3);
}

#[test]
fn a_panic_answers_everybody_and_lets_nothing_follow() {
    let bench = Bench::with(Gate {
        panics: true,
        ..Gate::default()
    });
    bench.gate.open(1);
    bench.submit(None);
    assert_eq!(bench.failures.load(Ordering::SeqCst), 1);
    bench.submit(None);
    assert_eq!(bench.failures.load(Ordering::SeqCst), 2);
    assert_eq!(
        bench.gate.entered.load(Ordering::SeqCst),
        1,
        "nothing was appended after it"
    );
}

#[test]
fn what_comes_after_the_close_is_refused() {
    let bench = Bench::new();
    bench.committer.close();
    bench.submit(None);
    assert_eq!(bench.failures.load(Ordering::SeqCst), 1);
    assert_eq!(bench.gate.entered.load(Ordering::SeqCst), 0);
}
