//! Waiting for what another process does.

#![allow(
    dead_code,
    reason = "each test that includes this module uses a part of it"
)]

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long it may take.
pub const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// Asks again and again, and gives what there is in the end.
///
/// # Panics
///
/// Where there is nothing within [`PATIENCE`]; `what` says what was waited for.
pub fn wait_until<T>(what: &str, condition: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        sleep(POLL);
    }
}

/// Waits until a file, such as a log, has `text` in it; all that it says.
///
/// # Panics
///
/// Where that takes too long, with what it says then.
pub fn await_text(path: &Path, text: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = fs::read(path).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        if said.contains(text) {
            return said;
        }
        let path = path.display();
        assert!(Instant::now() < deadline, "no {text:?} in {path}:\n{said}");
        sleep(POLL);
    }
}
