//! Binding, before anything runs: an address that cannot be had ends the start with a message.
//!
//! Each worker gets its own socket on each address (`SO_REUSEPORT`), so workers share no accept queue. The kernel would
//! let a second gateway join them in silence and take half the connections; a first bind without the option finds out.
//! A Unix socket has one queue, which all workers accept from.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::Config;
use crate::primitives::ListenerName;
use crate::primitives::address::Address;

/// Connections that may wait to be accepted; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 65_535;

/// A listener's socket of one worker.
pub(super) struct Listening {
    /// Name of the listener.
    pub name: ListenerName,
    /// Its socket.
    pub socket: BoundSocket,
    /// Connections begin with a TLS handshake.
    pub tls: bool,
}

/// A socket that listens, not yet in a runtime.
pub(super) enum BoundSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// All sockets.
pub(super) struct Bound {
    /// For each worker one socket a listener.
    pub workers: Vec<Vec<Listening>>,
    /// The admin listener's.
    pub admin: Option<TcpListener>,
    /// Files of Unix sockets.
    pub files: SocketFiles,
}

/// Binds every address of the configuration.
pub(super) fn bind(config: &Config, workers: usize) -> anyhow::Result<Bound> {
    let mut bound: Vec<Vec<Listening>> = (0..workers).map(|_| Vec::new()).collect();
    let mut files = SocketFiles::default();
    for listener in &config.listeners {
        let named = || {
            format!(
                "listener {:?} cannot be bound to {}",
                listener.name.as_str(),
                listener.address
            )
        };
        let shared = match &listener.address {
            Address::Inet(address) => {
                // It is not listened on: who connects meanwhile would be turned away.
                drop(socket(*address, false).with_context(named)?);
                None
            }
            Address::Unix(path) => {
                let socket = files.bind(path, listener.mode).with_context(named)?;
                Some(socket)
            }
        };
        for worker in &mut bound {
            let socket = match (&listener.address, &shared) {
                (Address::Inet(address), _) => {
                    BoundSocket::Tcp(listening(*address, true).with_context(named)?)
                }
                (Address::Unix(_), Some(shared)) => {
                    BoundSocket::Unix(shared.try_clone().with_context(named)?)
                }
                (Address::Unix(_), None) => continue,
            };
            worker.push(Listening {
                name: listener.name.clone(),
                socket,
                tls: listener.tls.is_some(),
            });
        }
    }
    let admin = config.admin.address.map(|address| {
        listening(address, false)
            .with_context(|| format!("[admin].address cannot be bound to {address}"))
    });
    Ok(Bound {
        workers: bound,
        admin: admin.transpose()?,
        files,
    })
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
