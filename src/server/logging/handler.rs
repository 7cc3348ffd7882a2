use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;

use super::LoggingError;
use super::file::LogFile;
use super::layout::Layout;
use super::record::Record;
use super::syslog::{SyslogSocket, facility_number, priority};
use super::terminal;
use crate::config::{self, LogTarget};

/// ZConfig's default for `<logfile>`.
const FILE_FORMAT: &str = "------\n%(asctime)s %(levelname)s %(name)s %(message)s";
/// ZConfig's default for `<syslog>`.
const SYSLOG_FORMAT: &str = "%(name)s %(message)s";
/// What is written if nothing is configured.
const CONSOLE_FORMAT: &str = "%(asctime)s %(levelname)s %(name)s %(message)s";

/// One place that lines go to.
#[derive(Debug)]
pub struct Handler {
    /// The least that is let through, as Python counts.
    pub level: u8,
    layout: Layout,
    sink: Sink,
    /// For messages: the path, or what it is.
    title: String,
    lost: AtomicU64,
    failure_was_reported: AtomicBool,
}

/// Where a line ends up. Each lock is held for one write, and for a rotation.
#[derive(Debug)]
enum Sink {
    Stdout,
    Stderr,
    /// Standard error, which is systemd's journal.
    Journal,
    File(Mutex<LogFile>),
    Syslog {
        socket: Mutex<SyslogSocket>,
        facility: u8,
    },
}

impl Handler {
    /// Standard error as it is used without `<eventlog>`. `level`: the least
    /// that is let through, as Python counts.
    pub fn console(level: u8, zone: TimeZone) -> Result<Self, LoggingError> {
        Self::stderr(level, CONSOLE_FORMAT, zone, Sink::Stderr)
    }

    /// The same where standard error is systemd's journal.
    pub fn journal(level: u8) -> Result<Self, LoggingError> {
        Self::stderr(level, SYSLOG_FORMAT, TimeZone::UTC, Sink::Journal)
    }

    fn stderr(
        level: u8,
        format: &'static str,
        zone: TimeZone,
        sink: Sink,
    ) -> Result<Self, LoggingError> {
        let layout =
            Layout::new(None, format, config::LogStyle::Classic, None, zone).map_err(|reason| {
                LoggingError::Format {
                    target: "STDERR".to_owned(),
                    format: format.to_owned(),
                    reason,
                }
            })?;
        Ok(Self::new(level, layout, sink, "STDERR".to_owned()))
    }

    /// A `<logfile>`.
    pub fn logfile(
        section: &config::LogFile,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<Self, LoggingError> {
        let title = match &section.path {
            LogTarget::Stdout => "STDOUT".to_owned(),
            LogTarget::Stderr => "STDERR".to_owned(),
            LogTarget::File(path) => path.display().to_string(),
        };
        let layout = Layout::new(
            section.format.as_deref(),
            FILE_FORMAT,
            section.style,
            section.date_format.as_deref(),
            zone.clone(),
        );
        let layout =
            layout.map_err(|reason| bad_format(&title, section.format.as_ref(), reason))?;
        let sink = match &section.path {
            LogTarget::Stdout => Sink::Stdout,
            LogTarget::Stderr => Sink::Stderr,
            LogTarget::File(path) => {
                let rotation = section.rotation.clone();
                let file = LogFile::new(path, rotation, section.delay, now, zone.clone());
                Sink::File(Mutex::new(file.map_err(|source| LoggingError::Open {
                    path: path.clone(),
                    source,
                })?))
            }
        };
        Ok(Self::new(section.level.number(), layout, sink, title))
    }

    /// A `<syslog>`. A daemon that is away is no error, but reported.
    pub fn syslog(section: &config::Syslog, zone: &TimeZone) -> Result<Self, LoggingError> {
        let title = format!("syslog at {}", section.address);
        let layout = Layout::new(
            section.format.as_deref(),
            SYSLOG_FORMAT,
            section.style,
            section.date_format.as_deref(),
            zone.clone(),
        );
        let layout =
            layout.map_err(|reason| bad_format(&title, section.format.as_ref(), reason))?;
        let (socket, connected) = SyslogSocket::new(section.address.clone());
        let sink = Sink::Syslog {
            socket: Mutex::new(socket),
            facility: facility_number(&section.facility),
        };
        let handler = Self::new(section.level.number(), layout, sink, title);
        if let Err(error) = connected {
            handler.report_once(&error);
        }
        Ok(handler)
    }

    fn new(level: u8, layout: Layout, sink: Sink, title: String) -> Self {
        Self {
            level,
            layout,
            sink,
            title,
            lost: AtomicU64::new(0),
            failure_was_reported: AtomicBool::new(false),
        }
    }

    /// What it is called in messages.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// See [`Layout::unknown_fields`].
    pub fn unknown_fields(&self) -> impl Iterator<Item = &str> {
        self.layout.unknown_fields()
    }

    /// How many lines could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes a record. `line` is a buffer whose contents do not matter.
    pub fn handle(&self, record: &Record<'_>, line: &mut String) {
        line.clear();
        let facility = match &self.sink {
            Sink::Syslog { facility, .. } => Some(*facility),
            // The journal chooses the facility, and hears of the severity only.
            Sink::Journal => Some(0),
            _ => None,
        };
        if let Some(facility) = facility {
            // Writing to a String cannot fail.
            let _ = write!(line, "<{}>", priority(facility, record.severity));
        }
        self.layout.write(record, line);
        let written = match &self.sink {
            Sink::Syslog { socket, .. } => {
                line.push('\0');
                socket.lock().send(line.as_bytes())
            }
            Sink::File(file) => {
                line.push('\n');
                file.lock().write(line.as_bytes(), record.created)
            }
            Sink::Stdout => {
                line.push('\n');
                let mut stdout = io::stdout().lock();
                stdout
                    .write_all(line.as_bytes())
                    .and_then(|()| stdout.flush())
            }
            Sink::Stderr | Sink::Journal => {
                line.push('\n');
                terminal::write_line(line)
            }
        };
        if let Err(error) = written {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.report_once(&error);
        }
    }

    /// Opens the file or the connection again; for the streams there is nothing
    /// to do. A failure to write is reported anew afterwards.
    pub fn reopen(&self, now: Timestamp) -> Result<(), LoggingError> {
        self.failure_was_reported.store(false, Ordering::Relaxed);
        match &self.sink {
            Sink::Stdout | Sink::Stderr | Sink::Journal => Ok(()),
            Sink::File(file) => {
                let mut file = file.lock();
                let reopened = file.reopen(now);
                reopened.map_err(|source| LoggingError::Open {
                    path: file.path().to_owned(),
                    source,
                })
            }
            Sink::Syslog { socket, .. } => {
                let reconnected = socket.lock().reconnect();
                reconnected.map_err(|source| LoggingError::Open {
                    path: PathBuf::from(&self.title),
                    source,
                })
            }
        }
    }

    fn report_once(&self, error: &io::Error) {
        if !self.failure_was_reported.swap(true, Ordering::Relaxed) {
            note(format_args!("cannot log to {}: {error}", self.title));
        }
    }
}

/// Says something on standard error while there is no log to say it in. If even
/// that fails, nobody can be told.
pub fn note(text: std::fmt::Arguments<'_>) {
    let line = format!("zeod: {text}\n");
    let _ = terminal::write_line(&line);
}

fn bad_format(target: &str, format: Option<&String>, reason: String) -> LoggingError {
    LoggingError::Format {
        target: target.to_owned(),
        format: format.cloned().unwrap_or_default(),
        reason,
    }
}
