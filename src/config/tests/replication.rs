//! The `<replication>` section.

use std::path::Path;
use std::time::Duration;

use super::{Files, config_of, message_of};
use crate::config::{
    Config, DEFAULT_ELECTION_TIMEOUT, DEFAULT_HEARTBEAT_INTERVAL, DEFAULT_LOG_SIZE_BYTES,
    DEFAULT_QUORUM_WAIT, DEFAULT_REGISTER_WAIT, Loaded, Overrides, Peer, ReplicationSection,
    ReplicationTls, load,
};

/// A server with the lines in its `<replication>`.
fn conf(lines: &str) -> String {
    conf_with("<filestorage 1>\n path Data.fs\n</filestorage>", lines)
}

fn conf_with(storages: &str, lines: &str) -> String {
    format!(
        "<zeo>\n address 127.0.0.1:8100\n</zeo>\n{storages}\n<zeod>\n<replication>\n{lines}\n\
         </replication>\n</zeod>\n"
    )
}

const LEAST: &str = "node-id 1\naddress 127.0.0.1:8101\ndirectory raft\n";

fn section(config: Config) -> ReplicationSection {
    config.zeod.replication.unwrap()
}

#[test]
fn a_server_alone_has_none() {
    let config = config_of("<zeo>\n address 1\n</zeo>\n<mappingstorage/>\n<zeod>\n</zeod>\n");
    assert_eq!(config.zeod.replication, None);
}

#[test]
fn what_is_not_set_has_its_default() {
    let config = config_of(&conf(LEAST));
    assert_eq!(config.warnings, []);
    assert_eq!(
        section(config),
        ReplicationSection {
            node_id: 1,
            address: "127.0.0.1:8101".parse().unwrap(),
            directory: "raft".into(),
            peers: Vec::new(),
            tls: None,
            heartbeat_interval: DEFAULT_HEARTBEAT_INTERVAL,
            election_timeout: DEFAULT_ELECTION_TIMEOUT,
            register_wait: DEFAULT_REGISTER_WAIT,
            quorum_wait: DEFAULT_QUORUM_WAIT,
            catch_up_bytes_per_second: None,
            log_size_bytes: DEFAULT_LOG_SIZE_BYTES,
            apply_delay: Duration::ZERO,
        }
    );
}

const EVERYTHING: &str = "node-id 4294967295\naddress db1.example.org:8101\n\
     directory raft\npeer 2 10.0.0.2:8101\npeer 3\t[fd00::3]:8101\n\
     peer 4294967295 DB1.example.org:8101\ncertificate n.pem\nkey n.key\nauthority ca.pem\n\
     heartbeat-interval 150ms\nelection-timeout 600ms\nregister-wait 15s\nquorum-wait 2500ms\n\
     catch-up-rate 50MB\nlog-size 4GB\napply-delay 1h\n";

fn everything() -> ReplicationSection {
    let peer = |node_id, address: &str| Peer {
        node_id,
        address: address.parse().unwrap(),
    };
    ReplicationSection {
        node_id: 4_294_967_295,
        address: "db1.example.org:8101".parse().unwrap(),
        directory: "raft".into(),
        peers: vec![peer(2, "10.0.0.2:8101"), peer(3, "[fd00::3]:8101")],
        tls: Some(ReplicationTls {
            certificate: "n.pem".into(),
            key: "n.key".into(),
            authority: "ca.pem".into(),
        }),
        heartbeat_interval: Duration::from_millis(150),
        election_timeout: Duration::from_millis(600),
        register_wait: Duration::from_secs(15),
        quorum_wait: Duration::from_millis(2500),
        catch_up_bytes_per_second: Some(50 << 20),
        log_size_bytes: 4 << 30,
        apply_delay: Duration::from_hours(1),
    }
}

#[test]
fn every_key_in_zeo_conf() {
    let config = config_of(&conf(EVERYTHING));
    assert_eq!(config.warnings, []);
    assert_eq!(section(config), everything());
}

#[test]
fn a_conversion_keeps_milliseconds() {
    let files = Files::new(&[("zeo.conf", &conf(EVERYTHING))]);
    let path = files.path("zeo.conf");
    let loaded = Loaded::file(&path, &Overrides::default(), &|_| None).unwrap();
    let text = loaded.to_toml("");
    for line in [
        "heartbeat-interval = \"150ms\"",
        "quorum-wait = \"2500ms\"",
        "register-wait = \"15s\"",
        "apply-delay = \"1h\"",
        "peer = [\"2 10.0.0.2:8101\", \"3 [fd00::3]:8101\", \"4294967295 db1.example.org:8101\"]",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn every_key_in_toml() {
    let files = Files::new(&[(
        "zeod.toml",
        "[zeo]\naddress = 8100\n[storage.1]\npath = \"Data.fs\"\n[zeod.replication]\n\
         node-id = 4294967295\naddress = \"db1.example.org:8101\"\ndirectory = \"raft\"\n\
         peer = [\"2 10.0.0.2:8101\", \"3 [fd00::3]:8101\", \"4294967295 db1.example.org:8101\"]\n\
         certificate = \"n.pem\"\nkey = \"n.key\"\nauthority = \"ca.pem\"\n\
         heartbeat-interval = 0.15\nelection-timeout = \"600ms\"\nregister-wait = 15\n\
         quorum-wait = 2.5\ncatch-up-rate = \"50MB\"\nlog-size = \"4GB\"\napply-delay = \"1h\"\n",
    )]);
    let config = files
        .load("zeod.toml")
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(section(config), everything());
}

#[test]
fn every_key_in_variables() {
    let variables = [
        ("NODE_ID", "4294967295"),
        ("ADDRESS", "db1.example.org:8101"),
        ("DIRECTORY", "raft"),
        (
            "PEER",
            "2 10.0.0.2:8101, 3 [fd00::3]:8101,4294967295 db1.example.org:8101",
        ),
        ("CERTIFICATE", "n.pem"),
        ("KEY", "n.key"),
        ("AUTHORITY", "ca.pem"),
        ("HEARTBEAT_INTERVAL", "150ms"),
        ("ELECTION_TIMEOUT", "600ms"),
        ("REGISTER_WAIT", "15s"),
        ("QUORUM_WAIT", "2500ms"),
        ("CATCH_UP_RATE", "50MB"),
        ("LOG_SIZE", "4GB"),
        ("APPLY_DELAY", "1h"),
    ];
    let overrides = Overrides {
        variables: variables
            .iter()
            .map(|(name, value)| (format!("ZEOD_ZEOD_REPLICATION_{name}"), (*value).to_owned()))
            .collect(),
        ..Overrides::default()
    };
    let alone = "<zeo>\n address 8100\n</zeo>\n<filestorage 1>\n path Data.fs\n</filestorage>\n";
    for text in [alone.to_owned(), conf(&format!("{LEAST}peer 9 h:9\n"))] {
        let files = Files::new(&[("zeo.conf", &text)]);
        let config = files
            .load_with("zeo.conf", &overrides)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.warnings, []);
        assert_eq!(section(config), everything());
    }
}

#[test]
fn a_port_that_the_system_chooses_is_warned_about() {
    let config = config_of(&conf(&LEAST.replace("8101", "0")));
    let [warning] = config.warnings.as_slice() else {
        panic!("{:?}", config.warnings);
    };
    assert!(warning.message.contains("port 0"), "{warning}");
}

#[test]
fn nodes_without_tls_are_warned_about_where_others_reach_them() {
    let warned = |lines: &str| {
        let warnings = config_of(&conf(lines)).warnings;
        let messages = warnings.iter().map(|warning| warning.message.clone());
        messages.collect::<Vec<_>>().join("\n")
    };
    let local = "node-id 1\naddress localhost:8101\ndirectory raft\npeer 2 127.0.0.2:8101\n\
                 peer 3 [::1]:8103\n";
    assert_eq!(warned(local), "");
    let one_outside = format!("{local}peer 4 192.168.0.4:8101\n");
    let message = warned(&one_outside);
    assert!(message.starts_with("nodes talk without encryption"));
    assert!(message.contains("192.168.0.4:8101"), "{message}");
    let encrypted = format!("{one_outside}certificate c\nkey k\nauthority a\n");
    assert_eq!(warned(&encrypted), "");
}

#[test]
fn the_nodes_key_may_have_a_password() {
    let with_password = |lines: &str| {
        let text = conf(&format!("{LEAST}{lines}"));
        text.replace("</zeod>", "key-password-file pw\n</zeod>")
    };
    let config = config_of(&with_password("certificate c\nkey k\nauthority a\n"));
    assert_eq!(
        config.zeod.key_password_file.as_deref(),
        Some(Path::new("pw"))
    );
    let found = message_of(&with_password(""));
    assert!(found.contains("needs an <ssl> section"), "{found}");
}

#[test]
fn what_cannot_be_is_refused_where_it_stands() {
    for (lines, line, message) in [
        ("node-id 0", 9, "the node id 0 is not allowed"),
        ("node-id 4294967296", 9, "the node id 4294967296 is not"),
        ("address 127.0.0.1", 10, "it names no port"),
        ("address 8101", 10, "it names no host"),
        ("address 0.0.0.0:8101", 10, "every address of a machine"),
        ("address [::]:8101", 10, "every address of a machine"),
        ("address /run/raft", 10, "a path is no address"),
        ("address 127.0.0.1:8100", 10, "choose another port"),
        ("peer 2", 12, "not an id and an address"),
        ("peer two 10.0.0.2:8101", 12, "the id \"two\""),
        ("peer 0 10.0.0.2:8101", 12, "the node id 0 is not allowed"),
        ("peer 2 10.0.0.2", 12, "it names no port"),
        ("peer 2 10.0.0.2:0", 12, "nobody can be reached at port 0"),
        ("peer 1 10.0.0.2:8101", 12, "has this node's own id"),
        ("peer 2 127.0.0.1:8101", 12, "has this node's own address"),
        ("peer 2 h:1\npeer 2 i:1", 13, "two peers have the node id 2"),
        (
            "peer 2 h:1\npeer 3 H:1",
            13,
            "two peers have the address h:1",
        ),
        (
            "key n.key",
            8,
            "there is \"key\" and no \"certificate\" and \"authority\"",
        ),
        ("certificate a\nkey b", 8, "and no \"authority\""),
        ("heartbeat-interval 5ms", 12, "10ms or more"),
        ("heartbeat-interval 1s", 8, "must be 4s or more"),
        ("election-timeout 100ms", 12, "must be 400ms or more"),
        ("election-timeout 2m", 12, "60s or less"),
        ("quorum-wait 100ms", 12, "would turn clients away"),
        ("register-wait 1h", 12, "clients give up earlier"),
        ("log-size 1MB", 12, "64 MB or more"),
        ("catch-up-rate 1KB", 12, "or 0 for no limit"),
        ("apply-delay soon", 12, "followed by ms, s, m, h or d"),
    ] {
        let key = lines.split(' ').next().unwrap();
        let text = match key {
            "node-id" | "address" => {
                let kept = LEAST.lines().map(|other| {
                    let is_it = other.starts_with(key);
                    if is_it { lines } else { other }
                });
                kept.collect::<Vec<_>>().join("\n")
            }
            _ => format!("{LEAST}{lines}"),
        };
        let found = message_of(&conf(&text));
        assert!(found.contains(message), "{lines}: {found}");
        assert!(
            found.starts_with(&format!("zeo.conf:{line}: ")),
            "{lines}: {found}"
        );
    }
}

#[test]
fn only_storages_that_can_be_the_same_everywhere_are_replicated() {
    let file = |lines: &str| format!("<filestorage 1>\n path Data.fs\n{lines}</filestorage>");
    let blob = |inner: &str| format!("<blobstorage 1>\n blob-dir b\n{inner}\n</blobstorage>");
    for (storages, message) in [
        (
            "<mappingstorage 1/>".to_owned(),
            "gone when its server stops",
        ),
        ("<demostorage 1/>".to_owned(), "one server's alone"),
        (file("create true\n"), "empties it at each start"),
        (blob("<mappingstorage/>"), "gone when its server stops"),
        (
            format!("{}\n<demostorage trial/>", file("")),
            "storage \"trial\" cannot be replicated",
        ),
    ] {
        let found = message_of(&conf_with(&storages, LEAST));
        assert!(found.contains(message), "{storages}: {found}");
    }
    config_of(&conf_with(
        &blob("<filestorage>\n path d\n</filestorage>"),
        LEAST,
    ));
    // These keep the node's clients from writing, not the node.
    config_of(&conf(LEAST).replace("8100\n", "8100\n read-only true\n"));
    config_of(&conf_with(&file("read-only true\n"), LEAST));
}

#[test]
fn it_belongs_in_zeod() {
    let found = message_of("<zeo>\n address 1\n</zeo>\n<replication>\n</replication>\n");
    assert!(found.contains("(it belongs in <zeod>)"), "{found}");
    let files = Files::new(&[("zeod.toml", "[replication]\nnode-id = 1\n")]);
    let found = files.load("zeod.toml").unwrap_err().to_string();
    assert!(found.contains("zeod.replication"), "{found}");
    let twice = conf(LEAST).replace("</zeod>", "<replication/>\n</zeod>");
    assert!(message_of(&twice).contains("only one is allowed"));
}

/// The example is one file for all hosts.
#[test]
fn the_example_fits_each_host() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/cluster/zeo.conf");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut peers = Vec::new();
    for (number, host) in [(1, "192.168.0.1"), (2, "192.168.0.2"), (3, "192.168.0.3")] {
        let text = text
            .replace("%define NODE 1", &format!("%define NODE {number}"))
            .replace("%define HOST 192.168.0.1", &format!("%define HOST {host}"));
        let directory = tempfile::tempdir().unwrap();
        let instance = directory.path().display().to_string();
        for name in ["etc", "var", "log"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let path = directory.path().join("etc/zeo.conf");
        std::fs::write(&path, text.replace("/srv/zeo", &instance)).unwrap();
        let config = load(&path, &|_| None).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.warnings, []);
        let loaded = Loaded::file(&path, &Overrides::default(), &|_| None).unwrap();
        assert!(loaded.to_toml("").contains("[zeod.replication]"));
        let section = section(config);
        assert_eq!(section.node_id, number);
        assert_eq!(section.address.to_string(), format!("{host}:8101"));
        peers.push(section.peers);
    }
    assert_eq!(peers.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
}
