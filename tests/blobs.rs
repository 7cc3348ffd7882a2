//! Blobs through stock clients: large ones, many at once, crashes, and every way to lay them out.
//! `ZEOD_BLOB_BYTES` is the size of the large one (256 MB; 2 GB before a release),
//! `ZEOD_BLOB_CRASH_ROUNDS` how often the server is killed (10).

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;

use std::time::Duration;

const LARGE_BYTES: u32 = 256 << 20;
const CRASH_ROUNDS: u32 = 10;
const LIMIT: Duration = Duration::from_mins(3);
/// On a slow disk, and written more than once.
const LEAST_BYTES_PER_SECOND: u32 = 4 << 20;
/// A stock client tries to reconnect every one to two seconds.
const ROUND_LIMIT: Duration = Duration::from_secs(15);

#[test]
fn a_large_blob_goes_up_and_down_without_being_in_memory() {
    let bytes = python_script::number("ZEOD_BLOB_BYTES", LARGE_BYTES);
    let limit = LIMIT + Duration::from_secs(u64::from(bytes / LEAST_BYTES_PER_SECOND));
    python_script::run("blobs/large.py", &[bytes.to_string()], limit);
}

#[test]
fn uploads_do_not_hold_up_small_commits() {
    python_script::run("blobs/latency.py", &[] as &[&str], LIMIT);
}

#[test]
fn no_acknowledged_blob_is_lost_by_kill_9_and_no_other_stays() {
    let rounds = python_script::number("ZEOD_BLOB_CRASH_ROUNDS", CRASH_ROUNDS);
    let limit = LIMIT + ROUND_LIMIT * rounds;
    python_script::run("blobs/crash.py", &[rounds.to_string()], limit);
}

#[test]
fn blobs_lie_where_zodb_looks_for_them_in_every_set_up() {
    python_script::run("blobs/layouts.py", &[] as &[&str], LIMIT);
}
