use super::{contradiction, replication};
use crate::config::check::Checked;
use crate::config::schema::Role;
use crate::config::{
    AccessSection, CertificateName, ConfigError, Context, NamedStorage, SslSection, ZeoSection,
    ZeodSection,
};

/// `zeo` and the `storages` are what some keys are about.
pub fn zeod(
    section: &Checked,
    zeo: &ZeoSection,
    storages: &[NamedStorage],
    context: &Context<'_>,
) -> Result<ZeodSection, ConfigError> {
    let default = ZeodSection::default();
    let bytes = |key: &str, unset: usize| {
        let bytes = section.count(key);
        bytes.map_or(unset, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    };
    let mut zeod = ZeodSection {
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
        access: accesses(section).map(access).collect(),
        replication: None,
    };
    let ssl = zeo.ssl.as_ref();
    let names: Vec<&str> = storages.iter().map(|storage| &*storage.name).collect();
    check_access(section, &zeod, ssl, &names)?;
    let mut children = section.children.iter();
    if let Some(section) = children.find(|child| child.kind.role == Role::Replication) {
        let others = [
            Some(&zeo.address),
            zeod.status_address.as_ref(),
            zeo.monitor_address.as_ref(),
        ];
        let built = replication::replication(section, &others, context)?;
        replication::check_storages(section, storages)?;
        zeod.replication = Some(built);
    }
    check_password(section, &zeod, ssl)?;
    Ok(zeod)
}

fn accesses(section: &Checked) -> impl Iterator<Item = &Checked> {
    let children = section.children.iter();
    children.filter(|child| child.kind.role == Role::Access)
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
    let nodes_have_one = zeod
        .replication
        .as_ref()
        .is_some_and(|own| own.tls.is_some());
    if ssl.is_none() && !nodes_have_one && (sources[0] || sources[1]) {
        return Err(contradiction(
            section,
            section.words(
                "a password for a key needs an <ssl> section in <zeo>, or a key in <replication>",
                "a password for a key needs a table [zeo.ssl], or a key in [zeod.replication]",
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
    for (place, access) in accesses(section).zip(&zeod.access) {
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
