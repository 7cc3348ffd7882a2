use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::check::{self, Checked};
use super::tree::Section;
use super::{
    Address, Config, ConfigError, Context, Environment, Location, Overrides, build, overrides,
    toml, variables, zconfig,
};

/// A configuration, and the checked sections of which it was made: these know
/// which keys are set and which have their defaults.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    sections: Checked,
    /// Where values stand that are the environment's.
    substituted: Vec<Location>,
}

impl Loaded {
    /// Reads a file as [`super::load_with`] does.
    pub fn file(
        path: &Path,
        overrides: &Overrides,
        environment: &Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let source = zconfig::local_path(path);
        let context = Context::new(environment);
        let file = if is_toml(&source) {
            toml::parse_file(&source)?
        } else {
            zconfig::parse_file(&source, &context)?
        };
        Self::new(file, &source, overrides, &context)
    }

    /// The configuration of a server that was started with `-a` and `-f` and
    /// without a file: the storages are called "1", "2", … in the order of
    /// `files`, everything else has its default. `overrides` brings `-t` and
    /// `--pid-file`; its own address and files win over the arguments.
    pub fn arguments(
        address: &Address,
        files: &[PathBuf],
        overrides: &Overrides,
        environment: &Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let context = Context::new(environment);
        let sections = overrides::sections_of(address, files);
        Self::new(sections, Path::new(""), overrides, &context)
    }

    fn new(
        mut sections: Section,
        source: &Path,
        overrides: &Overrides,
        context: &Context<'_>,
    ) -> Result<Self, ConfigError> {
        variables::apply(&mut sections, &overrides.variables, context)?;
        let mut sections = check::check(sections, context)?;
        overrides.apply(&mut sections);
        let mut config = build::config(&sections, source, context)?;
        config.warnings = context.warnings.take();
        Ok(Self {
            substituted: context.substituted.take(),
            config,
            sections,
        })
    }

    /// Everything that is set, in TOML; loading it gives the same configuration
    /// again. `title` becomes a comment at the top.
    pub fn to_toml(&self, title: &str) -> String {
        let notes = &self.config.warnings;
        toml::to_toml(&self.sections, title, notes, &self.substituted)
    }
}

impl<'a> Context<'a> {
    fn new(environment: &'a Environment<'a>) -> Self {
        Self {
            environment,
            warnings: RefCell::default(),
            substituted: RefCell::default(),
        }
    }
}

fn is_toml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
}
