//! Databases move between Python's `FileStorage` and zeod in both directions.

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;

use std::time::Duration;

const LIMIT: Duration = Duration::from_mins(5);

#[test]
fn what_python_wrote_is_served_as_it_is() {
    python_script::run("interchange/from_python.py", &[] as &[&str], LIMIT);
}

#[test]
fn what_zeod_wrote_opens_in_python() {
    python_script::run("interchange/to_python.py", &[] as &[&str], LIMIT);
}
