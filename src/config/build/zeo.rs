use std::time::Duration;

use super::contradiction;
use crate::config::Context;
use crate::config::check::Checked;
use crate::config::{ConfigError, SslAuthentication, SslSection, ZeoSection};

pub fn zeo(section: &Checked, context: &Context<'_>) -> Result<ZeoSection, ConfigError> {
    let address = section
        .address("address")
        .ok_or_else(|| contradiction(section, "there is no address"))?;
    let mut zeo = ZeoSection::new(address, context.environment);
    zeo.read_only = section.boolean("read-only").unwrap_or(zeo.read_only);
    if let Some(size) = section.count("invalidation-queue-size") {
        zeo.invalidation_queue_size = usize::try_from(size).unwrap_or(usize::MAX);
    }
    zeo.invalidation_age = section.float("invalidation-age").and_then(age);
    zeo.transaction_timeout = section.duration("transaction-timeout");
    if zeo.transaction_timeout == Some(Duration::ZERO) {
        context.warn(
            section.location_of("transaction-timeout"),
            "\"transaction-timeout\" 0 ends every transaction at once; \
             leave the line out for no limit"
                .to_owned(),
        );
    }
    zeo.pid_filename = section.path("pid-filename").or(zeo.pid_filename);
    zeo.client_conflict_resolution = section.boolean("client-conflict-resolution");
    zeo.msgpack = section.boolean("msgpack").or(zeo.msgpack);
    zeo.monitor_address = section.address("monitor-address");
    zeo.ssl = section.children.first().map(ssl).transpose()?;
    Ok(zeo)
}

/// An age in seconds. The Python server compares it with a client's age, so
/// that zero and less, and what is no number, let none through.
fn age(seconds: f64) -> Option<Duration> {
    if seconds.is_nan() || seconds <= 0.0 {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

fn ssl(section: &Checked) -> Result<SslSection, ConfigError> {
    let authenticate = match section.text("authenticate") {
        Some("-" | "SIGNED") => SslAuthentication::Signed,
        Some(path) => SslAuthentication::Certificates(path.into()),
        None => return Err(contradiction(section, "there is no \"authenticate\"")),
    };
    Ok(SslSection {
        certificate: section
            .path("certificate")
            .ok_or_else(|| contradiction(section, "there is no certificate"))?,
        key: section.path("key"),
        password_function: section.text("password-function").map(str::to_owned),
        authenticate,
    })
}
