//! When a log file is put aside, and under which name.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, Zoned};

use crate::config::{Rotation, RotationTime};

/// After a rotation that failed, the next attempt waits this long.
const RETRY: SignedDuration = SignedDuration::from_secs(60);

/// The rule of one log file, and where it stands.
#[derive(Debug)]
pub struct Rotator {
    rotation: Rotation,
    zone: TimeZone,
    /// The end of the interval to which the file belongs; `None`: rotation is
    /// by size, or time itself has ended.
    due: Option<Timestamp>,
    not_before: Option<Timestamp>,
}

impl Rotator {
    /// `begun`: the file's last change if there is a file, else now.
    pub fn new(rotation: Rotation, begun: Timestamp, zone: TimeZone) -> Self {
        let mut rotator = Self {
            rotation,
            zone,
            due: None,
            not_before: None,
        };
        rotator.due = rotator.next_due(begun);
        rotator
    }

    /// Whether a file of `size_bytes` is put aside before `line_bytes` more.
    /// `size_bytes` is asked only where it matters, since it costs a call.
    pub fn is_due(
        &self,
        now: Timestamp,
        line_bytes: usize,
        size_bytes: impl FnOnce() -> u64,
    ) -> bool {
        if self.not_before.is_some_and(|time| now < time) {
            return false;
        }
        match self.rotation {
            Rotation::Size { max_size_bytes, .. } => {
                let size_bytes = size_bytes();
                let line_bytes = u64::try_from(line_bytes).unwrap_or(u64::MAX);
                size_bytes > 0 && size_bytes.saturating_add(line_bytes) >= max_size_bytes
            }
            Rotation::Time { .. } => self.due.is_some_and(|due| now >= due),
        }
    }

    /// Renames the file, so that its name is free. A name that is taken is not
    /// overwritten when rotating by time: then the file keeps its name until the
    /// next interval ends, and the result is false.
    pub fn rotate(&mut self, path: &Path, now: Timestamp) -> io::Result<bool> {
        let result = match self.rotation {
            Rotation::Size { old_files, .. } => shift(path, old_files).map(|()| true),
            Rotation::Time { .. } => {
                let aside = with_suffix(path, &self.suffix(now));
                if aside.symlink_metadata().is_ok() {
                    Ok(false)
                } else {
                    fs::rename(path, aside).map(|()| true)
                }
            }
        };
        match &result {
            Ok(_) => {
                self.not_before = None;
                self.due = self.next_due(now);
            }
            Err(_) => self.not_before = now.checked_add(RETRY).ok(),
        }
        result
    }

    /// Removes the files that were put aside by time and are too many now;
    /// rotation by size leaves none such behind.
    pub fn remove_oldest(&self, path: &Path, now: Timestamp) -> io::Result<()> {
        match self.rotation {
            Rotation::Size { .. } => Ok(()),
            Rotation::Time { old_files, .. } => remove_oldest(path, &self.suffix(now), old_files),
        }
    }

    /// The end of the interval that `time` lies in, or that begins with it.
    fn next_due(&self, time: Timestamp) -> Option<Timestamp> {
        let Rotation::Time { when, .. } = &self.rotation else {
            return None;
        };
        let days = match when {
            RotationTime::Midnight => 1,
            RotationTime::Weekday(day) => {
                let today = self.local(time).weekday();
                // At the end of that day, so with a wait of at least one day.
                1 + days_until(today, *day)
            }
            _ => return time.checked_add(self.interval()?).ok(),
        };
        let date = self.local(time).date();
        let date = date.checked_add(Span::new().days(days)).ok()?;
        Some(date.to_zoned(self.zone.clone()).ok()?.timestamp())
    }

    /// What is added to the name of a file that is put aside: the beginning of
    /// its interval.
    fn suffix(&self, now: Timestamp) -> String {
        let Rotation::Time { when, .. } = &self.rotation else {
            return String::new();
        };
        let due = self.due.unwrap_or(now);
        let (begun, pattern) = match when {
            RotationTime::Midnight => (self.days_before(due, 1), "%Y-%m-%d"),
            RotationTime::Weekday(_) => (self.days_before(due, 7), "%Y-%m-%d"),
            RotationTime::Days => (self.interval_before(due), "%Y-%m-%d"),
            RotationTime::Hours => (self.interval_before(due), "%Y-%m-%d_%H"),
            RotationTime::Minutes => (self.interval_before(due), "%Y-%m-%d_%H-%M"),
            RotationTime::Seconds => (self.interval_before(due), "%Y-%m-%d_%H-%M-%S"),
        };
        begun.strftime(pattern).to_string()
    }

    fn interval(&self) -> Option<SignedDuration> {
        let Rotation::Time { when, interval, .. } = &self.rotation else {
            return None;
        };
        let unit_s = match when {
            RotationTime::Seconds => 1,
            RotationTime::Minutes => 60,
            RotationTime::Hours => 60 * 60,
            _ => 24 * 60 * 60,
        };
        let interval = i64::try_from(*interval).ok()?.max(1);
        Some(SignedDuration::from_secs(interval.checked_mul(unit_s)?))
    }

    fn interval_before(&self, due: Timestamp) -> Zoned {
        let begun = self
            .interval()
            .and_then(|interval| due.checked_sub(interval).ok());
        self.local(begun.unwrap_or(due))
    }

    fn days_before(&self, due: Timestamp, days: i32) -> Zoned {
        let due = self.local(due);
        due.checked_sub(Span::new().days(days)).unwrap_or(due)
    }

    fn local(&self, time: Timestamp) -> Zoned {
        time.to_zoned(self.zone.clone())
    }
}

/// From 0 to 6; `day` counts from Monday as 0.
fn days_until(today: Weekday, day: u8) -> i32 {
    let today = i32::from(today.to_monday_zero_offset());
    (i32::from(day) - today).rem_euclid(7)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Renames `log` to `log.1`, that to `log.2`, and so on up to the first number
/// that is free, or over `log.{old_files}`.
fn shift(path: &Path, old_files: u64) -> io::Result<()> {
    let numbered = |number: u64| with_suffix(path, &number.to_string());
    let mut free = 1;
    while free < old_files && numbered(free).symlink_metadata().is_ok() {
        free += 1;
    }
    for number in (1..free).rev() {
        fs::rename(numbered(number), numbered(number + 1))?;
    }
    fs::rename(path, numbered(1))
}

/// Keeps the last `old_files` of the files whose names differ from `path` by a
/// suffix of the form of `suffix`, behind which `.gz` or the like may follow.
fn remove_oldest(path: &Path, suffix: &str, old_files: u64) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let base = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let mut old = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_old = name
            .strip_prefix(base)
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(|rest| has_form(rest, suffix));
        if is_old {
            old.push(name.to_owned());
        }
    }
    old.sort_unstable();
    let keep = usize::try_from(old_files).unwrap_or(usize::MAX);
    let surplus = old.len().saturating_sub(keep);
    for name in old.iter().take(surplus) {
        fs::remove_file(directory.join(name))?;
    }
    Ok(())
}

/// Whether digits stand where `form` has digits, and its other characters too.
fn has_form(text: &str, form: &str) -> bool {
    let (stamp, ending) = text.split_once('.').unwrap_or((text, "x"));
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    let fits =
        |(text, form): (u8, u8)| text == form || text.is_ascii_digit() && form.is_ascii_digit();
    stamp.len() == form.len()
        && stamp.bytes().zip(form.bytes()).all(fits)
        && !ending.is_empty()
        && ending.chars().all(is_word)
}
