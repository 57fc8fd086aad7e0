//! The last step of a start: every listener takes a connection from this process, accepted by a worker.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::gateway::State;
use crate::server::listeners::Shared;

/// Between two looks whether a connection was accepted, and between two tries.
const LOOK: Duration = Duration::from_millis(5);
/// How long one connection may wait to be accepted.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where to connect to: each address once, with the name of its listener.
pub(in crate::server) fn targets(sockets: &[Shared]) -> Vec<(String, SocketAddr)> {
    let mut targets: Vec<(String, SocketAddr)> = Vec::new();
    for socket in sockets {
        let Some(address) = socket.reached_at() else {
            continue;
        };
        if targets.iter().all(|(_, known)| *known != address) {
            targets.push((socket.name.clone(), address));
        }
    }
    targets
}

/// Returns when every listener has accepted a connection. A listener that does not is tried again, and named.
pub(in crate::server) async fn all(targets: &[(String, SocketAddr)], state: &State) {
    for (name, address) in targets {
        if !is_ours(address.ip()) {
            // A virtual address that another host has at the moment would answer for it.
            log::info!("listener {name}: {address} is not on this host now and not probed");
            continue;
        }
        while let Err(why) = one(*address, state).await {
            log::error!("listener {name} does not answer on {address}: {why}; not ready");
            tokio::time::sleep(PATIENCE).await;
        }
    }
}

async fn one(address: SocketAddr, state: &State) -> Result<(), String> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(|error| error.to_string())?;
    let mut from = address;
    from.set_port(0);
    let from = socket
        .bind(from)
        .and_then(|()| socket.local_addr())
        .map_err(|error| error.to_string())?;
    state.own.expect(from);
    let deadline = Instant::now() + PATIENCE;
    let answered = async {
        let _stream = socket.connect(address).await.map_err(|e| e.to_string())?;
        while state.own.is_expected(from) {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    let outcome = tokio::time::timeout_at(deadline, answered).await;
    state.own.forget(from);
    outcome.unwrap_or_else(|_| Err(format!("not accepted within {PATIENCE:?}")))
}

/// Whether an interface of this host has the address. When that cannot be told it is taken for ours.
fn is_ours(ip: IpAddr) -> bool {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return true;
    };
    ip.is_loopback()
        || interfaces
            .filter_map(|interface| interface.address)
            .any(|address| {
                let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
                let v6 = address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
                v4.or(v6) == Some(ip)
            })
}
