//! The tree against the table: known types and keys in allowed places, values
//! of the right type (source: ZConfig matcher.py, info.py).

use std::collections::HashMap;

use super::schema::{self, Child, Empty, Key, Occurs, Raw, Role, SectionType, Value};
use super::suggest;
use super::tree::{self, Entry, Section, Syntax};
use super::{Address, ConfigError, Context, Fault, Location};

/// A section that says only what its type allows.
#[derive(Debug)]
pub struct Checked {
    /// Its type.
    pub kind: &'static SectionType,
    /// Its name in lower case.
    pub name: Option<String>,
    /// The table's dotted path, if TOML has it.
    pub table: Option<String>,
    /// Where it starts.
    pub location: Location,
    /// Its values in reading order; an empty one of a key that is
    /// the same without is left out.
    pub values: Vec<CheckedValue>,
    /// The sections in it in reading order.
    pub children: Vec<Checked>,
}

/// A key's value.
#[derive(Debug)]
pub struct CheckedValue {
    pub key: &'static Key,
    pub value: Value,
    pub location: Location,
}

impl Checked {
    /// The header as a person would write it.
    pub fn title(&self) -> String {
        tree::title(self.kind.name, self.name.as_deref(), self.table.as_deref())
    }

    /// Words for a message, in the language of the file.
    pub fn words<'a>(&self, zconfig: &'a str, toml: &'a str) -> &'a str {
        match self.table {
            Some(_) => toml,
            None => zconfig,
        }
    }
}

/// Checks a whole file.
pub fn check(tree: Section, context: &Context<'_>) -> Result<Checked, ConfigError> {
    check_section(tree, &schema::FILE, context)
}

fn check_section(
    section: Section,
    kind: &'static SectionType,
    context: &Context<'_>,
) -> Result<Checked, ConfigError> {
    let mut checked = Checked {
        kind,
        name: None,
        table: section.table.clone(),
        location: section.location.clone(),
        values: Vec::new(),
        children: Vec::new(),
    };
    if !kind.is_foreign {
        checked.values = check_entries(&section, kind, context)?;
        check_names(&section, kind)?;
        let (place, title) = (section.place(), section.title());
        for child in section.children {
            let child_kind = check_place(&child, kind, &place)?;
            check_first(&child, child_kind, kind, &checked.children, &place)?;
            checked
                .children
                .push(check_section(child, child_kind, context)?);
        }
        check_present(kind, &checked, &title)?;
    }
    checked.name = section.name;
    Ok(checked)
}

/// Keys: known ones, as often as they may occur, with legal values.
fn check_entries(
    section: &Section,
    kind: &'static SectionType,
    context: &Context<'_>,
) -> Result<Vec<CheckedValue>, ConfigError> {
    let mut values: Vec<CheckedValue> = Vec::new();
    let mut first_places: HashMap<&str, &Location> = HashMap::new();
    for entry in &section.entries {
        let key = find_key(entry, section, kind)?;
        let first = first_places.insert(key.name, &entry.location);
        if let Some(first) = first
            && !matches!(key.occurs, Occurs::Often | Occurs::AnyNumber)
        {
            let fault = Fault::DuplicateKey {
                key: key.name,
                section: section.title(),
                first: first.clone(),
            };
            return Err(ConfigError::new(&entry.location, fault));
        }
        if let Some(value) = convert(entry, key, section, context)? {
            values.push(CheckedValue {
                key,
                value,
                location: entry.location.clone(),
            });
        }
    }
    for key in kind.keys {
        let is_needed = matches!(key.occurs, Occurs::Once | Occurs::Often);
        if is_needed && !first_places.contains_key(key.name) {
            let fault = Fault::MissingKey {
                key: key.name,
                section: section.title(),
                allowed: key.data_type.allowed(section.syntax()),
            };
            return Err(ConfigError::new(&section.location, fault));
        }
    }
    Ok(values)
}

fn find_key(
    entry: &Entry,
    section: &Section,
    kind: &'static SectionType,
) -> Result<&'static Key, ConfigError> {
    let name = entry.key.to_ascii_lowercase();
    if let Some(key) = kind.keys.iter().find(|key| key.name == name) {
        return Ok(key);
    }
    let key = tree::excerpt(&entry.key);
    let is_legal = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter));
    let fault = if is_legal {
        Fault::UnknownKey {
            suggestion: suggest::closest(&key, kind.keys.iter().map(|key| key.name)),
            allowed: if kind.keys.is_empty() {
                "only sections".to_owned()
            } else {
                listed(kind.keys.iter().map(|key| key.name.to_owned()))
            },
            place: section.place(),
            key,
        }
    } else {
        Fault::MalformedKey { key }
    };
    Err(ConfigError::new(&entry.location, fault))
}

fn convert(
    entry: &Entry,
    key: &'static Key,
    section: &Section,
    context: &Context<'_>,
) -> Result<Option<Value>, ConfigError> {
    let allowed = key.data_type.allowed(entry.value.syntax());
    if entry.value.is_empty() {
        match key.empty {
            Empty::Unset => return Ok(None),
            Empty::Value => return Ok(Some(Value::Text(String::new()))),
            Empty::Refused => {}
        }
        let fault = Fault::NoValue {
            key: key.name,
            section: section.title(),
            allowed,
        };
        return Err(ConfigError::new(&entry.location, fault));
    }
    let value = key
        .data_type
        .convert(&entry.value, context.environment)
        .map_err(|reason| {
            let fault = Fault::BadValue {
                key: key.name,
                value: tree::excerpt(&entry.value.as_written()),
                section: section.title(),
                reason,
                allowed,
            };
            ConfigError::new(&entry.location, fault)
        })?;
    let is_argument = matches!(entry.value, Raw::Converted(_));
    if !is_argument && let Value::Address(Address::Tcp { port: 0, .. }) = value {
        let message = format!(
            "{:?} {:?} is port 0: the system will choose one",
            key.name,
            entry.value.as_written()
        );
        context.warn(&entry.location, message);
    }
    Ok(Some(value))
}

/// Names of the sections in a section: unique whatever their types, and none
/// that ZConfig reserves.
fn check_names(section: &Section, kind: &'static SectionType) -> Result<(), ConfigError> {
    let mut first_places = HashMap::new();
    for child in &section.children {
        let Some(name) = &child.name else { continue };
        let is_reserved = matches!(name.as_str(), "*" | "+");
        // ZConfig looks a section up among the keys first.
        let is_key = kind.keys.iter().any(|key| key.name == name);
        if child.syntax() == Syntax::ZConfig && (is_reserved || is_key) {
            let fault = Fault::SectionName {
                name: tree::excerpt(name),
                place: section.place(),
            };
            return Err(ConfigError::new(&child.location, fault));
        }
        if let Some(first) = first_places.insert(name, child.location.clone()) {
            let fault = Fault::DuplicateName {
                name: tree::excerpt(name),
                place: section.place(),
                first,
            };
            return Err(ConfigError::new(&child.location, fault));
        }
    }
    Ok(())
}

/// The type of a section, if it may stand in a section of the type `outer`.
fn check_place(
    child: &Section,
    outer: &'static SectionType,
    place: &str,
) -> Result<&'static SectionType, ConfigError> {
    let known = schema::section_type(&child.kind);
    if let Some(kind) = known
        && allowance(outer, kind.role).is_some()
    {
        return Ok(kind);
    }
    let place = place.to_owned();
    let allowed_names: Vec<_> = outer
        .children
        .iter()
        .flat_map(|allowed| schema::names_of(allowed.role))
        .collect();
    let allowed = listed(allowed_names.iter().map(|name| format!("<{name}>")));
    let unsupported = schema::UNSUPPORTED_STORAGES
        .iter()
        .find(|(name, _)| *name == child.kind);
    let fault = if let Some((_, reason)) = unsupported {
        Fault::UnsupportedStorage {
            kind: format!("<{}>", tree::excerpt(&child.kind)),
            reason,
            available: listed(schema::names_of(Role::Storage).map(|name| format!("<{name}>"))),
        }
    } else if let Some(kind) = known {
        Fault::WrongPlace {
            section: child.title(),
            hint: hint(kind),
            place,
            allowed,
        }
    } else {
        Fault::UnknownSection {
            kind: tree::excerpt(&child.kind),
            suggestion: suggest::closest(&child.kind, allowed_names.into_iter()),
            place,
            allowed,
        }
    };
    Err(ConfigError::new(&child.location, fault))
}

/// Where a section that is at the wrong place belongs.
fn hint(kind: &SectionType) -> &'static str {
    match kind.role {
        Role::Ssl => " (it belongs in <zeo>)",
        Role::LogHandler => " (it belongs in <eventlog>)",
        Role::Access | Role::Replication => " (it belongs in <zeod>)",
        Role::Elsewhere if kind.name == "zodb" => {
            " (it belongs in the clients' zope.conf; this is to be the server's file, with <zeo> and its \
             storages)"
        }
        Role::Zeo | Role::Zeod | Role::EventLog | Role::Runner => {
            " (it belongs at the top of the file)"
        }
        Role::Storage | Role::File | Role::Elsewhere => "",
    }
}

fn allowance(outer: &'static SectionType, role: Role) -> Option<&'static Child> {
    outer.children.iter().find(|allowed| allowed.role == role)
}

/// Refuses a second section where only one is allowed.
fn check_first(
    child: &Section,
    kind: &'static SectionType,
    outer: &'static SectionType,
    before: &[Checked],
    place: &str,
) -> Result<(), ConfigError> {
    let single = allowance(outer, kind.role)
        .is_some_and(|allowed| matches!(allowed.occurs, Occurs::Once | Occurs::AtMostOnce));
    let first = before.iter().find(|other| other.kind.role == kind.role);
    match first {
        Some(first) if single => {
            let fault = Fault::SecondSection {
                section: match kind.role {
                    Role::Storage => format!("storage, {},", child.title()),
                    _ => child.title(),
                },
                place: place.to_owned(),
                first: first.location.clone(),
            };
            Err(ConfigError::new(&child.location, fault))
        }
        _ => Ok(()),
    }
}

/// Refuses a section that lacks another.
fn check_present(
    kind: &'static SectionType,
    section: &Checked,
    title: &str,
) -> Result<(), ConfigError> {
    for needed in kind.children {
        let is_there = || {
            let mut children = section.children.iter();
            children.any(|child| child.kind.role == needed.role)
        };
        if matches!(needed.occurs, Occurs::Once | Occurs::Often) && !is_there() {
            let fault = Fault::MissingSection {
                section: title.to_owned(),
                wanted: section.words(needed.wanted, needed.wanted_table).to_owned(),
            };
            return Err(ConfigError::new(&section.location, fault));
        }
    }
    Ok(())
}

/// Names for a message.
pub fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names.join(", ")
}
