//! A server with all addresses for observers, and an HTTP client that shows every byte.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use tempfile::TempDir;

use crate::prometheus::Samples;
use crate::raw_client::{PATIENCE, RawClient};
use crate::server_process::ServerProcess;

pub struct Watched {
    pub process: ServerProcess,
    pub directory: TempDir,
    pub status: SocketAddr,
    pub monitor: SocketAddr,
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Watched {
    /// Starts a server of the storage "1"; `zeo` stands in its section.
    pub fn start(zeo: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("zeo.conf");
        let path = directory.path().join("Data.fs");
        let text = format!(
            "<zeo>\naddress 127.0.0.1:0\nmonitor-address 127.0.0.1:0\n{zeo}\n</zeo>\n\
             <zeod>\nstatus-address 0\n</zeod>\n\
             <filestorage 1>\npath {}\n</filestorage>\n",
            path.display()
        );
        fs::write(&config, text).unwrap();
        let address_file = directory.path().join("address");
        let mut command = Command::new(env!("CARGO_BIN_EXE_zeod"));
        command.arg("-C").arg(&config);
        command.arg("--address-file").arg(&address_file);
        let stderr = directory.path().join("stderr.log");
        let process = ServerProcess::start(command, &address_file, &stderr).unwrap();
        let lines = fs::read_to_string(&address_file).unwrap();
        let address = |name: &str| -> SocketAddr {
            let line = lines.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {lines}"))
                .parse()
                .unwrap()
        };
        Self {
            process,
            status: address("status "),
            monitor: address("monitor "),
            directory,
        }
    }

    /// A client that has registered.
    pub fn client(&self) -> RawClient {
        RawClient::open(self.process.address(), "1", false).unwrap()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: zeod\r\n\r\n"))
    }

    /// Sends `request` as it is; what comes until the end is the answer.
    pub fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_answer(&mut stream).unwrap()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.status, PATIENCE).unwrap();
        stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        stream
    }

    pub fn metrics(&self) -> Samples {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200);
        Samples::read(&answer.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        let answer = self.get("/status.json");
        assert_eq!(answer.status, 200);
        serde_json::from_str(&answer.body).unwrap()
    }
}

/// What comes until the other side closes.
pub fn read_answer(stream: &mut impl Read) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other(format!("no answer: {text:?}")))?;
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    Ok(Answer {
        status: status.and_then(|status| status.parse().ok()).unwrap_or(0),
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}
