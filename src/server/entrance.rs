//! The first part of a start: what can need root's rights.

use std::net::SocketAddr;
use std::path::Path;

use super::ServerError;
use super::activation::Handed;
use super::listener::Listeners;
use super::pidfile::PidFile;
use super::privileges::Identity;
use super::signals::Signals;
use crate::config::{Address, Config};

/// What is there before the storages are opened, and before the log is.
pub struct Entrance {
    /// What the process is told.
    pub signals: Signals,
    /// Where clients come in.
    pub listeners: Listeners,
    /// Removed when it is dropped.
    pub pid_file: Option<PidFile>,
    /// What to say once there is a log.
    complaints: Vec<String>,
}

impl Entrance {
    /// Listens, and writes the PID file. `user`: whose rights are taken next,
    /// and who needs a right to what is made here.
    pub async fn open(
        config: &Config,
        handed: Option<Handed>,
        user: Option<&Identity>,
    ) -> Result<Self, ServerError> {
        // First of all, so that a signal during a long start is not lost.
        let signals = Signals::new().map_err(ServerError::io("catching signals"))?;
        let mut complaints = Vec::new();
        let address = &config.zeo.address;
        let listeners = match handed {
            Some(handed) => {
                if !handed.includes(address, &resolved(address).await) {
                    complaints.push(format!(
                        "address {address} of the configuration is not used: the service manager \
                         has handed over other sockets"
                    ));
                }
                Listeners::from_handed(handed)
                    .map_err(ServerError::io("taking the service manager's sockets"))?
            }
            None => Listeners::bind(address).await?,
        };
        let owner = user.map(Identity::owner);
        if let Some(owner) = owner {
            listeners
                .give_to(owner)
                .map_err(ServerError::io(format!("giving {address} to its user")))?;
        }
        let pid_file = PidFile::write(config, owner).unwrap_or_else(|error| {
            let path = config.zeo.pid_filename.as_deref().unwrap_or(Path::new(""));
            complaints.push(format!(
                "PID file {} cannot be written: {error}",
                path.display()
            ));
            None
        });
        Ok(Self {
            signals,
            listeners,
            pid_file,
            complaints,
        })
    }

    /// Says in the log what came before it.
    pub fn report(&self) {
        for complaint in &self.complaints {
            tracing::warn!("{complaint}");
        }
        if let Some(pid_file) = &self.pid_file {
            tracing::info!("created PID file {}", pid_file.path().display());
        }
    }
}

/// The addresses of a host's name, where there is one.
async fn resolved(address: &Address) -> Vec<SocketAddr> {
    let Address::Tcp {
        host: Some(host),
        port,
    } = address
    else {
        return Vec::new();
    };
    let found = tokio::net::lookup_host((host.as_str(), *port)).await;
    found.map(Iterator::collect).unwrap_or_default()
}
