//! zeod.toml: what it says, and that it means what zeo.conf means.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::Files;
use crate::config::{Config, LogHandler, StorageConfig, load};

fn config_of(text: &str) -> Config {
    let files = Files::new(&[("zeod.toml", text)]);
    files
        .load("zeod.toml")
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The two languages, apart from where they stand.
fn assert_same(conf: &str, toml: &str) {
    let files = Files::new(&[("zeo.conf", conf), ("zeod.toml", toml)]);
    let expected = files.load("zeo.conf").unwrap();
    let mut found = files.load("zeod.toml").unwrap();
    assert_eq!(found.warnings.len(), expected.warnings.len());
    found.source.clone_from(&expected.source);
    found.warnings.clone_from(&expected.warnings);
    assert_eq!(found, expected, "{conf}{toml}");
}

#[test]
fn every_key_of_the_server() {
    assert_same(
        "<zeo>\naddress [::1]:8100\nread-only on\ninvalidation-queue-size 5\ninvalidation-age 2.5\n\
         transaction-timeout 90\npid-filename ~/zeo.pid\nclient-conflict-resolution off\nmsgpack yes\n\
         monitor-address 8101\n<ssl>\ncertificate c.pem\nkey k.pem\nauthenticate -\n\
         </ssl>\n</zeo>\n<filestorage Main>\npath Data.fs\nblob-dir blobs\ncreate yes\nread-only no\n\
         quota 3KB\npacker a.b\npack-gc no\npack-keep-old no\n</filestorage>\n\
         <zeod>\nstatus-address localhost:8102\nuser zeo:zope\nmax-connections 10\nmax-message-size 64MB\n\
         max-transaction-size 2GB\nmax-unsent 1000\nmemory-budget 512MB\nstall-time 30s\n\
         keepalive-time 0\nshutdown-time 1m\nkey-password-file pw\n\
         <access main>\nread-write CN=a,O=b\nread-write CN=b\nread-only c\n</access>\n</zeod>\n",
        "[zeo]\naddress = \"[::1]:8100\"\nread-only = true\ninvalidation-queue-size = 5\n\
         invalidation-age = 2.5\ntransaction-timeout = \"90s\"\npid-filename = \"~/zeo.pid\"\n\
         client-conflict-resolution = false\nmsgpack = true\nmonitor-address = 8101\n\
         ssl = { certificate = \"c.pem\", key = \"k.pem\", authenticate = \"SIGNED\" }\n\
         [storage.Main]\ntype = \"FileStorage\"\npath = \"Data.fs\"\nblob-dir = \"blobs\"\ncreate = true\n\
         read-only = false\nquota = 3_072\npacker = \"a.b\"\npack-gc = false\npack-keep-old = false\n\
         [zeod]\nstatus-address = \"localhost:8102\"\nuser = \"zeo:zope\"\nmax-connections = 0xA\n\
         max-message-size = \"64MB\"\nmax-transaction-size = \"2 gb\"\nmax-unsent = 1000\n\
         memory-budget = 536870912\nstall-time = 30.0\nkeepalive-time = 0\nshutdown-time = \"1m\"\n\
         key-password-file = \"pw\"\n\
         access.main = { read-write = [\"CN=a,O=b\", \"CN=b\"], read-only = \"c\" }\n",
    );
}

#[test]
fn storages_in_storages() {
    assert_same(
        "<zeo>\naddress 8100\n</zeo>\n\
         <demostorage trial>\nname x\n<blobstorage base>\nblob-dir b\n<mappingstorage>\nname m\n\
         </mappingstorage>\n</blobstorage>\n<filestorage changes>\npath c.fs\n</filestorage>\n\
         </demostorage>\n<demostorage a.b/>\n<mappingstorage 1/>\n",
        "[zeo]\naddress = 8100\n\
         [storage.trial]\ntype = \"demostorage\"\nname = \"x\"\n\
         [storage.trial.changes]\npath = \"c.fs\"\n\
         [storage.trial.base]\ntype = \"blobstorage\"\nblob-dir = \"b\"\n\
         base = { type = \"mappingstorage\", name = \"m\" }\n\
         [storage.\"a.b\"]\ntype = \"demostorage\"\n\
         [storage.1]\ntype = \"mappingstorage\"\n",
    );
}

#[test]
fn every_log_handler_in_the_order_of_the_file() {
    assert_same(
        "<zeo>\naddress 1\n</zeo>\n<mappingstorage/>\n<eventlog>\nlevel warn\n\
         <logfile>\npath x.log\nlevel 35\nformat a\\n%(message)s\ndateformat %H\nold-files 2\nwhen w6\n\
         interval 4\nencoding utf-8\ndelay on\n</logfile>\n\
         <syslog>\naddress /dev/log\nfacility local1\n</syslog>\n\
         <logfile>\npath STDERR\nformat $${message}\nstyle template\n</logfile>\n\
         <logfile>\npath y.log\nmax-size 5MB\nold-files 3\n</logfile>\n\
         <email-notifier>\nfrom a\nto b\nto c\n</email-notifier>\n</eventlog>\n",
        "[zeo]\naddress = 1\n[storage.1]\ntype = \"mappingstorage\"\n[eventlog]\nlevel = \"warn\"\n\
         [[eventlog.logfile]]\npath = \"x.log\"\nlevel = 35\nformat = \"a\\n%(message)s\"\n\
         dateformat = \"%H\"\nold-files = 2\nwhen = \"W6\"\ninterval = 4\nencoding = \"utf-8\"\ndelay = true\n\
         [eventlog.syslog]\naddress = \"/dev/log\"\nfacility = \"LOCAL1\"\n\
         [[eventlog.logfile]]\npath = \"STDERR\"\nformat = \"${message}\"\nstyle = \"template\"\n\
         [[eventlog.logfile]]\npath = \"y.log\"\nmax-size = \"5MB\"\nold-files = 3\n\
         [eventlog.email-notifier]\nfrom = \"a\"\nto = [\"b\", \"c\"]\n",
    );
}

#[test]
fn a_backslash_in_a_layout_is_tomls_own() {
    let config = config_of(
        "[zeo]\naddress = 1\n[storage.1]\n path = \"x\"\n[eventlog.logfile]\npath = \"l\"\n\
         format = 'a\\n%(message)s'\n",
    );
    let handlers = config.eventlog.unwrap().handlers;
    let [LogHandler::File(file)] = handlers.as_slice() else {
        panic!("{handlers:?}");
    };
    assert_eq!(file.format.as_deref(), Some("a\\n%(message)s"));
}

#[test]
fn times_may_have_units_and_fractions() {
    for (text, age, timeout) in [
        ("\"1h\"", 3600.0, 3600.0),
        ("90", 90.0, 90.0),
        ("1.5", 1.5, 1.5),
    ] {
        let config = config_of(&format!(
            "[zeo]\naddress = 1\ninvalidation-age = {text}\ntransaction-timeout = {text}\n\
             [storage.1]\npath = \"x\"\n"
        ));
        let seconds = |time: Option<Duration>| time.unwrap().as_secs_f64();
        assert!((seconds(config.zeo.invalidation_age) - age).abs() < 1e-9);
        assert!((seconds(config.zeo.transaction_timeout) - timeout).abs() < 1e-9);
    }
}

#[test]
fn a_storage_is_a_filestorage_unless_it_says_otherwise() {
    let config = config_of("zeo.address = 1\nstorage.main.path = '~/Data.fs'\n");
    assert_eq!(config.storages[0].name, "main");
    let StorageConfig::File(storage) = &config.storages[0].storage else {
        panic!("not a file storage");
    };
    assert!(storage.path.is_absolute());
}

/// `$` is nothing special in TOML.
#[test]
fn nothing_is_substituted() {
    let config = config_of("zeo.address = 1\nstorage.1.path = '$(TMP)$x'\n");
    let StorageConfig::File(storage) = &config.storages[0].storage else {
        panic!("not a file storage");
    };
    assert_eq!(storage.path, Path::new("$(TMP)$x"));
}

#[test]
fn the_examples_mean_the_same() {
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc");
    let conf = load(&etc.join("zeo.conf"), &|_| None).unwrap();
    let mut toml = load(&etc.join("zeod.toml"), &|_| None).unwrap();
    assert_eq!((&conf.warnings, &toml.warnings), (&vec![], &vec![]));
    toml.source.clone_from(&conf.source);
    assert_eq!(toml, conf);
}

/// Each line that is commented out in an example is right when it is not.
#[test]
fn the_examples_are_right_in_their_comments_too() {
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc");
    for name in ["zeo.conf", "zeod.toml"] {
        let text = std::fs::read_to_string(etc.join(name)).unwrap();
        let mut count = 0;
        for (number, line) in text.lines().enumerate() {
            let Some(key) = line.trim_start().strip_prefix("# ") else {
                continue;
            };
            let is_key = match name {
                "zeo.conf" => key.split(' ').count() == 2 && !key.ends_with('.'),
                _ => key.contains(" = "),
            };
            if !is_key {
                continue;
            }
            count += 1;
            let changed: Vec<&str> = text
                .lines()
                .enumerate()
                .map(|(at, other)| if at == number { key } else { other })
                .collect();
            let files = Files::new(&[(name, &changed.join("\n"))]);
            files.load(name).unwrap_or_else(|error| panic!("{error}"));
        }
        assert!(count > 10, "{name}: {count} keys are commented out");
    }
}

const PIECES: &[&str] = &[
    "[zeo]\n",
    "address = 8100\n",
    "[storage.1]\n",
    "[storage",
    ".",
    "1",
    "]",
    "\n",
    "\n",
    "path = ",
    "\"x\"",
    "type = ",
    "\"demostorage\"",
    "\"blobstorage\"",
    "base",
    "changes",
    " = ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "[[eventlog.logfile]]\n",
    "[eventlog]\n",
    "format",
    "'%(message)s'",
    "1.5",
    "true",
    "é",
    "ssl",
    "[zeod]\n",
    "access",
    "read-write",
    "nan",
    "1979-05-27",
    "-1",
    "99999999999999999999",
    "#",
    "'''",
    "\\",
    "max-unsent",
    "\"1MB\"",
];

proptest! {
    #[test]
    fn nearly_toml_never_panics(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60)
    ) {
        let files = Files::new(&[("zeod.toml", &pieces.concat())]);
        match files.load("zeod.toml") {
            Ok(config) => assert!(!config.storages.is_empty()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
