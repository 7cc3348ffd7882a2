//! Sockets that the service manager hands over: `LISTEN_FDS`, `LISTEN_PID` and
//! `LISTEN_FDNAMES`.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use super::ServerError;
use crate::config::Address;

/// What was handed over; never empty.
#[derive(Debug, Default)]
pub struct Handed {
    /// Of TCP.
    pub tcp: Vec<TcpListener>,
    /// In the file system, with their paths.
    pub unix: Vec<(UnixListener, PathBuf)>,
}

impl Handed {
    /// Takes what was handed over to this process, if anything was. Call it
    /// before there are threads: it removes the variables, which are not meant
    /// for children of this process.
    pub fn take() -> Result<Option<Self>, ServerError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = ListenFd::from_env();
        let mut handed = Self::default();
        for place in 0..sockets.len() {
            let name = names.next().filter(|name| !name.is_empty());
            let name = name.unwrap_or("unnamed");
            let refused = |problem: String| ServerError::Listen {
                address: format!("socket {place} ({name}) of the service manager"),
                problem,
            };
            // A socket of another kind stays where it is.
            if let Ok(Some(socket)) = sockets.take_tcp_listener(place) {
                check_listening(&socket).map_err(refused)?;
                handed.tcp.push(socket);
            } else if let Ok(Some(socket)) = sockets.take_unix_listener(place) {
                check_listening(&socket).map_err(refused)?;
                let address = socket.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                let path = path
                    .unwrap_or(Path::new("(a socket without a path)"))
                    .to_owned();
                handed.unix.push((socket, path));
            } else {
                let problem = "it is neither a TCP socket nor a unix stream socket: the .socket \
                               unit has to name them by ListenStream=";
                return Err(refused(problem.to_owned()));
            }
        }
        let is_empty = handed.tcp.is_empty() && handed.unix.is_empty();
        Ok((!is_empty).then_some(handed))
    }

    /// Is the configured address, which `resolved` spells out, among these?
    pub fn includes(&self, configured: &Address, resolved: &[SocketAddr]) -> bool {
        match configured {
            Address::Unix(path) => self.unix.iter().any(|(_, own)| own == path),
            Address::Tcp { host, port } => self
                .tcp
                .iter()
                .filter_map(|socket| socket.local_addr().ok())
                .any(|own| match host {
                    None => own.ip().is_unspecified() && own.port() == *port,
                    Some(_) => resolved.contains(&own),
                }),
        }
    }
}

/// `Accept=yes` hands over a client's connection instead.
fn check_listening(socket: &impl AsFd) -> Result<(), String> {
    match socket_acceptconn(socket) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err("nobody listens on it: the .socket unit must not say Accept=yes".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_among_the_sockets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("zeo.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = tcp.local_addr().unwrap();
        let handed = Handed {
            tcp: vec![tcp],
            unix: vec![(UnixListener::bind(&path).unwrap(), path.clone())],
        };
        let tcp = |host: Option<&str>| Address::Tcp {
            host: host.map(str::to_owned),
            port: own.port(),
        };
        assert!(handed.includes(&Address::Unix(path), &[]));
        assert!(!handed.includes(&Address::Unix("/elsewhere".into()), &[]));
        assert!(handed.includes(&tcp(Some("localhost")), &[own]));
        assert!(!handed.includes(&tcp(Some("localhost")), &["127.0.0.2:1".parse().unwrap()]));
        // Everywhere is more than this machine alone.
        assert!(!handed.includes(&tcp(None), &[]));
    }

    #[test]
    fn a_socket_on_which_nobody_listens_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(check_listening(&listener).is_ok());
        assert!(check_listening(&client).unwrap_err().contains("Accept=yes"));
    }
}
