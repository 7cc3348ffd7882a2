//! Reads zeo.conf, or the same in TOML, into one typed [`Config`].
//!
//! ```text
//! zconfig, toml       text  -> sections, keys and values (syntax, defines, includes)
//! variables           ZEOD_… of the environment in the place of values
//! check               those -> the same, checked against the table in schema
//! overrides           the command line in the place of values
//! build               those -> Config
//! ```
//!
//! The language and the meaning of every key are those of the Python
//! programs (ZConfig 4.3; ZEO server.xml, ZODB component.xml). What a file may
//! say is data, in `schema`; a new key is a line there, a field in `model`, and a
//! line in `build` that carries it over; TOML and the environment then have it.
//! Nothing here logs or prints: what deserves attention without being an error is
//! collected in [`Config::warnings`].
//!
//! On purpose it differs from ZConfig in these points; `tests/config_differential.rs`
//! holds it so, and finds no others:
//! - `</filestorage 2>` closes `<filestorage 2>`, with a warning.
//! - `<runner>` is not looked into: it belongs to zdaemon.
//! - `monitor-address` of older ZEO is still a key.
//! - `<zeod>` and all that is in it is our own.
//! - Numbers may not be negative, nor greater than 64 bits hold; a number that is
//!   too great for a port is not a host's name, nor is text with spaces.
//! - What would fail only when the storage is opened is refused here: a
//!   `<blobstorage>` without a storage, a `<demostorage>` with two bases, `create`
//!   together with `read-only`, a path that must be there and is empty, a storage
//!   that is not available here, a `when` that Python's log handler does not know.
//! - Digits are ASCII digits.
//! - `[::1]` without a port is the address `::1`; there it keeps its brackets.
//! - A `formatter` is not looked for: there is no Python here.
//! - Files that include themselves are found out; sizes, depths and numbers of
//!   files are limited.

mod address;
mod build;
mod certificate_name;
mod check;
pub mod datatypes;
mod error;
mod level;
mod loaded;
mod log_format;
mod model;
mod overrides;
mod python;
mod replication;
mod schema;
mod suggest;
mod toml;
mod tree;
mod variables;
mod zconfig;
mod zeod;

use std::cell::RefCell;
use std::path::Path;

pub use address::{Address, AddressError};
pub use certificate_name::{CertificateName, CertificateNameError, FINGERPRINT_BYTES, Subject};
pub use error::{ConfigError, Fault, Location, Warning};
pub use level::{LogLevel, LogLevelError};
pub use loaded::Loaded;
pub use model::{
    ClientStorageConfig, Config, EventLog, FileStorageConfig, LogFile, LogHandler, LogStyle,
    LogTarget, NamedStorage, OtherHandler, Rotation, RotationTime, SslAuthentication, SslSection,
    StorageConfig, Syslog, ZeoSection,
};
pub use overrides::Overrides;
pub use replication::{
    DEFAULT_ELECTION_TIMEOUT, DEFAULT_HEARTBEAT_INTERVAL, DEFAULT_LOG_SIZE_BYTES,
    DEFAULT_QUORUM_WAIT, DEFAULT_REGISTER_WAIT, HEARTBEATS_PER_ELECTION, MAX_NODE_ID, Peer,
    ReplicationSection, ReplicationTls,
};
pub use variables::PREFIX as VARIABLE_PREFIX;
pub use zeod::{AccessSection, ZeodSection};

/// Looks an environment variable up, as `$(NAME)` and a few defaults need it.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// What every step of reading needs: the environment, and where warnings go.
struct Context<'a> {
    environment: &'a Environment<'a>,
    warnings: RefCell<Vec<Warning>>,
    /// Values that are not the file's own, to be pointed at where it is
    /// converted.
    substituted: RefCell<Vec<Location>>,
}

impl Context<'_> {
    fn warn(&self, location: &Location, message: String) {
        self.warnings.borrow_mut().push(Warning {
            location: location.clone(),
            message,
        });
    }
}

/// Reads the configuration file at `path`; a `file:` URL will do too, as it
/// does for `runzeo -C`. A file whose name ends in `.toml` is TOML.
///
/// `environment` answers `$(NAME)`, `~` (`HOME`), and the variables that stand
/// in for keys which are not set: `ZEO_MSGPACK` (not empty: `msgpack true`) and
/// `INSTANCE_HOME` (the pid file is `var/ZEO.pid` below it).
pub fn load(path: &Path, environment: &Environment<'_>) -> Result<Config, ConfigError> {
    load_with(path, &Overrides::default(), environment)
}

/// Reads the configuration file at `path` as [`load`] does; what the command
/// line says then takes the place of what the file says.
///
/// The file, with the environment's variables, must be valid by itself: the
/// command line does not repair one that has no address or no storage. If
/// `overrides.files` names files, they replace all storages of the file.
pub fn load_with(
    path: &Path,
    overrides: &Overrides,
    environment: &Environment<'_>,
) -> Result<Config, ConfigError> {
    Ok(Loaded::file(path, overrides, environment)?.config)
}

#[cfg(test)]
mod tests;
