//! An instance of Python's server is upgraded in place, and goes back.

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;

use std::time::Duration;

#[test]
fn an_instance_goes_over_and_back_with_nothing_but_its_bin_runzeo_exchanged() {
    python_script::run(
        "upgrade/in_place.py",
        &[] as &[&str],
        Duration::from_mins(2),
    );
}
