//! `ZEOD_…` variables in the place of what a file says.

use std::path::Path;
use std::time::Duration;

use super::Files;
use crate::config::{Config, Loaded, LogHandler, LogLevel, LogTarget, Overrides, StorageConfig};

const CONF: &str = "<zeo>\naddress 8100\n</zeo>\n<filestorage 1>\npath a.fs\nquota 5MB\n</filestorage>\n\
    <blobstorage Main.Site>\nblob-dir blobs\n<filestorage>\npath b.fs\n</filestorage>\n</blobstorage>\n";
const TOML: &str = "[zeo]\naddress = 8100\n[storage.1]\npath = \"a.fs\"\nquota = \"5MB\"\n\
    [storage.\"Main.Site\"]\ntype = \"blobstorage\"\nblob-dir = \"blobs\"\nbase.path = \"b.fs\"\n";

fn overrides(variables: &[(&str, &str)]) -> Overrides {
    Overrides {
        variables: variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Overrides::default()
    }
}

/// What both languages make of the variables; it is the same.
fn config_with(variables: &[(&str, &str)]) -> Config {
    let files = Files::new(&[("zeo.conf", CONF), ("zeod.toml", TOML)]);
    let overrides = overrides(variables);
    let config = files.load_with("zeo.conf", &overrides).unwrap();
    let mut other = files.load_with("zeod.toml", &overrides).unwrap();
    other.source.clone_from(&config.source);
    assert_eq!(other, config);
    config
}

#[test]
fn variables_take_the_place_of_values() {
    let config = config_with(&[
        ("ZEOD_STORAGE_1_PATH", "c.fs"),
        ("ZEOD_STORAGE_1_PACK_GC", "off"),
        ("ZEOD_STORAGE_MAIN_SITE_BASE_PATH", "d.fs"),
        ("ZEOD_ZEOD_STATUS_ADDRESS", "127.0.0.1:9090"),
        ("ZEOD_ZEOD_MAX_MESSAGE_SIZE", "1MB"),
        ("ZEOD_ZEO_ADDRESS", "0.0.0.0:8200"),
        ("ZEOD_ZEO_INVALIDATION_AGE", "1h"),
        ("ZEOD_ZEO_TRANSACTION_TIMEOUT", "5m"),
        ("ZEOD_ZEO_READ_ONLY", "yes"),
        ("ZEOD_ZEO_MSGPACK", ""),
    ]);
    assert_eq!(config.zeo.address.to_string(), "0.0.0.0:8200");
    assert_eq!(config.zeo.invalidation_age, Some(Duration::from_hours(1)));
    assert_eq!(config.zeo.transaction_timeout, Some(Duration::from_mins(5)));
    assert!(config.zeo.read_only);
    assert_eq!(config.zeo.msgpack, None);
    assert_eq!(config.zeod.max_message_bytes, 1 << 20);
    let StorageConfig::File(first) = &config.storages[0].storage else {
        panic!("not a file storage");
    };
    assert_eq!(first.path, Path::new("c.fs"));
    assert_eq!((first.quota_bytes, first.pack_gc), (Some(5 << 20), false));
    let StorageConfig::Blob { base, .. } = &config.storages[1].storage else {
        panic!("not a blob storage");
    };
    assert!(matches!(&**base, StorageConfig::File(base) if base.path == Path::new("d.fs")));
    assert_eq!(config.warnings, []);
}

#[test]
fn sections_that_are_not_there_are_made() {
    let config = config_with(&[
        ("ZEOD_ZEO_SSL_AUTHENTICATE", "SIGNED"),
        ("ZEOD_ZEO_SSL_CERTIFICATE", "c.pem"),
    ]);
    assert_eq!(config.zeo.ssl.unwrap().certificate, Path::new("c.pem"));
}

/// An event log without handlers is silent, which nobody wants who sets a level.
#[test]
fn a_level_alone_logs_to_stderr_as_before() {
    let logged = |config: Config| {
        let eventlog = config.eventlog.unwrap();
        match eventlog.handlers.as_slice() {
            [LogHandler::File(file)] => (eventlog.level, file.path.clone()),
            other => panic!("{other:?}"),
        }
    };
    let config = config_with(&[("ZEOD_EVENTLOG_LEVEL", "debug")]);
    assert_eq!(logged(config), (LogLevel::Debug, LogTarget::Stderr));
    let config = config_with(&[("ZEOD_EVENTLOG_LOGFILE_PATH", "zeo.log")]);
    let target = LogTarget::File("zeo.log".into());
    assert_eq!(logged(config), (LogLevel::Info, target));
}

#[test]
fn what_a_file_lacks_may_be_in_a_variable() {
    let files = Files::new(&[("zeo.conf", "<filestorage 1>\n</filestorage>\n")]);
    let variables = [("ZEOD_STORAGE_1_PATH", "a.fs"), ("ZEOD_ZEO_ADDRESS", "1")];
    files.load_with("zeo.conf", &overrides(&variables)).unwrap();
}

#[test]
fn the_command_line_wins_over_variables() {
    let overrides = Overrides {
        address: Some("9000".parse().unwrap()),
        files: vec!["e.fs".into()],
        ..overrides(&[
            ("ZEOD_STORAGE_1_PATH", "c.fs"),
            ("ZEOD_ZEO_ADDRESS", "9001"),
            ("ZEOD_ZEOD_MAX_CONNECTIONS", "7"),
        ])
    };
    let files = Files::new(&[("zeo.conf", CONF)]);
    let from_file = files.load_with("zeo.conf", &overrides).unwrap();
    let address = "8100".parse().unwrap();
    let alone = Loaded::arguments(&address, &["x.fs".into()], &overrides, &|_| None);
    for config in [from_file, alone.unwrap().config] {
        assert_eq!(config.zeo.address.to_string(), ":9000");
        assert_eq!(config.zeod.max_connections, 7);
        let StorageConfig::File(storage) = &config.storages[0].storage else {
            panic!("not a file storage");
        };
        assert_eq!(storage.path, Path::new("e.fs"));
    }
}

#[test]
fn variables_add_to_storages_of_the_command_line() {
    let overrides = Overrides {
        files: vec!["a.fs".into(), "b.fs".into()],
        ..overrides(&[("ZEOD_STORAGE_2_BLOB_DIR", "blobs")])
    };
    let address = "8100".parse().unwrap();
    let loaded = Loaded::arguments(&address, &overrides.files, &overrides, &|_| None);
    let storages = loaded.unwrap().config.storages;
    let blob_dirs: Vec<_> = storages
        .iter()
        .map(|one| match &one.storage {
            StorageConfig::File(file) => file.blob_dir.as_deref(),
            other => panic!("not a file storage: {other:?}"),
        })
        .collect();
    assert_eq!(blob_dirs, [None, Some(Path::new("blobs"))]);
}

#[test]
fn what_sets_nothing_is_warned_about() {
    let config = config_with(&[
        ("ZEOD_BENCH_BINARY", "x"),
        ("ZEOD_BINARY", "x"),
        ("ZEOD_LOG", "debug"),
        ("ZEOD_SOMETHING_ELSE", "x"),
        ("ZEOD_STATUS_ADDRESS", "x"),
        ("ZEOD_STORAGE_2_PATH", "x"),
        ("ZEOD_ZEO_ADRESS", "x"),
    ]);
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "environment variable ZEOD_SOMETHING_ELSE: it sets nothing; variables are named \
             ZEOD_SECTION_KEY, as ZEOD_ZEO_ADDRESS",
            "environment variable ZEOD_STATUS_ADDRESS: it sets nothing; did you mean \
             ZEOD_ZEOD_STATUS_ADDRESS?",
            "environment variable ZEOD_STORAGE_2_PATH: it sets nothing; did you mean \
             ZEOD_STORAGE_1_PATH?",
            "environment variable ZEOD_ZEO_ADRESS: it sets nothing; did you mean ZEOD_ZEO_ADDRESS?",
        ]
    );
}

#[test]
fn a_conversion_points_at_values_of_the_environment() {
    let text = "<zeo>\naddress $(ZEO_PORT)\n</zeo>\n<filestorage 1>\npath $$(x\npacker a.b\n</filestorage>\n";
    let files = Files::new(&[("zeo.conf", text)]);
    let environment = files.environment();
    let path = files.path("zeo.conf");
    let loaded = Loaded::file(&path, &Overrides::default(), &environment).unwrap();
    assert_eq!(
        loaded.to_toml("Two\nlines."),
        "# Two\n# lines.\n\n[zeo]\n\
         # From the environment when this was written; ZEOD_ZEO_ADDRESS takes its place.\n\
         address = \":8123\"\n\n[storage.1]\npath = \"$(x\"\n\
         # \"packer\" names a Python packer, which cannot be called here; this server packs by itself\n\
         packer = \"a.b\"\n"
    );
}
