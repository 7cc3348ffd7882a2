use std::path::PathBuf;
use std::time::Duration;

use super::{Address, Config, FileStorageConfig, NamedStorage, StorageConfig};

/// What the command line says beside, or instead of, a configuration file.
/// Where both say something, the command line wins (source: zdaemon
/// zdoptions.py, ZEO runzeo.py).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// `-a`: where to listen.
    pub address: Option<Address>,
    /// `-f`, once for each: data files, taken literally. If there is one, the
    /// storages of the configuration file are not served at all.
    pub files: Vec<PathBuf>,
    /// `-t`: how long a transaction may hold the commit lock.
    pub transaction_timeout: Option<Duration>,
    /// `--pid-file`, taken literally.
    pub pid_filename: Option<PathBuf>,
}

impl Overrides {
    /// Puts these in the place of what `config` says.
    pub(super) fn apply(&self, config: &mut Config) {
        if let Some(address) = &self.address {
            config.zeo.address = address.clone();
        }
        if !self.files.is_empty() {
            config.storages = storages_of(&self.files);
        }
        if self.transaction_timeout.is_some() {
            config.zeo.transaction_timeout = self.transaction_timeout;
        }
        if self.pid_filename.is_some() {
            config.zeo.pid_filename.clone_from(&self.pid_filename);
        }
    }
}

/// File storages called "1", "2", … with every option at its default.
pub(super) fn storages_of(files: &[PathBuf]) -> Vec<NamedStorage> {
    files
        .iter()
        .zip(1_usize..)
        .map(|(path, number)| NamedStorage {
            name: number.to_string(),
            storage: StorageConfig::File(FileStorageConfig::new(path.clone())),
        })
        .collect()
}
