//! The ZConfig language and what zeo.conf says in it.

mod build;
mod check;
mod include;
mod parse;
mod schema;
mod substitute;
mod suggest;
mod tree;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::{Config, ConfigError, Environment, Location, Overrides, Warning};

/// What every step of reading needs: the environment, and where warnings go.
struct Context<'a> {
    environment: &'a Environment<'a>,
    warnings: RefCell<Vec<Warning>>,
}

impl Context<'_> {
    fn warn(&self, location: &Location, message: String) {
        self.warnings.borrow_mut().push(Warning {
            location: location.clone(),
            message,
        });
    }
}

/// Reads `source` and everything that it includes.
pub fn read(
    source: &Path,
    overrides: &Overrides,
    environment: &Environment<'_>,
) -> Result<Config, ConfigError> {
    let context = Context {
        environment,
        warnings: RefCell::default(),
    };
    let tree = parse::parse_file(source, &context)?;
    let checked = check::check(tree, &context)?;
    let mut config = build::config(&checked, source, overrides, &context)?;
    config.warnings = context.warnings.into_inner();
    Ok(config)
}

/// The path that a `file:` URL means; any other path is itself.
pub fn local_path(path: &Path) -> PathBuf {
    path.to_str()
        .and_then(include::file_url_path)
        .unwrap_or_else(|| path.to_owned())
}
