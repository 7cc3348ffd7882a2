//! ZConfig's data types: text to values (source: ZConfig datatypes.py).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Environment, python};

/// Why some text is not a value of its type; a clause, as "it is empty".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DataTypeError(String);

impl DataTypeError {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// A truth value in words, in any case: yes, true, on; no, false, off.
pub fn boolean(text: &str) -> Result<bool, DataTypeError> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "on" => Ok(true),
        "no" | "false" | "off" => Ok(false),
        _ => Err(DataTypeError::new("it is not a truth value")),
    }
}

/// A whole number that is not negative, with the liberties of Python's `int`.
pub fn count(text: &str) -> Result<u64, DataTypeError> {
    let number =
        python::integer(text).ok_or_else(|| DataTypeError::new("it is not a whole number"))?;
    not_negative(number)
}

/// A number with or without a fraction, with the liberties of Python's `float`.
pub fn float(text: &str) -> Result<f64, DataTypeError> {
    python::float(text).ok_or_else(|| DataTypeError::new("it is not a number"))
}

/// A TCP port, 0 to 65535.
pub fn port_number(text: &str) -> Result<u16, DataTypeError> {
    u16::try_from(count(text)?).map_err(|_| DataTypeError::new("it is greater than 65535"))
}

/// A number of bytes, with one of the suffixes KB, MB, GB (powers of 1024, any
/// case) or without.
pub fn byte_size(text: &str) -> Result<u64, DataTypeError> {
    const UNITS: [(&str, u64); 3] = [("kb", 1 << 10), ("mb", 1 << 20), ("gb", 1 << 30)];
    scaled(text, &UNITS)
}

/// A time in whole seconds, or with one of the suffixes s, m, h, d.
pub fn time_interval(text: &str) -> Result<Duration, DataTypeError> {
    const UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];
    scaled(text, &UNITS).map(Duration::from_secs)
}

/// The same with the suffix ms, for what may be shorter than a second. Source:
/// our own; ZConfig has nothing below a second.
pub fn short_time(text: &str) -> Result<Duration, DataTypeError> {
    match text.to_lowercase().strip_suffix("ms") {
        Some(digits) => count(digits).map(Duration::from_millis),
        None => time_interval(text),
    }
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Result<u64, DataTypeError> {
    let lower = text.to_lowercase();
    let (digits, factor) = units
        .iter()
        .find_map(|(suffix, factor)| Some((lower.strip_suffix(suffix)?, *factor)))
        .unwrap_or((&lower, 1));
    count(digits)?
        .checked_mul(factor)
        .ok_or_else(|| DataTypeError::new("it is too great"))
}

/// Refuses what is negative or greater than 64 bits hold.
pub fn not_negative(number: i128) -> Result<u64, DataTypeError> {
    if number < 0 {
        return Err(DataTypeError::new("it is negative"));
    }
    u64::try_from(number).map_err(|_| DataTypeError::new("it is too great"))
}

/// A path whose directory exists, with `~` replaced. A path without any
/// directory is accepted; the last component need not exist.
pub fn existing_dirpath(
    text: &str,
    environment: &Environment<'_>,
) -> Result<PathBuf, DataTypeError> {
    let path = expand_user(text, environment);
    let directory = match path.rsplit_once('/') {
        None => return Ok(path.into()),
        Some((directory, _)) if directory.trim_end_matches('/').is_empty() => "/",
        Some((directory, _)) => directory,
    };
    if Path::new(directory).is_dir() {
        return Ok(path.into());
    }
    Err(DataTypeError(format!(
        "the directory {directory:?} does not exist; make it first"
    )))
}

/// Replaces a leading `~` by the home directory, `~user` by that user's; what
/// cannot be found out stays as it is.
pub fn expand_user(text: &str, environment: &Environment<'_>) -> String {
    let Some(rest) = text.strip_prefix('~') else {
        return text.to_owned();
    };
    let (user, below) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let home = if user.is_empty() {
        environment("HOME").or_else(|| std::env::home_dir()?.into_os_string().into_string().ok())
    } else {
        home_of(user)
    };
    match home {
        Some(home) => {
            let expanded = format!("{}{below}", home.trim_end_matches('/'));
            if expanded.is_empty() {
                "/".to_owned()
            } else {
                expanded
            }
        }
        None => text.to_owned(),
    }
}

/// The sixth field of the user's line in /etc/passwd. Users who are known only
/// to a network directory are not found.
fn home_of(user: &str) -> Option<String> {
    let table = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = table
        .lines()
        .find(|line| line.split(':').next() == Some(user))?;
    line.split(':').nth(5).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_environment(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn truth_values_are_words_in_any_case() {
        for text in ["yes", "YES", "on", "True"] {
            assert_eq!(boolean(text), Ok(true));
        }
        for text in ["no", "Off", "FALSE"] {
            assert_eq!(boolean(text), Ok(false));
        }
        for text in ["1", "0", "y", "", "yes "] {
            assert!(boolean(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn byte_sizes_have_suffixes_of_two_letters() {
        assert_eq!(byte_size("12"), Ok(12));
        assert_eq!(byte_size("5 MB"), Ok(5 << 20));
        assert_eq!(byte_size("3kb"), Ok(3 << 10));
        assert_eq!(byte_size("1Gb"), Ok(1 << 30));
        for text in ["5M", "5b", "1.5MB", "MB", "", "-1", "99999999999999GB"] {
            assert!(byte_size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn time_intervals_have_suffixes_of_one_letter() {
        assert_eq!(time_interval("90"), Ok(Duration::from_secs(90)));
        assert_eq!(time_interval("2M"), Ok(Duration::from_mins(2)));
        assert_eq!(time_interval("3 h"), Ok(Duration::from_hours(3)));
        assert_eq!(time_interval("1d"), Ok(Duration::from_hours(24)));
        assert!(time_interval("1w").is_err());
        assert!(time_interval("2h 30m").is_err());
    }

    #[test]
    fn short_times_have_milliseconds_too() {
        assert_eq!(short_time("600ms"), Ok(Duration::from_millis(600)));
        assert_eq!(short_time("75 MS"), Ok(Duration::from_millis(75)));
        assert_eq!(short_time("2"), Ok(Duration::from_secs(2)));
        assert_eq!(short_time("2m"), Ok(Duration::from_mins(2)));
        for text in ["ms", "0.5s", "-1ms", "1us"] {
            assert!(short_time(text).is_err(), "{text:?}");
        }
        assert!(time_interval("600ms").is_err(), "ZConfig has none");
    }

    #[test]
    fn ports_are_limited() {
        assert_eq!(port_number("65535"), Ok(65535));
        assert!(port_number("65536").is_err());
        assert!(port_number("-1").is_err());
    }

    #[test]
    fn only_the_directory_of_a_path_must_exist() {
        let directory = tempfile::tempdir().unwrap();
        let inside = format!("{}/Data.fs", directory.path().display());
        let missing = format!("{}/no/Data.fs", directory.path().display());
        assert_eq!(
            existing_dirpath(&inside, &no_environment),
            Ok(inside.clone().into())
        );
        assert!(existing_dirpath(&missing, &no_environment).is_err());
        for text in ["Data.fs", "/Data.fs", "", "//x"] {
            assert_eq!(existing_dirpath(text, &no_environment), Ok(text.into()));
        }
    }

    #[test]
    fn tildes_are_homes() {
        let home = |name: &str| (name == "HOME").then(|| "/home/zope/".to_owned());
        let empty = |name: &str| (name == "HOME").then(String::new);
        assert_eq!(expand_user("~/var/x", &home), "/home/zope/var/x");
        assert_eq!(expand_user("~", &home), "/home/zope");
        assert_eq!(expand_user("~", &empty), "/");
        assert_eq!(expand_user("a~", &home), "a~");
        assert_eq!(expand_user("~root/x", &home), "/root/x");
        assert_eq!(expand_user("~nobody-of-us/x", &home), "~nobody-of-us/x");
    }
}
