//! A running server with `<ssl>`.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::authority::Identity;
use crate::client::{Manner, TlsClient};
use crate::raw_client::Reply;
use crate::server_process::ServerProcess;
use crate::waiting::wait_until;

pub struct Site {
    pub process: ServerProcess,
    /// Which certificate clients want to be shown.
    pub server: Identity,
    directory: TempDir,
}

impl Site {
    /// Lets in whom the PEM text `authenticate` names; `zeod` goes into the
    /// `<zeod>` section.
    pub fn start(authenticate: &str, zeod: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("clients.pem"), authenticate).unwrap();
        Self::start_in(directory, "clients.pem", zeod, &[])
    }

    /// `authenticate` is what the configuration says; `environment` is added
    /// to the server's.
    pub fn start_in(
        directory: TempDir,
        authenticate: &str,
        zeod: &str,
        environment: &[(&str, &Path)],
    ) -> Self {
        let server = Identity::own("server");
        let path = directory.path();
        std::fs::write(path.join("server.pem"), with_key(&server)).unwrap();
        let config = format!(
            "<zeo>\n address 127.0.0.1:0\n <ssl>\n certificate server.pem\n \
             authenticate {authenticate}\n </ssl>\n</zeo>\n\
             <mappingstorage 1>\n</mappingstorage>\n<zeod>\n{zeod}</zeod>\n"
        );
        std::fs::write(path.join("zeo.conf"), config).unwrap();
        let address_file = path.join("address");
        let mut command = Command::new(env!("CARGO_BIN_EXE_zeod"));
        command
            .args(["-C", "zeo.conf", "--address-file"])
            .arg(&address_file)
            .envs(environment.iter().copied())
            .current_dir(path);
        let process = ServerProcess::start(command, &address_file, &path.join("stderr.log"));
        Self {
            process: process.unwrap(),
            server,
            directory,
        }
    }

    /// Writes a file beside the server's, or in the place of one that it has read.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    /// SIGHUP, after which a line with `said` is in the log once more.
    pub fn reload(&self, said: &str) {
        let count = || self.process.stderr().matches(said).count();
        let before = count();
        self.process.signal(Signal::HUP).unwrap();
        wait_until(said, || (count() > before).then_some(()));
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn address(&self) -> SocketAddr {
        self.process.address()
    }

    pub fn connect(&self, manner: &Manner<'_>) -> io::Result<TlsClient> {
        let socket = TcpStream::connect(self.address())?;
        TlsClient::over(socket, self.server.certificate.der(), manner)
    }

    /// A client with this certificate can work.
    pub fn assert_lets_in(&self, identity: &Identity) -> TlsClient {
        let mut client = self.connect(&Manner::with(identity)).unwrap();
        let reply = client.register("1", false).unwrap();
        assert!(matches!(reply, Reply::Value(_)), "{reply:?}");
        client
    }

    /// The handshake of such a client fails, and one line of the log says `why`.
    pub fn assert_refuses(&self, manner: &Manner<'_>, why: &str) {
        let socket = TcpStream::connect(self.address()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let result = TlsClient::over(socket, self.server.certificate.der(), manner);
        assert!(result.is_err(), "not refused: {why}");
        self.assert_only_line_of(port, why);
    }

    /// The log has one line about the client with this port, and it says `why`.
    pub fn assert_only_line_of(&self, port: u16, why: &str) {
        let name = format!("(127.0.0.1:{port})");
        self.await_log(&name);
        // Were there a second line, it would come now.
        std::thread::sleep(Duration::from_millis(50));
        let log = self.process.stderr();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(&name)).collect();
        assert!(lines.len() == 1 && lines[0].contains(why), "{why}:\n{log}");
        // Shown with --nocapture.
        eprintln!("{}", lines[0]);
        for word in ["panicked", "ERROR", "Traceback"] {
            assert!(!log.contains(word), "{log}");
        }
    }

    pub fn await_log(&self, text: &str) {
        self.process.await_stderr(text);
    }
}

/// The key in the certificate's file, as many have it.
pub fn with_key(server: &Identity) -> String {
    server.pem() + &server.key.serialize_pem()
}
