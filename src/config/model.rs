use std::path::PathBuf;
use std::time::Duration;

use super::{Address, Environment, LogLevel, Warning, ZeodSection};

/// Everything that a configuration file says, in checked and typed form.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file that was read; empty if the command line said everything.
    pub source: PathBuf,
    /// The `<zeo>` section: the server itself.
    pub zeo: ZeoSection,
    /// The storages to serve, in the order of the file; never empty, and no
    /// name occurs twice.
    pub storages: Vec<NamedStorage>,
    /// The `<eventlog>` section. `None`: log to stderr at level info, as the
    /// Python server does.
    pub eventlog: Option<EventLog>,
    /// The `<zeod>` section: what Python's server does not have.
    pub zeod: ZeodSection,
    /// What was accepted although it deserves attention, in reading order.
    pub warnings: Vec<Warning>,
}

/// The `<zeo>` section (source: ZEO server.xml).
#[derive(Debug, Clone, PartialEq)]
pub struct ZeoSection {
    /// Where to listen; key `address`, required.
    pub address: Address,
    /// Whether every storage is served for reading only; default false. The
    /// Python server writes no pid file then.
    pub read_only: bool,
    /// How many of the last transactions are kept to bring a client up to date
    /// quickly; default 100.
    pub invalidation_queue_size: usize,
    /// Up to which age of a client's cache the storage itself is read for
    /// invalidations; key in seconds, with a fraction. `None`: never.
    pub invalidation_age: Option<Duration>,
    /// How long a transaction may hold the commit lock; key in whole seconds.
    /// `None`: for ever.
    pub transaction_timeout: Option<Duration>,
    /// Where to write the process id. Not set: `$INSTANCE_HOME/var/ZEO.pid`,
    /// or no file if there is no `INSTANCE_HOME` either.
    pub pid_filename: Option<PathBuf>,
    /// Whether conflicts are handed to the client to resolve. `None` means that
    /// the key is not set; that differs from the Python server's default of
    /// false on purpose, because this server decides case by case.
    pub client_conflict_resolution: Option<bool>,
    /// Whether messages are msgpack instead of pickle. Not set: true if the
    /// environment variable `ZEO_MSGPACK` is not empty, else `None`.
    pub msgpack: Option<bool>,
    /// Where to answer status questions; a key of ZEO 4 and earlier.
    pub monitor_address: Option<Address>,
    /// The `<ssl>` section. `None`: connections are not encrypted.
    pub ssl: Option<SslSection>,
}

impl ZeoSection {
    /// The section that says nothing but an address.
    pub fn new(address: Address, environment: &Environment<'_>) -> Self {
        Self {
            address,
            read_only: false,
            invalidation_queue_size: 100,
            invalidation_age: None,
            transaction_timeout: None,
            pid_filename: default_pid_filename(environment),
            client_conflict_resolution: None,
            msgpack: default_msgpack(environment),
            monitor_address: None,
            ssl: None,
        }
    }
}

fn default_pid_filename(environment: &Environment<'_>) -> Option<PathBuf> {
    let instance = environment("INSTANCE_HOME").filter(|home| !home.is_empty())?;
    Some(PathBuf::from(instance).join("var").join("ZEO.pid"))
}

fn default_msgpack(environment: &Environment<'_>) -> Option<bool> {
    environment("ZEO_MSGPACK")
        .filter(|value| !value.is_empty())
        .map(|_| true)
}

/// The `<ssl>` section in `<zeo>` (source: ZEO server.xml, zconfig.py).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SslSection {
    /// The server's certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM. `None`: it stands in the certificate's file.
    pub key: Option<PathBuf>,
    /// The dotted name of a Python function that returns the key's password.
    pub password_function: Option<String>,
    /// Which client certificates are let in.
    pub authenticate: SslAuthentication,
}

/// Which client certificates are let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SslAuthentication {
    /// Those in this file, or in the files of this directory, and those that
    /// they signed.
    Certificates(PathBuf),
    /// Those that an authority known to the system signed: `-` or `SIGNED`.
    Signed,
}

/// A storage and the name under which clients ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedStorage {
    /// The section's name, in lower case as ZConfig makes it; "1" if it has none.
    pub name: String,
    /// What it is.
    pub storage: StorageConfig,
}

/// One storage section (source: ZODB component.xml).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageConfig {
    /// `<filestorage>`: one `Data.fs`.
    File(FileStorageConfig),
    /// `<mappingstorage>`: in memory, gone when the server stops.
    Mapping {
        /// What the storage calls itself; default "Mapping Storage". Clients
        /// ask for the section's name, not for this.
        name: String,
    },
    /// `<blobstorage>`: blobs beside another storage.
    Blob {
        /// The directory of the blobs, as written in the file.
        blob_dir: PathBuf,
        /// The storage of everything else.
        base: Box<StorageConfig>,
    },
    /// `<demostorage>`: changes on top of a base that stays as it is.
    Demo {
        /// What the storage calls itself; `None`: a name made from its parts.
        name: Option<String>,
        /// What is only read. `None`: an empty mapping storage.
        base: Option<Box<StorageConfig>>,
        /// The section named `changes`. `None`: a temporary one.
        changes: Option<Box<StorageConfig>>,
    },
    /// `<zeoclient>`: what another server serves.
    Client(ClientStorageConfig),
}

/// A `<zeoclient>` section.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "as many as the section has")]
pub struct ClientStorageConfig {
    /// Where the servers are that have the storage; never empty.
    pub servers: Vec<Address>,
    /// What it is called there; default "1".
    pub storage: String,
    /// What it calls itself here. `None`: as it does there.
    pub name: Option<String>,
    /// Whether this storage refuses writes; default false.
    pub read_only: bool,
    /// Whether a server that refuses writes will do while there is no other;
    /// default false.
    pub read_only_fallback: bool,
    /// Whether the start waits for a server; default true.
    pub wait: bool,
    /// How long the start, and requests, wait for one; default 30 s.
    pub wait_timeout: Duration,
    /// So much of it is kept in memory; default 20 MB.
    pub cache_bytes: u64,
    /// What this server is called in the other's log.
    pub label: Option<String>,
    /// The directory of the blobs. `None`: no blobs.
    pub blob_dir: Option<PathBuf>,
    /// Whether the other server has its blobs in that directory, too; default false.
    pub shared_blob_dir: bool,
    /// How much is kept in it. `None`: all.
    pub blob_cache_bytes: Option<u64>,
    /// After so many per cent of that it is looked whether too much is there;
    /// default 10, below 100.
    pub blob_cache_check_percent: u64,
}

/// A `<filestorage>` section.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "as many as the section has")]
pub struct FileStorageConfig {
    /// The data file; `.index`, `.lock`, … stand beside it.
    pub path: PathBuf,
    /// The directory of the blobs. `None` (or an empty value): no blobs.
    pub blob_dir: Option<PathBuf>,
    /// Whether an existing file is emptied when it is opened; default false.
    pub create: bool,
    /// Whether this storage refuses writes; default false.
    pub read_only: bool,
    /// The size which the data file may not exceed; key `quota`.
    pub quota_bytes: Option<u64>,
    /// Whether a pack drops unreachable objects; default true.
    pub pack_gc: bool,
    /// Whether a pack leaves the former file as `.old`; default true.
    pub pack_keep_old: bool,
    /// The dotted name of a Python packer; there is no Python here to call it.
    pub packer: Option<String>,
}

impl FileStorageConfig {
    /// The section that says nothing but a path.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            blob_dir: None,
            create: false,
            read_only: false,
            quota_bytes: None,
            pack_gc: true,
            pack_keep_old: true,
            packer: None,
        }
    }
}

/// The `<eventlog>` section (source: ZConfig components/logger).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLog {
    /// What is logged at all; default info.
    pub level: LogLevel,
    /// Where it goes. Empty: nowhere.
    pub handlers: Vec<LogHandler>,
}

/// A section in `<eventlog>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogHandler {
    /// `<logfile>`.
    File(LogFile),
    /// `<syslog>`.
    Syslog(Syslog),
    /// A kind that ZConfig knows and that is not provided here.
    Other(OtherHandler),
}

/// A `<logfile>` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// What is written to; key `path`, taken literally.
    pub path: LogTarget,
    /// What this handler adds to the event log's level; default notset.
    pub level: LogLevel,
    /// The layout of a record with `\n`, `\t`, … already replaced. `None`: the
    /// default, `------\n%(asctime)s %(levelname)s %(name)s %(message)s`; empty:
    /// the message alone.
    pub format: Option<String>,
    /// The `strftime` layout of a record's time. `None`: `%Y-%m-%dT%H:%M:%S`;
    /// empty: `%Y-%m-%d %H:%M:%S` and milliseconds behind a comma.
    pub date_format: Option<String>,
    /// How placeholders in `format` are written.
    pub style: LogStyle,
    /// When a new file is begun. `None`: never.
    pub rotation: Option<Rotation>,
    /// The text encoding asked for. `None`: UTF-8.
    pub encoding: Option<String>,
    /// Whether the file is opened only when there is something to write.
    pub delay: bool,
}

/// Where a `<logfile>` writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// `STDOUT`
    Stdout,
    /// `STDERR`
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// How placeholders in a log format are written; key `style`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogStyle {
    /// `%(message)s`
    #[default]
    Classic,
    /// `{message}`
    Format,
    /// `${message}`, where an unknown name is an error
    Template,
    /// `${message}`, where an unknown name stays as it is
    SafeTemplate,
}

/// When a `<logfile>` begins a new file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// As soon as the file would exceed a size.
    Size {
        /// That size; key `max-size`.
        max_size_bytes: u64,
        /// How many former files are kept, at least 1.
        old_files: u64,
    },
    /// At a time.
    Time {
        /// The unit or the moment; key `when`.
        when: RotationTime,
        /// Every so many of it, at least 1; unused with weekdays and midnight.
        interval: u64,
        /// How many former files are kept, at least 1.
        old_files: u64,
    },
}

/// The moments of time rotation (source: Python's
/// `logging.handlers.TimedRotatingFileHandler`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationTime {
    /// `S`
    Seconds,
    /// `M`
    Minutes,
    /// `H`
    Hours,
    /// `D`
    Days,
    /// `MIDNIGHT`
    Midnight,
    /// `W0` (Monday) to `W6` (Sunday)
    Weekday(u8),
}

/// A `<syslog>` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// Where the log daemon listens: UDP, or a datagram socket in the file
    /// system; default localhost:514.
    pub address: Address,
    /// The facility, in lower case; default "user".
    pub facility: String,
    /// What this handler adds to the event log's level; default notset.
    pub level: LogLevel,
    /// The layout of a record. `None`: `%(name)s %(message)s`; empty: the
    /// message alone.
    pub format: Option<String>,
    /// The `strftime` layout of a record's time. `None`: `%Y-%m-%dT%H:%M:%S`;
    /// empty: `%Y-%m-%d %H:%M:%S` and milliseconds behind a comma.
    pub date_format: Option<String>,
    /// How placeholders in `format` are written.
    pub style: LogStyle,
}

/// A log handler that is kept by name: `win32-eventlog`, `http-logger`,
/// `email-notifier`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherHandler {
    /// The section's type.
    pub kind: String,
    /// What this handler adds to the event log's level; default notset.
    pub level: LogLevel,
}
