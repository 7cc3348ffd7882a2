use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::transaction::Inbox;
use crate::types::{Oid, Tid};

/// Brings what the other server tells of transactions, and the ends of our own
/// clients' commits, into the one order in which our clients are told.
///
/// The other server tells of every transaction on the main connection, in
/// order. Our clients' commits go over connections of their own, so whose a
/// transaction is becomes known only with the answer there, which comes at
/// about the same time. Until every commit that was sent before it is
/// answered, a transaction is held.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Numbers the commits that are sent.
    next_commit: u64,
    /// Sent, not answered; no more than there are connections in the `pool`.
    unanswered: BTreeMap<u64, Commit>,
    /// Answered; the main connection has not told of them, or they are held.
    owners: BTreeMap<Tid, Commit>,
    /// Answered, without a transaction of their own.
    without_place: Vec<(Tid, Arc<Inbox>)>,
    held: VecDeque<Held>,
    /// The last transaction that the main connection told of.
    last_arrived: Tid,
}

/// A commit of one of our clients.
#[derive(Debug)]
pub(super) struct Commit {
    /// Whose it is.
    pub(super) client: Arc<Inbox>,
    /// Does it store, delete or undo anything?
    pub(super) stores_something: bool,
    /// The objects that it is known to change. Python's servers do not name all
    /// of them when they tell of a transaction.
    pub(super) changed: Vec<Oid>,
}

/// What is told when all commits with smaller numbers than `before` are answered.
#[derive(Debug)]
struct Held {
    before: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Transaction { tid: Tid, oids: Vec<Oid> },
    UpToDate(Arc<Inbox>),
}

/// What is to be told now.
#[derive(Debug)]
pub(super) enum Told {
    /// A transaction; the client whose it is is told of its end.
    Transaction {
        tid: Tid,
        oids: Vec<Oid>,
        owner: Option<Arc<Inbox>>,
    },
    /// The end of a commit that stored nothing. Everything up to `tid` is told.
    Finished { tid: Tid, owner: Arc<Inbox> },
    /// Everything that was committed before this was asked for is told.
    UpToDate(Arc<Inbox>),
}

impl Order {
    /// A commit is about to be sent; its number. One that stores nothing may be
    /// answered with the last transaction of somebody else.
    pub(super) fn sending(&mut self, commit: Commit) -> u64 {
        let number = self.next_commit;
        self.next_commit += 1;
        self.unanswered.insert(number, commit);
        number
    }

    /// It was answered: `tid` was committed, or nothing was. Its client, where
    /// nothing was, and it was not given up by [`Self::give_up`].
    pub(super) fn answered(&mut self, number: u64, tid: Option<Tid>) -> Option<Arc<Inbox>> {
        let commit = self.unanswered.remove(&number)?;
        match tid {
            None => return Some(commit.client),
            Some(tid) if commit.stores_something => {
                self.owners.insert(tid, commit);
            }
            Some(tid) => self.without_place.push((tid, commit.client)),
        }
        None
    }

    /// The main connection tells of a transaction. False, and it is not taken,
    /// where it does not come after the one before.
    pub(super) fn arrived(&mut self, tid: Tid, oids: Vec<Oid>) -> bool {
        if tid <= self.last_arrived {
            return false;
        }
        self.last_arrived = tid;
        self.hold(What::Transaction { tid, oids });
        true
    }

    /// The main connection has told all that was committed before `client` asked.
    pub(super) fn up_to_date(&mut self, client: Arc<Inbox>) {
        self.hold(What::UpToDate(client));
    }

    fn hold(&mut self, what: What) {
        let before = self.next_commit;
        self.held.push_back(Held { before, what });
    }

    /// The main connection is lost, and with it the places of the commits that
    /// it has not told of: their clients, who cannot be answered. What is held is
    /// told without them.
    pub(super) fn give_up(&mut self) -> Vec<Arc<Inbox>> {
        let unanswered = std::mem::take(&mut self.unanswered).into_values();
        let without_place = std::mem::take(&mut self.without_place).into_iter();
        let held = &self.held;
        let is_held = |wanted: &Tid| {
            held.iter()
                .any(|held| matches!(&held.what, What::Transaction { tid, .. } if tid == wanted))
        };
        let mut clients: Vec<_> = unanswered
            .map(|commit| commit.client)
            .chain(without_place.map(|(_, client)| client))
            .collect();
        self.owners.retain(|tid, commit| {
            let keep = is_held(tid);
            if !keep {
                clients.push(Arc::clone(&commit.client));
            }
            keep
        });
        clients
    }

    /// A new main connection tells what comes after `tid`.
    pub(super) fn begin_after(&mut self, tid: Tid) {
        self.last_arrived = tid;
    }

    /// What is to be told next, if that is known.
    pub(super) fn next(&mut self) -> Option<Told> {
        if let Some(told) = self.next_without_place() {
            return Some(told);
        }
        let before = self.held.front()?.before;
        let waits = self.unanswered.keys().next();
        if waits.is_some_and(|&number| number < before) {
            return None;
        }
        Some(match self.held.pop_front()?.what {
            What::UpToDate(client) => Told::UpToDate(client),
            What::Transaction { tid, mut oids } => {
                let commit = self.owners.remove(&tid);
                let owner = commit.map(|commit| {
                    oids.extend(commit.changed);
                    commit.client
                });
                Told::Transaction { tid, oids, owner }
            }
        })
    }

    fn next_without_place(&mut self) -> Option<Told> {
        let untold = self.held.iter().find_map(|held| match &held.what {
            What::Transaction { tid, .. } => Some(*tid),
            What::UpToDate(_) => None,
        });
        let is_told = |tid: Tid| tid <= self.last_arrived && untold.is_none_or(|first| tid < first);
        let at = self
            .without_place
            .iter()
            .position(|(tid, _)| is_told(*tid))?;
        let (tid, owner) = self.without_place.remove(at);
        Some(Told::Finished { tid, owner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tid(number: u64) -> Tid {
        Tid::from_u64(number)
    }

    /// What is told, by the numbers of the transactions and of the clients.
    fn told(order: &mut Order, clients: &[Arc<Inbox>]) -> Vec<(u64, Option<usize>)> {
        let place = |owner: &Arc<Inbox>| clients.iter().position(|one| Arc::ptr_eq(one, owner));
        std::iter::from_fn(|| order.next())
            .map(|told| match told {
                Told::Transaction { tid, owner, .. } => {
                    (tid.to_u64(), owner.as_ref().and_then(place))
                }
                Told::Finished { tid, owner } => (tid.to_u64() + 1000, place(&owner)),
                Told::UpToDate(client) => (0, place(&client)),
            })
            .collect()
    }

    fn commit(client: &Arc<Inbox>, stores_something: bool) -> Commit {
        Commit {
            client: Arc::clone(client),
            stores_something,
            changed: vec![Oid::ROOT],
        }
    }

    fn clients() -> [Arc<Inbox>; 2] {
        [Arc::default(), Arc::default()]
    }

    #[test]
    fn without_commits_of_our_own_all_is_told_at_once() {
        let clients = clients();
        let mut order = Order::default();
        assert!(order.arrived(tid(1), vec![]));
        order.up_to_date(Arc::clone(&clients[0]));
        assert_eq!(told(&mut order, &clients), [(1, None), (0, Some(0))]);
        assert!(!order.arrived(tid(1), vec![]));
        assert_eq!(told(&mut order, &clients), []);
    }

    #[test]
    fn a_transaction_waits_until_it_is_known_whose_it_is() {
        let clients = clients();
        for answer_first in [true, false] {
            let mut order = Order::default();
            let sent = order.sending(commit(&clients[1], true));
            assert!(order.arrived(tid(1), vec![]));
            assert_eq!(told(&mut order, &clients), []);
            if answer_first {
                assert!(order.answered(sent, Some(tid(2))).is_none());
                assert_eq!(told(&mut order, &clients), [(1, None)]);
                assert!(order.arrived(tid(2), vec![]));
                assert_eq!(told(&mut order, &clients), [(2, Some(1))]);
            } else {
                assert!(order.arrived(tid(2), vec![]));
                assert_eq!(told(&mut order, &clients), []);
                assert!(order.answered(sent, Some(tid(2))).is_none());
                assert_eq!(told(&mut order, &clients), [(1, None), (2, Some(1))]);
            }
        }
    }

    #[test]
    fn a_commit_that_was_sent_later_holds_nothing_up() {
        let clients = clients();
        let mut order = Order::default();
        let first = order.sending(commit(&clients[0], true));
        assert!(order.arrived(tid(1), vec![]));
        let second = order.sending(commit(&clients[1], true));
        order.up_to_date(Arc::clone(&clients[1]));
        assert!(order.answered(first, Some(tid(1))).is_none());
        assert_eq!(told(&mut order, &clients), [(1, Some(0))]);
        let failed = order.answered(second, None).unwrap();
        assert!(Arc::ptr_eq(&failed, &clients[1]));
        assert_eq!(told(&mut order, &clients), [(0, Some(1))]);
    }

    #[test]
    fn a_commit_that_stored_nothing_is_told_when_all_before_it_is() {
        let clients = clients();
        let mut order = Order::default();
        assert!(order.arrived(tid(5), vec![]));
        assert_eq!(told(&mut order, &clients), [(5, None)]);
        // Answered with a transaction that was told before,
        let sent = order.sending(commit(&clients[0], false));
        assert!(order.answered(sent, Some(tid(5))).is_none());
        assert_eq!(told(&mut order, &clients), [(1005, Some(0))]);
        // or is still to come, or is held as another's.
        let other = order.sending(commit(&clients[1], true));
        let sent = order.sending(commit(&clients[0], false));
        assert!(order.answered(sent, Some(tid(6))).is_none());
        assert_eq!(told(&mut order, &clients), []);
        assert!(order.arrived(tid(6), vec![]));
        assert_eq!(told(&mut order, &clients), []);
        assert!(order.answered(other, Some(tid(6))).is_none());
        assert_eq!(told(&mut order, &clients), [(6, Some(1)), (1006, Some(0))]);
    }

    #[test]
    fn what_the_server_does_not_name_is_told_too() {
        let clients = clients();
        let mut order = Order::default();
        let sent = order.sending(commit(&clients[0], true));
        assert!(order.arrived(tid(1), vec![Oid::from_u64(7)]));
        assert!(order.answered(sent, Some(tid(1))).is_none());
        match order.next() {
            Some(Told::Transaction { oids, .. }) => assert_eq!(oids, [Oid::from_u64(7), Oid::ROOT]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn with_the_main_connection_the_places_of_unknown_commits_are_lost() {
        let clients = clients();
        let mut order = Order::default();
        let lost = order.sending(commit(&clients[0], true));
        let known = order.sending(commit(&clients[1], true));
        assert!(order.arrived(tid(3), vec![]));
        assert!(order.answered(known, Some(tid(3))).is_none());
        let given_up = order.give_up();
        assert_eq!(given_up.len(), 1);
        assert!(Arc::ptr_eq(&given_up[0], &clients[0]));
        assert_eq!(told(&mut order, &clients), [(3, Some(1))]);
        assert!(order.answered(lost, Some(tid(4))).is_none());
        order.begin_after(tid(4));
        assert_eq!(told(&mut order, &clients), []);
    }
}
