//! Clients that stay up while the server stops, or crashes, and comes back. `ZEOD_CRASH_ROUNDS`
//! and `ZEOD_STOP_ROUNDS` say how often: 10 times here, 200 times before a release.

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;

use std::time::Duration;

const DEFAULT_ROUNDS: u32 = 10;

/// A stock client tries to reconnect every one to two seconds.
const ROUND_LIMIT: Duration = Duration::from_secs(15);
const MARGIN: Duration = Duration::from_mins(1);

#[test]
fn no_oid_is_given_twice_over_restarts() {
    python_script::run("restart/oids.py", &[] as &[&str], ROUND_LIMIT * 8 + MARGIN);
}

#[test]
fn no_acknowledged_transaction_is_lost_by_kill_9() {
    let rounds = python_script::number("ZEOD_CRASH_ROUNDS", DEFAULT_ROUNDS);
    python_script::run(
        "restart/crash.py",
        &[&rounds.to_string(), "kill"],
        ROUND_LIMIT * rounds + MARGIN,
    );
}

#[test]
fn a_stop_leaves_no_client_in_doubt() {
    let rounds = python_script::number("ZEOD_STOP_ROUNDS", DEFAULT_ROUNDS);
    python_script::run(
        "restart/crash.py",
        &[&rounds.to_string(), "stop"],
        ROUND_LIMIT * rounds + MARGIN,
    );
}
