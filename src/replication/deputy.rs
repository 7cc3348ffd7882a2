//! A session's transactions on their way to the leader.
//!
//! Each deputy has a connection of its own to the leader's zeod, and a session
//! there that acts as any other: it waits for locks, checks, commits, and gives
//! all up when the connection ends. So whatever becomes of this node, nothing
//! stays locked there.
//!
//! A leader that is lost costs nobody a transaction: what was voted there is
//! voted again by the next one. Only where a finish was on its way it has to be
//! known first what became of it; the log tells, once the next leader's first
//! entry is in it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::replica::Replica;
use crate::client::{CallError, Connection, VoteItem};
use crate::transaction::{Delivery, Deputy, Inbox, Term, TransactionBuffer, VotedElsewhere};
use crate::wire::{Exception, Request, TransactionKey, Value};

/// A leader that does not let a session in within this time is asked again: it
/// may be another by then.
const OPEN_PATIENCE: Duration = Duration::from_secs(2);
/// After a failure the leader is asked again after this time, and after each
/// further one later, …
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// … up to this.
const LAST_PAUSE: Duration = Duration::from_millis(200);

const NOBODY_TOOK_IT: &str = "no leader of the cluster took the transaction in time";

/// The session's end of it.
pub struct LeaderDeputy {
    shared: Arc<Shared>,
}

/// What the session wants and what it gets.
#[derive(Debug)]
struct Shared {
    inbox: Arc<Inbox>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// At most one of each kind: what came before an abort is forgotten.
    wanted: VecDeque<Wanted>,
    /// The transaction after conflicts.
    returned: Option<TransactionBuffer>,
    is_over: bool,
}

#[derive(Debug)]
enum Wanted {
    Vote(TransactionBuffer),
    Finish,
    Abort,
}

impl LeaderDeputy {
    /// For the session of `inbox`, number `number` of this node.
    pub fn new(replica: Arc<Replica>, inbox: &Arc<Inbox>, number: u64) -> Self {
        let shared = Arc::new(Shared {
            inbox: Arc::clone(inbox),
            state: Mutex::default(),
            changed: Notify::new(),
        });
        // That of the sessions: there can be many, and Raft's is for Raft.
        let runtime = Handle::try_current().unwrap_or_else(|_| replica.runtime().clone());
        let courier = Courier {
            replica,
            number,
            shared: Arc::clone(&shared),
            way: None,
            transaction: None,
        };
        runtime.spawn(courier.run());
        Self { shared }
    }

    fn want(&self, wanted: Wanted) {
        self.shared.state.lock().wanted.push_back(wanted);
        self.shared.changed.notify_one();
    }
}

impl fmt::Debug for LeaderDeputy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaderDeputy").finish_non_exhaustive()
    }
}

impl Deputy for LeaderDeputy {
    fn vote(&mut self, transaction: TransactionBuffer) {
        self.want(Wanted::Vote(transaction));
    }

    fn take_back(&mut self) -> Option<TransactionBuffer> {
        self.shared.state.lock().returned.take()
    }

    fn finish(&mut self) {
        self.want(Wanted::Finish);
    }

    fn abort(&mut self) {
        {
            let mut state = self.shared.state.lock();
            state.wanted.clear();
            state.returned = None;
            state.wanted.push_back(Wanted::Abort);
        }
        self.shared.changed.notify_one();
    }
}

impl Drop for LeaderDeputy {
    fn drop(&mut self) {
        self.shared.state.lock().is_over = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    /// The next thing to do; None: the session is gone.
    async fn next(&self) -> Option<Wanted> {
        loop {
            {
                let mut state = self.state.lock();
                if let Some(wanted) = state.wanted.pop_front() {
                    return Some(wanted);
                }
                if state.is_over {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Comes back when what is being done is not wanted any more.
    async fn given_up(&self) {
        loop {
            {
                let state = self.state.lock();
                let is_abort = |wanted: &Wanted| matches!(wanted, Wanted::Abort);
                if state.is_over || state.wanted.iter().any(is_abort) {
                    return;
                }
            }
            self.changed.notified().await;
        }
    }
}

/// The task that does it.
struct Courier {
    replica: Arc<Replica>,
    number: u64,
    shared: Arc<Shared>,
    way: Option<Way>,
    /// What is voted, or being voted, until it is finished.
    transaction: Option<TransactionBuffer>,
}

/// The connection to a leader.
struct Way {
    connection: Connection,
    /// All that goes this way is committed under this leadership, or never.
    term: Term,
    key: TransactionKey,
    /// Operations that were sent. None: the transaction was not begun there.
    sent: Option<usize>,
}

/// How an attempt ended.
enum Attempt<T> {
    Done(T),
    /// The leader says no.
    Refused(Exception),
    /// It was lost on the way.
    Lost,
}

impl Courier {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let wanted = tokio::select! {
                wanted = shared.next() => wanted,
                // Nothing may stay locked with one who may lead again some day.
                () = self.superseded() => {
                    self.way = None;
                    continue;
                }
            };
            let Some(wanted) = wanted else {
                return;
            };
            match wanted {
                Wanted::Vote(buffer) => {
                    self.replica.counters().forwarded.increment();
                    self.transaction = Some(buffer);
                    let voted = tokio::select! {
                        voted = self.vote() => Some(voted),
                        () = shared.given_up() => None,
                    };
                    match voted {
                        Some(voted) => self.answer_vote(voted),
                        // Where the leader stands in it is not known.
                        None => self.way = None,
                    }
                }
                Wanted::Finish => self.finish().await,
                Wanted::Abort => self.abort().await,
            }
        }
    }

    /// Comes back when another leads than the one that the way leads to.
    async fn superseded(&self) {
        match &self.way {
            Some(way) => self.replica.superseded(way.term).await,
            None => std::future::pending().await,
        }
    }

    fn answer_vote(&mut self, voted: Result<Value<'static>, Option<Exception>>) {
        let answer = match voted {
            Err(Some(exception)) => {
                self.transaction = None;
                VotedElsewhere::Failed(exception)
            }
            // Its client tries again, elsewhere.
            Err(None) => {
                self.transaction = None;
                return self.shared.inbox.push(Delivery::Close(NOBODY_TOOK_IT));
            }
            Ok(told) if has_conflicts(&told) => {
                self.shared.state.lock().returned = self.transaction.take();
                VotedElsewhere::Conflicts(told)
            }
            Ok(told) => VotedElsewhere::Voted(told),
        };
        self.shared.inbox.push(Delivery::VotedElsewhere(answer));
    }

    /// Asks whoever leads for a vote, until one answers.
    /// None: nobody took it in time.
    async fn vote(&mut self) -> Result<Value<'static>, Option<Exception>> {
        let deadline = Instant::now() + self.replica.patience();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_vote().await {
                Attempt::Done(told) => return Ok(told),
                Attempt::Refused(exception) => return Err(Some(exception)),
                Attempt::Lost if Instant::now() < deadline => {
                    self.replica.leader_changed(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                Attempt::Lost => return Err(None),
            }
        }
    }

    async fn try_vote(&mut self) -> Attempt<Value<'static>> {
        if self.way.as_ref().is_some_and(Way::is_gone) {
            self.way = None;
        }
        if self.way.is_none() {
            let opened = Way::open(&self.replica, self.number);
            self.way = tokio::time::timeout(OPEN_PATIENCE, opened)
                .await
                .unwrap_or_default();
        }
        let (Some(way), Some(buffer)) = (&mut self.way, &self.transaction) else {
            return Attempt::Lost;
        };
        let term = way.term;
        let voted = tokio::select! {
            voted = way.vote(buffer) => voted,
            () = self.replica.superseded(term) => Err(superseded()),
        };
        match voted {
            Ok(told) => Attempt::Done(told),
            Err(CallError::Disconnected(_)) => {
                self.way = None;
                Attempt::Lost
            }
            Err(error) => {
                // The leader has ended it.
                way.sent = None;
                Attempt::Refused(error.into())
            }
        }
    }

    /// Finishes what was voted; votes again where the leader is another one.
    async fn finish(&mut self) {
        let finishing = &self.replica.applier.finishing;
        finishing.wait(self.number, &self.shared.inbox);
        let deadline = Instant::now() + self.replica.patience();
        let mut is_voted = true;
        loop {
            if !is_voted {
                match self.vote().await {
                    Ok(told) if !has_conflicts(&told) => {}
                    Ok(_) => {
                        return self.failed("an object was changed before the commit was done");
                    }
                    Err(Some(exception)) => return self.failed(&exception.to_string()),
                    Err(None) => return self.unknown(),
                }
            }
            let Some(way) = &mut self.way else {
                is_voted = false;
                continue;
            };
            let term = way.term;
            let finished = tokio::select! {
                finished = way.finish() => finished,
                () = self.replica.superseded(term) => Err(superseded()),
            };
            match finished {
                Ok(()) => break,
                Err(CallError::Disconnected(_)) => {
                    self.way = None;
                    match self.replica.outcome(self.number, term, deadline).await {
                        Some(true) => break,
                        Some(false) => is_voted = false,
                        None => return self.unknown(),
                    }
                }
                Err(error) if Instant::now() < deadline => {
                    tracing::debug!("the leader has not committed: {error}");
                    is_voted = false;
                }
                Err(error) => return self.failed(&error.to_string()),
            }
        }
        self.transaction = None;
    }

    fn failed(&mut self, why: &str) {
        self.transaction = None;
        if let Some(inbox) = self.replica.applier.finishing.take(self.number) {
            inbox.push(Delivery::Finished(Err(why.into())));
        }
    }

    /// The client has to find out for itself, as after any lost connection.
    fn unknown(&mut self) {
        self.transaction = None;
        let inbox = self.replica.applier.finishing.take(self.number);
        if let Some(inbox) = inbox {
            inbox.push(Delivery::Close(
                "the leader was lost during a commit, and no other was found in time",
            ));
        }
    }

    async fn abort(&mut self) {
        self.transaction = None;
        let Some(way) = &mut self.way else {
            return;
        };
        let term = way.term;
        let aborted = tokio::select! {
            aborted = way.abort() => aborted,
            () = self.replica.superseded(term) => Err(superseded()),
        };
        if aborted.is_err() {
            self.way = None;
        }
    }
}

impl Way {
    async fn open(replica: &Arc<Replica>, number: u64) -> Option<Self> {
        let (stream, term) = match replica.stream_to_leader(number).await {
            Ok(found) => found,
            Err(why) => {
                tracing::debug!("storage {}: {why}", replica.name());
                return None;
            }
        };
        let opened = Connection::open(
            stream,
            crate::client::Options::default(),
            crate::client::Listener::Nobody,
        )
        .await;
        let connection = match opened {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!("storage {}: the leader: {error}", replica.name());
                return None;
            }
        };
        let registered = async {
            connection.register(replica.name(), false).await?;
            connection.get_info().await
        };
        match registered.await {
            Ok(info) => Some(Self {
                connection,
                // What this node knows may be an older one.
                term: info.leadership.unwrap_or(term),
                key: TransactionKey::Int(i128::from(number)),
                sent: None,
            }),
            Err(error) => {
                tracing::debug!("storage {}: the leader: {error}", replica.name());
                None
            }
        }
    }

    fn is_gone(&self) -> bool {
        self.connection.end().is_some()
    }

    async fn vote(&mut self, buffer: &TransactionBuffer) -> Result<Value<'static>, CallError> {
        let key = &self.key;
        let from = if let Some(sent) = self.sent {
            sent
        } else {
            self.connection.tpc_begin(key.clone(), &buffer.meta).await?;
            0
        };
        let sent = self.connection.send_operations(buffer, from, key).await?;
        self.sent = Some(sent);
        let transaction = key.clone();
        let told = self.connection.call(&Request::Vote { transaction }).await?;
        // Between nodes a list comes as a tuple.
        Ok(match told {
            Value::Tuple(items) => Value::List(items),
            told => told,
        })
    }

    async fn finish(&mut self) -> Result<(), CallError> {
        self.sent = None;
        self.connection.tpc_finish(self.key.clone()).await.map(drop)
    }

    async fn abort(&mut self) -> Result<(), CallError> {
        if self.sent.take().is_some() {
            self.connection.tpc_abort(self.key.clone()).await?;
        }
        Ok(())
    }
}

fn superseded() -> CallError {
    CallError::Disconnected("another leader was elected".into())
}

/// Does the answer to a vote hand conflicts back?
fn has_conflicts(told: &Value<'_>) -> bool {
    let is_conflict = |item: &VoteItem| matches!(item, VoteItem::Conflict(_));
    VoteItem::from_value(told).is_ok_and(|items| items.iter().any(is_conflict))
}
