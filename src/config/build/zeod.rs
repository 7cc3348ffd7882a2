use super::contradiction;
use crate::config::check::Checked;
use crate::config::{AccessSection, CertificateName, ConfigError, SslSection, ZeodSection};

/// `ssl` and the names of the `storages`: what some keys are about.
pub fn zeod(
    section: &Checked,
    ssl: Option<&SslSection>,
    storages: &[&str],
) -> Result<ZeodSection, ConfigError> {
    let default = ZeodSection::default();
    let bytes = |key: &str, unset: usize| {
        let bytes = section.count(key);
        bytes.map_or(unset, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    };
    let zeod = ZeodSection {
        status_address: section.address("status-address"),
        user: section.text("user").map(str::to_owned),
        max_connections: bytes("max-connections", default.max_connections),
        max_message_bytes: bytes("max-message-size", default.max_message_bytes),
        max_transaction_bytes: section
            .count("max-transaction-size")
            .unwrap_or(default.max_transaction_bytes),
        max_unsent_bytes: bytes("max-unsent", default.max_unsent_bytes),
        memory_budget_bytes: bytes("memory-budget", default.memory_budget_bytes),
        stall_time: section.duration("stall-time").unwrap_or(default.stall_time),
        keepalive_time: section
            .duration("keepalive-time")
            .unwrap_or(default.keepalive_time),
        shutdown_time: section
            .duration("shutdown-time")
            .unwrap_or(default.shutdown_time),
        key_password_file: section.path("key-password-file"),
        key_password_command: section.text("key-password-command").map(str::to_owned),
        access: section.children.iter().map(access).collect(),
    };
    check_password(section, &zeod, ssl)?;
    check_access(section, &zeod, ssl, storages)?;
    Ok(zeod)
}

fn access(section: &Checked) -> AccessSection {
    let texts = |key| section.texts(key).map(str::to_owned).collect();
    AccessSection {
        storage: section.name.clone().unwrap_or_default(),
        read_write: texts("read-write"),
        read_only: texts("read-only"),
    }
}

fn check_password(
    section: &Checked,
    zeod: &ZeodSection,
    ssl: Option<&SslSection>,
) -> Result<(), ConfigError> {
    let has_function = ssl.is_some_and(|ssl| ssl.password_function.is_some());
    let sources = [
        zeod.key_password_file.is_some(),
        zeod.key_password_command.is_some(),
        has_function,
    ];
    if sources.into_iter().filter(|is_there| *is_there).count() > 1 {
        return Err(contradiction(
            section,
            section.words(
                "the key's password comes from one place: \"key-password-file\", \
                 \"key-password-command\", or <ssl>'s \"password-function\"",
                "the key's password comes from one place: \"key-password-file\", \
                 \"key-password-command\", or \"password-function\" in [zeo.ssl]",
            ),
        ));
    }
    if ssl.is_none() && (sources[0] || sources[1]) {
        return Err(contradiction(
            section,
            section.words(
                "a password for a key needs an <ssl> section in <zeo>, which names the key",
                "a password for a key needs a table [zeo.ssl], which names the key",
            ),
        ));
    }
    Ok(())
}

fn check_access(
    section: &Checked,
    zeod: &ZeodSection,
    ssl: Option<&SslSection>,
    storages: &[&str],
) -> Result<(), ConfigError> {
    for (number, access) in zeod.access.iter().enumerate() {
        let Some(place) = section.children.get(number) else {
            continue;
        };
        let name = access.storage.as_str();
        if name.is_empty() {
            return Err(contradiction(
                place,
                place.words(
                    "say whose: <access STORAGE>",
                    "say whose: [zeod.access.STORAGE]",
                ),
            ));
        }
        if ssl.is_none() {
            return Err(contradiction(
                place,
                place.words(
                    "certificates decide about access, so <zeo> needs an <ssl> section",
                    "certificates decide about access, so there must be a table [zeo.ssl]",
                ),
            ));
        }
        if !storages.contains(&name) {
            return Err(contradiction(
                place,
                format!(
                    "there is no storage {name:?}; there is {}",
                    storages.join(", ")
                ),
            ));
        }
        for text in access.read_write.iter().chain(&access.read_only) {
            if let Err(error) = CertificateName::parse(text) {
                return Err(contradiction(place, error.to_string()));
            }
        }
    }
    Ok(())
}
