//! Clocks that are wrong and disks that fail, for one server: `shim.c`, loaded into it.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::network::run;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/cluster/shim.c");
const CLOCK_OFFSET_AT: u64 = 0;
const SYNCS_FAIL_AT: u64 = 8;
const SYNC_MS_AT: u64 = 16;
const CONTROL_BYTES: u64 = 24;

/// What one server is told.
pub struct Control {
    file: File,
    path: PathBuf,
}

impl Control {
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        file.set_len(CONTROL_BYTES)?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Puts a server under control.
    pub fn apply(&self, library: &Path, command: &mut Command) {
        command
            .env("LD_PRELOAD", library)
            .env("ZEOD_TEST_CONTROL", &self.path)
            .env("ZEOD_TEST_SYNCED", self.synced());
    }

    /// How many seconds its clock is ahead, from now on.
    pub fn set_clock(&self, ahead_s: i64) -> io::Result<()> {
        self.set(CLOCK_OFFSET_AT, ahead_s)
    }

    /// Whether fsync and fdatasync fail with EIO from now on.
    pub fn fail_syncs(&self, fail: bool) -> io::Result<()> {
        self.set(SYNCS_FAIL_AT, fail.into())
    }

    /// How long each fsync and fdatasync takes from now on, in milliseconds, besides its own time.
    pub fn slow_syncs(&self, milliseconds: i64) -> io::Result<()> {
        self.set(SYNC_MS_AT, milliseconds)
    }

    /// Where the shim writes down how long files were when they were synced.
    pub fn synced(&self) -> PathBuf {
        self.path.with_extension("synced")
    }

    fn set(&self, at: u64, value: i64) -> io::Result<()> {
        self.file.write_all_at(&value.to_ne_bytes(), at)
    }
}

/// Compiles the library into `directory`. Its path.
///
/// # Panics
///
/// Where there is no C compiler: the log that zeod uses needs one, too.
pub fn compile(directory: &Path) -> PathBuf {
    fs::create_dir_all(directory).unwrap();
    let library = directory.join("shim.so");
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut cc = Command::new(compiler);
    cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(SOURCE)
        .arg("-ldl");
    run(&mut cc).unwrap();
    library
}
