use std::ops::Range;

use jiff::Timestamp;
use tracing::{Level, Metadata};

/// The importance of a record, by the names and numbers of Python's logging
/// and of ZODB.loglevels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// Whose events are for its authors: it tells of each heartbeat, and calls a node
/// that is away an error twice a second. What administrators have to know of
/// it, `replication` tells.
const FOR_AUTHORS: &str = "openraft";

impl Severity {
    /// The severity of an event from this place; only a field can raise it to critical.
    pub fn of_event(metadata: &Metadata<'_>) -> Self {
        Self::from_target(metadata.target(), *metadata.level())
    }

    fn from_target(target: &str, level: Level) -> Self {
        let severity = Self::of(level);
        if target.split("::").next() == Some(FOR_AUTHORS) {
            return severity.min(Self::Debug);
        }
        severity
    }

    /// The severity of a level; only a field can raise it to critical.
    fn of(level: Level) -> Self {
        match level {
            Level::TRACE => Self::Trace,
            Level::DEBUG => Self::Debug,
            Level::INFO => Self::Info,
            Level::WARN => Self::Warning,
            Level::ERROR => Self::Error,
        }
    }

    /// The most that an event from this place can turn out to be.
    pub fn at_most(metadata: &Metadata<'_>) -> Self {
        let severity = Self::of_event(metadata);
        if severity == Self::Error && metadata.fields().field("critical").is_some() {
            return Self::Critical;
        }
        severity
    }

    pub const fn number(self) -> u8 {
        match self {
            Self::Trace => 5,
            Self::Debug => 10,
            Self::Info => 20,
            Self::Warning => 30,
            Self::Error => 40,
            Self::Critical => 50,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// The logger's name that the Python server would use for an event from here.
pub fn logger_name(target: &str) -> &'static str {
    let mut path = target.split("::");
    match (path.next(), path.next(), path.next()) {
        (Some("zeod"), Some("storage"), _) => "ZODB.FileStorage",
        // What is told of one client.
        (Some("zeod"), Some("server"), Some("connection" | "listener")) => "ZEO.StorageServer",
        (Some("zeod"), Some("replication"), _) => "ZEO.replication",
        (Some("zeod"), Some("cli" | "server"), _) => "ZEO.runzeo",
        _ => "ZEO.StorageServer",
    }
}

/// One event, ready to be laid out.
#[derive(Debug)]
pub struct Record<'a> {
    pub severity: Severity,
    pub logger: &'a str,
    /// One line: the message and the fields behind it.
    pub message: &'a str,
    /// The fields that stand in the message, once more.
    pub fields: &'a str,
    /// Where the value of each field stands in `fields`.
    pub ranges: &'a [(&'static str, Range<usize>)],
    pub created: Timestamp,
    /// When logging began, for `relativeCreated`.
    pub started: Timestamp,
    pub pathname: &'a str,
    pub line: u32,
    pub module_path: &'a str,
}

impl Record<'_> {
    pub fn field(&self, name: &str) -> Option<&str> {
        let (_, range) = self.ranges.iter().find(|(field, _)| *field == name)?;
        self.fields.get(range.clone())
    }

    pub fn filename(&self) -> &str {
        self.pathname.rsplit('/').next().unwrap_or_default()
    }

    /// The last part of the module's path. Python has the file's name without
    /// its ending here, which would often be `mod`.
    pub fn module(&self) -> &str {
        self.module_path.rsplit("::").next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_target() {
        for (target, name) in [
            ("zeod::storage::file::pack", "ZODB.FileStorage"),
            ("zeod::storage", "ZODB.FileStorage"),
            ("zeod::storages", "ZEO.StorageServer"),
            ("zeod::replication::net::known", "ZEO.replication"),
            ("zeod::cli::serve", "ZEO.runzeo"),
            ("zeod::server", "ZEO.runzeo"),
            ("zeod::server::listener", "ZEO.StorageServer"),
            ("zeod::server::connection", "ZEO.StorageServer"),
            ("zeod::session::load", "ZEO.StorageServer"),
            ("zeod", "ZEO.StorageServer"),
            ("other::storage", "ZEO.StorageServer"),
        ] {
            assert_eq!(logger_name(target), name, "{target}");
        }
    }

    #[test]
    fn what_is_for_the_authors_of_a_library_is_for_debugging() {
        let of = Severity::from_target;
        assert_eq!(of("openraft::core", Level::ERROR), Severity::Debug);
        assert_eq!(of("openraft", Level::TRACE), Severity::Trace);
        assert_eq!(of("openrafts", Level::ERROR), Severity::Error);
        assert_eq!(of("zeod::openraft", Level::WARN), Severity::Warning);
    }

    #[test]
    fn severities_are_ordered_as_their_numbers() {
        assert!(Severity::Trace < Severity::Critical);
        assert_eq!(Severity::of(Level::WARN).number(), 30);
        assert_eq!(Severity::of(Level::TRACE).name(), "TRACE");
    }
}
