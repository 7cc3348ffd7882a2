use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Snapshot;
use crate::session::ctime;

/// What ZEO 3 and 4 called themselves here. Plugins insist that it begins with
/// "3.", whatever the server's version is.
const FORMAT_VERSION: &str = "3.10";

/// The text of ZEO 4's monitor server, for the plugins of munin, nagios and
/// others that read it: a line of who speaks, one with the time, and for each
/// storage a line with its name and lines `KEY: NUMBER`, an empty one behind.
/// Source: ZEO 4 `monitor.py`, for the keys and their order.
pub fn text(snapshot: &Snapshot, now: SystemTime) -> String {
    let started = Duration::try_from_secs_f64(snapshot.started_seconds).unwrap_or_default();
    let started = ctime(UNIX_EPOCH + started);
    let mut text = format!(
        "ZEO monitor server version {FORMAT_VERSION} (zeod {})\n{}\n\n",
        snapshot.version,
        ctime(now)
    );
    for storage in &snapshot.storages {
        let _ = writeln!(text, "Storage: {}", storage.name);
        let _ = writeln!(text, "Server started: {started}");
        let mut line = |key: &str, number: u64| {
            let _ = writeln!(text, "{key}: {number}");
        };
        line("Clients", storage.connections);
        // Clients verify their caches without the server's help since ZEO 5.
        line("Clients verifying", 0);
        line("Active transactions", storage.transactions_active);
        if let Some(held) = storage.lock_held_seconds {
            let held = Duration::try_from_secs_f64(held).unwrap_or_default();
            line("Commit lock held for", held.as_secs());
        }
        line("Commits", storage.commits);
        line("Aborts", storage.aborts);
        line("Loads", storage.loads);
        line("Stores", storage.stores);
        line("Conflicts", storage.conflicts);
        line("Conflicts resolved", storage.conflicts_resolved);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::StorageStatus;
    use super::*;

    #[test]
    fn it_is_what_plugins_read() {
        let storage = |name: &str, lock_held_seconds| StorageStatus {
            name: name.to_owned(),
            connections: 1,
            transactions_active: 2,
            lock_held_seconds,
            commits: 3,
            aborts: 4,
            loads: 5,
            stores: 6,
            conflicts: 7,
            conflicts_resolved: 8,
            ..StorageStatus::default()
        };
        let snapshot = Snapshot {
            version: "0.1",
            storages: vec![storage("1", None), storage("main", Some(9.9))],
            ..Snapshot::default()
        };
        let ctime = ctime(UNIX_EPOCH);
        let numbers = "Commits: 3\nAborts: 4\nLoads: 5\nStores: 6\nConflicts: 7\n\
                       Conflicts resolved: 8\n";
        let counts = "Clients: 1\nClients verifying: 0\nActive transactions: 2\n";
        assert_eq!(
            text(&snapshot, UNIX_EPOCH),
            format!(
                "ZEO monitor server version 3.10 (zeod 0.1)\n{ctime}\n\n\
                 Storage: 1\nServer started: {ctime}\n{counts}{numbers}\n\
                 Storage: main\nServer started: {ctime}\n{counts}Commit lock held for: 9\n\
                 {numbers}\n"
            )
        );
    }
}
