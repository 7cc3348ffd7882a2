//! TOML's tables to a tree of sections (language: toml.io, version 1.1).

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ::toml::de::{DeTable, DeValue};

use super::{DEFAULT_TYPE, STORAGE, TYPE, table_of};
use crate::config::check::listed;
use crate::config::schema::{self, Occurs, Raw, Role, SectionType};
use crate::config::tree::{Entry, Section, excerpt};
use crate::config::zconfig::{MAX_FILE_BYTES, read_limited};
use crate::config::{ConfigError, Fault, Location, suggest};

/// What stands at the top of the file.
const TABLES: [&str; 4] = ["zeo", STORAGE, "eventlog", "zeod"];
/// How deep storages may be nested; the steps after this one recurse.
const MAX_DEPTH: usize = 64;

/// A key of a table with its value, and where the key begins.
struct Item<'a> {
    key: &'a str,
    value: &'a DeValue<'a>,
    at: usize,
}

/// Reads the file at `path` into one section without a type.
pub fn parse_file(path: &Path) -> Result<Section, ConfigError> {
    let whole = Location::whole(path.into());
    let bytes = read_limited(path)
        .map_err(|error| ConfigError::new(&whole, Fault::Unreadable(error)))?
        .ok_or_else(|| {
            let limit = MAX_FILE_BYTES;
            ConfigError::new(&whole, Fault::TooLarge { limit })
        })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = 1 + newlines(error.as_bytes(), error.utf8_error().valid_up_to());
        ConfigError::new(&Location::line(&whole.file, line), Fault::NotUtf8)
    })?;
    let reader = Reader {
        file: whole.file,
        text: &text,
    };
    let table = DeTable::parse(&text).map_err(|error| {
        let at = error.span().unwrap_or(Range { start: 0, end: 0 }).start;
        let message = error.message().replace('\n', ", ");
        reader.error(at, Fault::Toml { message })
    })?;
    reader.whole(table.get_ref())
}

fn newlines(bytes: &[u8], end: usize) -> usize {
    bytes
        .iter()
        .take(end)
        .filter(|byte| **byte == b'\n')
        .count()
}

struct Reader<'a> {
    file: Arc<Path>,
    text: &'a str,
}

impl Reader<'_> {
    fn whole(&self, table: &DeTable<'_>) -> Result<Section, ConfigError> {
        let mut whole = Section::new(String::new(), None, Location::whole(Arc::clone(&self.file)));
        whole.table = Some(String::new());
        for item in items(table) {
            if !TABLES.contains(&item.key) {
                return Err(self.error(item.at, unknown_at_the_top(item.key)));
            }
            let wanted = match item.key {
                STORAGE => "a table for each storage, such as [storage.1]",
                _ => "a single table",
            };
            let inner = self.table(&item, "the file", wanted)?;
            if item.key != STORAGE {
                let section = self.section(&item, inner, "", item.key, None, 0)?;
                whole.children.push(section);
                continue;
            }
            for storage in items(inner) {
                let inner = self.table(&storage, "[storage]", "a table, such as [storage.1]")?;
                let section = self.storage(&storage, inner, "", Some(storage.key), 0)?;
                whole.children.push(section);
            }
        }
        Ok(whole)
    }

    /// A storage; `type` says of which section type.
    fn storage(
        &self,
        item: &Item<'_>,
        table: &DeTable<'_>,
        outer: &str,
        name: Option<&str>,
        depth: usize,
    ) -> Result<Section, ConfigError> {
        let title = format!("[{}]", table_of(outer, DEFAULT_TYPE, true, name));
        let Some(stated) = items(table).into_iter().find(|item| item.key == TYPE) else {
            return self.section(item, table, outer, DEFAULT_TYPE, name, depth);
        };
        let DeValue::String(kind) = stated.value else {
            let allowed = listed(schema::names_of(Role::Storage).map(str::to_owned));
            let fault = wrong_kind(&stated, title, allowed);
            return Err(self.error(stated.at, fault));
        };
        let kind = kind.to_lowercase();
        if schema::names_of(Role::Storage).any(|known| known == kind) {
            return self.section(item, table, outer, &kind, name, depth);
        }
        let available = listed(schema::names_of(Role::Storage).map(str::to_owned));
        let mut unsupported = schema::UNSUPPORTED_STORAGES.iter();
        let fault = match unsupported.find(|(name, _)| *name == kind) {
            Some((_, reason)) => Fault::UnsupportedStorage {
                kind: format!("{:?}", excerpt(&kind)),
                reason,
                available,
            },
            None => Fault::UnknownStorageType {
                suggestion: suggest::closest(&kind, schema::names_of(Role::Storage)),
                kind: excerpt(&kind),
                section: title,
                allowed: available,
            },
        };
        Err(self.error(stated.at, fault))
    }

    fn section(
        &self,
        item: &Item<'_>,
        table: &DeTable<'_>,
        outer: &str,
        kind: &str,
        name: Option<&str>,
        depth: usize,
    ) -> Result<Section, ConfigError> {
        if depth >= MAX_DEPTH {
            return Err(self.error(item.at, Fault::TooDeep { limit: MAX_DEPTH }));
        }
        let known = schema::section_type(kind).unwrap_or(&schema::FILE);
        let is_storage = known.role == Role::Storage;
        let path = table_of(outer, kind, is_storage, name);
        let name = name.map(str::to_lowercase);
        let mut section = Section::new(kind.to_owned(), name, self.location(item.at));
        section.table = Some(path.clone());
        for inner in items(table) {
            if is_storage && inner.key == TYPE {
                continue;
            }
            let is_key = known.keys.iter().any(|key| key.name == inner.key);
            if is_key {
                self.entries(&inner, known, &mut section)?;
            } else if !self.children(&inner, known, &path, &mut section, depth)? {
                let fault = unknown(inner.key, &format!("in [{path}]"), &names_in(known));
                return Err(self.error(inner.at, fault));
            }
        }
        // Handlers of several kinds may take turns.
        let place = |child: &Section| (child.location.line, child.location.column);
        section.children.sort_by_key(place);
        Ok(section)
    }

    /// The value, or the values, of a key.
    fn entries(
        &self,
        item: &Item<'_>,
        kind: &'static SectionType,
        section: &mut Section,
    ) -> Result<(), ConfigError> {
        let is_list = kind.keys.iter().any(|key| {
            key.name == item.key && matches!(key.occurs, Occurs::Often | Occurs::AnyNumber)
        });
        let allowed = if is_list {
            "a value, or a list of values"
        } else {
            "a single value"
        };
        let values: Vec<(&DeValue<'_>, usize)> = match item.value {
            DeValue::Array(array) if is_list => array
                .iter()
                .map(|value| (value.get_ref(), value.span().start))
                .collect(),
            single => vec![(single, item.at)],
        };
        for (value, at) in values {
            let raw = raw(value).ok_or_else(|| {
                let wrong = Item { value, ..*item };
                self.error(at, wrong_kind(&wrong, section.title(), allowed.to_owned()))
            })?;
            section.entries.push(Entry {
                key: item.key.to_owned(),
                value: raw,
                location: self.location(at),
            });
        }
        Ok(())
    }

    /// The section, or the sections, that `item` stands for in `kind`; false if
    /// no section of that name can stand there.
    fn children(
        &self,
        item: &Item<'_>,
        kind: &'static SectionType,
        path: &str,
        section: &mut Section,
        depth: usize,
    ) -> Result<bool, ConfigError> {
        if !sections_in(kind).any(|name| name == item.key) {
            return Ok(false);
        }
        let title = section.title();
        if kind.role == Role::Storage {
            let name = (item.key == "changes").then_some(item.key);
            let table = self.table(item, &title, "a table")?;
            let child = self.storage(item, table, path, name, depth + 1)?;
            section.children.push(child);
            return Ok(true);
        }
        if item.key == "access" {
            for access in items(self.table(item, &title, "a table")?) {
                let table =
                    self.table(&access, "[zeod.access]", "a table, such as [zeod.access.1]")?;
                let child =
                    self.section(&access, table, path, "access", Some(access.key), depth)?;
                section.children.push(child);
            }
            return Ok(true);
        }
        let DeValue::Array(array) = item.value else {
            let table = self.table(item, &title, "a table")?;
            let child = self.section(item, table, path, item.key, None, depth + 1)?;
            section.children.push(child);
            return Ok(true);
        };
        for element in array {
            let one = Item {
                key: item.key,
                value: element.get_ref(),
                at: element.span().start,
            };
            let table = self.table(&one, &title, "a table")?;
            let child = self.section(&one, table, path, item.key, None, depth + 1)?;
            section.children.push(child);
        }
        Ok(true)
    }

    /// The table that `item` must be.
    fn table<'a>(
        &self,
        item: &Item<'a>,
        section: &str,
        wanted: &str,
    ) -> Result<&'a DeTable<'a>, ConfigError> {
        if let DeValue::Table(table) = item.value {
            return Ok(table);
        }
        let fault = wrong_kind(item, section.to_owned(), wanted.to_owned());
        Err(self.error(item.at, fault))
    }

    fn error(&self, at: usize, fault: Fault) -> ConfigError {
        ConfigError::new(&self.location(at), fault)
    }

    /// Line and column of a byte of the text.
    fn location(&self, at: usize) -> Location {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Location {
            column: Some(column),
            ..Location::line(&self.file, newlines(before.as_bytes(), before.len()) + 1)
        }
    }
}

/// A table's contents in the order of the file.
fn items<'a>(table: &'a DeTable<'a>) -> Vec<Item<'a>> {
    let mut items = Vec::with_capacity(table.len());
    for (key, value) in table {
        items.push(Item {
            key: key.get_ref(),
            value: value.get_ref(),
            at: key.span().start,
        });
    }
    items.sort_by_key(|item| item.at);
    items
}

/// A value that is neither table nor list nor time.
fn raw(value: &DeValue<'_>) -> Option<Raw> {
    Some(match value {
        DeValue::String(text) => Raw::String(text.clone().into_owned()),
        DeValue::Boolean(value) => Raw::Boolean(*value),
        DeValue::Integer(number) => {
            Raw::Integer(i128::from_str_radix(number.as_str(), number.radix()).ok()?)
        }
        DeValue::Float(number) => Raw::Float(number.as_str().parse().ok()?),
        _ => return None,
    })
}

fn wrong_kind(item: &Item<'_>, section: String, allowed: String) -> Fault {
    Fault::WrongKind {
        key: excerpt(item.key),
        section,
        found: match item.value {
            DeValue::String(_) => "text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "a truth value",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        },
        allowed,
    }
}

/// Who comes from zeo.conf writes a section's type.
fn unknown_at_the_top(key: &str) -> Fault {
    let role = schema::section_type(key).map(|known| known.role);
    let suggestion = match role {
        Some(Role::Storage) => Some("storage.1".to_owned()),
        Some(Role::Ssl) => Some("zeo.ssl".to_owned()),
        Some(Role::Access) => Some("zeod.access.STORAGE".to_owned()),
        Some(Role::Replication) => Some("zeod.replication".to_owned()),
        Some(Role::LogHandler) => Some(format!("eventlog.{key}")),
        _ => suggest::closest(key, TABLES.into_iter()),
    };
    Fault::UnknownKey {
        key: excerpt(key),
        place: "at the top of the file".to_owned(),
        suggestion,
        allowed: "[zeo], [storage.NAME], [eventlog], [zeod]".to_owned(),
    }
}

fn unknown(key: &str, place: &str, names: &[&str]) -> Fault {
    Fault::UnknownKey {
        key: excerpt(key),
        place: place.to_owned(),
        suggestion: suggest::closest(key, names.iter().copied()),
        allowed: listed(names.iter().map(|name| (*name).to_owned())),
    }
}

/// What may stand in a section's table.
fn names_in(kind: &'static SectionType) -> Vec<&'static str> {
    let of_storage = (kind.role == Role::Storage).then_some(TYPE);
    let keys = kind.keys.iter().map(|key| key.name);
    let names = of_storage.into_iter().chain(keys);
    names.chain(sections_in(kind)).collect()
}

/// The tables that may stand in a section's table.
fn sections_in(kind: &'static SectionType) -> impl Iterator<Item = &'static str> {
    let storages: &[&str] = match kind.name {
        "blobstorage" => &["base"],
        "demostorage" => &["base", "changes"],
        _ => &[],
    };
    let sections = kind
        .children
        .iter()
        .filter(|child| child.role != Role::Storage)
        .flat_map(|child| schema::names_of(child.role));
    storages.iter().copied().chain(sections)
}
