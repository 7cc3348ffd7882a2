//! Undo by chance: zeod writes the same bytes as Python's `FileStorage`. `ZEOD_UNDO_HISTORIES` says
//! how many histories, `ZEOD_UNDO_SEED` which one is the first; a single one is replayed with both.

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;

use std::time::Duration;

const DEFAULT_HISTORIES: u32 = 40;
const HISTORY_LIMIT: Duration = Duration::from_secs(5);
const MARGIN: Duration = Duration::from_mins(1);

#[test]
fn undo_writes_what_python_writes() {
    let histories = python_script::number("ZEOD_UNDO_HISTORIES", DEFAULT_HISTORIES);
    let seed = python_script::number("ZEOD_UNDO_SEED", 1);
    python_script::run(
        "undo/histories.py",
        &[seed.to_string(), histories.to_string()],
        HISTORY_LIMIT * histories + MARGIN,
    );
}
