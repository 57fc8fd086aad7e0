//! Sockets that came with the process: from the service manager (`LISTEN_FDS`), or from the process it replaces.
//!
//! Both use the same convention, descriptors from 3 on. The process that is replaced puts a channel of its own behind
//! the sockets, known by its name, and leaves `LISTEN_PID` out, as it cannot know it before there is a child.

use std::os::unix::net::UnixStream;

use anyhow::{Context, ensure};
use listenfd::ListenFd;
use socket2::SockRef;

use crate::server::listeners::BoundSocket;

/// Name of the descriptor that is the channel to the process to be replaced.
pub(in crate::server) const CHANNEL: &str = "tollgate-upgrade";

const AF_UNIX: i32 = 1;
const SOCK_STREAM: i32 = 1;

/// What came with the process.
#[derive(Default)]
pub(in crate::server) struct Inherited {
    /// Listening sockets with the names they were given.
    pub sockets: Vec<(String, BoundSocket)>,
    /// The channel to the process that started this one to be replaced by it.
    pub channel: Option<UnixStream>,
}

impl Inherited {
    /// Takes what there is. Called first of all: the variables that announce it are removed, which is sound only while
    /// there is one thread.
    pub(in crate::server) fn take() -> anyhow::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut found = Self::default();
        let mut all = ListenFd::from_env();
        for index in 0..all.len() {
            let name = names.next().unwrap_or_default();
            let numbered = || format!("descriptor {} of LISTEN_FDS ({name:?})", index + 3);
            if name == CHANNEL {
                found.channel = all
                    .take_custom(index, AF_UNIX, SOCK_STREAM, "channel")
                    .with_context(numbered)?;
            } else if let Some(socket) = take(&mut all, index).with_context(numbered)? {
                found.sockets.push((name.to_owned(), socket));
            }
        }
        Ok(found)
    }
}

/// The listening socket at this place, of either kind.
fn take(all: &mut ListenFd, index: usize) -> anyhow::Result<Option<BoundSocket>> {
    if let Ok(Some(socket)) = all.take_unix_listener(index) {
        check(&SockRef::from(&socket))?;
        return Ok(Some(BoundSocket::Unix(socket)));
    }
    let Some(socket) = all.take_tcp_listener(index)? else {
        return Ok(None);
    };
    check(&SockRef::from(&socket))?;
    Ok(Some(BoundSocket::Tcp(socket)))
}

fn check(socket: &SockRef<'_>) -> anyhow::Result<()> {
    ensure!(socket.is_listener()?, "does not listen");
    socket.set_nonblocking(true)?;
    Ok(())
}
