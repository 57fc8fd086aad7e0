//! Binding, before anything runs: an address that cannot be had ends the start with a message.
//!
//! Each worker gets its own socket on each address (`SO_REUSEPORT`), so workers share no accept queue. The kernel would
//! let a second gateway join them in silence and take half the connections; a first bind without the option finds out.
//!
//! Sockets that came with the process are used instead where they fit: all of them are accepted from, each by one
//! worker at least, since connections may wait in any of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use anyhow::{Context, anyhow, bail};
use socket2::{Domain, Protocol, Socket, Type};

use super::inherited::Inherited;
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
    /// For each worker its sockets, at least one a listener.
    pub workers: Vec<Vec<Listening>>,
    /// The admin listener's.
    pub admin: Option<TcpListener>,
    /// Every listening socket once, to be passed on, and where a connection reaches it.
    pub all: Vec<Shared>,
}

/// A socket beside those that accept: the same queue, kept to be passed on.
pub(super) struct Shared {
    /// The listener, as messages name it.
    pub name: String,
    /// Where it is bound.
    pub address: SocketAddr,
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
    for listener in &config.listeners {
        let name = listener.name.as_str();
        let named = || {
            let address = listener.address;
            format!("listener {name:?} cannot be bound to {address}")
        };
        let mut sockets = offered.take(listener.address, Some(name));
        if sockets.is_empty() {
            // It is not listened on: who connects meanwhile would be turned away.
            drop(socket(listener.address, false).with_context(named)?);
            for _ in 0..workers {
                sockets.push(listening(listener.address, true).with_context(named)?);
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
        let inherited = offered.take(address, None).into_iter().next();
        inherited
            .map_or_else(|| listening(address, false), Ok)
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
        all,
    })
}

impl Shared {
    fn of(name: &str, socket: &TcpListener) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            address: socket.local_addr()?,
            socket: socket.try_clone()?.into(),
        })
    }

    /// Where a connection of this host's own reaches it.
    pub(super) fn reached_at(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let mut address = self.address;
        address.set_ip(ip);
        address
    }
}

/// Inherited sockets that nobody took yet.
struct Offered(Vec<(String, SocketAddr, TcpListener)>);

impl Offered {
    fn of(inherited: Inherited) -> anyhow::Result<Self> {
        let addressed = inherited.sockets.into_iter().map(|(name, socket)| {
            let address = socket.local_addr();
            let address = address.with_context(|| format!("inherited socket {name:?}"))?;
            Ok((name, address, socket))
        });
        addressed.collect::<anyhow::Result<_>>().map(Self)
    }

    /// The sockets bound to `address`; and those that go by `name`, wherever they are bound: who names a socket after a
    /// listener means it.
    fn take(&mut self, address: SocketAddr, name: Option<&str>) -> Vec<TcpListener> {
        let fits = |(given, bound, _): &mut (String, SocketAddr, TcpListener)| {
            let meant = name == Some(given.as_str());
            if meant && *bound != address {
                log::warn!(
                    "listener {given:?} is served on the inherited socket {bound}, not on {address}"
                );
            }
            meant || *bound == address
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
fn share_out(sockets: Vec<TcpListener>, workers: usize) -> std::io::Result<Vec<Vec<TcpListener>>> {
    let mut shares: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for worker in sockets.len()..workers {
        shares[worker].push(sockets[worker % sockets.len()].try_clone()?);
    }
    for (index, socket) in sockets.into_iter().enumerate() {
        shares[index % workers].push(socket);
    }
    Ok(shares)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(count: usize) -> Vec<TcpListener> {
        (0..count)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("bound"))
            .collect()
    }

    #[test]
    fn every_worker_gets_a_socket_and_every_socket_a_worker() {
        for (count, workers) in [(1, 4), (3, 2), (2, 2), (4, 3), (1, 1), (2, 5)] {
            let sockets = sockets(count);
            let port = |socket: &TcpListener| socket.local_addr().expect("address").port();
            let mut all: Vec<u16> = sockets.iter().map(port).collect();
            let shares = share_out(sockets, workers).expect("shared");
            assert_eq!(shares.len(), workers);
            assert!(shares.iter().all(|share| !share.is_empty()));
            let mut given: Vec<u16> = shares.iter().flatten().map(port).collect();
            given.sort_unstable();
            given.dedup();
            all.sort_unstable();
            assert_eq!(given, all, "{count} sockets, {workers} workers");
        }
    }

    #[test]
    fn inherited_sockets_fit_by_address_or_by_name() {
        let [a, b, c] = <[TcpListener; 3]>::try_from(sockets(3)).expect("three");
        let at = |socket: &TcpListener| socket.local_addr().expect("address");
        let (at_a, at_b) = (at(&a), at(&b));
        let mut offered = Offered::of(Inherited {
            sockets: vec![("x".into(), a), ("public".into(), b), ("y".into(), c)],
            channel: None,
        })
        .expect("offered");
        assert_eq!(offered.take(at_a, Some("other")).len(), 1);
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let named = offered.take(elsewhere, Some("public"));
        assert_eq!(named.iter().map(at).collect::<Vec<_>>(), [at_b]);
        assert!(offered.take(elsewhere, None).is_empty());
        let message = offered.nothing_left().expect_err("one is left").to_string();
        assert!(message.contains("\"y\""), "{message}");
    }
}
