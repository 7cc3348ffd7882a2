//! A Python with the reference ZEO and ZODB, for the tests that compare with it or use its client.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Everything in the environment, each package with its exact version.
const REQUIREMENTS: &str = include_str!("../conformance/requirements.txt");

/// The oldest Python that all pinned packages support.
const MINOR_AT_LEAST: u32 = 11;

/// Written last: an environment without it is half made.
const STAMP: &str = "complete";

/// Returns the Python interpreter of the environment, making the environment first where it is missing.
///
/// Several test binaries may ask at once: one makes it, the others wait. Where it cannot be made this
/// says why, loudly, and returns `None`: the caller then skips its tests.
///
/// # Panics
///
/// Under `CI=true` where it cannot be made: there a skipped test is a failed one.
pub fn python() -> Option<PathBuf> {
    match find_or_make() {
        Ok(python) => Some(python),
        Err(reason) => {
            assert!(
                env::var("CI").as_deref() != Ok("true"),
                "the tests against Python cannot run, and under CI they must: {reason}"
            );
            say(&format!(
                "\n!!! SKIPPED: the tests against Python cannot run: {reason}\n"
            ));
            None
        }
    }
}

fn find_or_make() -> Result<PathBuf, String> {
    let version = interpreter_version()?;
    // Made anew for other packages or another interpreter; an old one is left for older checkouts.
    let key = crc32fast::hash(format!("{version}\n{REQUIREMENTS}").as_bytes());
    let parent = target_dir().join("python-env");
    let home = parent.join(format!("{key:08x}"));
    let python = home.join("bin/python");

    fs::create_dir_all(&parent).map_err(|e| format!("{}: {e}", parent.display()))?;
    let lock_path = parent.join(format!("{key:08x}.lock"));
    let lock = File::create(&lock_path).map_err(|e| format!("{}: {e}", lock_path.display()))?;
    lock.lock()
        .map_err(|e| format!("{}: {e}", lock_path.display()))?;

    if !home.join(STAMP).exists() {
        make(&home, &python)?;
    }
    Ok(python)
}

fn make(home: &Path, python: &Path) -> Result<(), String> {
    if home.exists() {
        fs::remove_dir_all(home).map_err(|e| format!("{}: {e}", home.display()))?;
    }
    say(&format!(
        "making the Python environment {} (once)",
        home.display()
    ));
    // At its final path: the scripts of an environment name it.
    run(Command::new("python3").args(["-m", "venv"]).arg(home)).map_err(|e| {
        format!(
            "python3 cannot make a virtual environment; where ensurepip or venv is missing install it \
             (Debian and Ubuntu: python3-venv)\n{e}"
        )
    })?;
    let requirements = home.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)
        .map_err(|e| format!("{}: {e}", requirements.display()))?;
    run(Command::new(python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            "--no-deps",
        ])
        .arg("-r")
        .arg(&requirements))
    .map_err(|e| format!("the pinned Python packages cannot be installed\n{e}"))?;
    run(Command::new(python).args(["-m", "pip", "--disable-pip-version-check", "check"]))
        .map_err(|e| format!("tests/conformance/requirements.txt is not complete\n{e}"))?;
    let stamp = home.join(STAMP);
    fs::write(&stamp, "").map_err(|e| format!("{}: {e}", stamp.display()))
}

/// Returns what `python3` says of itself, "3.11.7 (…)".
fn interpreter_version() -> Result<String, String> {
    let output = run(Command::new("python3").args(["-c", "import sys; print(sys.version, sys.executable)"]))
        .map_err(|e| format!("there is no usable python3 on the PATH; install Python 3.{MINOR_AT_LEAST} or later\n{e}"))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let minor = version
        .strip_prefix("3.")
        .and_then(|rest| rest.split(['.', '+']).next()?.parse().ok());
    if minor.is_none_or(|minor: u32| minor < MINOR_AT_LEAST) {
        return Err(format!(
            "python3 is {version}; the reference needs 3.{MINOR_AT_LEAST} or later"
        ));
    }
    Ok(version)
}

/// Writes to standard error past the test harness, which keeps what a passing test prints to itself.
fn say(line: &str) {
    // Nothing can be done where standard error is closed.
    let _ = writeln!(io::stderr(), "{line}");
}

fn target_dir() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp).to_path_buf()
}

/// Runs to the end; an error holds everything that the command said.
fn run(command: &mut Command) -> Result<Output, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!(
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}
