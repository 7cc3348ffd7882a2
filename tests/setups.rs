//! The set-ups of the ZEO manual: several databases, several servers, and transactions across them.

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;

use std::time::Duration;

const LIMIT: Duration = Duration::from_mins(3);

fn setup(name: &str) {
    python_script::run("setups/setups.py", &[name], LIMIT);
}

#[test]
fn two_clients_share_one_database() {
    setup("shared");
}

#[test]
fn transactions_span_two_databases_of_one_server() {
    setup("one-server");
}

#[test]
fn transactions_span_two_servers() {
    setup("two-servers");
}

/// ZODB votes in one order everywhere, so that this cannot happen; a client that does not must not
/// hold the others up for longer than `transaction-timeout`.
#[test]
fn clients_that_lock_in_crossing_orders_go_on() {
    setup("crossed");
}
