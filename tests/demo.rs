//! A `<demostorage>` of zeod answers as Python's does, over a base that Python wrote.

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;

use std::time::Duration;

const LIMIT: Duration = Duration::from_mins(3);

fn demo(name: &str) {
    python_script::run("demo/demo.py", &[name], LIMIT);
}

#[test]
fn over_a_file_with_changes_in_memory() {
    demo("memory");
}

#[test]
fn over_a_read_only_file_with_changes_in_a_file() {
    demo("file");
}

#[test]
fn over_another_demostorage() {
    demo("nested");
}

#[test]
fn in_the_place_of_changes() {
    demo("nested-changes");
}

#[test]
fn with_blobs_in_base_and_changes() {
    demo("blobs");
}

#[test]
fn with_blobs_in_a_temporary_directory() {
    demo("temporary-blobs");
}

/// ZEO has these tests, and does not run them.
#[test]
fn the_tests_of_zeo_pass() {
    python_script::run("demo/generic.py", &[] as &[&str], LIMIT);
}
