//! The server under test, with blobs beside its Data.fs.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::generator::Failure;
use crate::server_process::ServerProcess;

/// Starts zeod on `directory/Data.fs`.
pub fn start(directory: &Path) -> Result<ServerProcess, Failure> {
    let configuration = directory.join("zeo.conf");
    let address_file = directory.join("address");
    fs::write(
        &configuration,
        format!(
            "<zeo>\n  address 127.0.0.1:0\n</zeo>\n\
             <filestorage 1>\n  path {0}/Data.fs\n  blob-dir {0}/blobs\n</filestorage>\n",
            directory.display()
        ),
    )?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_zeod"));
    command
        .arg("-C")
        .arg(&configuration)
        .arg("--address-file")
        .arg(&address_file);
    let stderr = directory.join("stderr.log");
    Ok(ServerProcess::start(command, &address_file, &stderr)?)
}
