//! Checked sections to TOML.

use std::fmt::{self, Write};
use std::time::Duration;

use super::{DEFAULT_TYPE, TYPE, string, table_of};
use crate::config::check::{Checked, CheckedValue};
use crate::config::schema::{DataType, Occurs, Role, Value};
use crate::config::{Location, Warning, variables};

/// `file` in TOML, with `title` at the top and each of `notes` as a comment
/// above what it is about. `substituted` are the places of values that are the
/// environment's.
pub fn to_toml(file: &Checked, title: &str, notes: &[Warning], substituted: &[Location]) -> String {
    let mut writer = Writer {
        text: String::new(),
        notes,
        substituted,
    };
    // Writing to a String does not fail.
    let _ = writer.file(file, title);
    writer.text
}

struct Writer<'a> {
    text: String,
    notes: &'a [Warning],
    substituted: &'a [Location],
}

impl Writer<'_> {
    fn file(&mut self, file: &Checked, title: &str) -> fmt::Result {
        for line in title.lines() {
            writeln!(self.text, "# {line}")?;
        }
        for role in [Role::Zeo, Role::Storage, Role::EventLog, Role::Zeod] {
            for section in file.children.iter().filter(|child| child.kind.role == role) {
                self.section(section, "")?;
            }
        }
        if let Some(runner) = file.children.iter().find(|child| child.kind.is_foreign) {
            writeln!(
                self.text,
                "\n# {} is zdaemon's, which reads it from a file of its own in ZConfig's language.",
                runner.title()
            )?;
        }
        Ok(())
    }

    fn section(&mut self, section: &Checked, outer: &str) -> fmt::Result {
        let kind = section.kind;
        let is_storage = kind.role == Role::Storage;
        let table = table_of(outer, kind.name, is_storage, section.name.as_deref());
        writeln!(self.text)?;
        self.comments(&section.location)?;
        match kind.role {
            Role::LogHandler => writeln!(self.text, "[[{table}]]")?,
            _ => writeln!(self.text, "[{table}]")?,
        }
        if is_storage && kind.name != DEFAULT_TYPE {
            writeln!(self.text, "{TYPE} = {}", string(kind.name))?;
        }
        let mut lists: Vec<&str> = Vec::new();
        for value in &section.values {
            let name = value.key.name;
            if !matches!(value.key.occurs, Occurs::Often | Occurs::AnyNumber) {
                self.comments(&value.location)?;
                if self.substituted.contains(&value.location) {
                    let variable = variables::variable(&table, name);
                    writeln!(
                        self.text,
                        "# From the environment when this was written; {variable} takes its place."
                    )?;
                }
                writeln!(self.text, "{name} = {}", written(value))?;
            } else if !lists.contains(&name) {
                lists.push(name);
                let values = section.values.iter().filter(|other| other.key.name == name);
                let values: Vec<String> = values.map(written).collect();
                writeln!(self.text, "{name} = [{}]", values.join(", "))?;
            }
        }
        for child in &section.children {
            self.section(child, &table)?;
        }
        Ok(())
    }

    fn comments(&mut self, location: &Location) -> fmt::Result {
        for note in self.notes.iter().filter(|note| note.location == *location) {
            writeln!(self.text, "# {}", note.message)?;
        }
        Ok(())
    }
}

fn written(value: &CheckedValue) -> String {
    match (&value.value, value.key.data_type) {
        (Value::Boolean(value), _) => value.to_string(),
        (Value::Count(bytes), DataType::ByteSize) => size(*bytes),
        (Value::Count(number), _) => number.to_string(),
        (Value::Duration(time), DataType::ShortTime) => short_interval(*time),
        (Value::Duration(time), _) => interval(*time),
        (Value::Float(number), _) => float(*number),
        (Value::Text(text), _) => string(text),
        (Value::Path(path), _) => string(&path.to_string_lossy()),
        (Value::Address(address), _) => string(&address.to_string()),
        (Value::Peer(peer), _) => string(&format!("{} {}", peer.node_id, peer.address)),
        (Value::LogLevel(level), _) => match level.name() {
            Some(name) => string(name),
            None => level.number().to_string(),
        },
    }
}

/// The greatest unit of which it is a whole number.
fn size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")] {
        if bytes > 0 && bytes.is_multiple_of(unit) {
            return string(&format!("{}{name}", bytes / unit));
        }
    }
    bytes.to_string()
}

fn interval(time: Duration) -> String {
    let seconds = time.as_secs();
    if time.subsec_nanos() > 0 {
        return float(time.as_secs_f64());
    }
    for (unit, name) in [(86400, "d"), (3600, "h"), (60, "m")] {
        if seconds > 0 && seconds.is_multiple_of(unit) {
            return string(&format!("{}{name}", seconds / unit));
        }
    }
    string(&format!("{seconds}s"))
}

/// As text where milliseconds are fine enough, for what is as short as that.
fn short_interval(time: Duration) -> String {
    let is_whole = time.subsec_nanos().is_multiple_of(1_000_000);
    if is_whole && time.subsec_millis() > 0 {
        return string(&format!("{}ms", time.as_millis()));
    }
    interval(time)
}

/// TOML wants a point or an exponent, and has `nan` and `inf`.
fn float(number: f64) -> String {
    ::toml::Value::Float(number).to_string()
}
