//! `<zeoclient>`: zeod in front of another server, zeod or Python's, through stock clients.

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;

use std::time::Duration;

const LIMIT: Duration = Duration::from_mins(3);

#[test]
fn all_is_passed_on_to_zeod() {
    python_script::run("fan_out/pass_on.py", &["zeod"], LIMIT);
}

#[test]
fn all_is_passed_on_to_pythons_server() {
    python_script::run("fan_out/pass_on.py", &["python"], LIMIT);
}

#[test]
fn nothing_stale_is_read_after_zeod_was_replaced() {
    python_script::run("fan_out/comes_back.py", &["zeod"], LIMIT);
}

#[test]
fn nothing_stale_is_read_after_pythons_server_was_replaced() {
    python_script::run("fan_out/comes_back.py", &["python"], LIMIT);
}
