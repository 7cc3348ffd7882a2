use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use zeod::config::Address;
use zeod::wire::Format;

use super::python_env;
use super::server_process::ServerProcess;

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Zeod,
    Python,
}

/// A server with a FileStorage, gone when it is dropped.
pub struct Server {
    pub address: Address,
    _process: ServerProcess,
    _directory: TempDir,
}

impl Server {
    /// None where there is no Python; that was said.
    pub fn start(kind: Kind, format: Format) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let configuration = at.join("zeo.conf");
        let text = format!(
            "<zeo>\n  address 127.0.0.1:0\n  msgpack {}\n  client-conflict-resolution true\n</zeo>\n\
             <filestorage>\n  path {}\n  blob-dir {}\n</filestorage>\n",
            format == Format::Msgpack,
            at.join("Data.fs").display(),
            at.join("blobs").display(),
        );
        fs::write(&configuration, text).unwrap();
        let address_file = at.join("address");
        let mut command = match kind {
            Kind::Zeod => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_zeod"));
                command.arg("-C").arg(&configuration);
                command.arg("--address-file").arg(&address_file);
                command
            }
            Kind::Python => {
                let script = "tests/client/python_server.py";
                let mut command = Command::new(python_env::python()?);
                command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
                command.arg(&configuration).arg(&address_file);
                command
            }
        };
        command.current_dir(at);
        let process = ServerProcess::start(command, &address_file, &at.join("stderr.log")).unwrap();
        Some(Self {
            address: process.listening().parse().unwrap(),
            _process: process,
            _directory: directory,
        })
    }
}
