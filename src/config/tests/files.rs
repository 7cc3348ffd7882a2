//! Files such as the usual generators and manuals write, in our own words, and
//! what they mean.

use std::path::Path;
use std::time::Duration;

use super::{Files, config_of, ends_with};
use crate::config::{
    Address, Config, EventLog, FileStorageConfig, LogFile, LogHandler, LogLevel, LogStyle,
    LogTarget, NamedStorage, OtherHandler, Rotation, RotationTime, SslAuthentication,
    StorageConfig, Syslog,
};

fn file(config: &Config, at: usize) -> &FileStorageConfig {
    match &config.storages[at].storage {
        StorageConfig::File(storage) => storage,
        other => panic!("not a file storage: {other:?}"),
    }
}

fn names(config: &Config) -> Vec<&str> {
    let names = config.storages.iter().map(|storage| storage.name.as_str());
    names.collect()
}

/// As the instance generator of the Python server writes it.
#[test]
fn a_generated_instance() {
    let files = Files::new(&[
        (
            "etc/zeo.conf",
            "\n%define INSTANCE $(TMP)\n\n\
             <zeo>\n  address 9999\n  read-only false\n  invalidation-queue-size 100\n</zeo>\n\n\
             <filestorage 1>\n  path $INSTANCE/var/Data.fs\n  blob-dir $INSTANCE/var/blobs\n</filestorage>\n\n\
             <eventlog>\n  level info\n  <logfile>\n    path $INSTANCE/log/zeo.log\n  </logfile>\n</eventlog>\n\n\
             <runner>\n  program $INSTANCE/bin/runzeo\n  daemon true\n  exit-codes 0, 2\n\
             python /no/such/python\n\n  logfile $INSTANCE/log/zeo.log\n</runner>\n",
        ),
        ("var/.keep", ""),
    ]);
    let config = files.load("etc/zeo.conf").unwrap();
    assert_eq!(config.source, files.path("etc/zeo.conf"));
    assert_eq!(
        config.zeo.address,
        Address::Tcp {
            host: None,
            port: 9999
        }
    );
    assert!(!config.zeo.read_only);
    assert_eq!(config.zeo.invalidation_queue_size, 100);
    assert_eq!(config.zeo.client_conflict_resolution, None);
    assert_eq!(config.zeo.msgpack, None);
    assert_eq!(config.zeo.ssl, None);
    let mut storage = FileStorageConfig::new(files.path("var/Data.fs"));
    storage.blob_dir = Some(files.path("var/blobs"));
    let storage = StorageConfig::File(storage);
    let name = "1".to_owned();
    assert_eq!(config.storages, [NamedStorage { name, storage }]);
    let handler = LogFile {
        path: LogTarget::File(files.path("log/zeo.log")),
        level: LogLevel::NotSet,
        format: None,
        date_format: None,
        style: LogStyle::Classic,
        rotation: None,
        encoding: None,
        delay: false,
    };
    let eventlog = EventLog {
        level: LogLevel::Info,
        handlers: vec![LogHandler::File(handler)],
    };
    assert_eq!(config.eventlog, Some(eventlog));
    assert_eq!(config.warnings, []);
}

/// As a buildout recipe writes it with every option that it has.
#[test]
fn a_file_with_two_storages_around_the_runner() {
    let config = config_of(
        "%define INSTANCE $(TMP)\n\n<zeo>\n  address 127.0.0.1:8200\n  read-only true\n\
         invalidation-queue-size 2000\n  pid-filename $INSTANCE/full.pid\n  \n  \n</zeo>\n\n\
         <filestorage main>\n  path $INSTANCE/Other.fs\n  blob-dir $INSTANCE/blobs-other\n\
         pack-gc false\n  pack-keep-old false\n</filestorage>\n\n\
         <eventlog>\n  level debug\n  <logfile>\n      path $INSTANCE/log/full.log\n\
         format %(asctime)s %(levelname)s %(message)s\n      max-size 5 MB\n      old-files 3\n\
         </logfile>\n</eventlog>\n\n\
         <runner>\n  program $INSTANCE/bin/runzeo\n  user zope\n</runner>\n\n\
         <filestorage temp>\n  path $INSTANCE/temp.fs\n</filestorage>\n",
    );
    assert!(config.zeo.read_only);
    assert_eq!(config.zeo.invalidation_queue_size, 2000);
    assert!(ends_with(
        config.zeo.pid_filename.as_ref().unwrap(),
        "/full.pid"
    ));
    assert_eq!(names(&config), ["main", "temp"]);
    assert!(!file(&config, 0).pack_gc && !file(&config, 0).pack_keep_old);
    assert!(file(&config, 1).pack_gc && file(&config, 1).pack_keep_old);
    let eventlog = config.eventlog.unwrap();
    assert_eq!(eventlog.level, LogLevel::Debug);
    let [LogHandler::File(logfile)] = &eventlog.handlers[..] else {
        panic!("not one log file");
    };
    assert_eq!(
        logfile.rotation,
        Some(Rotation::Size {
            max_size_bytes: 5 << 20,
            old_files: 3
        })
    );
    assert_eq!(
        logfile.format.as_deref(),
        Some("%(asctime)s %(levelname)s %(message)s")
    );
}

#[test]
fn a_socket_in_the_file_system_and_a_log_daemon() {
    let config = config_of(
        "<zeo>\n  address $(TMP)/zeo.sock\n</zeo>\n\n<filestorage 1>\n  path Data.fs\n</filestorage>\n\n\
         <eventlog>\n  level info\n  <syslog>\n  address localhost:514\n  facility LOCAL1\n\
         format zeo: %(message)s\n</syslog>\n</eventlog>\n",
    );
    assert!(matches!(&config.zeo.address, Address::Unix(path) if ends_with(path, "/zeo.sock")));
    let syslog = Syslog {
        address: "localhost:514".parse().unwrap(),
        facility: "local1".to_owned(),
        level: LogLevel::NotSet,
        format: Some("zeo: %(message)s".to_owned()),
        date_format: None,
        style: LogStyle::Classic,
    };
    assert_eq!(
        config.eventlog.unwrap().handlers,
        [LogHandler::Syslog(syslog)]
    );
}

/// As the manuals show it, comments included.
#[test]
fn one_server_with_two_databases() {
    let config = config_of(
        "%define INSTANCE $(TMP)\n<zeo>\n  address 8800\n  read-only false\n\
         # pid-filename $INSTANCE/var/ZEO.pid\n  # monitor-address PORT\n\
         # transaction-timeout SECONDS\n</zeo>\n\
         <filestorage 1>\n  path $INSTANCE/Data1.fs\n</filestorage>\n\
         <filestorage 2>\n  path $INSTANCE/Data2.fs\n</filestorage 2>\n",
    );
    assert_eq!(names(&config), ["1", "2"]);
    assert!(ends_with(&file(&config, 1).path, "/Data2.fs"));
    assert_eq!(config.zeo.transaction_timeout, None);
    assert_eq!(config.warnings.len(), 1);
}

/// As container images write it: what differs comes from the environment.
#[test]
fn values_from_the_environment() {
    let config = config_of(
        "%define DATA_DIR $(TMP)\n<zeo>\n  address 127.0.0.1:$(ZEO_PORT)\n\
         read-only $(ZEO_READ_ONLY)\n</zeo>\n\
         <filestorage 1>\n  path $DATA_DIR/Data.fs\n</filestorage>\n",
    );
    assert_eq!(config.zeo.address.to_string(), "127.0.0.1:8123");
    assert!(!config.zeo.read_only);
}

#[test]
fn storages_in_storages() {
    let config = config_of(
        "<zeo>\n  address 127.0.0.1:8100\n  transaction-timeout 300\n</zeo>\n\
         <blobstorage 1>\n  blob-dir /srv/blobs\n  <filestorage>\n    path Data.fs\n  </filestorage>\n\
         </blobstorage>\n\
         <demostorage 2>\n  name trial\n  <filestorage base>\n  path Base.fs\n  read-only on\n\
         </filestorage>\n  <mappingstorage CHANGES>\n  name volatile\n  </mappingstorage>\n\
         </demostorage>\n<demostorage 3/>\n",
    );
    assert_eq!(config.zeo.transaction_timeout, Some(Duration::from_mins(5)));
    let blobs = StorageConfig::Blob {
        blob_dir: "/srv/blobs".into(),
        base: Box::new(StorageConfig::File(FileStorageConfig::new(
            "Data.fs".into(),
        ))),
    };
    let mut base = FileStorageConfig::new("Base.fs".into());
    base.read_only = true;
    let trial = StorageConfig::Demo {
        name: Some("trial".to_owned()),
        base: Some(Box::new(StorageConfig::File(base))),
        changes: Some(Box::new(StorageConfig::Mapping {
            name: "volatile".to_owned(),
        })),
    };
    let empty = StorageConfig::Demo {
        name: None,
        base: None,
        changes: None,
    };
    let storages: Vec<_> = config.storages.into_iter().map(|one| one.storage).collect();
    assert_eq!(storages, [blobs, trial, empty]);
}

/// Every key of the table, so that each is read as what it is there.
#[test]
fn every_key() {
    let config = config_of(
        "<zeo>\naddress [::1]:8100\nread-only on\ninvalidation-queue-size 5\ninvalidation-age 2.5\n\
         transaction-timeout 9\npid-filename zeo.pid\nclient-conflict-resolution off\nmsgpack yes\n\
         monitor-address 8101\n<ssl>\ncertificate c.pem\nkey k.pem\npassword-function a.b\n\
         authenticate ca\n</ssl>\n</zeo>\n\
         <filestorage>\npath Data.fs\nblob-dir blobs\ncreate yes\nread-only no\nquota 3KB\n\
         packer a.b\npack-gc no\npack-keep-old no\n</filestorage>\n",
    );
    let zeo = &config.zeo;
    assert_eq!(zeo.address.to_string(), "[::1]:8100");
    assert_eq!((zeo.read_only, zeo.invalidation_queue_size), (true, 5));
    assert_eq!(zeo.invalidation_age, Some(Duration::from_millis(2500)));
    assert_eq!(zeo.transaction_timeout, Some(Duration::from_secs(9)));
    assert_eq!(zeo.pid_filename.as_deref(), Some(Path::new("zeo.pid")));
    assert_eq!(zeo.client_conflict_resolution, Some(false));
    assert_eq!(zeo.msgpack, Some(true));
    assert_eq!(zeo.monitor_address, Some("8101".parse().unwrap()));
    let ssl = zeo.ssl.as_ref().unwrap();
    assert_eq!(ssl.certificate, Path::new("c.pem"));
    assert_eq!(ssl.key.as_deref(), Some(Path::new("k.pem")));
    assert_eq!(ssl.password_function.as_deref(), Some("a.b"));
    assert_eq!(
        ssl.authenticate,
        SslAuthentication::Certificates("ca".into())
    );
    let storage = FileStorageConfig {
        path: "Data.fs".into(),
        blob_dir: Some("blobs".into()),
        create: true,
        read_only: false,
        quota_bytes: Some(3072),
        pack_gc: false,
        pack_keep_old: false,
        packer: Some("a.b".to_owned()),
    };
    assert_eq!(file(&config, 0), &storage);
    assert_eq!(config.storages[0].name, "1");
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn every_log_handler() {
    let config = config_of(
        "<zeo>\naddress 1\n</zeo>\n<mappingstorage/>\n<eventlog>\n\
         <logfile a>\npath x.log\nlevel WARN\nformat a\\n%(message)s\ndateformat %H\n\
         style classic\narbitrary-fields no\nold-files 2\nwhen w6\ninterval 4\nencoding utf-8\ndelay on\n\
         formatter a.b\n</logfile>\n\
         <logfile>\npath STDERR\nformat\nstyle template\n</logfile>\n\
         <syslog>\naddress /dev/log\nlevel 35\n</syslog>\n\
         <win32-eventlog>\nappname x\n</win32-eventlog>\n\
         <http-logger>\nurl http://localhost/log\nmethod post\n</http-logger>\n\
         <email-notifier>\nfrom a@b\nto c@d\nto e@f\nsubject x\nsmtp-server mail\n\
         smtp-username u\nsmtp-password p\nlevel fatal\n</email-notifier>\n</eventlog>\n",
    );
    let eventlog = config.eventlog.unwrap();
    assert_eq!(eventlog.level, LogLevel::Info);
    let file = LogFile {
        path: LogTarget::File("x.log".into()),
        level: LogLevel::Warn,
        format: Some("a\n%(message)s".to_owned()),
        date_format: Some("%H".to_owned()),
        style: LogStyle::Classic,
        rotation: Some(Rotation::Time {
            when: RotationTime::Weekday(6),
            interval: 4,
            old_files: 2,
        }),
        encoding: Some("utf-8".to_owned()),
        delay: true,
    };
    let stream = LogFile {
        path: LogTarget::Stderr,
        level: LogLevel::NotSet,
        format: Some(String::new()),
        date_format: None,
        style: LogStyle::Template,
        rotation: None,
        encoding: None,
        delay: false,
    };
    let syslog = Syslog {
        address: Address::Unix("/dev/log".into()),
        facility: "user".to_owned(),
        level: LogLevel::Number(35),
        format: None,
        date_format: None,
        style: LogStyle::Classic,
    };
    let other = |kind: &str, level| {
        LogHandler::Other(OtherHandler {
            kind: kind.to_owned(),
            level,
        })
    };
    assert_eq!(
        eventlog.handlers,
        [
            LogHandler::File(file),
            LogHandler::File(stream),
            LogHandler::Syslog(syslog),
            other("win32-eventlog", LogLevel::NotSet),
            other("http-logger", LogLevel::NotSet),
            other("email-notifier", LogLevel::Critical),
        ]
    );
    assert_eq!(config.warnings.len(), 4);
}

#[test]
fn signed_client_certificates() {
    for word in ["-", "SIGNED"] {
        let config = config_of(&format!(
            "<zeo>\naddress 1\n<ssl>\ncertificate c\nauthenticate {word}\n</ssl>\n</zeo>\n\
             <mappingstorage/>"
        ));
        let authenticate = config.zeo.ssl.unwrap().authenticate;
        assert_eq!(authenticate, SslAuthentication::Signed);
    }
}

/// Parts of a Zope client's configuration, given to the server by mistake.
#[test]
fn a_client_configuration_is_refused_by_name() {
    let found = super::message_of(
        "<zodb 1>\n  <zeoclient>\n    server localhost:8800\n    storage 1\n  </zeoclient>\n</zodb>\n",
    );
    assert!(
        found.starts_with(
            "zeo.conf:1: <zodb 1> cannot stand at the top of the file (it belongs in the clients' zope.conf; this"
        ),
        "{found}"
    );
}
