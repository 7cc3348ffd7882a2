//! The types of values, and what text and TOML's values mean to each.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::datatypes::DataTypeError;
use crate::config::tree::Syntax;
use crate::config::{Address, Environment, LogLevel, Peer, datatypes, log_format};

/// The types of values.
#[derive(Debug, Clone, Copy)]
pub enum DataType {
    /// yes, no, …; in TOML `true` and `false`.
    Boolean,
    /// A whole number, at least 0.
    Count,
    /// Seconds with a fraction, of any sign, also `nan` and `inf`.
    Age,
    /// Bytes, with KB, MB, GB.
    ByteSize,
    /// Whole seconds; only TOML and the environment allow a unit.
    WholeSeconds,
    /// Seconds, or with s, m, h, d.
    TimeInterval,
    /// The same, and with ms.
    ShortTime,
    /// Any text.
    Text,
    /// The text of a log layout; zeo.conf writes a line's end in it as `\n`.
    LogFormat,
    /// A path that is taken literally.
    Path,
    /// A path whose directory exists.
    ExistingDirpath,
    /// A socket's address, and its port if it names none.
    Address(u16),
    /// The same without paths.
    InetAddress(u16),
    /// `HOST:PORT`, where another machine reaches a node.
    NodeAddress,
    /// A node's id and its address; an environment variable has several, with
    /// commas between them.
    Peer,
    /// A log level.
    LogLevel,
    /// One of some words, in any case, and how to list them in a message.
    Word(&'static [&'static str], &'static str),
}

/// A value as a file, the environment or the command line says it, before its
/// type is looked at.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// The rest of a line of zeo.conf.
    Line(String),
    /// What an environment variable holds: as a line, and times may have units.
    Variable(String),
    /// TOML's string, its escapes replaced.
    String(String),
    /// TOML's integer.
    Integer(i128),
    /// TOML's float.
    Float(f64),
    /// TOML's `true` or `false`.
    Boolean(bool),
    /// The command line's; it has its type already.
    Converted(Value),
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
    Peer(Peer),
    LogLevel(LogLevel),
}

impl Raw {
    /// As the file has it, for messages.
    pub fn as_written(&self) -> String {
        match self {
            Self::Line(text) | Self::Variable(text) | Self::String(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::Converted(_) => String::new(),
        }
    }

    /// Whether there is only a key.
    pub fn is_empty(&self) -> bool {
        self.text().is_some_and(str::is_empty)
    }

    /// Which language it is from.
    pub fn syntax(&self) -> Syntax {
        match self {
            Self::Line(_) | Self::Converted(_) => Syntax::ZConfig,
            Self::Variable(_) => Syntax::Environment,
            Self::String(_) | Self::Integer(_) | Self::Float(_) | Self::Boolean(_) => Syntax::Toml,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Line(text) | Self::Variable(text) | Self::String(text) => Some(text),
            _ => None,
        }
    }
}

type Converted = Result<Value, String>;

impl DataType {
    /// Converts a value; the error says why it cannot be.
    pub fn convert(self, raw: &Raw, environment: &Environment<'_>) -> Converted {
        match (self, raw) {
            (_, Raw::Converted(value)) => Ok(value.clone()),
            (Self::Boolean, _) => boolean(raw),
            (Self::Count, _) => count(raw),
            (Self::Age, _) => age(raw),
            (Self::ByteSize, _) => byte_size(raw),
            (Self::WholeSeconds, Raw::Line(text)) => {
                let seconds = datatypes::count(text).map(Duration::from_secs);
                said(seconds.map(Value::Duration))
            }
            (Self::WholeSeconds | Self::TimeInterval, _) => time(raw, datatypes::time_interval),
            (Self::ShortTime, _) => time(raw, datatypes::short_time),
            // A port and a level may be bare numbers in TOML.
            (Self::Address(_) | Self::InetAddress(_) | Self::LogLevel, Raw::Integer(number)) => {
                self.convert_text(&number.to_string(), raw, environment)
            }
            _ => match raw.text() {
                Some(text) => self.convert_text(text, raw, environment),
                None => Err("it is not text in quotes".to_owned()),
            },
        }
    }

    fn convert_text(self, text: &str, raw: &Raw, environment: &Environment<'_>) -> Converted {
        Ok(match self {
            Self::LogFormat if !matches!(raw, Raw::String(_)) => {
                Value::Text(log_format::unescape(text))
            }
            Self::Path => Value::Path(text.into()),
            Self::ExistingDirpath => {
                return said(datatypes::existing_dirpath(text, environment).map(Value::Path));
            }
            Self::Address(port) => {
                return said(Address::parse_with_port(text, port).map(Value::Address));
            }
            Self::InetAddress(port) => {
                return said(Address::parse_inet(text, port).map(Value::Address));
            }
            Self::NodeAddress => Value::Address(node_address(text)?),
            Self::Peer => Value::Peer(peer(text)?),
            Self::LogLevel => text
                .parse()
                .map(Value::LogLevel)
                .map_err(|_| "it is not a log level")?,
            Self::Word(words, _) => {
                let word = text.to_lowercase();
                if !words.contains(&word.as_str()) {
                    return Err("it is none of the words".to_owned());
                }
                Value::Text(word)
            }
            _ => Value::Text(text.to_owned()),
        })
    }

    /// What is allowed, for messages.
    pub fn allowed(self, syntax: Syntax) -> &'static str {
        match (self, syntax) {
            (Self::Boolean, Syntax::Toml) => "true, false",
            (Self::Boolean, _) => "yes, true, on, no, false, off",
            (Self::Count, _) => "a whole number, 0 or more",
            (Self::Age, Syntax::ZConfig) => "a number of seconds",
            (Self::ByteSize, Syntax::Toml) => {
                "a whole number of bytes, 0 or more, or text such as \"16MB\", with KB, MB or GB"
            }
            (Self::ByteSize, _) => {
                "a whole number of bytes, 0 or more, or one followed by KB, MB or GB"
            }
            (Self::WholeSeconds, Syntax::ZConfig) => "a whole number of seconds, 0 or more",
            (Self::Age | Self::WholeSeconds | Self::TimeInterval, Syntax::Toml) => {
                "a number of seconds, 0 or more, or text such as \"30s\", with s, m, h or d"
            }
            (Self::Age | Self::WholeSeconds | Self::TimeInterval, _) => {
                "a whole number of seconds, 0 or more, or one followed by s, m, h or d"
            }
            (Self::ShortTime, Syntax::Toml) => {
                "a number of seconds, 0 or more, or text such as \"600ms\", with ms, s, m, h or d"
            }
            (Self::ShortTime, _) => {
                "a whole number of seconds, 0 or more, or one followed by ms, s, m, h or d"
            }
            (Self::NodeAddress, _) => "HOST:PORT, [IPV6]:PORT",
            (Self::Peer, Syntax::Environment) => "ID HOST:PORT, with commas between several",
            (Self::Peer, _) => "ID HOST:PORT, ID [IPV6]:PORT",
            (Self::Text, Syntax::Toml) => "text in quotes",
            (Self::Text, _) => "any text",
            (Self::LogFormat, _) => log_format::ALLOWED,
            (Self::Path, _) => "a path",
            (Self::ExistingDirpath, _) => "a path in an existing directory",
            (Self::Address(_), _) => Address::ALLOWED,
            (Self::InetAddress(_), _) => "PORT, HOST:PORT, :PORT, [IPV6]:PORT",
            (Self::LogLevel, _) => LogLevel::ALLOWED,
            (Self::Word(_, listed), _) => listed,
        }
    }
}

fn said<T, E: ToString>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn boolean(raw: &Raw) -> Converted {
    match raw {
        Raw::Boolean(value) => Ok(Value::Boolean(*value)),
        Raw::Line(text) | Raw::Variable(text) => said(datatypes::boolean(text).map(Value::Boolean)),
        _ => Err("it is not a truth value".to_owned()),
    }
}

fn count(raw: &Raw) -> Converted {
    match raw {
        Raw::Integer(number) => said(datatypes::not_negative(*number).map(Value::Count)),
        Raw::Line(text) | Raw::Variable(text) => said(datatypes::count(text).map(Value::Count)),
        _ => Err("it is not a whole number".to_owned()),
    }
}

fn byte_size(raw: &Raw) -> Converted {
    match (raw, raw.text()) {
        (_, Some(text)) => said(datatypes::byte_size(text).map(Value::Count)),
        _ => count(raw),
    }
}

/// Only in zeo.conf a unit is refused, as Python's server refuses it.
fn age(raw: &Raw) -> Converted {
    let seconds = match raw {
        Raw::Float(seconds) => Ok(*seconds),
        Raw::Integer(number) => datatypes::float(&number.to_string()),
        Raw::Line(text) => datatypes::float(text),
        Raw::Variable(text) | Raw::String(text) => datatypes::time_interval(text)
            .map(|age| age.as_secs_f64())
            .or_else(|error| match raw {
                Raw::Variable(_) => datatypes::float(text).map_err(|_| error),
                _ => Err(error),
            }),
        _ => return Err("it is not a number".to_owned()),
    };
    said(seconds.map(Value::Float))
}

fn time(raw: &Raw, of_text: impl Fn(&str) -> Result<Duration, DataTypeError>) -> Converted {
    let time = match (raw, raw.text()) {
        (_, Some(text)) => said(of_text(text)),
        (Raw::Integer(number), _) => {
            said(datatypes::not_negative(*number).map(Duration::from_secs))
        }
        (Raw::Float(seconds), _) if *seconds < 0.0 => Err("it is negative".to_owned()),
        (Raw::Float(seconds), _) => {
            Duration::try_from_secs_f64(*seconds).map_err(|_| "it is too great".to_owned())
        }
        _ => Err("it is not a time".to_owned()),
    };
    time.map(Value::Duration)
}

/// An address that means the same on every machine. Without a host it would be
/// "here", without a port any.
fn node_address(text: &str) -> Result<Address, String> {
    if text.contains('/') {
        return Err("a path is no address that another machine reaches".to_owned());
    }
    let address = said(Address::parse_inet(text, 0))?;
    let Address::Tcp { host, port } = &address else {
        return Err("it is no address of another machine".to_owned());
    };
    let Some(host) = host else {
        return Err("it names no host, by which the other nodes reach it".to_owned());
    };
    let has_port = *port != 0 || text.ends_with(":0");
    if !has_port {
        return Err("it names no port".to_owned());
    }
    let number: Option<IpAddr> = host.parse().ok();
    if number.is_some_and(|number| number.is_unspecified()) {
        return Err("it stands for every address of a machine, and names none".to_owned());
    }
    Ok(address)
}

fn peer(text: &str) -> Result<Peer, String> {
    let Some((id, address)) = text.trim().split_once(char::is_whitespace) else {
        return Err("it is not an id and an address with a space between them".to_owned());
    };
    let node_id = datatypes::count(id).map_err(|error| format!("the id {id:?}: {error}"))?;
    let address = node_address(address.trim_start())?;
    if matches!(address, Address::Tcp { port: 0, .. }) {
        return Err("nobody can be reached at port 0".to_owned());
    }
    Ok(Peer { node_id, address })
}
