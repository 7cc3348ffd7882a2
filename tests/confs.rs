//! Configurations as they are in use start servers with the storages, the address and the log that they name,
//! from zeo.conf and from its conversion to TOML.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic in a helper is a failed test"
)]

#[path = "support/raw_client.rs"]
mod raw_client;
#[path = "support/server_process.rs"]
mod server_process;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use raw_client::{PATIENCE, RawClient};
use server_process::ServerProcess;

/// What a file promises. Paths are below the directory in the place of `@DIR@`.
struct Expected {
    file: &'static str,
    /// The host, or the path of the socket.
    address: &'static str,
    /// Names and data files.
    storages: &'static [(&'static str, &'static str)],
    /// Directories of blobs.
    blobs: &'static [&'static str],
    log: Log,
    pid_file: Option<&'static str>,
}

enum Log {
    File(&'static str),
    Stderr,
    Syslog,
}

const DATA: &str = "var/filestorage/Data.fs";

const SERVERS: [Expected; 12] = [
    Expected {
        storages: &[("1", "var/Data1.fs")],
        ..everywhere("manual-first-server.conf")
    },
    Expected {
        storages: &[("2", "var/Data2.fs")],
        ..everywhere("manual-second-server.conf")
    },
    Expected {
        storages: &[("1", "var/Data1.fs"), ("2", "var/Data2.fs")],
        ..everywhere("manual-two-databases.conf")
    },
    Expected {
        blobs: &["var/blobs"],
        log: Log::File("log/zeo.log"),
        ..everywhere("mkzeoinstance-blobs.conf")
    },
    Expected {
        address: "localhost",
        blobs: &["blobs"],
        log: Log::File("log/zeo.log"),
        ..everywhere("mkzeoinstance-blobs2.conf")
    },
    Expected {
        address: "127.0.0.1",
        log: Log::File("log/zeo.log"),
        ..everywhere("mkzeoinstance-plain.conf")
    },
    Expected {
        address: "127.0.0.1",
        storages: &[("1", DATA)],
        blobs: &["var/blobstorage"],
        log: Log::File("var/log/zeo.log"),
        pid_file: Some("var/zeo.pid"),
        ..everywhere("own-docker.conf")
    },
    Expected {
        address: "127.0.0.1",
        storages: &[("1", DATA)],
        blobs: &["var/blobstorage"],
        log: Log::File("var/log/zeo.log"),
        ..everywhere("own-nested.conf")
    },
    Expected {
        storages: &[("1", DATA)],
        blobs: &["var/blobstorage"],
        log: Log::File("var/log/minimal.log"),
        pid_file: Some("var/minimal.pid"),
        ..everywhere("recipe-minimal.conf")
    },
    Expected {
        storages: &[("1", DATA)],
        log: Log::File("var/log/noblob.log"),
        pid_file: Some("var/noblob.pid"),
        ..everywhere("recipe-noblob.conf")
    },
    Expected {
        address: "var/zeo.sock",
        storages: &[("1", DATA)],
        blobs: &["var/blobstorage"],
        log: Log::Syslog,
        pid_file: Some("var/unixsocket.pid"),
        ..everywhere("recipe-unixsocket.conf")
    },
    // All its storages are read-only; then there is no process id, as in Python.
    Expected {
        address: "127.0.0.1",
        storages: &[
            ("main", "var/filestorage/Other.fs"),
            ("temp", "var/filestorage/temp.fs"),
        ],
        blobs: &["var/blobs-other"],
        log: Log::File("var/log/full.log"),
        ..everywhere("recipe-full.conf")
    },
];

/// Port alone, one database, no log.
const fn everywhere(file: &'static str) -> Expected {
    Expected {
        file,
        address: "",
        storages: &[("1", "var/Data.fs")],
        blobs: &[],
        log: Log::Stderr,
        pid_file: None,
    }
}

const CLIENTS: [&str; 3] = [
    "client-three-servers.conf",
    "client-two-databases.conf",
    "client-two-servers.conf",
];

fn confs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/confs")
}

fn zeod() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zeod"));
    command
        .env("ZEO_PORT", "0")
        .env("ZEO_READ_ONLY", "false")
        .env("ZEO_INVALIDATION_QUEUE_SIZE", "200")
        .env("ZEO_PACK_KEEP_OLD", "true")
        .env_remove("INSTANCE_HOME")
        .env_remove("ZEO_MSGPACK");
    command
}

/// An instance's directory with its zeo.conf, and where its syslog goes.
struct Instance {
    directory: tempfile::TempDir,
    syslog: UdpSocket,
}

impl Instance {
    fn new(file: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for below in ["etc", "var/filestorage", "var/log", "log"] {
            fs::create_dir_all(directory.path().join(below)).unwrap();
        }
        let syslog = UdpSocket::bind("127.0.0.1:0").unwrap();
        syslog.set_read_timeout(Some(PATIENCE)).unwrap();
        let text = fs::read_to_string(confs().join(file)).unwrap();
        let port = syslog.local_addr().unwrap().port();
        let text = text
            .replace("@DIR@", &directory.path().display().to_string())
            .replace("localhost:514", &format!("127.0.0.1:{port}"));
        fs::write(directory.path().join("etc/zeo.conf"), with_port_0(&text)).unwrap();
        Self { directory, syslog }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    fn convert(&self) {
        let output = zeod()
            .args(["config", "convert"])
            .arg(self.path("etc/zeo.conf"))
            .arg("-o")
            .arg(self.path("etc/zeod.toml"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn start(&self, configuration: &str) -> ServerProcess {
        let address_file = self.path("address");
        let _ = fs::remove_file(&address_file);
        let mut command = zeod();
        command
            .arg("-C")
            .arg(self.path(configuration))
            .arg("--address-file")
            .arg(&address_file)
            .current_dir(self.directory.path());
        ServerProcess::start(command, &address_file, &self.path("stderr")).unwrap()
    }
}

/// Only the port of the server's address, which stands first, is another: tests do not share one.
fn with_port_0(text: &str) -> String {
    let Some((before, rest)) = text.split_once("  address ") else {
        return text.to_owned();
    };
    let (address, after) = rest.split_once('\n').unwrap();
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let address = match address.rsplit_once(':') {
        Some((host, port)) if is_port(port) => format!("{host}:0"),
        None if is_port(address) => "0".to_owned(),
        _ => address.to_owned(),
    };
    format!("{before}  address {address}\n{after}")
}

#[test]
fn every_file_here_is_tried() {
    let mut found: Vec<String> = fs::read_dir(confs())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    let mut tried: Vec<String> = SERVERS
        .iter()
        .map(|server| server.file)
        .chain(CLIENTS)
        .map(str::to_owned)
        .collect();
    found.sort();
    tried.sort();
    assert_eq!(found, tried);
}

#[test]
fn servers_start_as_configured() {
    for expected in &SERVERS {
        let instance = Instance::new(expected.file);
        instance.convert();
        for configuration in ["etc/zeo.conf", "etc/zeod.toml"] {
            let server = instance.start(configuration);
            check(&instance, &server, expected);
            let what = format!("{} as {configuration}", expected.file);
            assert!(server.stop().unwrap().success(), "{what}");
            println!("{what}: {} storages served", expected.storages.len());
        }
    }
}

fn check(instance: &Instance, server: &ServerProcess, expected: &Expected) {
    let listening = server.listening();
    let file = expected.file;
    for (name, path) in expected.storages {
        let address = reachable(listening);
        RawClient::open(address, name, true).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(instance.path(path).is_file(), "{file}: {path}");
    }
    assert!(
        RawClient::open(reachable(listening), "none", true).is_err(),
        "{file}"
    );
    for blobs in expected.blobs {
        assert!(instance.path(blobs).is_dir(), "{file}: {blobs}");
    }
    match expected.address {
        "" => assert!(
            listening
                .parse::<SocketAddr>()
                .unwrap()
                .ip()
                .is_unspecified()
        ),
        "localhost" => assert!(listening.parse::<SocketAddr>().unwrap().ip().is_loopback()),
        host if host.contains('/') => assert_eq!(Path::new(listening), instance.path(host)),
        host => assert_eq!(
            listening.parse::<SocketAddr>().unwrap().ip().to_string(),
            host
        ),
    }
    match expected.log {
        Log::File(path) => {
            let text = fs::read_to_string(instance.path(path)).unwrap();
            assert!(text.contains("listening on"), "{file}: {text}");
            fs::remove_file(instance.path(path)).unwrap();
        }
        Log::Stderr => assert!(server.stderr().contains("listening on"), "{file}"),
        Log::Syslog => {
            let mut datagram = [0; 1024];
            let length = instance.syslog.recv(&mut datagram).unwrap();
            let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
            assert!(text.contains("zeo: "), "{file}: {text}");
        }
    }
    if let Some(pid_file) = expected.pid_file {
        let pid = fs::read_to_string(instance.path(pid_file)).unwrap();
        assert_eq!(pid.trim(), server.pid().to_string(), "{file}");
    }
}

/// Where the raw client, which knows TCP only, reaches the server for one connection.
fn reachable(listening: &str) -> SocketAddr {
    if let Ok(address) = listening.parse() {
        return address;
    }
    let socket = UnixStream::connect(listening).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let client = listener.accept().unwrap().0;
        let (mut from_client, mut to_client) = (client.try_clone().unwrap(), client);
        let (mut from_server, mut to_server) = (socket.try_clone().unwrap(), socket);
        thread::spawn(move || io::copy(&mut from_server, &mut to_client));
        // Ends with the client.
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Both);
    });
    address
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn files_of_clients_are_refused_by_what_they_are() {
    for file in CLIENTS {
        let instance = Instance::new(file);
        let conf = instance.path("etc/zeo.conf");
        for arguments in [&["-C"][..], &["config", "check"]] {
            let output = zeod().args(arguments).arg(&conf).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{file}");
            assert!(
                said(&output).contains("zope.conf"),
                "{file}: {}",
                said(&output)
            );
        }
    }
}

#[test]
fn a_check_says_what_would_be_served() {
    let instance = Instance::new("recipe-full.conf");
    let conf = instance.path("etc/zeo.conf");
    let output = zeod()
        .args(["config", "check"])
        .arg(&conf)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "127.0.0.1:0",
        "storage main",
        "Other.fs (not there yet)",
        "temp.fs",
        "full.log",
        "5 MB",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    // Nothing was made by asking.
    assert!(!instance.path("var/filestorage/Other.fs").exists());

    let output = zeod()
        .args(["config", "check"])
        .arg(&conf)
        .env("ZEOD_ZEO_READ_ONLY", "maybe")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("ZEOD_ZEO_READ_ONLY"),
        "{}",
        said(&output)
    );
}

#[test]
fn the_effective_configuration_is_shown() {
    let instance = Instance::new("own-nested.conf");
    let output = zeod()
        .args(["config", "show", "-t", "7", "-C"])
        .arg(instance.path("etc/zeo.conf"))
        .env("ZEOD_ZEO_ADDRESS", "127.0.0.1:8123")
        .env("ZEOD_ZEO_TRANSACTION_TIMEOUT", "9")
        .env("ZEOD_ZEO_ADRESS", "127.0.0.1:8124")
        .output()
        .unwrap();
    let warned = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warned.contains("ZEOD_ZEO_ADRESS"), "{warned}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("ADRESS"), "{text}");
    assert!(text.contains("address = \"127.0.0.1:8123\""), "{text}");
    assert!(text.contains("transaction-timeout = \"7s\""), "{text}");
}

#[test]
fn a_conversion_overwrites_nothing() {
    let instance = Instance::new("own-nested.conf");
    let target = instance.path("etc/zeod.toml");
    fs::write(&target, "mine").unwrap();
    let output = zeod()
        .args(["config", "convert"])
        .arg(instance.path("etc/zeo.conf"))
        .arg("-o")
        .arg(&target)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("exists already"),
        "{}",
        said(&output)
    );
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
}
