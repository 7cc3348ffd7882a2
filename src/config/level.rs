use std::str::FromStr;

use super::python;

/// The importance of a log record, or the least importance that is let through
/// (source: ZConfig components/logger/datatypes.py). Names are read in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// `notset`, 0: no limit of its own.
    #[default]
    NotSet,
    /// `all`, 1
    All,
    /// `trace`, 5
    Trace,
    /// `debug`, 10
    Debug,
    /// `blather`, 15
    Blather,
    /// `info`, 20
    Info,
    /// `warn` or `warning`, 30
    Warn,
    /// `error`, 40
    Error,
    /// `critical` or `fatal`, 50
    Critical,
    /// A number from 0 to 50 that has no name.
    Number(u8),
}

/// A level that is neither a name nor a number from 0 to 50.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a log level")]
pub struct LogLevelError(String);

impl LogLevel {
    /// What [`LogLevel::from_str`] accepts, for messages.
    pub const ALLOWED: &'static str = "critical, fatal, error, warn, warning, info, blather, debug, trace, all, notset, \
         or a number from 0 to 50";

    /// The level as Python's logging counts.
    pub const fn number(self) -> u8 {
        match self {
            Self::NotSet => 0,
            Self::All => 1,
            Self::Trace => 5,
            Self::Debug => 10,
            Self::Blather => 15,
            Self::Info => 20,
            Self::Warn => 30,
            Self::Error => 40,
            Self::Critical => 50,
            Self::Number(number) => number,
        }
    }

    /// The least of tracing's levels that passes this limit, as tracing spells
    /// it: error, warn, info, debug or trace. Above 40 it is "error", since
    /// tracing has nothing more important that could be let through instead.
    pub const fn tracing_level(self) -> &'static str {
        match self.number() {
            0..=5 => "trace",
            6..=10 => "debug",
            11..=20 => "info",
            21..=30 => "warn",
            _ => "error",
        }
    }

    /// The name, `None` for a number that has none.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::NotSet => "notset",
            Self::All => "all",
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Blather => "blather",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Number(_) => return None,
        })
    }

    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::NotSet,
            1 => Self::All,
            5 => Self::Trace,
            10 => Self::Debug,
            15 => Self::Blather,
            20 => Self::Info,
            30 => Self::Warn,
            40 => Self::Error,
            50 => Self::Critical,
            number => Self::Number(number),
        }
    }
}

impl FromStr for LogLevel {
    type Err = LogLevelError;

    fn from_str(text: &str) -> Result<Self, LogLevelError> {
        Ok(match text.to_lowercase().as_str() {
            "critical" | "fatal" => Self::Critical,
            "error" => Self::Error,
            "warn" | "warning" => Self::Warn,
            "info" => Self::Info,
            "blather" => Self::Blather,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            "all" => Self::All,
            "notset" => Self::NotSet,
            _ => python::integer(text)
                .filter(|number| (0..=50).contains(number))
                .and_then(|number| u8::try_from(number).ok())
                .map(Self::from_number)
                .ok_or_else(|| LogLevelError(text.to_owned()))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_the_same_levels() {
        for (name, number) in [
            ("CRITICAL", 50),
            ("fatal", 50),
            ("Error", 40),
            ("warn", 30),
            ("warning", 30),
            ("info", 20),
            ("blather", 15),
            ("debug", 10),
            ("trace", 5),
            ("all", 1),
            ("notset", 0),
        ] {
            let level: LogLevel = name.parse().unwrap();
            assert_eq!(level.number(), number, "{name}");
            assert_eq!(number.to_string().parse(), Ok(level), "{name}");
        }
        assert_eq!("25".parse(), Ok(LogLevel::Number(25)));
        for text in ["51", "-1", "", "loud", "2.5"] {
            assert!(text.parse::<LogLevel>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_limit_between_two_levels_lets_the_upper_one_through() {
        assert_eq!(LogLevel::NotSet.tracing_level(), "trace");
        assert_eq!(LogLevel::Debug.tracing_level(), "debug");
        assert_eq!(LogLevel::Blather.tracing_level(), "info");
        assert_eq!(LogLevel::Number(21).tracing_level(), "warn");
        assert_eq!(LogLevel::Critical.tracing_level(), "error");
    }
}
