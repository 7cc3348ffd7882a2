//! The server's log, in the look of Python's logging under ZConfig.
//!
//! ```text
//! layer      a tracing event -> a record (level, logger, one-line message)
//! layout     the record      -> a line, by format, dateformat and style
//! handler    the line        -> file, stdout, stderr or syslog; errors are counted
//! rotation   puts a file aside by size or time
//! terminal   a line below the log's, written over again and again
//! ```
//!
//! An event is one record. Its logger follows from its target, unless a field
//! `logger` names one; `tracing::error!(critical = true, …)` is CRITICAL; all
//! other fields stand behind the message as ` key=value`. Control characters in
//! a message become spaces.
//!
//! Logging never stops the server: a line that cannot be written is counted in
//! [`Logging::lost_lines`] and reported once on standard error.
//!
//! On purpose it differs from Python in these points:
//! - Without `<eventlog>`, records have no line of dashes before them.
//! - A layout that names a field which a record lacks writes `-` for it.
//! - Text is UTF-8, whatever `encoding` says.
//! - A line that alone exceeds `max-size` does not put an empty file aside.
//! - `interval` has no meaning with weekdays and midnight.
//! - A file that was put aside by time is never overwritten by another one.
//! - Messages of more than 64 KiB are cut off.
//! - Without `<eventlog>`, where standard error is systemd's journal, lines begin
//!   with their priority, `<N>`, and have no time; the journal keeps both.

mod file;
mod handler;
mod journal;
mod layer;
mod layout;
mod record;
mod rotation;
mod syslog;
pub mod terminal;

use std::env;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use tracing::subscriber::{SetGlobalDefaultError, set_global_default};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Registry, registry, reload};

use self::handler::{Handler, note};
use self::layer::{Clock, EventLayer};
use crate::config::{EventLog, LogHandler, LogLevel};

/// What is let through without `<eventlog>`, in tracing's filter language.
const FILTER_VARIABLE: &str = "ZEOD_LOG";

/// Why there can be no log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// A log file, or the way to a log daemon, cannot be opened.
    #[error("cannot log to {}: {source}", path.display())]
    Open {
        /// The file; "syslog at ADDRESS" for a daemon.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A layout has a mistake.
    #[error("the log format {format:?} for {target} is wrong: {reason}")]
    Format {
        /// Whose layout it is.
        target: String,
        /// The layout.
        format: String,
        /// The mistake.
        reason: String,
    },
    /// The environment variable `ZEOD_LOG` has a mistake.
    #[error("{FILTER_VARIABLE}={value:?} is wrong: {source}")]
    Filter {
        /// What it says.
        value: String,
        /// The mistake.
        source: ParseError,
    },
    /// This process has a log already.
    #[error("logging was begun before: {0}")]
    Installed(#[from] SetGlobalDefaultError),
    /// The log can no longer be exchanged.
    #[error("the log cannot be exchanged: {0}")]
    Exchange(#[from] reload::Error),
}

/// The running log.
pub struct Logging {
    handlers: Mutex<Arc<[Handler]>>,
    clock: Clock,
    /// How to put other handlers in place.
    exchange: reload::Handle<EventLayer, Registry>,
    /// `ZEOD_LOG` decides what is let through.
    filtered: bool,
    /// What handlers that are no longer there have lost.
    lost_before: AtomicU64,
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logging")
            .field("handlers", &self.handlers)
            .finish_non_exhaustive()
    }
}

impl Logging {
    /// What listens to events, and the way to change it.
    fn new(built: Built, clock: Clock, filtered: bool) -> (Exchangeable, Self) {
        let (layer, handlers) = built;
        let (layer, exchange) = reload::Layer::new(layer);
        let logging = Self {
            handlers: Mutex::new(handlers),
            clock,
            exchange,
            filtered,
            lost_before: AtomicU64::new(0),
        };
        (layer, logging)
    }

    /// Opens all log files anew, as SIGUSR2 asks for after they were renamed,
    /// and connects to log daemons again. Files with rotation are put aside, as
    /// ZConfig does. Each error names its file, of which the former one stays
    /// in use; telling the operator is left to the caller.
    #[must_use = "each error is a file that was not reopened"]
    pub fn reopen(&self) -> Vec<LoggingError> {
        let now = (self.clock)();
        let handlers = Arc::clone(&self.handlers.lock());
        let reopened = handlers.iter().map(|handler| handler.reopen(now));
        reopened.filter_map(Result::err).collect()
    }

    /// Logs as another `<eventlog>` says from now on. After an error all stays
    /// as it was. Where the server was started with `ZEOD_LOG`, nothing that it
    /// keeps back is let through.
    pub fn replace(&self, eventlog: Option<&EventLog>) -> Result<(), LoggingError> {
        let clock = Arc::clone(&self.clock);
        let (layer, handlers) = built(eventlog, self.filtered, clock)?;
        self.exchange.reload(layer)?;
        let former = std::mem::replace(&mut *self.handlers.lock(), handlers);
        self.lost_before
            .fetch_add(lost_by(&former), Ordering::Relaxed);
        Ok(())
    }

    /// How often a line could not be written, or a file not be put aside, since
    /// the start.
    pub fn lost_lines(&self) -> u64 {
        self.lost_before.load(Ordering::Relaxed) + lost_by(&self.handlers.lock())
    }
}

fn lost_by(handlers: &[Handler]) -> u64 {
    handlers.iter().map(Handler::lost).sum()
}

/// Begins to log what `tracing` reports, for the whole process.
///
/// Without `<eventlog>`: to standard error, from INFO, or as the environment
/// variable `ZEOD_LOG` says (`debug`, `zeod::session=trace,info`, …).
pub fn init(eventlog: Option<&EventLog>) -> Result<Logging, LoggingError> {
    let clock: Clock = Arc::new(Timestamp::now);
    let filter = match eventlog {
        Some(_) => None,
        None => filter_from(env::var(FILTER_VARIABLE).ok())?,
    };
    let filtered = filter.is_some();
    let built = built(eventlog, filtered, Arc::clone(&clock))?;
    let (layer, logging) = Logging::new(built, clock, filtered);
    let subscriber = registry().with(layer);
    match filter {
        Some(filter) => set_global_default(subscriber.with(filter))?,
        None => set_global_default(subscriber)?,
    }
    Ok(logging)
}

/// A layer, and its handlers once more.
type Built = (EventLayer, Arc<[Handler]>);
type Exchangeable = reload::Layer<EventLayer, Registry>;

fn built(eventlog: Option<&EventLog>, filtered: bool, clock: Clock) -> Result<Built, LoggingError> {
    match eventlog {
        Some(eventlog) => configured(eventlog, clock, &TimeZone::system()),
        None => console(filtered, clock),
    }
}

/// The layer for an `<eventlog>`.
fn configured(eventlog: &EventLog, clock: Clock, zone: &TimeZone) -> Result<Built, LoggingError> {
    let now = clock();
    let mut handlers = Vec::with_capacity(eventlog.handlers.len());
    for section in &eventlog.handlers {
        match section {
            LogHandler::File(section) => {
                let handler = Handler::logfile(section, now, zone)?;
                if let Some(encoding) = section.encoding.as_deref().filter(|name| !is_utf8(name)) {
                    let title = handler.title();
                    note(format_args!(
                        "{title} is written in UTF-8, not in {encoding}"
                    ));
                }
                handlers.push(handler);
            }
            LogHandler::Syslog(section) => handlers.push(Handler::syslog(section, zone)?),
            LogHandler::Other(section) => {
                note(format_args!(
                    "nothing is logged to <{}> by this server",
                    section.kind
                ));
            }
        }
    }
    for handler in &handlers {
        for field in handler.unknown_fields() {
            let title = handler.title();
            note(format_args!(
                "the log format for {title} names {field:?}, which few records have"
            ));
        }
    }
    Ok(assembled(eventlog.level.number(), handlers, clock))
}

/// The layer for a server without `<eventlog>`. `filtered`: something else
/// decides what is let through.
fn console(filtered: bool, clock: Clock) -> Result<Built, LoggingError> {
    let level = if filtered {
        LogLevel::NotSet
    } else {
        LogLevel::Info
    };
    let handler = if journal::is_standard_error() {
        Handler::journal(level.number())?
    } else {
        Handler::console(level.number(), TimeZone::system())?
    };
    Ok(assembled(level.number(), vec![handler], clock))
}

fn assembled(level: u8, handlers: Vec<Handler>, clock: Clock) -> Built {
    let handlers: Arc<[Handler]> = handlers.into();
    let layer = EventLayer::new(level, Arc::clone(&handlers), clock);
    (layer, handlers)
}

fn filter_from(value: Option<String>) -> Result<Option<EnvFilter>, LoggingError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match EnvFilter::builder().parse(&value) {
        Ok(filter) => Ok(Some(filter)),
        Err(source) => Err(LoggingError::Filter { value, source }),
    }
}

fn is_utf8(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(
        name.as_str(),
        "utf-8" | "utf8" | "utf_8" | "u8" | "ascii" | "us-ascii"
    )
}

#[cfg(test)]
mod tests;
