//! The layout of a line: Python's three ways to write placeholders, compiled
//! once and filled in for every record.

mod brace;
mod date;
mod percent;
mod spec;
mod template;

use std::cell::OnceCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use jiff::tz::TimeZone;

use self::date::DateFormat;
use self::spec::{Kind, Spec, Value};
use super::record::Record;
use crate::config::LogStyle;

/// What stands for a field that an event does not have.
const ABSENT: &str = "-";

/// A part of a line.
#[derive(Debug)]
enum Piece {
    Literal(String),
    Field {
        field: Field,
        spec: Spec,
        /// What is written if the event does not have the field.
        fallback: String,
    },
}

impl Piece {
    fn field(field: Field, spec: Spec) -> Self {
        Self::Field {
            field,
            spec,
            fallback: ABSENT.to_owned(),
        }
    }
}

/// A field of Python's `LogRecord`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Asctime,
    Created,
    Filename,
    LevelName,
    LevelNumber,
    Line,
    Message,
    Module,
    Milliseconds,
    Name,
    Pathname,
    Process,
    RelativeCreated,
    Thread,
    ThreadName,
    /// Always the same here.
    Constant(&'static str, &'static str),
    /// A field of the event itself.
    Own(String),
}

impl Field {
    fn named(name: &str) -> Self {
        match name {
            "asctime" => Self::Asctime,
            "created" => Self::Created,
            "filename" => Self::Filename,
            "levelname" => Self::LevelName,
            "levelno" => Self::LevelNumber,
            "lineno" => Self::Line,
            "message" | "msg" => Self::Message,
            "module" => Self::Module,
            "msecs" => Self::Milliseconds,
            "name" => Self::Name,
            "pathname" => Self::Pathname,
            "process" => Self::Process,
            "relativeCreated" => Self::RelativeCreated,
            "thread" => Self::Thread,
            "threadName" => Self::ThreadName,
            "funcName" => Self::Constant("funcName", "(unknown function)"),
            "processName" => Self::Constant("processName", "MainProcess"),
            "args" => Self::Constant("args", "()"),
            "exc_info" => Self::Constant("exc_info", "None"),
            "exc_text" => Self::Constant("exc_text", "None"),
            "stack_info" => Self::Constant("stack_info", "None"),
            "taskName" => Self::Constant("taskName", "None"),
            _ => Self::Own(name.to_owned()),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Asctime => "asctime",
            Self::Created => "created",
            Self::Filename => "filename",
            Self::LevelName => "levelname",
            Self::LevelNumber => "levelno",
            Self::Line => "lineno",
            Self::Message => "message",
            Self::Module => "module",
            Self::Milliseconds => "msecs",
            Self::Name => "name",
            Self::Pathname => "pathname",
            Self::Process => "process",
            Self::RelativeCreated => "relativeCreated",
            Self::Thread => "thread",
            Self::ThreadName => "threadName",
            Self::Constant(name, _) => name,
            Self::Own(name) => name,
        }
    }

    fn is_float(&self) -> bool {
        matches!(
            self,
            Self::Created | Self::Milliseconds | Self::RelativeCreated
        )
    }

    /// Whether it is known to be no number.
    fn is_text(&self) -> bool {
        let is_integer = matches!(
            self,
            Self::LevelNumber | Self::Line | Self::Process | Self::Thread
        );
        !is_integer && !self.is_float() && !matches!(self, Self::Own(_))
    }
}

/// How the lines of a handler look.
#[derive(Debug)]
pub struct Layout {
    pieces: Vec<Piece>,
    date: DateFormat,
}

impl Layout {
    /// Compiles a layout. `default` is in the classic style and stands in where
    /// there is no `format`; an empty one is the message alone. The error says
    /// what is wrong.
    pub fn new(
        format: Option<&str>,
        default: &str,
        style: LogStyle,
        date_format: Option<&str>,
        zone: TimeZone,
    ) -> Result<Self, String> {
        let pieces = match (format, style) {
            (None, _) => percent::parse(default)?,
            (Some(""), _) => percent::parse("%(message)s")?,
            (Some(format), LogStyle::Classic) => percent::parse(format)?,
            (Some(format), LogStyle::Format) => brace::parse(format)?,
            (Some(format), LogStyle::Template) => template::parse(format, false)?,
            (Some(format), LogStyle::SafeTemplate) => template::parse(format, true)?,
        };
        let date = DateFormat::new(date_format, zone)
            .map_err(|reason| format!("the time's format: {reason}"))?;
        Ok(Self { pieces, date })
    }

    /// The fields that no record has by itself, but an event may bring along.
    pub fn unknown_fields(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Field {
                field: Field::Own(name),
                ..
            } => Some(name.as_str()),
            _ => None,
        })
    }

    /// Appends the record's line, without a newline at its end.
    pub fn write(&self, record: &Record<'_>, out: &mut String) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Field {
                    field,
                    spec,
                    fallback,
                } => self.write_field(field, spec, fallback, record, out),
            }
        }
    }

    fn write_field(
        &self,
        field: &Field,
        spec: &Spec,
        fallback: &str,
        record: &Record<'_>,
        out: &mut String,
    ) {
        let value = match field {
            Field::Asctime => return self.write_time(spec, record, out),
            Field::ThreadName => return write_thread_name(spec, out),
            Field::Created => Value::Float(seconds(record.created.as_microsecond())),
            Field::Filename => Value::Text(record.filename()),
            Field::LevelName => Value::Text(record.severity.name()),
            Field::LevelNumber => Value::Int(record.severity.number().into()),
            Field::Line => Value::Int(record.line.into()),
            Field::Message => Value::Text(record.message),
            Field::Module => Value::Text(record.module()),
            // Whole milliseconds, yet a float: so it is in Python since 3.11.
            Field::Milliseconds => {
                Value::Float(record.created.subsec_millisecond().rem_euclid(1000).into())
            }
            Field::Name => Value::Text(record.logger),
            Field::Pathname => Value::Text(record.pathname),
            Field::Process => Value::Int(std::process::id().into()),
            Field::RelativeCreated => {
                let since = record.created.as_microsecond() - record.started.as_microsecond();
                Value::Float(seconds(since) * 1000.0)
            }
            Field::Thread => Value::Int(thread_number()),
            Field::Constant(_, value) => Value::Text(value),
            Field::Own(name) => match record.field(name) {
                Some(value) => own_value(value, spec),
                None => return out.push_str(fallback),
            },
        };
        spec.write(value, out);
    }

    fn write_time(&self, spec: &Spec, record: &Record<'_>, out: &mut String) {
        if is_plain(spec) {
            return self.date.write(record.created, out);
        }
        let mut text = String::new();
        self.date.write(record.created, &mut text);
        spec.write(Value::Text(&text), out);
    }
}

/// Whether text passes unchanged, so that it need not be copied first.
fn is_plain(spec: &Spec) -> bool {
    spec.width == 0 && spec.precision.is_none() && matches!(spec.kind, Kind::Natural | Kind::Text)
}

/// The value of an event's own field, as a number if the layout wants one.
fn own_value<'a>(value: &'a str, spec: &Spec) -> Value<'a> {
    let wants_text = matches!(
        spec.kind,
        Kind::Natural | Kind::Text | Kind::Repr | Kind::Ascii
    );
    if wants_text {
        return Value::Text(value);
    }
    if let Ok(number) = value.parse() {
        return Value::Int(number);
    }
    value.parse().map_or(Value::Text(value), Value::Float)
}

#[expect(clippy::cast_precision_loss, reason = "microseconds stay exact")]
fn seconds(microseconds: i64) -> f64 {
    microseconds as f64 / 1e6
}

fn write_thread_name(spec: &Spec, out: &mut String) {
    let thread = thread::current();
    match thread.name() {
        Some("main") => spec.write(Value::Text("MainThread"), out),
        Some(name) => spec.write(Value::Text(name), out),
        None => spec.write(Value::Text(&format!("Thread-{}", thread_number())), out),
    }
}

/// A number for the thread, in the order in which threads first log. Python
/// prints the address of the thread's control block, which tells nobody more.
fn thread_number() -> i64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: OnceCell<u64> = const { OnceCell::new() };
    }
    let number = NUMBER
        .try_with(|cell| *cell.get_or_init(|| NEXT.fetch_add(1, Ordering::Relaxed)))
        .unwrap_or_default();
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
