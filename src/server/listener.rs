//! Where clients come in: TCP addresses or a unix socket.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

use rustix::io::fcntl_dupfd_cloexec;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::activation::Handed;
use super::privileges::Owner;
use super::{ServerError, unfinished};
use crate::config::Address;

/// After a failed accept (no file descriptor left) so long is waited.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Everything that the server listens on.
#[derive(Debug)]
pub struct Listeners {
    tcp: Vec<TcpListener>,
    unix: Vec<UnixSocket>,
}

/// A socket in the file system.
#[derive(Debug)]
struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Made here, and so to be removed at the end.
    is_ours: bool,
}

/// A client that has come in.
#[derive(Debug)]
pub enum Accepted {
    /// From an address.
    Tcp(TcpStream, SocketAddr),
    /// Through the unix socket.
    Unix(UnixStream, PathBuf),
}

impl Listeners {
    /// Listens on `address`; on every address that its host name has.
    pub async fn bind(address: &Address) -> Result<Self, ServerError> {
        let failed = |error: &io::Error| {
            let problem = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "the address is in use; is another server running?".to_owned()
                }
                _ => error.to_string(),
            };
            ServerError::Listen {
                address: address.to_string(),
                problem,
            }
        };
        match address {
            Address::Tcp { host, port } => {
                let tcp = bind_tcp(host.as_deref(), *port)
                    .await
                    .map_err(|error| failed(&error))?;
                let unix = Vec::new();
                Ok(Self { tcp, unix })
            }
            Address::Unix(path) => {
                let listener = bind_unix(path).await.map_err(|error| failed(&error))?;
                let socket = UnixSocket {
                    listener,
                    path: path.clone(),
                    is_ours: true,
                };
                Ok(Self {
                    tcp: Vec::new(),
                    unix: vec![socket],
                })
            }
        }
    }

    /// Takes the sockets on which the service manager listens already.
    pub fn from_handed(handed: Handed) -> io::Result<Self> {
        let tcp = |listener: std::net::TcpListener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let unix = |(listener, path): (std::os::unix::net::UnixListener, PathBuf)| {
            listener.set_nonblocking(true)?;
            Ok(UnixSocket {
                listener: UnixListener::from_std(listener)?,
                path,
                is_ours: false,
            })
        };
        Ok(Self {
            tcp: handed.tcp.into_iter().map(tcp).collect::<io::Result<_>>()?,
            unix: handed
                .unix
                .into_iter()
                .map(unix)
                .collect::<io::Result<_>>()?,
        })
    }

    /// Gives the listening sockets such high file descriptors, above all of connections.
    ///
    /// The kernel closes the files of a killed process from the highest on (Linux 4.4 and
    /// later; of 30 clients of a killed zeod that reconnect at once, up to 28 were let in by
    /// a listening socket with a low one, none by one with a high one). A client that a
    /// dying server lets in is cut off before the first word, and a stock client then
    /// leaves that server out for as long as it tries any other.
    pub fn numbered_from(self, descriptor: usize) -> io::Result<Self> {
        let tcp = |listener: TcpListener| {
            TcpListener::from_std(renumbered(listener.into_std()?, descriptor))
        };
        let unix = |UnixSocket {
                        listener,
                        path,
                        is_ours,
                    }| {
            Ok(UnixSocket {
                listener: UnixListener::from_std(renumbered(listener.into_std()?, descriptor))?,
                path,
                is_ours,
            })
        };
        Ok(Self {
            tcp: self.tcp.into_iter().map(tcp).collect::<io::Result<_>>()?,
            unix: self.unix.into_iter().map(unix).collect::<io::Result<_>>()?,
        })
    }

    /// Gives the unix socket to the user whose rights the server takes, so that
    /// others of this user can connect and the server can remove it.
    pub fn give_to(&self, owner: Owner) -> io::Result<()> {
        let (uid, gid) = owner;
        let mut ours = self.unix.iter().filter(|socket| socket.is_ours);
        ours.try_for_each(|socket| std::os::unix::fs::lchown(&socket.path, Some(uid), Some(gid)))
    }

    /// As [`Self::bind`], but where `address` names no host only programs on
    /// this machine get in.
    pub async fn bind_on_this_machine(address: &Address) -> Result<Self, ServerError> {
        let Address::Tcp { host: None, port } = address else {
            return Self::bind(address).await;
        };
        let loopback = |host: &str, port| Address::Tcp {
            host: Some(host.to_owned()),
            port,
        };
        let mut listeners = Self::bind(&loopback("127.0.0.1", *port)).await?;
        let bound = listeners.tcp.first().and_then(|tcp| tcp.local_addr().ok());
        let port = bound.map_or(*port, |address| address.port());
        match Self::bind(&loopback("::1", port)).await {
            Ok(more) => listeners.tcp.extend(more.tcp),
            // Not every machine has IPv6.
            Err(error) => tracing::info!("only on {}: {error}", listeners.addresses().join(", ")),
        }
        Ok(listeners)
    }

    /// The addresses as a client would give them.
    pub fn addresses(&self) -> Vec<String> {
        let tcp = self
            .tcp
            .iter()
            .filter_map(|listener| listener.local_addr().ok());
        let unix = self
            .unix
            .iter()
            .map(|socket| socket.path.display().to_string());
        tcp.map(|address| address.to_string()).chain(unix).collect()
    }

    /// Writes a line `zeo ADDRESS` for each address, and the `other_lines`. The
    /// file appears whole.
    pub fn write_address_file(&self, path: &Path, other_lines: &[String]) -> io::Result<()> {
        let temporary = unfinished(path);
        let mut file = std::fs::File::create(&temporary)?;
        for address in self.addresses() {
            writeln!(file, "zeo {address}")?;
        }
        for line in other_lines {
            writeln!(file, "{line}")?;
        }
        drop(file);
        std::fs::rename(&temporary, path)
    }

    /// The next client.
    pub async fn accept(&self) -> Accepted {
        loop {
            let accepted = std::future::poll_fn(|context| {
                for listener in &self.tcp {
                    if let Poll::Ready(accepted) = listener.poll_accept(context) {
                        return Poll::Ready(accepted.map(|(s, address)| Accepted::Tcp(s, address)));
                    }
                }
                for UnixSocket { listener, path, .. } in &self.unix {
                    if let Poll::Ready(accepted) = listener.poll_accept(context) {
                        return Poll::Ready(accepted.map(|(s, _)| Accepted::Unix(s, path.clone())));
                    }
                }
                Poll::Pending
            });
            match accepted.await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::error!("a connection could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes no more clients, and removes the unix socket.
    pub fn close(self) {
        for socket in self.unix.iter().filter(|socket| socket.is_ours) {
            if let Err(error) = std::fs::remove_file(&socket.path) {
                tracing::warn!("{}: {error}", socket.path.display());
            }
        }
    }
}

/// The same socket under a higher number, where the limit of open files permits it.
fn renumbered<S: AsFd + From<OwnedFd>>(socket: S, from: usize) -> S {
    let from = RawFd::try_from(from).unwrap_or(RawFd::MAX);
    match fcntl_dupfd_cloexec(&socket, from) {
        Ok(descriptor) => descriptor.into(),
        Err(error) => {
            tracing::debug!("no file descriptor from {from} on: {error}");
            socket
        }
    }
}

async fn bind_tcp(host: Option<&str>, port: u16) -> io::Result<Vec<TcpListener>> {
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        // One socket for both families, where the machine has both.
        let everywhere = (IpAddr::from(Ipv6Addr::UNSPECIFIED), port);
        let listener = match TcpListener::bind(everywhere).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), port)).await?
            }
            result => result?,
        };
        return Ok(vec![listener]);
    };
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for mut address in tokio::net::lookup_host((host, port)).await? {
        // With port 0 all addresses of the host get the port of the first.
        if let Some(first) = listeners.first() {
            address.set_port(first.local_addr()?.port());
        }
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => last_error = error,
        }
    }
    if listeners.is_empty() {
        Err(last_error)
    } else {
        Ok(listeners)
    }
}

/// A socket that a server left behind when it was killed is replaced; one
/// that somebody listens on is not.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()) => {
            std::fs::remove_file(path)?;
        }
        _ => {}
    }
    UnixListener::bind(path)
}
