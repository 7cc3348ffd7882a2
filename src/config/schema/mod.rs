//! What a configuration may say, as data (source: ZEO schema.xml and
//! server.xml, ZODB component.xml, ZConfig components/logger/*.xml; `<zeod>` and
//! what is in it are our own). A new key is a line here, and a line in `build` that
//! reads it; zeo.conf, TOML and the environment then have it.

mod client;
mod logger;
mod value;

use client::CLIENT_KEYS;
use logger::{EMAIL_KEYS, HTTP_KEYS, LOGFILE_KEYS, SYSLOG_KEYS, WIN32_KEYS};
pub use value::{DataType, Raw, Value};

/// A type of section.
#[derive(Debug)]
pub struct SectionType {
    /// What stands behind the `<`.
    pub name: &'static str,
    /// Where it may stand: a container lists the roles that it takes.
    pub role: Role,
    /// Its keys.
    pub keys: &'static [Key],
    /// The sections that may stand in it.
    pub children: &'static [Child],
    /// Whether its contents belong to another program and are not looked at.
    pub is_foreign: bool,
}

/// What a section is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The whole file.
    File,
    /// `<zeo>`
    Zeo,
    /// `<ssl>`
    Ssl,
    /// `<zeod>`
    Zeod,
    /// `<access STORAGE>`
    Access,
    /// `<replication>`
    Replication,
    /// A storage.
    Storage,
    /// `<eventlog>`
    EventLog,
    /// Where log records go.
    LogHandler,
    /// `<runner>`, for zdaemon.
    Runner,
    /// Known to the Python packages, but with no place in this file.
    Elsewhere,
}

/// Sections that may stand in a section.
#[derive(Debug)]
pub struct Child {
    /// Which.
    pub role: Role,
    /// How often.
    pub occurs: Occurs,
    /// How to call them in a message; empty where none is needed.
    pub wanted: &'static str,
    /// The same for TOML.
    pub wanted_table: &'static str,
}

/// How often something may occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurs {
    /// Exactly once.
    Once,
    /// Once or not at all.
    AtMostOnce,
    /// At least once.
    Often,
    /// Any number of times.
    AnyNumber,
}

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// In lower case.
    pub name: &'static str,
    /// What its values are.
    pub data_type: DataType,
    /// How often it may occur.
    pub occurs: Occurs,
    /// What the key alone, without a value, means.
    pub empty: Empty,
}

/// What a key without a value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// An error.
    Refused,
    /// The same as no such line.
    Unset,
    /// The empty text.
    Value,
}

/// The packages that `%import` may name. Their section types are known anyway.
/// ZEO is none: its client part has an `<ssl>` of its own, so that Python's server
/// refuses it.
pub const PACKAGES: [&str; 4] = [
    "ZODB",
    "ZConfig.components.basic",
    "ZConfig.components.logger",
    "zdaemon",
];

/// Storage types that exist elsewhere, and why not here.
pub const UNSUPPORTED_STORAGES: [(&str, &str); 11] = [
    ("before", WRAPPER),
    ("clientstorage", CLIENT),
    ("encryptingstorage", WRAPPER),
    ("fullstorage", BERKELEY),
    ("minimalstorage", BERKELEY),
    (
        "relstorage",
        "clients connect to the relational database themselves",
    ),
    ("serverzlibstorage", WRAPPER),
    ("temporarystorage", TEMPORARY),
    ("tempstorage", TEMPORARY),
    ("zlibstorage", WRAPPER),
    ("zrs", "it replicates in Python"),
];
const WRAPPER: &str = "it wraps a storage in Python";
const CLIENT: &str = "use <zeoclient>, with the same keys but <ssl>";
const BERKELEY: &str = "ZODB has not had BerkeleyDB storages for long";
const TEMPORARY: &str = "use <mappingstorage>, which is in memory too";

/// The type of a section by its name in lower case.
pub fn section_type(name: &str) -> Option<&'static SectionType> {
    SECTION_TYPES.iter().find(|known| known.name == name)
}

/// The names of all types with a role, in the table's order.
pub fn names_of(role: Role) -> impl Iterator<Item = &'static str> {
    SECTION_TYPES
        .iter()
        .filter(move |known| known.role == role)
        .map(|known| known.name)
}

const fn key(name: &'static str, data_type: DataType) -> Key {
    Key {
        name,
        data_type,
        occurs: Occurs::AtMostOnce,
        empty: Empty::Refused,
    }
}

const fn required(name: &'static str, data_type: DataType) -> Key {
    Key {
        occurs: Occurs::Once,
        ..key(name, data_type)
    }
}

const fn emptiable(name: &'static str, data_type: DataType) -> Key {
    Key {
        empty: Empty::Unset,
        ..key(name, data_type)
    }
}

const fn several(name: &'static str, data_type: DataType) -> Key {
    Key {
        occurs: Occurs::AnyNumber,
        ..key(name, data_type)
    }
}

const fn text(name: &'static str, data_type: DataType) -> Key {
    Key {
        empty: Empty::Value,
        ..key(name, data_type)
    }
}

const fn child(role: Role, occurs: Occurs) -> Child {
    Child {
        role,
        occurs,
        wanted: "",
        wanted_table: "",
    }
}

const fn section(
    name: &'static str,
    role: Role,
    keys: &'static [Key],
    children: &'static [Child],
) -> SectionType {
    SectionType {
        name,
        role,
        keys,
        children,
        is_foreign: false,
    }
}

const fn foreign(name: &'static str, role: Role) -> SectionType {
    SectionType {
        is_foreign: true,
        ..section(name, role, &[], &[])
    }
}

/// The whole file.
pub static FILE: SectionType = section(
    "",
    Role::File,
    &[],
    &[
        Child {
            wanted: "a <zeo> section with an address",
            wanted_table: "a table [zeo] with an address",
            ..child(Role::Zeo, Occurs::Once)
        },
        child(Role::Runner, Occurs::AtMostOnce),
        Child {
            wanted: "at least one storage, such as <filestorage 1>",
            wanted_table: "at least one storage, such as [storage.1]",
            ..child(Role::Storage, Occurs::Often)
        },
        child(Role::EventLog, Occurs::AtMostOnce),
        child(Role::Zeod, Occurs::AtMostOnce),
    ],
);

static SECTION_TYPES: [SectionType; 20] = [
    section(
        "zeo",
        Role::Zeo,
        &[
            required("address", DataType::Address(0)),
            key("read-only", DataType::Boolean),
            key("invalidation-queue-size", DataType::Count),
            key("invalidation-age", DataType::Age),
            key("transaction-timeout", DataType::WholeSeconds),
            emptiable("pid-filename", DataType::ExistingDirpath),
            key("client-conflict-resolution", DataType::Boolean),
            key("msgpack", DataType::Boolean),
            key("monitor-address", DataType::Address(0)),
        ],
        &[child(Role::Ssl, Occurs::AtMostOnce)],
    ),
    section(
        "ssl",
        Role::Ssl,
        &[
            required("certificate", DataType::ExistingDirpath),
            emptiable("key", DataType::ExistingDirpath),
            emptiable("password-function", DataType::Text),
            required("authenticate", DataType::Text),
        ],
        &[],
    ),
    section(
        "zeod",
        Role::Zeod,
        ZEOD_KEYS,
        &[
            child(Role::Access, Occurs::AnyNumber),
            child(Role::Replication, Occurs::AtMostOnce),
        ],
    ),
    section("access", Role::Access, ACCESS_KEYS, &[]),
    section("replication", Role::Replication, REPLICATION_KEYS, &[]),
    section(
        "filestorage",
        Role::Storage,
        &[
            required("path", DataType::ExistingDirpath),
            emptiable("blob-dir", DataType::ExistingDirpath),
            key("create", DataType::Boolean),
            key("read-only", DataType::Boolean),
            key("quota", DataType::ByteSize),
            emptiable("packer", DataType::Text),
            key("pack-gc", DataType::Boolean),
            key("pack-keep-old", DataType::Boolean),
        ],
        &[],
    ),
    section(
        "mappingstorage",
        Role::Storage,
        &[text("name", DataType::Text)],
        &[],
    ),
    section(
        "blobstorage",
        Role::Storage,
        &[required("blob-dir", DataType::Path)],
        &[Child {
            wanted: "a storage in it",
            wanted_table: "a storage in it, the table \"base\"",
            ..child(Role::Storage, Occurs::Once)
        }],
    ),
    section(
        "demostorage",
        Role::Storage,
        &[text("name", DataType::Text)],
        &[child(Role::Storage, Occurs::AnyNumber)],
    ),
    section("zeoclient", Role::Storage, CLIENT_KEYS, &[]),
    section(
        "eventlog",
        Role::EventLog,
        &[key("level", DataType::LogLevel)],
        &[child(Role::LogHandler, Occurs::AnyNumber)],
    ),
    section("logfile", Role::LogHandler, LOGFILE_KEYS, &[]),
    section("syslog", Role::LogHandler, SYSLOG_KEYS, &[]),
    section("win32-eventlog", Role::LogHandler, WIN32_KEYS, &[]),
    section("http-logger", Role::LogHandler, HTTP_KEYS, &[]),
    section("email-notifier", Role::LogHandler, EMAIL_KEYS, &[]),
    foreign("runner", Role::Runner),
    foreign("environment", Role::Elsewhere),
    foreign("logger", Role::Elsewhere),
    foreign("zodb", Role::Elsewhere),
];

static ZEOD_KEYS: &[Key] = &[
    key("status-address", DataType::Address(0)),
    key("user", DataType::Text),
    key("max-connections", DataType::Count),
    key("max-message-size", DataType::ByteSize),
    key("max-transaction-size", DataType::ByteSize),
    key("max-unsent", DataType::ByteSize),
    key("memory-budget", DataType::ByteSize),
    key("stall-time", DataType::TimeInterval),
    key("keepalive-time", DataType::TimeInterval),
    key("shutdown-time", DataType::TimeInterval),
    key("key-password-file", DataType::ExistingDirpath),
    key("key-password-command", DataType::Text),
];

static ACCESS_KEYS: &[Key] = &[
    several("read-write", DataType::Text),
    several("read-only", DataType::Text),
];

static REPLICATION_KEYS: &[Key] = &[
    required("node-id", DataType::Count),
    required("address", DataType::NodeAddress),
    required("directory", DataType::ExistingDirpath),
    several("peer", DataType::Peer),
    key("certificate", DataType::ExistingDirpath),
    key("key", DataType::ExistingDirpath),
    key("authority", DataType::ExistingDirpath),
    key("heartbeat-interval", DataType::ShortTime),
    key("election-timeout", DataType::ShortTime),
    key("register-wait", DataType::ShortTime),
    key("quorum-wait", DataType::ShortTime),
    key("catch-up-rate", DataType::ByteSize),
    key("log-size", DataType::ByteSize),
    key("apply-delay", DataType::ShortTime),
];
