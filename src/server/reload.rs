//! SIGHUP: reads the configuration anew, and applies what can change while
//! clients are served. What cannot is named in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::limits::DEFAULT_TRANSACTION_TIMEOUT;
use super::logging::Logging;
use super::tls::Tls;
use crate::config::{Config, NamedStorage, StorageConfig, ZeoSection, ZeodSection};
use crate::session::Databases;

/// Reads the configuration as it was read for the start; the error is a text
/// for the administrator.
pub type Reread<'a> = dyn Fn() -> Result<Config, String> + 'a;

/// What a reload works on.
pub struct Reload<'a> {
    /// What holds now: as at the start, but for what was applied since.
    config: Config,
    reread: &'a Reread<'a>,
    logging: &'a Logging,
    tls: Option<Arc<Tls>>,
}

impl<'a> Reload<'a> {
    /// `config` is what the server was started with.
    pub fn new(
        config: &Config,
        reread: &'a Reread<'a>,
        logging: &'a Logging,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        Self {
            config: config.clone(),
            reread,
            logging,
            tls,
        }
    }

    /// Was the server started with a configuration file, which can be read again?
    pub fn is_possible(&self) -> bool {
        !self.config.source.as_os_str().is_empty()
    }

    /// The log.
    pub fn logging(&self) -> &'a Logging {
        self.logging
    }

    /// How long a stop may wait for voted transactions.
    pub fn shutdown_time(&self) -> Duration {
        self.config.zeod.shutdown_time
    }

    /// Reads and applies. A configuration with a mistake changes nothing.
    pub fn run(&mut self, databases: &Databases) {
        let new = match (self.reread)() {
            Ok(new) => new,
            Err(problem) => {
                tracing::error!("nothing was reloaded, the configuration is wrong: {problem}");
                return;
            }
        };
        for warning in &new.warnings {
            tracing::warn!("{warning}");
        }
        let mut applied = Vec::new();
        // The log first: it can fail, and what follows is then told where it is
        // looked for.
        if self.config.eventlog != new.eventlog {
            if let Err(problem) = self.logging.replace(new.eventlog.as_ref()) {
                tracing::error!("nothing was reloaded: {problem}");
                return;
            }
            self.config.eventlog.clone_from(&new.eventlog);
            applied.push("<eventlog>");
        }
        // These change without a key's changing.
        if let Some(tls) = &self.tls {
            match tls.reload() {
                Ok(()) => tracing::info!("certificates read anew"),
                Err(problem) => {
                    tracing::error!(
                        "the certificates in use stay, the new ones are wrong: {problem}"
                    );
                }
            }
        }
        let (own, other) = (&mut self.config, &new);
        if own.zeo.transaction_timeout != other.zeo.transaction_timeout {
            own.zeo.transaction_timeout = other.zeo.transaction_timeout;
            let timeout = own.zeo.transaction_timeout;
            for database in databases.values() {
                database.set_transaction_timeout(timeout.or(Some(DEFAULT_TRANSACTION_TIMEOUT)));
            }
            applied.push("transaction-timeout");
        }
        if own.zeod.shutdown_time != other.zeod.shutdown_time {
            own.zeod.shutdown_time = other.zeod.shutdown_time;
            applied.push("shutdown-time");
        }
        for change in needing_restart(own, other) {
            tracing::warn!("{change} was changed in the configuration, which needs a restart");
        }
        match applied.join(", ") {
            keys if keys.is_empty() => tracing::info!("configuration reloaded"),
            keys => tracing::info!("configuration reloaded: changed {keys}"),
        }
    }
}

/// What differs and holds only after a restart.
fn needing_restart(old: &Config, new: &Config) -> Vec<String> {
    let keys = zeo_keys(&old.zeo, &new.zeo)
        .into_iter()
        .chain(zeod_keys(&old.zeod, &new.zeod))
        .filter(|(_, differs)| *differs)
        .map(|(key, _)| key.to_owned());
    keys.chain(changed_storages(&old.storages, &new.storages))
        .collect()
}

type Compared = Vec<(&'static str, bool)>;

/// Every key of `<zeo>` that is not applied. All fields are named, so that a
/// new one has to find its place here.
fn zeo_keys(old: &ZeoSection, new: &ZeoSection) -> Compared {
    let ZeoSection {
        address,
        read_only,
        invalidation_queue_size,
        invalidation_age,
        transaction_timeout: _,
        pid_filename,
        client_conflict_resolution,
        msgpack,
        monitor_address,
        ssl,
    } = new;
    vec![
        ("address", *address != old.address),
        ("read-only", *read_only != old.read_only),
        (
            "invalidation-queue-size",
            *invalidation_queue_size != old.invalidation_queue_size,
        ),
        (
            "invalidation-age",
            *invalidation_age != old.invalidation_age,
        ),
        ("pid-filename", *pid_filename != old.pid_filename),
        (
            "client-conflict-resolution",
            *client_conflict_resolution != old.client_conflict_resolution,
        ),
        ("msgpack", *msgpack != old.msgpack),
        ("monitor-address", *monitor_address != old.monitor_address),
        ("<ssl>", *ssl != old.ssl),
    ]
}

/// The same of `<zeod>`.
fn zeod_keys(old: &ZeodSection, new: &ZeodSection) -> Compared {
    let ZeodSection {
        status_address,
        user,
        max_connections,
        max_message_bytes,
        max_transaction_bytes,
        max_unsent_bytes,
        memory_budget_bytes,
        stall_time,
        keepalive_time,
        shutdown_time: _,
        key_password_file,
        key_password_command,
        access,
        replication,
    } = new;
    vec![
        ("status-address", *status_address != old.status_address),
        ("user", *user != old.user),
        ("max-connections", *max_connections != old.max_connections),
        (
            "max-message-size",
            *max_message_bytes != old.max_message_bytes,
        ),
        (
            "max-transaction-size",
            *max_transaction_bytes != old.max_transaction_bytes,
        ),
        ("max-unsent", *max_unsent_bytes != old.max_unsent_bytes),
        (
            "memory-budget",
            *memory_budget_bytes != old.memory_budget_bytes,
        ),
        ("stall-time", *stall_time != old.stall_time),
        ("keepalive-time", *keepalive_time != old.keepalive_time),
        (
            "key-password-file",
            *key_password_file != old.key_password_file,
        ),
        (
            "key-password-command",
            *key_password_command != old.key_password_command,
        ),
        ("<access>", *access != old.access),
        ("<replication>", *replication != old.replication),
    ]
}

/// Storages that came, went or changed.
fn changed_storages(old: &[NamedStorage], new: &[NamedStorage]) -> Vec<String> {
    let by_name = |storages: &'_ [NamedStorage]| -> BTreeMap<String, StorageConfig> {
        let named = |named: &NamedStorage| (named.name.clone(), named.storage.clone());
        storages.iter().map(named).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name));
    changed.map(|name| format!("storage {name}")).collect()
}
