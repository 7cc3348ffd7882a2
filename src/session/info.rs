//! What the server says of itself: `server_status` and `ruok`.

use std::time::{Instant, SystemTime};

use super::register::{dict, number};
use super::{DatabaseMap, Outcome, Registered};
use crate::stats::replication::{GroupStatus, Lag};
use crate::storage::PackProgress;
use crate::transaction::Database;
use crate::wire::{Reply, Value};

/// The storages that are served, by name.
pub type Databases = DatabaseMap;

impl Registered {
    /// Counters of the client's storage.
    pub(super) fn server_status(&self) -> Outcome<'_> {
        let status = status_of(&self.database);
        Outcome::Reply(Reply::Value(dict(status.into_iter().map(|(key, item)| {
            let value = match item {
                Item::Count(count) => number(count),
                Item::Seconds(seconds) => Value::Float(seconds),
                Item::Text(text) => Value::Str(text.into()),
                Item::Truth(truth) => Value::Bool(truth),
                Item::None => Value::None,
            };
            (key, value)
        }))))
    }
}

/// The answer to the greeting `ruok`: JSON, the status of each storage.
pub fn ruok(databases: &Databases) -> String {
    let storages: serde_json::Map<_, _> = databases
        .iter()
        .map(|(name, database)| {
            let status: serde_json::Map<_, _> = status_of(database)
                .into_iter()
                .map(|(key, item)| {
                    let value = match item {
                        Item::Count(count) => count.into(),
                        Item::Seconds(seconds) => seconds.into(),
                        Item::Text(text) => text.into(),
                        Item::Truth(truth) => truth.into(),
                        Item::None => serde_json::Value::Null,
                    };
                    (key.to_owned(), value)
                })
                .collect();
            (name.clone(), status.into())
        })
        .collect();
    serde_json::Value::Object(storages).to_string()
}

enum Item {
    Count(u64),
    Seconds(f64),
    Text(String),
    Truth(bool),
    None,
}

/// The keys are ZEO's, whose monitoring programs read them.
fn status_of(database: &Database) -> Vec<(&'static str, Item)> {
    let stats = &database.stats;
    let locked = database.locks.held_since().map_or(Item::None, |since| {
        let held = Instant::now().saturating_duration_since(since);
        let start = SystemTime::now()
            .checked_sub(held)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let epoch = start
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Item::Seconds(epoch.as_secs_f64())
    });
    // The reference has a thread for the timeout, or says that it has none.
    let timeout = match database.transaction_timeout() {
        Some(_) => Item::Truth(true),
        None => Item::Text("stub".to_owned()),
    };
    let mut items = vec![
        ("connections", Item::Count(database.connections() as u64)),
        ("loads", Item::Count(database.loads())),
        ("stores", Item::Count(stats.stores.get())),
        ("commits", Item::Count(stats.commits.get())),
        ("aborts", Item::Count(stats.aborts.get())),
        ("active_txns", Item::Count(stats.active_txns.get())),
        ("lock_time", locked),
        ("conflicts", Item::Count(stats.conflicts.get())),
        (
            "conflicts_resolved",
            Item::Count(stats.conflicts_resolved.get()),
        ),
        ("start", Item::Text(ctime(stats.start))),
        ("waiting", Item::Count(database.locks.waiting() as u64)),
        ("timeout-thread-is-alive", timeout),
        (
            "last-transaction",
            Item::Text(format!("{:016x}", database.storage.last_tid().to_u64())),
        ),
    ];
    // Not among the reference's keys, so it is there only while there is something to tell.
    if let Some(progress) = database
        .storage
        .pack_progress()
        .filter(PackProgress::is_running)
    {
        items.push(("pack", Item::Text(progress.to_string())));
    }
    if let Some(group) = stats.group() {
        items.extend(replication(&group));
    }
    items
}

/// How replication goes; only there where other nodes have the storage, too.
fn replication(group: &GroupStatus) -> impl Iterator<Item = (&'static str, Item)> {
    let lag = group.member(group.node).and_then(|own| own.lag);
    let behind = |value: fn(Lag) -> Item| lag.map_or(Item::None, value);
    let items = [
        ("replication", Item::Text(group.role.name().to_owned())),
        ("replication-term", Item::Count(group.term)),
        (
            "replication-leader",
            group.leader.map_or(Item::None, Item::Count),
        ),
        ("replication-quorum", Item::Truth(group.has_quorum())),
        (
            "replication-lag-transactions",
            behind(|lag| Item::Count(lag.transactions)),
        ),
        (
            "replication-lag-seconds",
            behind(|lag| Item::Seconds(lag.seconds)),
        ),
    ];
    items.into_iter()
}

/// A time as C's `ctime` writes it, in local time.
pub fn ctime(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => time
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime("%a %b %e %H:%M:%S %Y")
            .to_string(),
        Err(_) => String::new(),
    }
}
