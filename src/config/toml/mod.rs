//! The same configuration in TOML.
//!
//! A table is a section of zeo.conf, a key has the same name:
//!
//! ```text
//! [zeo]  [zeo.ssl]  [eventlog]  [zeod]   as <zeo>, <ssl>, <eventlog>, <zeod>
//! [storage.NAME]                         a storage; "type" says which, default filestorage
//! [storage.NAME.base]                    the storage in a blobstorage or demostorage
//! [storage.NAME.changes]                 the changes of a demostorage
//! [[eventlog.logfile]]  …                a handler, as many as are wanted
//! [zeod.access.STORAGE]                  as <access STORAGE>
//! [zeod.replication]                     as <replication>
//! ```
//!
//! What is read becomes the same tree of sections, so that one table
//! (`schema`) and one set of rules (`check`, `build`) hold for both languages.

mod read;
mod write;

pub use read::parse_file;
pub use write::to_toml;

/// What begins a storage's table.
const STORAGE: &str = "storage";
/// The key in a storage's table that says what it is.
const TYPE: &str = "type";
/// What a storage is whose table does not say it.
const DEFAULT_TYPE: &str = "filestorage";

/// The table in which a section of the type `kind` stands, if its outer table
/// is `outer`.
pub fn table_of(outer: &str, kind: &str, is_storage: bool, name: Option<&str>) -> String {
    let part = match (outer, kind) {
        ("", _) if is_storage => format!("{STORAGE}.{}", quoted(name.unwrap_or("1"))),
        _ if is_storage && name == Some("changes") => "changes".to_owned(),
        _ if is_storage => "base".to_owned(),
        (_, "access") => format!("{kind}.{}", quoted(name.unwrap_or_default())),
        _ => kind.to_owned(),
    };
    if outer.is_empty() {
        return part;
    }
    format!("{outer}.{part}")
}

/// A part of a dotted key, in quotes where TOML wants them.
fn quoted(part: &str) -> String {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if !part.is_empty() && part.chars().all(is_bare) {
        return part.to_owned();
    }
    string(part)
}

/// A string as TOML writes it, in quotes.
fn string(text: &str) -> String {
    ::toml::Value::from(text).to_string()
}
