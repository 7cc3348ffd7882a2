//! ZEO's own test suite against the real binary: see tests/conformance/README.md.

#[path = "support/python_env.rs"]
mod python_env;

use std::env;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The run takes a few minutes; past this something hangs.
const LIMIT: Duration = Duration::from_mins(20);

/// After SIGTERM the runner has this long to end its servers before it is killed.
const GRACE: Duration = Duration::from_secs(10);

#[test]
fn zeo_test_suite_passes() {
    let Some(python) = python_env::python() else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance.json");
    // Another binary, an installed one for instance, can be tested by naming it.
    let binary = env::var_os("ZEOD_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_zeod").into());
    // Its output goes where ours goes, as it comes: the run is too long for silence.
    let mut runner = Command::new(python)
        .arg(root.join("tests/conformance/run.py"))
        .arg("--die-with-parent")
        .arg("--results")
        .arg(&results)
        .env("ZEOD_BINARY", binary)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let status = wait_at_most(&mut runner, LIMIT).unwrap();
    assert!(
        status.is_some_and(|status| status.success()),
        "the conformance run {}; its counts and tracebacks stand above",
        status.map_or_else(
            || format!("took more than {} s", LIMIT.as_secs()),
            |s| format!("failed ({s})")
        )
    );
}

/// Returns `None` where the process had to be ended. What it started ends with it: each of its
/// children asked the kernel for that.
fn wait_at_most(process: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    if let Some(status) = poll(process, limit)? {
        return Ok(Some(status));
    }
    if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::TERM)?;
    }
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
        thread::sleep(Duration::from_millis(100));
    }
}
