//! Binding, before anything runs: an address that cannot be had ends the start with a message.
//!
//! Each worker gets its own socket on each address (`SO_REUSEPORT`), so workers share no accept queue. The kernel would
//! let a second gateway join them in silence and take half the connections; a first bind without the option finds out.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, anyhow};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Config;
use crate::primitives::ListenerName;

/// Connections that may wait to be accepted; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 65_535;

/// A listener's socket of one worker.
pub(super) struct Listening {
    /// Name of the listener.
    pub name: ListenerName,
    /// Its socket.
    pub socket: TcpListener,
    /// Connections begin with a TLS handshake.
    pub tls: bool,
}

/// All sockets.
pub(super) struct Bound {
    /// For each worker one socket a listener.
    pub workers: Vec<Vec<Listening>>,
    /// The admin listener's.
    pub admin: Option<TcpListener>,
}

/// Binds every address of the configuration.
pub(super) fn bind(config: &Config, workers: usize) -> anyhow::Result<Bound> {
    let mut bound: Vec<Vec<Listening>> = (0..workers).map(|_| Vec::new()).collect();
    for listener in &config.listeners {
        let named = || {
            format!(
                "listener {:?} cannot be bound to {}",
                listener.name.as_str(),
                listener.address
            )
        };
        // It is not listened on: who connects meanwhile would be turned away.
        drop(socket(listener.address, false).with_context(named)?);
        for worker in &mut bound {
            let socket = listening(listener.address, true).with_context(named)?;
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
    })
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
            std::io::ErrorKind::AddrInUse => anyhow!("the address is in use by another process"),
            std::io::ErrorKind::PermissionDenied => {
                anyhow!("not permitted; ports below 1024 need CAP_NET_BIND_SERVICE")
            }
            _ => error.into(),
        })?;
    Ok(socket)
}
