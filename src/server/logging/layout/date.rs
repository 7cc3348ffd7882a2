//! A record's time, as C's `strftime` writes it in the C locale.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use jiff::{Timestamp, fmt::strtime};

/// ZConfig's default.
const DEFAULT: &str = "%Y-%m-%dT%H:%M:%S";
/// The default of Python's logging, which milliseconds follow.
const WITH_MILLISECONDS: &str = "%Y-%m-%d %H:%M:%S";

/// How `asctime` is written.
#[derive(Debug)]
pub struct DateFormat {
    /// In jiff's language.
    pattern: String,
    milliseconds: bool,
    zone: TimeZone,
}

impl DateFormat {
    /// `None` and empty mean what they mean in [`crate::config::LogFile`].
    pub fn new(pattern: Option<&str>, zone: TimeZone) -> Result<Self, String> {
        let milliseconds = pattern == Some("");
        let pattern = match pattern {
            None => DEFAULT,
            Some("") => WITH_MILLISECONDS,
            Some(pattern) => pattern,
        };
        let format = Self {
            pattern: translated(pattern),
            milliseconds,
            zone,
        };
        let sample = Timestamp::UNIX_EPOCH.to_zoned(format.zone.clone());
        strtime::format(&format.pattern, &sample).map_err(|error| error.to_string())?;
        Ok(format)
    }

    pub fn write(&self, time: Timestamp, out: &mut String) {
        let zoned = time.to_zoned(self.zone.clone());
        // Cannot fail: the pattern was tried when it was read.
        let _ = write!(out, "{}", zoned.strftime(&self.pattern));
        if self.milliseconds {
            let _ = write!(out, ",{:03}", zoned.millisecond());
        }
    }
}

/// Says a `strftime` pattern in jiff's language, which has other meanings for
/// some letters and refuses unknown ones, where C copies them.
fn translated(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((literal, directive)) = rest.split_once('%') {
        text.push_str(literal);
        let after = directive.trim_start_matches(['-', '_', '0', '^', '#']);
        let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
        let options = directive.strip_suffix(after).unwrap_or_default();
        let plain = after.strip_prefix(['E', 'O']).unwrap_or(after);
        let mut letters = plain.chars();
        match letters.next() {
            Some('%') => text.push_str("%%"),
            Some('c') => text.push_str("%a %b %e %H:%M:%S %Y"),
            Some('x' | 'D') => text.push_str("%m/%d/%y"),
            Some('X' | 'T') => text.push_str("%H:%M:%S"),
            Some('r') => text.push_str("%I:%M:%S %p"),
            Some('h') => text.push_str("%b"),
            Some(letter) if "aAbBCdeFgGHIjklmMnpPRsStuUVwWyYzZ".contains(letter) => {
                text.push('%');
                text.push_str(options);
                text.push(letter);
            }
            _ => {
                text.push_str("%%");
                rest = directive;
                continue;
            }
        }
        rest = letters.as_str();
    }
    text + rest
}
