//! Connections to endpoints that are kept for the next request. One set per worker.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::net::TcpStream;

use crate::config::Upstream;

/// How connections of an upstream are kept.
pub(super) struct Keeping {
    most: usize,
    idle: Duration,
}

impl Keeping {
    /// As the upstream says; `None` when it keeps nothing.
    pub(super) fn of(upstream: &Upstream) -> Option<Self> {
        (upstream.keepalive > 0).then_some(Self {
            most: upstream.keepalive as usize,
            idle: upstream.idle_timeout,
        })
    }
}

/// Kept connections by address. The one used last is used next, so that those not needed grow old and go.
pub(crate) struct KeptConnections {
    state: Mutex<State>,
    /// Most of all together.
    most: usize,
}

#[derive(Default)]
struct State {
    by_address: FxHashMap<SocketAddr, VecDeque<Kept>>,
    count: usize,
}

struct Kept {
    socket: TcpStream,
    until: Instant,
}

impl KeptConnections {
    /// Room for `most` connections.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            state: Mutex::default(),
            most,
        }
    }

    /// A connection to `address` that is still open, as far as this side knows.
    pub(super) fn take(&self, address: SocketAddr) -> Option<TcpStream> {
        let state = &mut *self.state.lock();
        let kept = state.by_address.get_mut(&address)?;
        while let Some(last) = kept.pop_back() {
            state.count -= 1;
            if is_open(&last.socket) {
                return Some(last.socket);
            }
        }
        None
    }

    /// Keeps a connection, if there is room. When there is none the new one goes: a place is worth most to whoever
    /// uses it again soonest, and the oldest leave by themselves.
    pub(super) fn put(&self, address: SocketAddr, socket: TcpStream, keeping: &Keeping) {
        let state = &mut *self.state.lock();
        let kept = state.by_address.entry(address).or_default();
        if state.count < self.most && kept.len() < keeping.most {
            kept.push_back(Kept {
                socket,
                until: Instant::now() + keeping.idle,
            });
            state.count += 1;
        }
    }

    /// Closes what is too old, or was closed by the endpoint.
    pub(crate) fn sweep(&self, now: Instant) {
        let state = &mut *self.state.lock();
        let mut count = 0;
        state.by_address.retain(|_, kept| {
            kept.retain(|kept| now < kept.until && is_open(&kept.socket));
            count += kept.len();
            !kept.is_empty()
        });
        state.count = count;
    }
}

/// Whether nothing came: neither an end nor bytes nobody asked for. Costs no system call while the runtime has seen no
/// event of the socket.
fn is_open(socket: &TcpStream) -> bool {
    matches!(socket.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
