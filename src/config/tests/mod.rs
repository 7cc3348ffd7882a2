//! Whole files in, configurations or messages out.

mod faults;
mod files;
mod language;
mod random;
mod replication;
mod toml;
mod variables;
mod zeod;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Config, ConfigError, Loaded, Overrides, load};

/// A directory with configuration files. `$(TMP)` in them is the directory;
/// `$(HOME)` and a few others are set too.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn environment(&self) -> impl Fn(&str) -> Option<String> {
        let tmp = self.directory.path().display().to_string();
        move |name| match name {
            "TMP" => Some(tmp.clone()),
            "HOME" => Some(format!("{tmp}/")),
            "ZEO_PORT" => Some("8123".to_owned()),
            "ZEO_READ_ONLY" => Some("false".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    /// Loads a file. If it is right, its conversion to TOML must be, too, and
    /// mean the same.
    fn load(&self, name: &str) -> Result<Config, ConfigError> {
        self.load_with(name, &Overrides::default())
    }

    fn load_with(&self, name: &str, overrides: &Overrides) -> Result<Config, ConfigError> {
        let environment = self.environment();
        let loaded = Loaded::file(&self.path(name), overrides, &environment)?;
        let text = loaded.to_toml("Converted.");
        let path = self.path("converted.toml");
        std::fs::write(&path, &text).unwrap();
        let mut again = load(&path, &environment).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let config = loaded.config;
        again.source.clone_from(&config.source);
        again.warnings.clone_from(&config.warnings);
        assert_eq!(again, config, "{text}");
        Ok(config)
    }

    /// Text in which the directory is replaced by nothing.
    fn relative(&self, text: &dyn ToString) -> String {
        let prefix = format!("{}/", self.directory.path().display());
        text.to_string().replace(&prefix, "")
    }
}

/// Loads one file that must be right.
fn config_of(text: &str) -> Config {
    let files = Files::new(&[("zeo.conf", text)]);
    files
        .load("zeo.conf")
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Loads one file that must be wrong, and returns what is said about it.
fn message_of(text: &str) -> String {
    let files = Files::new(&[("zeo.conf", text)]);
    match files.load("zeo.conf") {
        Err(error) => files.relative(&error),
        Ok(config) => panic!("accepted: {config:?}\n{text}"),
    }
}

/// A path of a configuration that was loaded from a directory that is gone.
fn ends_with(path: &Path, end: &str) -> bool {
    path.to_string_lossy().ends_with(end)
}
