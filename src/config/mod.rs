//! Reads zeo.conf into one typed [`Config`].
//!
//! ```text
//! zconfig::parse      text  -> sections, keys and values (syntax, defines, includes)
//! zconfig::check      those -> the same, checked against the table in zconfig::schema
//! zconfig::build      those -> Config
//! ```
//!
//! The language and the meaning of every key are those of the Python
//! programs (ZConfig 4.3; ZEO server.xml, ZODB component.xml). What a file may
//! say is data, in `zconfig::schema`; a new key is a line there, a field in
//! `model`, and a line in `zconfig::build` that carries it over. Nothing here
//! logs or prints: what deserves attention without being an error is collected
//! in [`Config::warnings`].
//!
//! On purpose it differs from ZConfig in these points:
//! - `</filestorage 2>` closes `<filestorage 2>`, with a warning.
//! - `<runner>` is not looked into: it belongs to zdaemon.
//! - `monitor-address` of older ZEO is still a key.
//! - Numbers may not be negative, and a number that is too great for a port is
//!   not a host's name.
//! - What would fail only when the storage is opened is refused here: a
//!   `<blobstorage>` without a storage, a `<demostorage>` with two bases, and
//!   `create` together with `read-only`.
//! - Files that include themselves are found out; sizes, depths and numbers of
//!   files are limited.

mod address;
mod certificate_name;
pub mod datatypes;
mod error;
mod level;
mod log_format;
mod model;
mod overrides;
mod python;
mod zconfig;
mod zeod;

use std::path::{Path, PathBuf};

pub use address::{Address, AddressError};
pub use certificate_name::{CertificateName, CertificateNameError, FINGERPRINT_BYTES, Subject};
pub use error::{ConfigError, Fault, Location, Warning};
pub use level::{LogLevel, LogLevelError};
pub use model::{
    Config, EventLog, FileStorageConfig, LogFile, LogHandler, LogStyle, LogTarget, NamedStorage,
    OtherHandler, Rotation, RotationTime, SslAuthentication, SslSection, StorageConfig, Syslog,
    ZeoSection,
};
pub use overrides::Overrides;
pub use zeod::{AccessSection, ZeodSection};

/// Looks an environment variable up, as `$(NAME)` and a few defaults need it.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Reads the configuration file at `path`; a `file:` URL will do too, as it
/// does for `runzeo -C`.
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
/// The file must be valid by itself: `overrides` does not repair one that has
/// no address or no storage. If `overrides.files` names files, they replace all
/// storages of the file.
pub fn load_with(
    path: &Path,
    overrides: &Overrides,
    environment: &Environment<'_>,
) -> Result<Config, ConfigError> {
    let source = zconfig::local_path(path);
    let mut config = zconfig::read(&source, overrides, environment)?;
    overrides.apply(&mut config);
    Ok(config)
}

/// The configuration of a server that was started with `-a` and `-f` and
/// without a file: the storages are called "1", "2", … in the order of `files`,
/// everything else has its default. `overrides` brings `-t` and `--pid-file`;
/// its own address and files win over the arguments.
pub fn from_arguments(
    address: Address,
    files: &[PathBuf],
    overrides: &Overrides,
    environment: &Environment<'_>,
) -> Config {
    let mut config = Config {
        source: PathBuf::new(),
        zeo: ZeoSection::new(address, environment),
        storages: overrides::storages_of(files),
        eventlog: None,
        zeod: ZeodSection::default(),
        warnings: Vec::new(),
    };
    overrides.apply(&mut config);
    config
}

#[cfg(test)]
mod tests;
