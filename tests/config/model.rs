//! A configuration as `corpus.py` writes Python's.

use std::time::Duration;

use serde_json::{Value, json};
use zeod::config::{
    Address, Config, EventLog, LogFile, LogHandler, LogStyle, LogTarget, Rotation, RotationTime,
    SslAuthentication, SslSection, StorageConfig,
};

/// Every value that both programs know.
pub fn values(config: &Config) -> Value {
    let zeo = &config.zeo;
    let storages: Vec<Value> = config
        .storages
        .iter()
        .map(|named| {
            let mut values = storage(&named.storage);
            values["name"] = json!(named.name);
            values
        })
        .collect();
    json!({
        "zeo": {
            "address": address(&zeo.address),
            "read_only": zeo.read_only,
            "invalidation_queue_size": zeo.invalidation_queue_size,
            "invalidation_age": zeo.invalidation_age.map(age),
            "transaction_timeout": zeo.transaction_timeout.map(|time| time.as_secs()),
            "pid_filename": zeo.pid_filename,
            "client_conflict_resolution": zeo.client_conflict_resolution,
            "msgpack": zeo.msgpack,
            "ssl": zeo.ssl.as_ref().map(ssl),
        },
        "storages": storages,
        "eventlog": config.eventlog.as_ref().map(eventlog),
    })
}

/// The first place at which the two differ. Where they do so on purpose, the reason goes to `purposes`.
pub fn difference(
    place: &str,
    ours: &Value,
    theirs: &Value,
    purposes: &mut Vec<&'static str>,
) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(left), Value::Object(right)) => {
            if left.keys().ne(right.keys()) {
                return Some(format!("{place}: {ours} and not {theirs}"));
            }
            left.iter().find_map(|(key, value)| {
                difference(&format!("{place}.{key}"), value, &right[key], purposes)
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let mut pairs = left.iter().zip(right).enumerate();
            pairs.find_map(|(at, (left, right))| {
                difference(&format!("{place}[{at}]"), left, right, purposes)
            })
        }
        _ if ours == theirs => None,
        _ => match purpose(place, ours, theirs) {
            Some(reason) => {
                purposes.push(reason);
                None
            }
            None => Some(format!("{place} is {ours}; Python: {theirs}")),
        },
    }
}

/// Why two values differ that are meant to.
fn purpose(place: &str, ours: &Value, theirs: &Value) -> Option<&'static str> {
    let unbracketed = |text: &str| Some(text.strip_prefix('[')?.strip_suffix(']')?.to_owned());
    match place {
        ".zeo.invalidation_age" if same_age(ours, theirs) => {
            Some("an age of 0 and less, or nan, lets no client through, which is no age here")
        }
        ".zeo.client_conflict_resolution" if ours.is_null() && theirs == false => {
            Some("client-conflict-resolution not set is false there, and decided case by case here")
        }
        ".zeo.pid_filename" if ours.is_null() && theirs == "" => {
            Some("an empty pid-filename is none")
        }
        _ if place.ends_with(".address[0]")
            && theirs.as_str().and_then(unbracketed).as_deref() == ours.as_str() =>
        {
            Some("[::1] without a port keeps its brackets there, and cannot be bound")
        }
        _ => None,
    }
}

/// Whether `theirs`, a text since JSON has not all of Python's floats, is such an age.
fn same_age(ours: &Value, theirs: &Value) -> bool {
    let age: Option<f64> = theirs.as_str().and_then(|text| text.parse().ok());
    ours.is_null() && age.is_some_and(|age| age.is_nan() || age <= 0.0)
}

/// To the millisecond, as `corpus.py` writes it.
fn age(age: Duration) -> String {
    if age == Duration::MAX {
        return "inf".to_owned();
    }
    format!("{:.3}", age.as_secs_f64())
}

fn address(address: &Address) -> Value {
    match address {
        Address::Tcp { host, port } => json!([host.as_deref().unwrap_or(""), port]),
        Address::Unix(path) => json!(path),
    }
}

/// Where a client connects to: this machine, if no host is named.
fn server(server: &Address) -> Value {
    match server {
        Address::Tcp { host, port } => json!([host.as_deref().unwrap_or("127.0.0.1"), port]),
        Address::Unix(path) => json!(path),
    }
}

fn ssl(ssl: &SslSection) -> Value {
    json!({
        "certificate": ssl.certificate,
        "key": ssl.key,
        "password_function": ssl.password_function,
        "authenticate": match &ssl.authenticate {
            SslAuthentication::Signed => json!("SIGNED"),
            SslAuthentication::Certificates(path) => json!(path),
        },
    })
}

fn storage(config: &StorageConfig) -> Value {
    match config {
        StorageConfig::File(file) => json!({
            "type": "filestorage",
            "path": file.path,
            "blob_dir": file.blob_dir,
            "create": file.create,
            "read_only": file.read_only,
            "quota": file.quota_bytes,
            "packer": file.packer,
            "pack_gc": file.pack_gc,
            "pack_keep_old": file.pack_keep_old,
        }),
        StorageConfig::Client(client) => json!({
            "type": "zeoclient",
            "server": client.servers.iter().map(server).collect::<Vec<_>>(),
            "storage": client.storage,
            "name_of_itself": client.name,
            "read_only": client.read_only,
            "read_only_fallback": client.read_only_fallback,
            "wait": client.wait,
            "cache_size": client.cache_bytes,
            "client_label": client.label,
            "blob_dir": client.blob_dir,
            "shared_blob_dir": client.shared_blob_dir,
            "blob_cache_size": client.blob_cache_bytes,
        }),
        StorageConfig::Mapping { name } => {
            json!({"type": "mappingstorage", "name_of_itself": name})
        }
        StorageConfig::Blob { blob_dir, base } => {
            json!({"type": "blobstorage", "blob_dir": blob_dir, "base": storage(base)})
        }
        StorageConfig::Demo {
            name,
            base,
            changes,
        } => json!({
            "type": "demostorage",
            "name_of_itself": name,
            "base": base.as_deref().map(storage),
            "changes": changes.as_deref().map(storage),
        }),
    }
}

fn eventlog(log: &EventLog) -> Value {
    let handlers: Vec<Value> = log.handlers.iter().map(handler).collect();
    json!({"level": log.level.number(), "handlers": handlers})
}

fn handler(handler: &LogHandler) -> Value {
    match handler {
        LogHandler::File(file) => logfile(file),
        LogHandler::Syslog(syslog) => json!({
            "type": "syslog",
            "level": syslog.level.number(),
            "format": syslog.format.as_deref().unwrap_or("%(name)s %(message)s"),
            "dateformat": syslog.date_format.as_deref().unwrap_or(DATE_FORMAT),
            "style": style(syslog.style),
            "address": address(&syslog.address),
            "facility": syslog.facility,
        }),
        LogHandler::Other(other) => json!({"type": other.kind, "level": other.level.number()}),
    }
}

const DATE_FORMAT: &str = "%Y-%m-%dT%H:%M:%S";
const FORMAT: &str = "------\n%(asctime)s %(levelname)s %(name)s %(message)s";

fn logfile(file: &LogFile) -> Value {
    let (max_size, when, interval, old_files) = match &file.rotation {
        None => (0, String::new(), 0, 0),
        Some(Rotation::Size {
            max_size_bytes,
            old_files,
        }) => (*max_size_bytes, String::new(), 0, *old_files),
        Some(Rotation::Time {
            when,
            interval,
            old_files,
        }) => (0, rotation_time(*when), *interval, *old_files),
    };
    json!({
        "type": "logfile",
        "level": file.level.number(),
        "format": file.format.as_deref().unwrap_or(FORMAT),
        "dateformat": file.date_format.as_deref().unwrap_or(DATE_FORMAT),
        "style": style(file.style),
        "path": match &file.path {
            LogTarget::Stdout => json!("STDOUT"),
            LogTarget::Stderr => json!("STDERR"),
            LogTarget::File(path) => json!(path),
        },
        "old_files": old_files,
        "max_size": max_size,
        "when": when,
        "interval": interval,
        "encoding": file.encoding,
        "delay": file.delay,
    })
}

fn rotation_time(when: RotationTime) -> String {
    match when {
        RotationTime::Seconds => "s".to_owned(),
        RotationTime::Minutes => "m".to_owned(),
        RotationTime::Hours => "h".to_owned(),
        RotationTime::Days => "d".to_owned(),
        RotationTime::Midnight => "midnight".to_owned(),
        RotationTime::Weekday(day) => format!("w{day}"),
    }
}

fn style(style: LogStyle) -> &'static str {
    match style {
        LogStyle::Classic => "classic",
        LogStyle::Format => "format",
        LogStyle::Template => "template",
        LogStyle::SafeTemplate => "safe-template",
    }
}
