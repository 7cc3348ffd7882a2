use std::path::PathBuf;
use std::time::Duration;

use super::check::{Checked, CheckedValue};
use super::schema::{self, Raw, Role, Value};
use super::tree::{Entry, Section};
use super::{Address, Location};

/// What the command line says beside, or instead of, a configuration file.
/// Where both say something, the command line wins (source: zdaemon
/// zdoptions.py, ZEO runzeo.py).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// `-a`: where to listen.
    pub address: Option<Address>,
    /// `-f`, once for each: data files, taken literally. If there is one, the
    /// storages of the configuration file are not served at all.
    pub files: Vec<PathBuf>,
    /// `-t`: how long a transaction may hold the commit lock.
    pub transaction_timeout: Option<Duration>,
    /// `--pid-file`, taken literally.
    pub pid_filename: Option<PathBuf>,
    /// The environment's variables whose names begin with `ZEOD_`: they come
    /// before the file and behind everything above.
    pub variables: Vec<(String, String)>,
}

impl Overrides {
    /// Puts these in the place of what `file` says.
    pub(super) fn apply(&self, file: &mut Checked) {
        let is_zeo = |section: &&mut Checked| section.kind.role == Role::Zeo;
        if let Some(zeo) = file.children.iter_mut().find(is_zeo) {
            let address = self.address.clone().map(Value::Address);
            set(zeo, "address", address);
            let timeout = self.transaction_timeout.map(Value::Duration);
            set(zeo, "transaction-timeout", timeout);
            let pid_filename = self.pid_filename.clone().map(Value::Path);
            set(zeo, "pid-filename", pid_filename);
        }
        if self.files.is_empty() {
            return;
        }
        let is_storage = |section: &mut Checked| section.kind.role == Role::Storage;
        let mut former: Vec<Checked> = file.children.extract_if(.., is_storage).collect();
        former.retain(|section| section.location == Location::command_line());
        for (path, number) in self.files.iter().zip(1_usize..) {
            let name = number.to_string();
            // Without a file the storages are the command line's already, and
            // variables may have added to them.
            let place = former
                .iter()
                .position(|section| section.name.as_ref() == Some(&name));
            let section = match place {
                Some(place) => Some(former.swap_remove(place)),
                None => file_storage(name),
            };
            if let Some(mut section) = section {
                set(&mut section, "path", Some(Value::Path(path.clone())));
                file.children.push(section);
            }
        }
    }
}

/// The section that the argument `-f` stands for, without the path.
fn file_storage(name: String) -> Option<Checked> {
    Some(Checked {
        kind: schema::section_type("filestorage")?,
        name: Some(name),
        table: None,
        location: Location::command_line(),
        values: Vec::new(),
        children: Vec::new(),
    })
}

fn set(section: &mut Checked, name: &str, value: Option<Value>) {
    let key = section.kind.keys.iter().find(|key| key.name == name);
    let (Some(key), Some(value)) = (key, value) else {
        return;
    };
    section.values.retain(|other| other.key.name != name);
    section.values.push(CheckedValue {
        key,
        value,
        location: Location::command_line(),
    });
}

/// What a file would have to say for `-a` and `-f` alone.
pub(super) fn sections_of(address: &Address, files: &[PathBuf]) -> Section {
    let section = |kind: &str, name: Option<String>| {
        Section::new(kind.to_owned(), name, Location::command_line())
    };
    let entry = |key: &str, value: Value| Entry {
        key: key.to_owned(),
        value: Raw::Converted(value),
        location: Location::command_line(),
    };
    let mut zeo = section("zeo", None);
    let address = Value::Address(address.clone());
    zeo.entries.push(entry("address", address));
    let mut whole = section("", None);
    whole.children.push(zeo);
    for (path, number) in files.iter().zip(1_usize..) {
        let mut storage = section("filestorage", Some(number.to_string()));
        let path = Value::Path(path.clone());
        storage.entries.push(entry("path", path));
        whole.children.push(storage);
    }
    whole
}
