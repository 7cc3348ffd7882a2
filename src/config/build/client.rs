use std::path::PathBuf;
use std::time::Duration;

use super::contradiction;
use crate::config::check::Checked;
use crate::config::{Address, ClientStorageConfig, ConfigError, Context};

/// As ZODB and ZEO have them.
const DEFAULT_CACHE_BYTES: u64 = 20 << 20;
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
const DEFAULT_CHECK_PERCENT: u64 = 10;

/// What has no meaning here, and why.
const WITHOUT_MEANING: [(&str, &str); 5] = [
    ("client", IN_MEMORY),
    ("var", IN_MEMORY),
    ("username", NO_PASSWORDS),
    ("password", NO_PASSWORDS),
    ("realm", NO_PASSWORDS),
];
const IN_MEMORY: &str = "names a cache file, and this server keeps its cache in memory";
const NO_PASSWORDS: &str = "has no effect: no server of ZEO 5 or later asks for a password";

/// A `<zeoclient>` section.
pub(super) fn zeoclient(
    section: &Checked,
    context: &Context<'_>,
) -> Result<ClientStorageConfig, ConfigError> {
    let servers: Vec<Address> = section.addresses("server").collect();
    for server in &servers {
        if matches!(server, Address::Tcp { port: 0, .. }) {
            let message = "\"server\" names no port; write HOST:PORT";
            return Err(contradiction(section, message));
        }
    }
    let flag = |key| section.boolean(key).unwrap_or(false);
    let (read_only, read_only_fallback) = (flag("read-only"), flag("read-only-fallback"));
    if read_only && read_only_fallback {
        let message = "\"read-only\" and \"read-only-fallback\" exclude each other; \
                       take one of the two out";
        return Err(contradiction(section, message));
    }
    let check_percent = section.count("blob-cache-size-check");
    let blob_cache_check_percent = check_percent.unwrap_or(DEFAULT_CHECK_PERCENT);
    if blob_cache_check_percent >= 100 {
        let message = "\"blob-cache-size-check\" is a part of blob-cache-size, in per cent; \
                       give a number below 100";
        return Err(contradiction(section, message));
    }
    for (key, why) in WITHOUT_MEANING {
        if section.text(key).is_some() {
            context.warn(section.location_of(key), format!("\"{key}\" {why}"));
        }
    }
    let named = |key| section.text(key).filter(|text| !text.is_empty());
    Ok(ClientStorageConfig {
        servers,
        storage: section.text("storage").unwrap_or("1").to_owned(),
        name: named("name").map(str::to_owned),
        read_only,
        read_only_fallback,
        wait: section.boolean("wait").unwrap_or(true),
        wait_timeout: section.duration("wait-timeout").unwrap_or(DEFAULT_WAIT),
        cache_bytes: section.count("cache-size").unwrap_or(DEFAULT_CACHE_BYTES),
        label: named("client-label").map(str::to_owned),
        blob_dir: section
            .path("blob-dir")
            .filter(|path| *path != PathBuf::new()),
        shared_blob_dir: flag("shared-blob-dir"),
        blob_cache_bytes: section.count("blob-cache-size"),
        blob_cache_check_percent,
    })
}
