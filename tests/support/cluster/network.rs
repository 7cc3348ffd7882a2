//! Where the nodes of a cluster live: in network namespaces of their own, whose links can be cut,
//! or where the machine permits none, on addresses of the loopback.
//!
//! The namespaces have no names. Each lives as long as its keeper, a process that waits for its
//! stdin to end, which it does when the test ends, however that happens: nothing is left behind.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Every node's own, so that these can be the same for all.
const CLIENT_PORT: u16 = 8100;
const PEER_PORT: u16 = 8101;
/// Clients, and the commands of the test, come from here.
const HUB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
/// The hardware address of nobody.
const NOBODY: &str = "02:00:00:00:00:01";

/// The network of one cluster.
pub enum Network {
    /// Each node is a host on a wire of its own to a common bridge.
    Namespaces(Namespaces),
    /// 127.0.0.2 and so on: nothing can be cut.
    Loopback,
}

pub struct Namespaces {
    hub: Keeper,
    hosts: Vec<Keeper>,
    /// Not root: everything happens in a user namespace in which we are.
    as_user: bool,
}

/// Where a node listens.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub clients: SocketAddr,
    pub peers: SocketAddr,
}

impl Network {
    /// Namespaces, or the reason why there can be none.
    pub fn namespaces() -> io::Result<Self> {
        let as_user = !rustix::process::geteuid().is_root();
        let mut unshare = Command::new("unshare");
        if as_user {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.args(["--net", "--mount", "--propagation", "private"]);
        let hub = Keeper::start(unshare)?;
        let network = Self::Namespaces(Namespaces {
            hub,
            hosts: Vec::new(),
            as_user,
        });
        let address = format!("{HUB}/24");
        network.ip(&["link", "set", "lo", "up"])?;
        network.ip(&["link", "add", "br0", "type", "bridge"])?;
        network.ip(&["address", "add", &address, "dev", "br0"])?;
        network.ip(&["link", "set", "br0", "up"])?;
        Ok(network)
    }

    /// Namespaces where that is possible, else the loopback.
    pub fn best() -> Self {
        Self::namespaces().unwrap_or(Self::Loopback)
    }

    pub fn can_be_cut(&self) -> bool {
        matches!(self, Self::Namespaces(_))
    }

    /// The place of the node with this index, from 0 on. Nodes come in order.
    pub fn add_host(&mut self, index: usize) -> io::Result<Place> {
        match self {
            Self::Loopback => {
                let last = u8::try_from(index + 2).map_err(io::Error::other)?;
                let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
                let clients = TcpListener::bind((ip, 0))?;
                let peers = TcpListener::bind((ip, 0))?;
                Ok(Place {
                    clients: clients.local_addr()?,
                    peers: peers.local_addr()?,
                })
            }
            Self::Namespaces(namespaces) => {
                let mut unshare = namespaces.in_hub("unshare");
                unshare.arg("--net");
                let host = Keeper::start(unshare)?;
                let pid = host.0.id().to_string();
                assert_eq!(index, namespaces.hosts.len());
                namespaces.hosts.push(host);
                let link = link(index);
                let ip = host_ip(index);
                let address = format!("{ip}/24");
                self.ip(&[
                    "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid,
                ])?;
                self.ip(&["link", "set", &link, "master", "br0", "up"])?;
                self.ip_of(index, &["address", "add", &address, "dev", "eth0"])?;
                self.ip_of(index, &["link", "set", "lo", "up"])?;
                self.ip_of(index, &["link", "set", "eth0", "up"])?;
                Ok(Place {
                    clients: (ip, CLIENT_PORT).into(),
                    peers: (ip, PEER_PORT).into(),
                })
            }
        }
    }

    /// A command on the host of a node. It ends when the thread that starts it does.
    pub fn on_host(&self, index: usize, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Loopback => dying(program.as_ref()),
            Self::Namespaces(namespaces) => namespaces.enter(&namespaces.hosts[index], program),
        }
    }

    /// A command where the clients are; else as [`Self::on_host`].
    pub fn at_clients(&self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Loopback => dying(program.as_ref()),
            Self::Namespaces(namespaces) => namespaces.in_hub(program),
        }
    }

    /// A path of the hosts, which may have mounts of their own, as this process sees it.
    pub fn seen_from_here(&self, path: &Path) -> PathBuf {
        match self {
            Self::Loopback => path.to_owned(),
            Self::Namespaces(namespaces) => {
                let root = format!("/proc/{}/root", namespaces.hub.0.id());
                Path::new(&root).join(path.strip_prefix("/").unwrap_or(path))
            }
        }
    }

    /// What a node sends, and what is sent to it, goes at this rate, as `tc` writes it: `2mbit`.
    pub fn slow_down(&self, index: usize, rate: &str) -> io::Result<()> {
        let bucket = [
            "root", "tbf", "rate", rate, "burst", "16kb", "latency", "300ms",
        ];
        let link = link(index);
        let to = ["qdisc", "replace", "dev", &link];
        run(self.at_clients("tc").args(to).args(bucket))?;
        let from = ["qdisc", "replace", "dev", "eth0"];
        run(self.on_host(index, "tc").args(from).args(bucket))
    }

    /// Undoes [`Self::slow_down`].
    pub fn speed_up(&self, index: usize) -> io::Result<()> {
        let link = link(index);
        run(self
            .at_clients("tc")
            .args(["qdisc", "del", "dev", &link, "root"]))?;
        run(self
            .on_host(index, "tc")
            .args(["qdisc", "del", "dev", "eth0", "root"]))
    }

    /// Pulls the plug of a node: nobody reaches it, and it nobody.
    pub fn isolate(&self, index: usize) -> io::Result<()> {
        self.ip(&["link", "set", &link(index), "down"])
    }

    /// Undoes [`Self::isolate`].
    pub fn plug_in(&self, index: usize) -> io::Result<()> {
        self.ip(&["link", "set", &link(index), "up"])
    }

    /// What the one node sends to the other gets lost from now on; the other way stays open.
    pub fn cut(&self, from: usize, to: usize) -> io::Result<()> {
        let to = host_ip(to).to_string();
        self.ip_of(
            from,
            &[
                "neigh",
                "replace",
                &to,
                "lladdr",
                NOBODY,
                "dev",
                "eth0",
                "nud",
                "permanent",
            ],
        )
    }

    /// Undoes [`Self::cut`].
    pub fn mend(&self, from: usize, to: usize) -> io::Result<()> {
        let to = host_ip(to).to_string();
        self.ip_of(from, &["neigh", "del", &to, "dev", "eth0"])
    }

    fn ip(&self, arguments: &[&str]) -> io::Result<()> {
        run(self.at_clients("ip").args(arguments))
    }

    fn ip_of(&self, index: usize, arguments: &[&str]) -> io::Result<()> {
        run(self.on_host(index, "ip").args(arguments))
    }
}

impl Namespaces {
    /// In the namespaces of the hub: its mounts, and its network.
    fn in_hub(&self, program: impl AsRef<OsStr>) -> Command {
        self.enter(&self.hub, program)
    }

    fn enter(&self, keeper: &Keeper, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        if self.as_user {
            command.args(["--user", "--preserve-credentials"]);
        }
        command
            .args(["--mount", "--net", "--target"])
            .arg(keeper.0.id().to_string())
            .args(["setpriv", "--pdeathsig", "TERM"])
            .arg(program);
        command
    }
}

/// Keeps namespaces alive: `cat`, until its stdin ends.
struct Keeper(Child);

impl Keeper {
    fn start(mut unshare: Command) -> io::Result<Self> {
        let mut child = unshare
            .args(["sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        if said == "ready\n" {
            return Ok(Self(child));
        }
        let output = child.wait_with_output()?;
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(io::Error::other(why))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn dying(program: &OsStr) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(program);
    command
}

fn host_ip(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(index + 1).unwrap())
}

/// The end of a node's wire at the bridge.
fn link(index: usize) -> String {
    format!("node{}", index + 1)
}

/// Runs to the end.
pub fn run(command: &mut Command) -> io::Result<()> {
    succeed(command).map(drop)
}

/// The output of a command that has to succeed.
pub fn succeed(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = said(&output);
    if output.status.success() {
        return Ok(said);
    }
    let status = output.status;
    Err(io::Error::other(format!("{command:?}: {status}\n{said}")))
}

/// All that a command said.
pub fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
