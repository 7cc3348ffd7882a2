//! The file that tells others the server's process id.

use std::path::PathBuf;

use super::unfinished;
use crate::config::Config;

/// Written at start, removed at the end.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file that the configuration names. As with the reference, a
    /// read-only server has none, and one that cannot be written stops nobody.
    pub fn write(config: &Config) -> Option<Self> {
        let path = config
            .zeo
            .pid_filename
            .as_ref()
            .filter(|_| !config.zeo.read_only)?;
        let temporary = unfinished(path);
        let written = std::fs::write(&temporary, format!("{}\n", std::process::id()))
            .and_then(|()| std::fs::rename(&temporary, path));
        match written {
            Ok(()) => {
                tracing::info!("created PID file {}", path.display());
                Some(Self(path.clone()))
            }
            Err(error) => {
                tracing::error!("PID file {} cannot be written: {error}", path.display());
                None
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!("PID file {} cannot be removed: {error}", self.0.display());
        }
    }
}
