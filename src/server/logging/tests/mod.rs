mod files;
mod syslog;

use std::fs;
use std::sync::atomic::{AtomicI64, Ordering};

use tracing::subscriber::with_default;

use super::*;
use crate::config::{LogFile, LogStyle, LogTarget, OtherHandler};

/// 2023-11-14 23:13:20 in Berlin, a Tuesday.
const START_S: i64 = 1_700_000_000;

/// A log, the clock that it reads, and the directory that it writes to.
struct Fixture {
    directory: tempfile::TempDir,
    now_s: Arc<AtomicI64>,
}

impl Fixture {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            now_s: Arc::new(AtomicI64::new(START_S)),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn logfile(&self, format: &str) -> LogFile {
        LogFile {
            path: LogTarget::File(self.path("zeo.log")),
            level: LogLevel::NotSet,
            format: Some(format.to_owned()),
            date_format: None,
            style: LogStyle::Classic,
            rotation: None,
            encoding: None,
            delay: false,
        }
    }

    fn build(&self, eventlog: &EventLog) -> Result<(Exchangeable, Logging), LoggingError> {
        let now_s = Arc::clone(&self.now_s);
        let clock: Clock =
            Arc::new(move || Timestamp::from_second(now_s.load(Ordering::Relaxed)).unwrap());
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let built = configured(eventlog, Arc::clone(&clock), &zone)?;
        Ok(Logging::new(built, clock, false))
    }

    /// Runs `work` while the handlers listen from `level`.
    fn run(&self, level: LogLevel, handlers: Vec<LogHandler>, work: impl FnOnce(&Logging)) {
        let (layer, logging) = self.build(&EventLog { level, handlers }).unwrap();
        with_default(registry().with(layer), || work(&logging));
    }

    fn run_file(&self, section: LogFile, work: impl FnOnce(&Logging)) {
        self.run(LogLevel::Info, vec![LogHandler::File(section)], work);
    }

    fn pass(&self, seconds: i64) {
        self.now_s.fetch_add(seconds, Ordering::Relaxed);
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| format!("{name}: {error}"))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn the_default_format_is_that_of_zconfig() {
    let fixture = Fixture::new();
    let mut section = fixture.logfile("");
    section.format = None;
    fixture.run_file(section, |_| {
        tracing::info!("first");
        tracing::warn!(target: "zeod::storage::file", "second");
    });
    assert_eq!(
        fixture.read("zeo.log"),
        "------\n2023-11-14T23:13:20 INFO ZEO.runzeo first\n\
         ------\n2023-11-14T23:13:20 WARNING ZODB.FileStorage second\n"
    );
}

#[test]
fn fields_follow_the_message_and_some_are_orders() {
    let fixture = Fixture::new();
    let format = "%(levelname)s %(name)s %(message)s";
    fixture.run_file(fixture.logfile(format), |_| {
        let clients = 3;
        tracing::info!(clients, name = "a b", empty = "", plain = "x", "there");
        tracing::error!(critical = true, logger = "mine", "gone");
        tracing::error!(critical = false, "not so bad");
        tracing::info!(clients);
        tracing::info!("two\nlines\r{}", "\u{1b}[31m");
    });
    assert_eq!(
        fixture.read("zeo.log"),
        "INFO ZEO.runzeo there clients=3 name=\"a b\" empty=\"\" plain=x\n\
         CRITICAL mine gone\n\
         ERROR ZEO.runzeo not so bad\n\
         INFO ZEO.runzeo clients=3\n\
         INFO ZEO.runzeo two lines  [31m\n"
    );
}

#[test]
fn a_value_that_logs_in_its_turn_does_no_harm() {
    struct Chatty;
    impl std::fmt::Display for Chatty {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            tracing::info!("inner");
            f.write_str("outer")
        }
    }
    let fixture = Fixture::new();
    fixture.run_file(fixture.logfile("%(message)s"), |_| {
        tracing::info!("{Chatty}");
        tracing::info!("after");
    });
    let text = fixture.read("zeo.log");
    assert!(text.ends_with("outer\nafter\n"), "{text}");
}

#[test]
fn levels_are_those_of_the_log_and_of_the_handler() {
    for (log, handler, expected) in [
        (
            LogLevel::Info,
            LogLevel::NotSet,
            "info warn error critical ",
        ),
        (LogLevel::Info, LogLevel::Error, "error critical "),
        (LogLevel::Error, LogLevel::Debug, "error critical "),
        (
            LogLevel::NotSet,
            LogLevel::NotSet,
            "trace debug info warn error critical ",
        ),
        (
            LogLevel::All,
            LogLevel::Debug,
            "debug info warn error critical ",
        ),
        (
            LogLevel::Blather,
            LogLevel::NotSet,
            "info warn error critical ",
        ),
        (LogLevel::Critical, LogLevel::NotSet, "critical "),
        (LogLevel::NotSet, LogLevel::Number(45), "critical "),
    ] {
        let fixture = Fixture::new();
        let mut section = fixture.logfile("%(message)s");
        section.level = handler;
        fixture.run(log, vec![LogHandler::File(section)], |_| {
            tracing::trace!("trace");
            tracing::debug!("debug");
            tracing::info!("info");
            tracing::warn!("warn");
            tracing::error!("error");
            tracing::error!(critical = true, "critical");
        });
        let text = fixture.read("zeo.log").replace('\n', " ");
        assert_eq!(text, expected, "{log:?} {handler:?}");
    }
}

#[test]
fn what_nobody_wants_is_disabled() {
    let fixture = Fixture::new();
    let handlers = vec![LogHandler::File(fixture.logfile("%(message)s"))];
    fixture.run(LogLevel::Info, handlers, |_| {
        assert!(tracing::enabled!(tracing::Level::INFO));
        assert!(!tracing::enabled!(tracing::Level::DEBUG));
        assert!(tracing::info_span!("span").is_disabled());
    });
    fixture.run(LogLevel::NotSet, Vec::new(), |_| {
        assert!(!tracing::enabled!(tracing::Level::ERROR));
    });
}

#[test]
fn handlers_of_other_kinds_are_passed_over() {
    let fixture = Fixture::new();
    let other = LogHandler::Other(OtherHandler {
        kind: "email-notifier".to_owned(),
        level: LogLevel::NotSet,
    });
    let file = LogHandler::File(fixture.logfile("%(message)s"));
    fixture.run(LogLevel::Info, vec![other, file], |_| tracing::info!("x"));
    assert_eq!(fixture.read("zeo.log"), "x\n");
}

#[test]
fn a_wrong_filter_is_named() {
    assert!(filter_from(None).unwrap().is_none());
    assert!(filter_from(Some(String::new())).unwrap().is_none());
    assert!(
        filter_from(Some("zeod=debug".to_owned()))
            .unwrap()
            .is_some()
    );
    let error = filter_from(Some("zeod=loud".to_owned())).unwrap_err();
    assert!(
        error.to_string().contains("ZEOD_LOG=\"zeod=loud\""),
        "{error}"
    );
}

#[test]
fn a_long_message_is_cut_off() {
    let fixture = Fixture::new();
    fixture.run_file(fixture.logfile("%(message)s"), |_| {
        tracing::info!(own = "x", "{}", "\u{e4}".repeat(1 << 20));
    });
    let text = fixture.read("zeo.log");
    assert_eq!(text.chars().count(), 32 * 1024 + " own=x\n".len());
}
