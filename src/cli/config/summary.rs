//! What a configuration means, for `zeod config check`.

use std::fmt::{self, Write};
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::config::{
    Config, FileStorageConfig, LogHandler, LogTarget, ReplicationSection, Rotation,
    SslAuthentication, StorageConfig, ZeodSection,
};

/// The summary, line by line; warnings stand last.
pub fn of(config: &Config) -> String {
    let mut summary = Summary::default();
    // Writing to a String does not fail.
    let _ = summary.write(config);
    summary.text
}

#[derive(Default)]
struct Summary {
    text: String,
    /// What is found beside what the file says.
    warnings: Vec<String>,
}

impl Summary {
    fn write(&mut self, config: &Config) -> fmt::Result {
        self.server(config)?;
        for storage in &config.storages {
            self.storage(&storage.storage, &format!("storage {}", storage.name), 0)?;
        }
        if let Some(section) = &config.zeod.replication {
            self.replication(section)?;
        }
        self.log(config)?;
        self.limits(&config.zeod)?;
        let warnings = config.warnings.iter().map(ToString::to_string);
        let warnings: Vec<String> = warnings.chain(self.warnings.drain(..)).collect();
        if !warnings.is_empty() {
            writeln!(self.text, "\nWarnings:")?;
        }
        for warning in warnings {
            writeln!(self.text, "  {warning}")?;
        }
        Ok(())
    }

    /// A line with its heading, indented for what is nested.
    fn line(&mut self, heading: &str, depth: usize, text: &str) -> fmt::Result {
        let indent = 2 * depth;
        writeln!(self.text, "{:indent$}{heading:<20} {text}", "")
    }

    fn server(&mut self, config: &Config) -> fmt::Result {
        let zeo = &config.zeo;
        self.line("address", 0, &zeo.address.to_string())?;
        let tls = match &zeo.ssl {
            None => "off".to_owned(),
            Some(ssl) => {
                self.must_exist(&ssl.certificate, "the certificate");
                if let Some(key) = &ssl.key {
                    self.must_exist(key, "the private key");
                }
                let clients = match &ssl.authenticate {
                    SslAuthentication::Signed => {
                        "clients with a certificate of an authority that the system knows"
                            .to_owned()
                    }
                    SslAuthentication::Certificates(path) => {
                        self.must_exist(path, "the certificates of clients");
                        format!("clients for whom {} vouches", path.display())
                    }
                };
                format!("on, certificate {}; {clients}", ssl.certificate.display())
            }
        };
        self.line("TLS", 0, &tls)?;
        for access in &config.zeod.access {
            let list = |names: &[String]| match names {
                [] => "nobody".to_owned(),
                names => names.join(", "),
            };
            let (writers, readers) = (list(&access.read_write), list(&access.read_only));
            let text = format!("read and write: {writers}; only read: {readers}");
            self.line(&format!("access to {}", access.storage), 0, &text)?;
        }
        if zeo.read_only {
            self.line("read-only", 0, "all storages, for all clients")?;
        }
        if let Some(time) = zeo.transaction_timeout {
            self.line("transaction timeout", 0, &seconds(time))?;
        }
        if let Some(address) = &zeo.monitor_address {
            self.line("monitor", 0, &address.to_string())?;
        }
        if let Some(pid_filename) = &zeo.pid_filename {
            self.line("process id", 0, &pid_filename.display().to_string())?;
        }
        Ok(())
    }

    fn storage(&mut self, storage: &StorageConfig, heading: &str, depth: usize) -> fmt::Result {
        match storage {
            StorageConfig::File(file) => self.file_storage(file, heading, depth),
            StorageConfig::Client(client) => {
                let servers: Vec<_> = client.servers.iter().map(ToString::to_string).collect();
                let text = format!("storage {} of {}", client.storage, servers.join(", "));
                self.line(heading, depth, &text)
            }
            StorageConfig::Mapping { .. } => {
                self.line(heading, depth, "in memory, gone when the server stops")
            }
            StorageConfig::Blob { blob_dir, base } => {
                let text = format!("blobs in {}{}", blob_dir.display(), directory(blob_dir));
                self.line(heading, depth, &text)?;
                self.storage(base, "everything else", depth + 1)
            }
            StorageConfig::Demo { base, changes, .. } => {
                self.line(heading, depth, "changes on top of a base")?;
                match base {
                    Some(base) => self.storage(base, "base", depth + 1)?,
                    None => self.line("base", depth + 1, "empty")?,
                }
                match changes {
                    Some(changes) => self.storage(changes, "changes", depth + 1),
                    None => self.line(
                        "changes",
                        depth + 1,
                        "in memory, gone when the server stops",
                    ),
                }
            }
        }
    }

    fn file_storage(
        &mut self,
        storage: &FileStorageConfig,
        heading: &str,
        depth: usize,
    ) -> fmt::Result {
        let path = storage.path.display();
        let mut text = match fs::metadata(&storage.path) {
            Ok(file) if storage.create => format!("{path} ({} bytes, will be EMPTIED)", file.len()),
            Ok(file) => format!("{path} ({} bytes)", file.len()),
            Err(_) if storage.read_only => {
                self.warnings
                    .push(format!("{path} does not exist and is read-only"));
                format!("{path} (missing)")
            }
            Err(_) => format!("{path} (not there yet)"),
        };
        if let Some(blob_dir) = &storage.blob_dir {
            let blobs = blob_dir.display();
            write!(text, ", blobs in {blobs}{}", directory(blob_dir))?;
        }
        if storage.read_only {
            text.push_str(", read-only");
        }
        if let Some(quota) = storage.quota_bytes {
            write!(text, ", at most {}", bytes(quota))?;
        }
        self.line(heading, depth, &text)
    }

    fn replication(&mut self, section: &ReplicationSection) -> fmt::Result {
        let text = format!(
            "node {} at {}, log in {}{}, {} of it kept",
            section.node_id,
            section.address,
            section.directory.display(),
            directory(&section.directory),
            bytes(section.log_size_bytes)
        );
        self.line("replication", 0, &text)?;
        let peers = section.peers.iter();
        let peers: Vec<_> = peers
            .map(|peer| format!("{} at {}", peer.node_id, peer.address))
            .collect();
        let peers = match peers.as_slice() {
            [] => "none named".to_owned(),
            peers => peers.join(", "),
        };
        self.line("other nodes", 1, &peers)?;
        let tls = match &section.tls {
            None => "off".to_owned(),
            Some(tls) => {
                self.must_exist(&tls.certificate, "the node's certificate");
                self.must_exist(&tls.key, "the node's private key");
                self.must_exist(&tls.authority, "the nodes' authority");
                let authority = tls.authority.display();
                format!("on, for nodes with a certificate of {authority}")
            }
        };
        self.line("TLS", 1, &tls)?;
        let mut times = format!(
            "heartbeat {}, election {}, clients wait {} for a leader and {} for a quorum",
            seconds(section.heartbeat_interval),
            seconds(section.election_timeout),
            seconds(section.register_wait),
            seconds(section.quorum_wait)
        );
        if section.apply_delay != Duration::ZERO {
            write!(times, ", applied {} late", seconds(section.apply_delay))?;
        }
        self.line("times", 1, &times)?;
        match section.catch_up_bytes_per_second {
            None => Ok(()),
            Some(rate) => {
                let text = format!("at most {} per second to each node", bytes(rate));
                self.line("catching up", 1, &text)
            }
        }
    }

    fn log(&mut self, config: &Config) -> fmt::Result {
        let Some(eventlog) = &config.eventlog else {
            return self.line("log", 0, "standard error, level info");
        };
        let level = level_name(eventlog.level);
        if eventlog.handlers.is_empty() {
            return self.line("log", 0, "nowhere: the event log has no handler");
        }
        for handler in &eventlog.handlers {
            let text = match handler {
                LogHandler::File(file) => {
                    let rotation = match &file.rotation {
                        None => String::new(),
                        Some(Rotation::Size {
                            max_size_bytes,
                            old_files,
                        }) => format!(
                            ", a new one at {}, {old_files} old ones kept",
                            bytes(*max_size_bytes)
                        ),
                        Some(Rotation::Time { old_files, .. }) => {
                            format!(", a new one by time, {old_files} old ones kept")
                        }
                    };
                    format!("{}{rotation}", self.log_target(&file.path))
                }
                LogHandler::Syslog(syslog) => {
                    format!("syslog at {}, facility {}", syslog.address, syslog.facility)
                }
                LogHandler::Other(other) => format!("{} (not available)", other.kind),
            };
            self.line("log", 0, &format!("{text}, level {level}"))?;
        }
        Ok(())
    }

    fn log_target(&mut self, target: &LogTarget) -> String {
        match target {
            LogTarget::Stdout => "standard output".to_owned(),
            LogTarget::Stderr => "standard error".to_owned(),
            LogTarget::File(path) => {
                let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
                if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
                    let directory = directory.display();
                    let file = path.display();
                    self.warnings.push(format!(
                        "the directory {directory} of the log file {file} does not exist; make it"
                    ));
                }
                path.display().to_string()
            }
        }
    }

    fn limits(&mut self, zeod: &ZeodSection) -> fmt::Result {
        let wide = |size: usize| bytes(u64::try_from(size).unwrap_or(u64::MAX));
        let limits = format!(
            "{} connections; message {}, transaction {}, unsent {}, all messages {}",
            zeod.max_connections,
            wide(zeod.max_message_bytes),
            bytes(zeod.max_transaction_bytes),
            wide(zeod.max_unsent_bytes),
            wide(zeod.memory_budget_bytes)
        );
        self.line("limits", 0, &limits)?;
        let keepalive = match zeod.keepalive_time {
            Duration::ZERO => "off".to_owned(),
            time => seconds(time),
        };
        let times = format!(
            "stall {}, keepalive {keepalive}, shutdown {}",
            seconds(zeod.stall_time),
            seconds(zeod.shutdown_time)
        );
        self.line("times", 0, &times)?;
        if let Some(address) = &zeod.status_address {
            self.line("status page", 0, &format!("http://{address}/"))?;
        }
        if let Some(user) = &zeod.user {
            self.line("runs as", 0, user)?;
        }
        Ok(())
    }

    fn must_exist(&mut self, path: &Path, what: &str) {
        if !path.exists() {
            let path = path.display();
            self.warnings
                .push(format!("{what}, {path}, does not exist"));
        }
    }
}

fn directory(path: &Path) -> &'static str {
    if path.is_dir() {
        ""
    } else {
        " (not there yet)"
    }
}

fn level_name(level: crate::config::LogLevel) -> String {
    level
        .name()
        .map_or_else(|| level.number().to_string(), str::to_owned)
}

fn bytes(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{} {name}", bytes / unit);
        }
    }
    format!("{bytes} bytes")
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}
