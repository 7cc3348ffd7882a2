//! Runs a Python script of the acceptance tests against the zeod program.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test that includes this module uses a part of it; a panic there is a failed test"
)]

use std::env;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::python_env;

/// After SIGTERM a script has this long to end before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// Runs `script` (a path below tests/) in the pinned Python, with the path of the zeod program in
/// `ZEOD_BINARY`; another one, an installed one for instance, can be named there from outside. What it prints goes where ours goes: its figures, and why a check failed.
///
/// # Panics
///
/// Where it fails, or takes longer than `limit`.
pub fn run<A: AsRef<OsStr>>(script: &str, arguments: &[A], limit: Duration) {
    let Some(python) = python_env::python() else {
        return;
    };
    let binary = env::var_os("ZEOD_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_zeod").into());
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut process = Command::new(python)
        .arg(tests.join(script))
        .args(arguments)
        .env("ZEOD_BINARY", binary)
        .env("PYTHONPATH", tests.join("support"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let status = wait_at_most(&mut process, limit).unwrap();
    assert!(
        status.is_some_and(|status| status.success()),
        "{script} {}; what it said stands above",
        status.map_or_else(
            || format!("took more than {} s", limit.as_secs()),
            |status| format!("failed ({status})")
        )
    );
}

/// How long or how often a test runs: what the environment says, or `default`.
///
/// # Panics
///
/// Where the environment says something else than a number.
pub fn number(variable: &str, default: u32) -> u32 {
    env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Returns `None` where the process had to be ended. What it started ends with it: each of its
/// children asked the kernel for that.
fn wait_at_most(process: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    if let Some(status) = poll(process, limit)? {
        return Ok(Some(status));
    }
    kill_process(Pid::from_child(process), Signal::TERM)?;
    if poll(process, GRACE)?.is_none() {
        process.kill()?;
        process.wait()?;
    }
    Ok(None)
}

fn poll(process: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        let status = process.try_wait()?;
        if status.is_some() || Instant::now() > deadline {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(50));
    }
}
