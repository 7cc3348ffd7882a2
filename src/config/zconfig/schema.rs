//! What a configuration may say, as data (source: ZEO schema.xml and
//! server.xml, ZODB component.xml, ZConfig components/logger/*.xml; `<zeod>` and
//! `<access>` are our own). A new key
//! is a line here, and a line in `build` that reads it.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Address, Environment, LogLevel, datatypes, log_format};

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
    /// How to call them in a message.
    pub wanted: &'static str,
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

/// The types of values.
#[derive(Debug, Clone, Copy)]
pub enum DataType {
    /// yes, no, …
    Boolean,
    /// A whole number, at least 0.
    Count,
    /// A number.
    Float,
    /// Bytes, with KB, MB, GB.
    ByteSize,
    /// Seconds, or with s, m, h, d.
    TimeInterval,
    /// Any text.
    Text,
    /// The text of a log layout, with `\n`.
    LogFormat,
    /// A path that is taken literally.
    Path,
    /// A path whose directory exists.
    ExistingDirpath,
    /// A socket's address, and its port if it names none.
    Address(u16),
    /// A log level.
    LogLevel,
    /// One of some words, in any case, and how to list them in a message.
    Word(&'static [&'static str], &'static str),
}

/// A value of one of the types.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Boolean(bool),
    Count(u64),
    Duration(Duration),
    Float(f64),
    Text(String),
    Path(PathBuf),
    Address(Address),
    LogLevel(LogLevel),
}

impl DataType {
    /// Converts text; the error says why it cannot be.
    pub fn convert(self, text: &str, environment: &Environment<'_>) -> Result<Value, String> {
        let value = match self {
            Self::Boolean => datatypes::boolean(text).map(Value::Boolean),
            Self::Count => datatypes::count(text).map(Value::Count),
            Self::Float => datatypes::float(text).map(Value::Float),
            Self::ByteSize => datatypes::byte_size(text).map(Value::Count),
            Self::TimeInterval => datatypes::time_interval(text).map(Value::Duration),
            Self::Text => Ok(Value::Text(text.to_owned())),
            Self::LogFormat => Ok(Value::Text(log_format::unescape(text))),
            Self::Path => Ok(Value::Path(text.into())),
            Self::ExistingDirpath => {
                datatypes::existing_dirpath(text, environment).map(Value::Path)
            }
            Self::Address(port) => {
                let address = Address::parse_with_port(text, port).map(Value::Address);
                return address.map_err(|error| error.to_string());
            }
            Self::LogLevel => {
                let level = text.parse().map(Value::LogLevel);
                return level.map_err(|_| "it is not a log level".to_owned());
            }
            Self::Word(words, _) => {
                let word = text.to_lowercase();
                if !words.contains(&word.as_str()) {
                    return Err("it is none of the words".to_owned());
                }
                Ok(Value::Text(word))
            }
        };
        value.map_err(|error| error.to_string())
    }

    /// What is allowed, for messages.
    pub fn allowed(self) -> &'static str {
        match self {
            Self::Boolean => "yes, true, on, no, false, off",
            Self::Count => "a whole number, 0 or more",
            Self::Float => "a number",
            Self::ByteSize => "a whole number of bytes, 0 or more, or one followed by KB, MB or GB",
            Self::TimeInterval => {
                "a whole number of seconds, 0 or more, or one followed by s, m, h or d"
            }
            Self::Text => "any text",
            Self::LogFormat => log_format::ALLOWED,
            Self::Path => "a path",
            Self::ExistingDirpath => "a path in an existing directory",
            Self::Address(_) => Address::ALLOWED,
            Self::LogLevel => LogLevel::ALLOWED,
            Self::Word(_, listed) => listed,
        }
    }
}

/// The packages that `%import` may name. Their section types are known anyway.
pub const PACKAGES: [&str; 5] = [
    "ZEO",
    "ZODB",
    "ZConfig.components.basic",
    "ZConfig.components.logger",
    "zdaemon",
];

/// Storage types that exist elsewhere, and why not here.
pub const UNSUPPORTED_STORAGES: [(&str, &str); 12] = [
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
    ("zeoclient", CLIENT),
    ("zlibstorage", WRAPPER),
    ("zrs", "it replicates in Python"),
];
const WRAPPER: &str = "it wraps a storage in Python";
const CLIENT: &str = "it is another server's storage; clients connect there themselves";
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

const fn child(role: Role, occurs: Occurs, wanted: &'static str) -> Child {
    Child {
        role,
        occurs,
        wanted,
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
        child(Role::Zeo, Occurs::Once, "a <zeo> section with an address"),
        child(Role::Runner, Occurs::AtMostOnce, "<runner>"),
        child(
            Role::Storage,
            Occurs::Often,
            "at least one storage, such as <filestorage 1>",
        ),
        child(Role::EventLog, Occurs::AtMostOnce, "<eventlog>"),
        child(Role::Zeod, Occurs::AtMostOnce, "<zeod>"),
    ],
);

static SECTION_TYPES: [SectionType; 18] = [
    section(
        "zeo",
        Role::Zeo,
        &[
            required("address", DataType::Address(0)),
            key("read-only", DataType::Boolean),
            key("invalidation-queue-size", DataType::Count),
            key("invalidation-age", DataType::Float),
            key("transaction-timeout", DataType::Count),
            emptiable("pid-filename", DataType::ExistingDirpath),
            key("client-conflict-resolution", DataType::Boolean),
            key("msgpack", DataType::Boolean),
            key("monitor-address", DataType::Address(0)),
        ],
        &[child(Role::Ssl, Occurs::AtMostOnce, "<ssl>")],
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
        &[child(Role::Access, Occurs::AnyNumber, "<access STORAGE>")],
    ),
    section("access", Role::Access, ACCESS_KEYS, &[]),
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
        &[child(Role::Storage, Occurs::Once, "a storage in it")],
    ),
    section(
        "demostorage",
        Role::Storage,
        &[text("name", DataType::Text)],
        &[child(Role::Storage, Occurs::AnyNumber, "storages")],
    ),
    section(
        "eventlog",
        Role::EventLog,
        &[key("level", DataType::LogLevel)],
        &[child(Role::LogHandler, Occurs::AnyNumber, "handlers")],
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

/// A handler's keys: those that all handlers have, and its own.
macro_rules! handler_keys {
    ($($own:expr),* $(,)?) => {
        &[
            emptiable("formatter", DataType::Text),
            text("dateformat", DataType::Text),
            key("level", DataType::LogLevel),
            key("style", DataType::Word(
                &["classic", "format", "template", "safe-template"],
                "classic, format, template, safe-template",
            )),
            key("arbitrary-fields", DataType::Boolean),
            text("format", DataType::LogFormat),
            $($own),*
        ]
    };
}

static LOGFILE_KEYS: &[Key] = handler_keys![
    required("path", DataType::Path),
    key("old-files", DataType::Count),
    key("max-size", DataType::ByteSize),
    emptiable(
        "when",
        DataType::Word(
            &[
                "s", "m", "h", "d", "midnight", "w0", "w1", "w2", "w3", "w4", "w5", "w6",
            ],
            "S, M, H, D, MIDNIGHT, W0 (Monday) to W6 (Sunday)",
        )
    ),
    key("interval", DataType::Count),
    emptiable("encoding", DataType::Text),
    key("delay", DataType::Boolean),
];

static SYSLOG_KEYS: &[Key] = handler_keys![
    key(
        "facility",
        DataType::Word(
            &[
                "auth", "authpriv", "cron", "daemon", "kern", "lpr", "mail", "news", "security",
                "syslog", "user", "uucp", "local0", "local1", "local2", "local3", "local4",
                "local5", "local6", "local7",
            ],
            "auth, authpriv, cron, daemon, kern, lpr, mail, news, security, syslog, user, uucp, \
             local0 to local7",
        )
    ),
    key("address", DataType::Address(514)),
];

static WIN32_KEYS: &[Key] = handler_keys![emptiable("appname", DataType::Text)];

static HTTP_KEYS: &[Key] = handler_keys![
    key("url", DataType::Text),
    key("method", DataType::Word(&["get", "post"], "GET, POST")),
];

static EMAIL_KEYS: &[Key] = handler_keys![
    required("from", DataType::Text),
    Key {
        occurs: Occurs::Often,
        ..key("to", DataType::Text)
    },
    emptiable("subject", DataType::Text),
    key("smtp-server", DataType::Address(25)),
    emptiable("smtp-username", DataType::Text),
    emptiable("smtp-password", DataType::Text),
];
