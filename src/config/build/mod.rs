//! Checked sections to the typed configuration, with defaults and with the
//! rules that concern several keys at once.

mod client;
mod eventlog;
mod read;
mod replication;
mod storage;
mod zeo;
mod zeod;

use std::path::Path;

use super::check::Checked;
use super::schema::Role;
use super::{Config, ConfigError, Context, Fault, ZeodSection};

/// The configuration that a whole file says; without the warnings so far.
pub fn config(file: &Checked, source: &Path, context: &Context<'_>) -> Result<Config, ConfigError> {
    let mut children = file.children.iter();
    let zeo = children
        .find(|child| child.kind.role == Role::Zeo)
        .ok_or_else(|| contradiction(file, "there is no <zeo>"))?;
    let zeo = zeo::zeo(zeo, context)?;
    let storages = storage::named_storages(file, context)?;
    let mut children = file.children.iter();
    let eventlog = children
        .find(|child| child.kind.role == Role::EventLog)
        .map(|section| eventlog::eventlog(section, context))
        .transpose()?;
    let mut children = file.children.iter();
    let zeod = children
        .find(|child| child.kind.role == Role::Zeod)
        .map(|section| zeod::zeod(section, &zeo, &storages, context))
        .transpose()?;
    Ok(Config {
        source: source.to_owned(),
        zeod: zeod.unwrap_or_else(ZeodSection::default),
        zeo,
        storages,
        eventlog,
        warnings: Vec::new(),
    })
}

/// An error about several keys of a section.
fn contradiction(section: &Checked, message: impl Into<String>) -> ConfigError {
    let fault = Fault::Contradiction {
        section: section.title(),
        message: message.into(),
    };
    ConfigError::new(&section.location, fault)
}
