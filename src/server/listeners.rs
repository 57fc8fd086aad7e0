//! Binding, before anything runs: an address that cannot be had ends the start with a message.
//!
//! Each worker gets its own socket on each address (`SO_REUSEPORT`), so workers share no accept queue. The kernel would
//! let a second gateway join them in silence and take half the connections; a first bind without the option finds out.
//!
//! A Unix socket has one queue, which all workers accept from.
//!
//! Sockets that came with the process are used instead where they fit: all of them are accepted from, each by one
//! worker at least, since connections may wait in any of them.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::handover::inherited::Inherited;
use crate::config::Config;
use crate::primitives::ListenerName;
use crate::primitives::address::Address;

/// Connections that may wait to be accepted; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 65_535;

/// A listener's socket of one worker.
pub(super) struct Listening {
    /// Name of the listener.
    pub name: ListenerName,
    /// Socket of the listener.
    pub socket: BoundSocket,
    /// Connections begin with a TLS handshake.
    pub tls: bool,
}

/// A socket that listens, not yet in a runtime.
pub(super) enum BoundSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl BoundSocket {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
        })
    }

    /// Where it is bound.
    fn address(&self) -> io::Result<Address> {
        Ok(match self {
            Self::Tcp(socket) => Address::Inet(socket.local_addr()?),
            Self::Unix(socket) => {
                let address = socket.local_addr()?;
                Address::Unix(address.as_pathname().unwrap_or(Path::new("")).into())
            }
        })
    }
}

impl From<BoundSocket> for OwnedFd {
    fn from(socket: BoundSocket) -> Self {
        match socket {
            BoundSocket::Tcp(socket) => socket.into(),
            BoundSocket::Unix(socket) => socket.into(),
        }
    }
}

/// All sockets.
pub(super) struct Bound {
    /// For each worker its sockets, at least one a listener.
    pub workers: Vec<Vec<Listening>>,
    /// The admin listener's.
    pub admin: Option<BoundSocket>,
    /// Files of Unix sockets.
    pub files: SocketFiles,
    /// Every listening socket once, to be passed on, and where a connection reaches it.
    pub all: Vec<Shared>,
}

/// A socket beside those that accept: the same queue, kept to be passed on.
pub(super) struct Shared {
    /// The listener, as messages name it.
    pub name: String,
    /// Where it is bound.
    pub address: Address,
    /// Another descriptor of it.
    pub socket: OwnedFd,
}

/// Binds every address of the configuration for which no socket was inherited. In an `upgrade` a socket may be left
/// over, whose listener is gone.
pub(super) fn bind(
    config: &Config,
    workers: usize,
    inherited: Inherited,
    upgrade: bool,
) -> anyhow::Result<Bound> {
    let mut offered = Offered::of(inherited)?;
    let mut bound: Vec<Vec<Listening>> = (0..workers).map(|_| Vec::new()).collect();
    let mut all = Vec::new();
    let mut files = SocketFiles::default();
    for listener in &config.listeners {
        let name = listener.name.as_str();
        let named = || {
            let address = &listener.address;
            format!("listener {name:?} cannot be bound to {address}")
        };
        let mut sockets = offered.take(&listener.address, Some(name));
        match &listener.address {
            // What the process before this one made is this one's to remove.
            Address::Unix(path) if !sockets.is_empty() && upgrade => files.adopt(path),
            _ if !sockets.is_empty() => {}
            Address::Inet(address) => {
                // It is not listened on: who connects meanwhile would be turned away.
                drop(socket(*address, false).with_context(named)?);
                for _ in 0..workers {
                    let socket = listening(*address, true).with_context(named)?;
                    sockets.push(BoundSocket::Tcp(socket));
                }
            }
            Address::Unix(path) => {
                let socket = files.bind(path, listener.mode).with_context(named)?;
                sockets.push(BoundSocket::Unix(socket));
            }
        }
        for socket in &sockets {
            all.push(Shared::of(name, socket)?);
        }
        let shares = share_out(sockets, workers).with_context(named)?;
        for (worker, sockets) in bound.iter_mut().zip(shares) {
            worker.extend(sockets.into_iter().map(|socket| Listening {
                name: listener.name.clone(),
                socket,
                tls: listener.tls.is_some(),
            }));
        }
    }
    let admin = config.admin.address.map(|address| {
        let inherited = offered.take(&Address::Inet(address), None);
        let bind = || listening(address, false).map(BoundSocket::Tcp);
        inherited
            .into_iter()
            .next()
            .map_or_else(bind, Ok)
            .with_context(|| format!("[admin].address cannot be bound to {address}"))
    });
    let admin = admin.transpose()?;
    if let Some(socket) = &admin {
        all.push(Shared::of("[admin].address", socket)?);
    }
    if !upgrade {
        offered.nothing_left()?;
    }
    Ok(Bound {
        workers: bound,
        admin,
        files,
        all,
    })
}

impl Shared {
    fn of(name: &str, socket: &BoundSocket) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            address: socket.address()?,
            socket: socket.try_clone()?.into(),
        })
    }

    /// Where a connection of this host's own reaches it; a Unix socket has no address by which such a one is known.
    pub(super) fn reached_at(&self) -> Option<SocketAddr> {
        let mut address = self.address.inet()?;
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        address.set_ip(ip);
        Some(address)
    }
}

/// Inherited sockets that nobody took yet.
struct Offered(Vec<(String, Address, BoundSocket)>);

impl Offered {
    fn of(inherited: Inherited) -> anyhow::Result<Self> {
        let addressed = inherited.sockets.into_iter().map(|(name, socket)| {
            let address = socket.address();
            let address = address.with_context(|| format!("inherited socket {name:?}"))?;
            Ok((name, address, socket))
        });
        addressed.collect::<anyhow::Result<_>>().map(Self)
    }

    /// The sockets bound to `address`; and those that go by `name`, wherever they are bound: who names a socket after a
    /// listener means it.
    fn take(&mut self, address: &Address, name: Option<&str>) -> Vec<BoundSocket> {
        let fits = |(given, bound, _): &mut (String, Address, BoundSocket)| {
            let meant = name == Some(given.as_str());
            if meant && bound != address {
                log::warn!(
                    "listener {given:?} is served on the inherited socket {bound}, not on {address}"
                );
            }
            meant || bound == address
        };
        let taken = self.0.extract_if(.., fits);
        taken.map(|(_, _, socket)| socket).collect()
    }

    /// Whoever connects to a socket that nobody accepts from waits for ever.
    fn nothing_left(&self) -> anyhow::Result<()> {
        let left: Vec<String> = self
            .0
            .iter()
            .map(|(name, address, _)| format!("{address} ({name:?})"))
            .collect();
        if !left.is_empty() {
            bail!(
                "no listener of the configuration belongs to the inherited socket {}; give it the address of one, or its name by FileDescriptorName=",
                left.join(", ")
            );
        }
        Ok(())
    }
}

/// Gives every worker a socket, and every socket to a worker. Where sockets are fewer, workers share their queues.
fn share_out(sockets: Vec<BoundSocket>, workers: usize) -> io::Result<Vec<Vec<BoundSocket>>> {
    let mut shares: Vec<Vec<BoundSocket>> = (0..workers).map(|_| Vec::new()).collect();
    for worker in sockets.len()..workers {
        shares[worker].push(sockets[worker % sockets.len()].try_clone()?);
    }
    for (index, socket) in sockets.into_iter().enumerate() {
        shares[index % workers].push(socket);
    }
    Ok(shares)
}

/// Files of the Unix sockets that this process made.
#[derive(Default)]
pub(super) struct SocketFiles(Vec<(PathBuf, FileIdentity)>);

/// Device and inode: whether a file is still the one it was.
type FileIdentity = (u64, u64);

impl SocketFiles {
    /// Binds and listens. What an earlier gateway left at the path is replaced when nobody listens there.
    fn bind(&mut self, path: &Path, mode: u32) -> anyhow::Result<UnixListener> {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        // Nobody can connect before it listens, so nobody does under another mode.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        self.0.push((path.to_owned(), identity(path)?));
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    /// Takes over the file of a socket that was inherited.
    fn adopt(&mut self, path: &Path) {
        self.0
            .extend(identity(path).map(|file| (path.to_owned(), file)));
    }

    /// Removes them, save those that somebody else has replaced since.
    pub(super) fn remove(&self) {
        for (path, ours) in &self.0 {
            if identity(path).is_ok_and(|found| found == *ours) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn identity(path: &Path) -> io::Result<FileIdentity> {
    let facts = fs::symlink_metadata(path)?;
    Ok((facts.dev(), facts.ino()))
}

/// Removes a socket that nobody listens on; anything else at its path is left alone and is a problem.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let Ok(facts) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !facts.file_type().is_socket() {
        bail!("there is a file at this path, and it is no socket");
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .context("the socket that an earlier process left cannot be removed"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) | Err(_) => bail!("the address is in use by another process"),
    }
}

fn listening(address: SocketAddr, shared: bool) -> anyhow::Result<TcpListener> {
    let socket = socket(address, shared)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket bound to `address`.
fn socket(address: SocketAddr, shared: bool) -> anyhow::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        // "[::]:80" takes IPv6 only, so that "0.0.0.0:80" can stand beside it.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket
        .bind(&address.into())
        .map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => anyhow!("the address is in use by another process"),
            io::ErrorKind::PermissionDenied => {
                anyhow!("not permitted; ports below 1024 need CAP_NET_BIND_SERVICE")
            }
            _ => error.into(),
        })?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(count: usize) -> Vec<BoundSocket> {
        (0..count)
            .map(|_| BoundSocket::Tcp(TcpListener::bind("127.0.0.1:0").expect("bound")))
            .collect()
    }

    fn at(socket: &BoundSocket) -> Address {
        socket.address().expect("address")
    }

    #[test]
    fn every_worker_gets_a_socket_and_every_socket_a_worker() {
        for (count, workers) in [(1, 4), (3, 2), (2, 2), (4, 3), (1, 1), (2, 5)] {
            let sockets = sockets(count);
            let port = |socket: &BoundSocket| at(socket).inet().map(|address| address.port());
            let mut all: Vec<Option<u16>> = sockets.iter().map(port).collect();
            let shares = share_out(sockets, workers).expect("shared");
            assert_eq!(shares.len(), workers);
            assert!(shares.iter().all(|share| !share.is_empty()));
            let mut given: Vec<Option<u16>> = shares.iter().flatten().map(port).collect();
            given.sort_unstable();
            given.dedup();
            all.sort_unstable();
            assert_eq!(given, all, "{count} sockets, {workers} workers");
        }
    }

    #[test]
    fn inherited_sockets_fit_by_address_or_by_name() {
        let [a, b, c] =
            <[BoundSocket; 3]>::try_from(sockets(3)).unwrap_or_else(|_| unreachable!("three"));
        let (at_a, at_b) = (at(&a), at(&b));
        let mut offered = Offered::of(Inherited {
            sockets: vec![("x".into(), a), ("public".into(), b), ("y".into(), c)],
            channel: None,
        })
        .expect("offered");
        assert_eq!(offered.take(&at_a, Some("other")).len(), 1);
        let elsewhere = Address::Inet(SocketAddr::from(([127, 0, 0, 1], 1)));
        let named = offered.take(&elsewhere, Some("public"));
        assert_eq!(named.iter().map(at).collect::<Vec<_>>(), [at_b]);
        assert!(offered.take(&elsewhere, None).is_empty());
        let message = offered.nothing_left().expect_err("one is left").to_string();
        assert!(message.contains("\"y\""), "{message}");
    }
}
