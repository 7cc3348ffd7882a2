//! `ZEOD_…` variables of the environment, which take the place of single values
//! of the file: containers are configured so.
//!
//! A variable is named after the key's place in TOML, with `_` for everything
//! that is no letter and no digit: `transaction-timeout` in `[zeo]` is
//! `ZEOD_ZEO_TRANSACTION_TIMEOUT`, `path` in `[storage.1]` is
//! `ZEOD_STORAGE_1_PATH`. Storages must be in the file; other sections are made.
//! A variable that is empty sets nothing. Keys that may occur several times have
//! none, except for `peer`, whose values stand in one with commas between them.

use super::check::listed;
use super::schema::{self, DataType, Key, Occurs, Raw, Role, SectionType};
use super::toml::table_of;
use super::tree::{Entry, Section};
use super::{ConfigError, Context, Fault, Location, suggest};

/// What every variable begins with.
pub const PREFIX: &str = "ZEOD_";

/// Variables that are no keys: the program's own, then those of this project's
/// tests and benchmarks, which run the program in their environment.
const OTHERS: [&str; 10] = [
    "ZEOD_LOG",
    "ZEOD_BINARY",
    "ZEOD_BENCH_",
    "ZEOD_BLOB_",
    "ZEOD_CONFIG_",
    "ZEOD_CRASH_",
    "ZEOD_PACK_",
    "ZEOD_STOP_",
    "ZEOD_STRESS_",
    "ZEOD_UNDO_",
];

/// A key that a variable can set.
struct Target {
    variable: String,
    /// The table, for messages.
    table: String,
    /// The section's place in the tree, from the top.
    way: Vec<Step>,
    key: &'static Key,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The section at this place.
    At(usize),
    /// The section of this type, which is made if there is none.
    Of(&'static SectionType),
}

/// Puts the values of `variables` in the place of what `file` says.
pub fn apply(
    file: &mut Section,
    variables: &[(String, String)],
    context: &Context<'_>,
) -> Result<(), ConfigError> {
    let mut targets = Vec::new();
    collect(file, &schema::FILE, "", &[], &mut targets);
    for (name, value) in variables {
        if value.is_empty() {
            continue;
        }
        let location = Location::variable(name);
        let matching = targets.iter().filter(|target| target.variable == *name);
        match matching.collect::<Vec<_>>().as_slice() {
            [target] => set(file, target, value, &location),
            [] if is_other(name) => {}
            [] => context.warn(&location, unknown(name, &targets)),
            several => {
                let key = several.first().map_or("", |target| target.key.name);
                let tables = several.iter().map(|target| format!("[{}]", target.table));
                let meanings = format!("{key:?} in each of {}", listed(tables));
                let fault = Fault::AmbiguousVariable { meanings };
                return Err(ConfigError::new(&location, fault));
            }
        }
    }
    Ok(())
}

fn is_other(name: &str) -> bool {
    OTHERS
        .iter()
        .any(|other| name == *other || (other.ends_with('_') && name.starts_with(other)))
}

fn unknown(name: &str, targets: &[Target]) -> String {
    let names = targets.iter().map(|target| target.variable.as_str());
    let meant = suggest::closest_name(name, names);
    match meant {
        Some(meant) => format!("it sets nothing; did you mean {meant}?"),
        None => {
            "it sets nothing; variables are named ZEOD_SECTION_KEY, as ZEOD_ZEO_ADDRESS".to_owned()
        }
    }
}

/// The keys of a section and of all sections in it.
fn collect(
    section: &Section,
    kind: &'static SectionType,
    table: &str,
    way: &[Step],
    targets: &mut Vec<Target>,
) {
    keys(kind, table, way, targets);
    for (place, child) in section.children.iter().enumerate() {
        let Some(known) = schema::section_type(&child.kind).filter(|known| !known.is_foreign)
        else {
            continue;
        };
        let is_storage = known.role == Role::Storage;
        let table = table_of(table, known.name, is_storage, child.name.as_deref());
        let way = [way, &[Step::At(place)]].concat();
        collect(child, known, &table, &way, targets);
    }
    for made in can_be_made(kind) {
        if !section.children.iter().any(|child| child.kind == made.name) {
            let table = table_of(table, made.name, false, None);
            let way = [way, &[Step::Of(made)]].concat();
            let empty = Section::new(made.name.to_owned(), None, section.location.clone());
            collect(&empty, made, &table, &way, targets);
        }
    }
}

fn keys(kind: &'static SectionType, table: &str, way: &[Step], targets: &mut Vec<Target>) {
    for key in kind.keys {
        let is_single = !matches!(key.occurs, Occurs::Often | Occurs::AnyNumber);
        if is_single || is_list(key) {
            targets.push(Target {
                variable: variable(table, key.name),
                table: table.to_owned(),
                way: way.to_vec(),
                key,
            });
        }
    }
}

/// Has one variable all values of the key? Only where none can have a comma.
fn is_list(key: &Key) -> bool {
    matches!(key.data_type, DataType::Peer)
}

/// The variable of a key in a table of TOML.
pub fn variable(table: &str, key: &str) -> String {
    let name: String = format!("{table}.{key}")
        .chars()
        .filter(|letter| *letter != '"')
        .map(|letter| match letter {
            letter if letter.is_ascii_alphanumeric() => letter.to_ascii_uppercase(),
            _ => '_',
        })
        .collect();
    format!("{PREFIX}{name}")
}

/// The sections without a name that may stand in `kind`.
fn can_be_made(kind: &'static SectionType) -> impl Iterator<Item = &'static SectionType> {
    kind.children
        .iter()
        .filter(|child| !matches!(child.role, Role::Storage | Role::Access | Role::Runner))
        .flat_map(|child| schema::names_of(child.role))
        .filter_map(schema::section_type)
}

fn set(file: &mut Section, target: &Target, value: &str, location: &Location) {
    let mut section = file;
    for step in &target.way {
        let place = match step {
            Step::At(place) => *place,
            Step::Of(kind) => find_or_make(section, kind, location),
        };
        let Some(child) = section.children.get_mut(place) else {
            return;
        };
        section = child;
    }
    section
        .entries
        .retain(|entry| !entry.key.eq_ignore_ascii_case(target.key.name));
    let values: Vec<&str> = if is_list(target.key) {
        value.split(',').map(str::trim).collect()
    } else {
        vec![value]
    };
    section
        .entries
        .extend(values.into_iter().map(|value| Entry {
            key: target.key.name.to_owned(),
            value: Raw::Variable(value.to_owned()),
            location: location.clone(),
        }));
}

fn find_or_make(section: &mut Section, kind: &'static SectionType, location: &Location) -> usize {
    let found = section
        .children
        .iter()
        .position(|child| child.kind == kind.name);
    found.unwrap_or_else(|| {
        let made = make(kind, section.table.as_deref(), location);
        section.children.push(made);
        section.children.len() - 1
    })
}

/// A section that the file does not have. An event log without a handler would
/// be silent, so that it gets the one that stands for no event log.
fn make(kind: &'static SectionType, outer: Option<&str>, location: &Location) -> Section {
    let mut made = Section::new(kind.name.to_owned(), None, location.clone());
    made.table = outer.map(|outer| table_of(outer, kind.name, false, None));
    if kind.role == Role::EventLog
        && let Some(logfile) = schema::section_type("logfile")
    {
        let mut handler = make(logfile, made.table.as_deref(), location);
        handler.entries.push(Entry {
            key: "path".to_owned(),
            value: Raw::Line("STDERR".to_owned()),
            location: location.clone(),
        });
        made.children.push(handler);
    }
    made
}
