//! Access to checked values by key. `None` is a key that is not set; a key of
//! another type in the table reads as not set too, which the test of a file
//! with every key finds.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::check::{Checked, CheckedValue};
use crate::config::schema::Value;
use crate::config::{Address, Location, LogLevel, Peer};

impl Checked {
    fn checked_value(&self, key: &str) -> Option<&CheckedValue> {
        self.values.iter().find(|value| value.key.name == key)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.checked_value(key).map(|found| &found.value)
    }

    /// Where a key stands; the section's start if it is not set.
    pub fn location_of(&self, key: &str) -> &Location {
        self.checked_value(key)
            .map_or(&self.location, |found| &found.location)
    }

    pub fn boolean(&self, key: &str) -> Option<bool> {
        match self.value(key)? {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    pub fn count(&self, key: &str) -> Option<u64> {
        match self.value(key)? {
            Value::Count(value) => Some(*value),
            _ => None,
        }
    }

    pub fn float(&self, key: &str) -> Option<f64> {
        match self.value(key)? {
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        match self.value(key)? {
            Value::Text(value) => Some(value),
            _ => None,
        }
    }

    /// All values of a key that may occur several times.
    pub fn texts<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self
            .values
            .iter()
            .filter(move |value| value.key.name == key);
        values.filter_map(|found| match &found.value {
            Value::Text(value) => Some(value.as_str()),
            _ => None,
        })
    }

    /// All other nodes, and where each stands.
    pub fn peers(&self) -> impl Iterator<Item = (&Peer, &Location)> {
        self.values.iter().filter_map(|found| match &found.value {
            Value::Peer(peer) => Some((peer, &found.location)),
            _ => None,
        })
    }

    pub fn duration(&self, key: &str) -> Option<Duration> {
        match self.value(key)? {
            Value::Duration(value) => Some(*value),
            _ => None,
        }
    }

    pub fn path(&self, key: &str) -> Option<PathBuf> {
        match self.value(key)? {
            Value::Path(value) => Some(value.clone()),
            _ => None,
        }
    }

    pub fn address(&self, key: &str) -> Option<Address> {
        match self.value(key)? {
            Value::Address(value) => Some(value.clone()),
            _ => None,
        }
    }

    /// All addresses of a key that may occur several times.
    pub fn addresses<'a>(&'a self, key: &'a str) -> impl Iterator<Item = Address> {
        let values = self
            .values
            .iter()
            .filter(move |value| value.key.name == key);
        values.filter_map(|found| match &found.value {
            Value::Address(value) => Some(value.clone()),
            _ => None,
        })
    }

    pub fn log_level(&self, key: &str) -> Option<LogLevel> {
        match self.value(key)? {
            Value::LogLevel(value) => Some(*value),
            _ => None,
        }
    }
}
