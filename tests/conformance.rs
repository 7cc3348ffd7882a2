//! ZEO's own test suite against the real binary: see tests/conformance/README.md.

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The run takes a few minutes; past this something hangs.
const LIMIT: Duration = Duration::from_mins(20);
/// One run at a time: each uses all cores, and its tests have time limits.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn zeo_test_suite_passes() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance.json");
    let results = results.to_str().unwrap();
    let arguments = ["--die-with-parent", "--results", results];
    python_script::run("conformance/run.py", &arguments, LIMIT);
}

/// What only a follower can get wrong: reconnections, servers for reading only, transactions that take too
/// long, packs one after the other, a blob directory that the client shares.
#[test]
fn a_part_of_zeo_test_suite_passes_through_a_follower() {
    const PART: &str = "FileStorage(Timeout|Reconnection)Tests|FileStorageConnectionTests.checkReadOnly|\
                        FileStorageTests.testPackLotsWhileWriting|SharedBlobs.*savepoint_cleanup";
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let arguments = ["--die-with-parent", "--through-follower", "--filter", PART];
    python_script::run("conformance/run.py", &arguments, LIMIT);
}

/// The tests of databases in files, whose servers are followers in clusters of three. Each cluster
/// is made anew.
#[test]
#[ignore = "half an hour: see CONTRIBUTING.md"]
fn zeo_test_suite_passes_through_a_follower() {
    let wires: [&[&str]; 2] = [&["--wire", "pickle"], &["--wire", "msgpack"]];
    for wire in wires {
        let arguments = [&["--die-with-parent", "--through-follower"], wire].concat();
        python_script::run("conformance/run.py", &arguments, 3 * LIMIT);
    }
}
