//! Ports that nothing else takes: below the ephemeral range, handed out once per process, and in blocks that a
//! file lock keeps from other test runs on the same machine.

use std::fs::{File, create_dir_all};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use socket2::{Domain, Socket, Type};

use super::holds_within;

const FIRST: u16 = 20_000;
const BLOCK: u16 = 100;
const BLOCKS: u16 = 120;

/// The blocks this process holds. The locks end with the process, whatever ends it.
struct Registry {
    held: Vec<Flock<File>>,
    left: Range<u16>,
    next_block: u16,
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

/// An address on the loopback interface where nobody listens, and where nobody but the caller will.
pub(crate) fn reserve() -> SocketAddr {
    let mut guard = REGISTRY
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let start = (std::process::id() % u32::from(BLOCKS)) as u16;
    let registry = guard.get_or_insert_with(|| Registry {
        held: Vec::new(),
        left: 0..0,
        next_block: start,
    });
    loop {
        let Some(port) = registry.left.next() else {
            registry.take_block();
            continue;
        };
        if is_free(port).is_ok() {
            return SocketAddr::from(([127, 0, 0, 1], port));
        }
    }
}

/// Binds without listening. A child that another test starts at this moment holds a copy of the socket until it has
/// become its program; a copy that does not listen is in nobody's way.
fn is_free(port: u16) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into())
}

/// A listener at a reserved address. One that was closed there a moment ago may live on in such a child for a while.
pub(crate) fn listen(address: SocketAddr) -> TcpListener {
    let mut listener = TcpListener::bind(address);
    holds_within(Duration::from_secs(10), || {
        if matches!(&listener, Err(e) if e.kind() == ErrorKind::AddrInUse) {
            listener = TcpListener::bind(address);
        }
        !matches!(&listener, Err(e) if e.kind() == ErrorKind::AddrInUse)
    });
    listener.unwrap_or_else(|e| panic!("listening on {address}: {e}"))
}

impl Registry {
    fn take_block(&mut self) {
        let directory =
            std::env::temp_dir().join(format!("tollgate-test-ports-{}", nix::unistd::getuid()));
        create_dir_all(&directory).unwrap();
        for _ in 0..BLOCKS {
            let block = self.next_block;
            self.next_block = (block + 1) % BLOCKS;
            let file = File::create(directory.join(block.to_string())).unwrap();
            if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                self.held.push(lock);
                let first = FIRST + block * BLOCK;
                self.left = first..first + BLOCK;
                return;
            }
        }
        panic!("every block of test ports is taken");
    }
}
