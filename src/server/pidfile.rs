//! The file that tells others the server's process id.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};

use super::privileges::Owner;
use super::unfinished;
use crate::config::Config;

/// Written at start, removed at the end.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file that the configuration names. As with the reference, a
    /// read-only server has none. `owner`: the user whose rights the server
    /// is going to take.
    pub fn write(config: &Config, owner: Option<Owner>) -> io::Result<Option<Self>> {
        let path = config.zeo.pid_filename.as_ref();
        let Some(path) = path.filter(|_| !config.zeo.read_only) else {
            return Ok(None);
        };
        let temporary = unfinished(path);
        // One that a crash left under the same number, as in a container.
        drop(std::fs::remove_file(&temporary));
        write_new(&temporary, owner).inspect_err(|_| drop(std::fs::remove_file(&temporary)))?;
        std::fs::rename(&temporary, path)?;
        Ok(Some(Self(path.clone())))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// In a directory of somebody else's, root must not be led to another file.
fn write_new(path: &Path, owner: Option<Owner>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    writeln!(file, "{}", std::process::id())?;
    match owner {
        Some((uid, gid)) => fchown(&file, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let Err(error) = std::fs::remove_file(&self.0) else {
            return;
        };
        // A user can lack the right to remove what root made. An empty file
        // names no process.
        let emptied = OpenOptions::new().write(true).truncate(true).open(&self.0);
        let path = self.0.display();
        if emptied.is_ok() {
            tracing::info!("PID file {path} cannot be removed, and was emptied: {error}");
        } else {
            tracing::warn!("PID file {path} cannot be removed: {error}");
        }
    }
}
