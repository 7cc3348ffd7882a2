use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::python;

/// A socket's address (source: ZConfig's socket-binding-address).
///
/// As text: `PORT`, `HOST:PORT`, `:PORT`, `[IPV6]:PORT`, or a path, which is
/// whatever has a slash. A host without a port is read as port 0, with which
/// the system chooses one; so does the Python server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP, or UDP for a log daemon.
    Tcp {
        /// The name or number, in lower case; `None`: every interface.
        host: Option<String>,
        /// The port; 0: any that is free.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Why some text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// What stands where a port belongs is not one.
    #[error("{0:?} is not a port number from 0 to 65535")]
    Port(String),
    /// A host's name with white space in it.
    #[error("{0:?} is not a host name")]
    Host(String),
}

impl Address {
    /// What [`Address::from_str`] accepts, for messages.
    pub const ALLOWED: &'static str =
        "PORT, HOST:PORT, :PORT, [IPV6]:PORT, or a path with at least one '/'";

    /// Reads an address whose port is `default_port` if the text names none.
    pub fn parse_with_port(text: &str, default_port: u16) -> Result<Self, AddressError> {
        if text.contains('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        Self::parse_inet(text, default_port)
    }

    /// Reads a host's address: a slash is no sign of a path.
    pub fn parse_inet(text: &str, default_port: u16) -> Result<Self, AddressError> {
        let (host, port) = split_host(text)?;
        if host.contains(python::is_space) {
            return Err(AddressError::Host(host.to_owned()));
        }
        Ok(Self::Tcp {
            host: (!host.is_empty()).then(|| host.to_lowercase()),
            port: port.map_or(Ok(default_port), parse_port)?,
        })
    }
}

/// Host (maybe empty) and port (if there is one) of an address without slash.
fn split_host(text: &str) -> Result<(&str, Option<&str>), AddressError> {
    if python::strip(text).is_empty() {
        return Err(AddressError::Empty);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        // ZConfig takes a number that is too great for a port for a host's
        // name, and the server then fails much later; nobody means that.
        return Ok(match python::integer(text) {
            Some(_) => ("", Some(text)),
            None => (text, None),
        });
    };
    if let Some(inner) = unbracketed(host) {
        return Ok((inner, (!port.is_empty()).then_some(port)));
    }
    if host.contains(':') {
        // IPv6 without brackets: the last group is no port.
        return Ok((unbracketed(text).unwrap_or(text), None));
    }
    Ok((host, (!port.is_empty()).then_some(port)))
}

fn unbracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    python::integer(text)
        .and_then(|number| u16::try_from(number).ok())
        .ok_or_else(|| AddressError::Port(text.to_owned()))
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse_with_port(text, 0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host: None, port } => write!(f, ":{port}"),
            Self::Tcp {
                host: Some(host),
                port,
            } if host.contains(':') || host.starts_with('[') => write!(f, "[{host}]:{port}"),
            Self::Tcp {
                host: Some(host),
                port,
            } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: (!host.is_empty()).then(|| host.to_owned()),
            port,
        }
    }

    #[test]
    fn reads_every_form() {
        for (text, address) in [
            ("8100", tcp("", 8100)),
            (":8100", tcp("", 8100)),
            ("0", tcp("", 0)),
            ("LocalHost:8100", tcp("localhost", 8100)),
            ("127.0.0.1:8100", tcp("127.0.0.1", 8100)),
            ("[::1]:8100", tcp("::1", 8100)),
            ("FE80::1", tcp("fe80::1", 0)),
            ("[::1]", tcp("::1", 0)),
            ("example.org", tcp("example.org", 0)),
            ("example.org:", tcp("example.org", 0)),
            ("/run/zeo.sock", Address::Unix("/run/zeo.sock".into())),
            ("./zeo:1", Address::Unix("./zeo:1".into())),
        ] {
            assert_eq!(text.parse(), Ok(address), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for (text, message) in [
            ("", "it is empty"),
            ("65536", "\"65536\" is not a port number from 0 to 65535"),
            ("-1", "\"-1\" is not a port number from 0 to 65535"),
            ("a:b", "\"b\" is not a port number from 0 to 65535"),
            ("a b", "\"a b\" is not a host name"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error.to_string(), message, "{text}");
        }
    }

    #[test]
    fn what_is_displayed_is_read_back() {
        for text in [":8100", "localhost:8100", "[::1]:8100", "/run/zeo.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }
}
