use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::record::Severity;
use crate::config::Address;

/// A connection to a log daemon. Nothing here waits: what the daemon does not
/// take at once is lost.
#[derive(Debug)]
pub struct SyslogSocket {
    address: Address,
    /// `None`: there was no daemon when last tried.
    socket: Option<Socket>,
}

#[derive(Debug)]
enum Socket {
    /// Not connected, so that a daemon that is away gives no errors.
    Udp(UdpSocket, SocketAddr),
    Unix(UnixDatagram),
}

impl SyslogSocket {
    /// Connects; the error is beside the socket because the daemon may come
    /// later.
    pub fn new(address: Address) -> (Self, io::Result<()>) {
        let mut socket = Self {
            address,
            socket: None,
        };
        let connected = socket.reconnect();
        (socket, connected)
    }

    /// Looks the address up again.
    pub fn reconnect(&mut self) -> io::Result<()> {
        self.socket = None;
        self.socket = Some(match &self.address {
            Address::Unix(path) => Socket::Unix(connect(path)?),
            Address::Tcp { host, port } => {
                let host = host.as_deref().unwrap_or("localhost");
                let daemon = (host, *port)
                    .to_socket_addrs()?
                    .next()
                    .ok_or_else(|| io::Error::other("the host has no address"))?;
                let own = match daemon {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let socket = UdpSocket::bind(own)?;
                socket.set_nonblocking(true)?;
                Socket::Udp(socket, daemon)
            }
        });
        Ok(())
    }

    /// Sends one datagram. A socket in the file system is connected anew if the
    /// daemon was restarted; a name is not looked up again, for that may take
    /// seconds.
    pub fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        match &self.socket {
            Some(Socket::Udp(socket, daemon)) => {
                return socket.send_to(datagram, daemon).map(drop);
            }
            Some(Socket::Unix(socket)) => match socket.send(datagram) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => {}
            },
            None => {}
        }
        let Address::Unix(path) = &self.address else {
            return Err(io::Error::from(io::ErrorKind::NotConnected));
        };
        let socket = connect(path)?;
        let sent = socket.send(datagram).map(drop);
        self.socket = Some(Socket::Unix(socket));
        sent
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The facility's number (source: syslog.h); "user" for unknown names, which
/// the configuration refuses anyway.
pub fn facility_number(name: &str) -> u8 {
    match name {
        "kern" => 0,
        "mail" => 2,
        "daemon" => 3,
        "auth" | "security" => 4,
        "syslog" => 5,
        "lpr" => 6,
        "news" => 7,
        "uucp" => 8,
        "cron" => 9,
        "authpriv" => 10,
        "local0" => 16,
        "local1" => 17,
        "local2" => 18,
        "local3" => 19,
        "local4" => 20,
        "local5" => 21,
        "local6" => 22,
        "local7" => 23,
        _ => 1,
    }
}

/// The number in front of a datagram. Python sends TRACE as a warning because
/// it does not know the name; here it is debug.
pub fn priority(facility: u8, severity: Severity) -> u8 {
    let level = match severity {
        Severity::Critical => 2,
        Severity::Error => 3,
        Severity::Warning => 4,
        Severity::Info => 6,
        Severity::Debug | Severity::Trace => 7,
    };
    (facility << 3) | level
}
