use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::handler::Handler;
use super::record::{Record, Severity, logger_name};

/// A thread keeps its buffers between events up to this size each.
const MAX_KEPT_BYTES: usize = 16 * 1024;

/// A message, and the fields behind it, are cut off here: clients may have a say
/// in how long they are.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Tells the time; tests bring their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Hands tracing's events to the handlers. Spans are not looked at.
pub struct EventLayer {
    /// The event log's own level, as Python counts.
    level: u8,
    /// What no handler lets through is not even looked at.
    least: u8,
    handlers: Arc<[Handler]>,
    clock: Clock,
    started: Timestamp,
}

impl EventLayer {
    /// `level`: the least that is let through, as Python counts.
    pub fn new(level: u8, handlers: Arc<[Handler]>, clock: Clock) -> Self {
        let lowest = handlers.iter().map(|handler| handler.level).min();
        Self {
            level,
            least: lowest.map_or(u8::MAX, |lowest| lowest.max(level)),
            handlers,
            started: clock(),
            clock,
        }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span() && Severity::at_most(metadata).number() >= self.least
    }

    fn handle(&self, event: &Event<'_>, scratch: &mut Scratch) {
        let metadata = event.metadata();
        scratch.clear();
        event.record(scratch);
        let mut severity = Severity::of_event(metadata);
        if scratch.critical && severity == Severity::Error {
            severity = Severity::Critical;
        }
        if severity.number() < self.least {
            return;
        }
        let Scratch {
            message,
            extra,
            ranges,
            logger,
            line,
            ..
        } = scratch;
        let extra_start = usize::from(message.is_empty());
        message.push_str(extra.get(extra_start..).unwrap_or_default());
        let record = Record {
            severity,
            logger: match logger.as_str() {
                "" => logger_name(metadata.target()),
                name => name,
            },
            message,
            fields: extra,
            ranges,
            created: (self.clock)(),
            started: self.started,
            pathname: metadata.file().unwrap_or("(unknown file)"),
            line: metadata.line().unwrap_or_default(),
            module_path: metadata.module_path().unwrap_or_default(),
        };
        for handler in self.handlers.iter() {
            if severity.number() >= handler.level.max(self.level) {
                handler.handle(&record, line);
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for EventLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.least {
            0..=5 => LevelFilter::TRACE,
            6..=10 => LevelFilter::DEBUG,
            11..=20 => LevelFilter::INFO,
            21..=30 => LevelFilter::WARN,
            31..=50 => LevelFilter::ERROR,
            _ => LevelFilter::OFF,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        thread_local! {
            static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
        }
        // Taken out, because a value that is laid out may log in its turn; that
        // event, and one while the thread ends, gets buffers of its own.
        let kept = SCRATCH.try_with(Cell::take).ok().flatten();
        let mut scratch = kept.unwrap_or_default();
        self.handle(event, &mut scratch);
        if scratch.is_small() {
            let _ = SCRATCH.try_with(|cell| cell.set(Some(scratch)));
        }
    }
}

/// What an event says, and the buffer for its lines.
#[derive(Debug, Default)]
struct Scratch {
    message: String,
    /// The other fields as ` key=value`.
    extra: String,
    /// Where the values stand in `extra`.
    ranges: Vec<(&'static str, Range<usize>)>,
    logger: String,
    critical: bool,
    line: String,
}

impl Scratch {
    fn clear(&mut self) {
        self.message.clear();
        self.extra.clear();
        self.ranges.clear();
        self.logger.clear();
        self.critical = false;
    }

    fn is_small(&self) -> bool {
        [&self.message, &self.extra, &self.logger, &self.line]
            .iter()
            .all(|buffer| buffer.capacity() <= MAX_KEPT_BYTES)
    }

    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // A value that is too long, or that fails to lay itself out, is cut off.
        match field.name() {
            "message" => {
                let _ = OneLine(&mut self.message).write_fmt(value);
            }
            "logger" => {
                let _ = OneLine(&mut self.logger).write_fmt(value);
            }
            name => {
                let _ = write!(self.extra, " {name}=");
                let start = self.extra.len();
                let _ = OneLine(&mut self.extra).write_fmt(value);
                self.ranges.push((name, start..self.extra.len()));
            }
        }
    }
}

impl Visit for Scratch {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "critical" {
            self.critical = value;
        } else {
            self.add(field, format_args!("{value}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let is_word = |c: char| !c.is_whitespace() && !c.is_control() && !"\"'=".contains(c);
        let is_message = matches!(field.name(), "message" | "logger");
        if is_message || !value.is_empty() && value.chars().all(is_word) {
            self.add(field, format_args!("{value}"));
        } else {
            self.add(field, format_args!("{value:?}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

/// Keeps what is written on one line: a client that sends a newline, or an
/// escape sequence, must not be able to forge a line of the log.
struct OneLine<'a>(&'a mut String);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (at, part) in text
            .split(|c: char| c != '\t' && c.is_control())
            .enumerate()
        {
            if at > 0 {
                self.0.push(' ');
            }
            let room = MAX_TEXT_BYTES.saturating_sub(self.0.len());
            if part.len() > room {
                let end = part.floor_char_boundary(room);
                self.0.push_str(part.get(..end).unwrap_or_default());
                return Err(fmt::Error);
            }
            self.0.push_str(part);
        }
        Ok(())
    }
}
