//! The runtime directory: pid file and admin socket, private to the service user.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::getppid;
use socket2::{Domain, SockAddr, Socket, Type};

/// Name of the admin socket in the directory.
pub(in crate::server) const ADMIN_SOCKET: &str = "admin.sock";
/// Name of the socket while another process still has the directory.
const NEXT: &str = "admin.sock.next";
/// A second name for it, for the moment in which it may be replaced.
const ASIDE: &str = "admin.sock.aside";
const PID_FILE: &str = "tollgate.pid";
/// Connections that may wait at the admin socket.
const BACKLOG: i32 = 128;

/// The directory, this process' or about to be.
pub(in crate::server) struct RuntimeDir {
    path: PathBuf,
    ours: AtomicBool,
}

/// Whoever can write to the directory could put a socket of his own there and answer in our name.
fn check_private(path: &Path) -> anyhow::Result<()> {
    let facts = fs::metadata(path).with_context(|| format!("runtime_dir {}", path.display()))?;
    let me = nix::unistd::geteuid().as_raw();
    if facts.uid() != me && facts.uid() != 0 {
        bail!(
            "runtime_dir {} belongs to user {}, not to the one this runs as ({me})",
            path.display(),
            facts.uid()
        );
    }
    if facts.mode() & 0o022 != 0 {
        bail!(
            "runtime_dir {} can be written by others (mode {:o}); it must be private: chmod go-w",
            path.display(),
            facts.mode() & 0o7777
        );
    }
    Ok(())
}

impl RuntimeDir {
    /// Creates the directory and writes the pid file. Refuses when a live gateway has it.
    pub(in crate::server) fn claim(path: &Path) -> anyhow::Result<Self> {
        create(path)?;
        if UnixStream::connect(path.join(ADMIN_SOCKET)).is_ok() {
            bail!(
                "another gateway is running with runtime_dir {}",
                path.display()
            );
        }
        for left in [ADMIN_SOCKET, NEXT, ASIDE] {
            let _ = fs::remove_file(path.join(left));
        }
        let directory = Self::at(path, true);
        directory.write_pid()?;
        Ok(directory)
    }

    /// Prepares to [take over](Self::take_over) the directory from the process that started this one. Refuses when
    /// another gateway has it.
    pub(in crate::server) fn prepare(path: &Path) -> anyhow::Result<Self> {
        create(path)?;
        if let Ok(socket) = UnixStream::connect(path.join(ADMIN_SOCKET)) {
            let of = getsockopt(&socket, PeerCredentials)?.pid();
            if of != getppid().as_raw() {
                bail!(
                    "another gateway (process {of}) is running with runtime_dir {}",
                    path.display()
                );
            }
        }
        let _ = fs::remove_file(path.join(NEXT));
        Ok(Self::at(path, false))
    }

    fn at(path: &Path, ours: bool) -> Self {
        Self {
            path: path.to_owned(),
            ours: AtomicBool::new(ours),
        }
    }

    /// Whether pid file and admin socket are this process'.
    pub(in crate::server) fn is_ours(&self) -> bool {
        self.ours.load(Ordering::Acquire)
    }

    /// The directory.
    pub(in crate::server) fn path(&self) -> &Path {
        &self.path
    }

    /// Binds the admin socket, mode 0600; under another name as long as the directory is somebody else's.
    pub(in crate::server) fn bind_admin(&self) -> anyhow::Result<UnixListener> {
        let name = if self.is_ours() { ADMIN_SOCKET } else { NEXT };
        let path = self.path.join(name);
        let listening = bind_private(&path).and_then(|socket| {
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        });
        listening.with_context(|| format!("{} cannot be bound", path.display()))
    }

    /// Puts socket and pid file in place of those of the process that is replaced: whoever connects finds one or the
    /// other.
    pub(in crate::server) fn take_over(&self) -> anyhow::Result<()> {
        let (next, socket) = (self.path.join(NEXT), self.path.join(ADMIN_SOCKET));
        fs::rename(&next, &socket)
            .with_context(|| format!("{} cannot be renamed", next.display()))?;
        self.ours.store(true, Ordering::Release);
        self.write_pid()
    }

    /// Keeps the admin socket under a second name before another process puts its own in its place.
    pub(in crate::server) fn keep_aside(&self) {
        let aside = self.path.join(ASIDE);
        let _ = fs::remove_file(&aside);
        if let Err(error) = fs::hard_link(self.path.join(ADMIN_SOCKET), aside) {
            log::warn!("the admin socket is not where it was put: {error}");
        }
    }

    /// Puts the admin socket and the pid file back as they were.
    pub(in crate::server) fn put_back(&self) {
        let aside = self.path.join(ASIDE);
        let _ = fs::rename(&aside, self.path.join(ADMIN_SOCKET));
        // Where both are names of the same socket, a rename does nothing.
        let _ = fs::remove_file(&aside);
        let _ = fs::remove_file(self.path.join(NEXT));
        if let Err(error) = self.write_pid() {
            log::warn!("{error:#}");
        }
    }

    /// The directory is another process' from now on.
    pub(in crate::server) fn given_away(&self) {
        self.ours.store(false, Ordering::Release);
        let _ = fs::remove_file(self.path.join(ASIDE));
    }

    fn write_pid(&self) -> anyhow::Result<()> {
        let pid_file = self.path.join(PID_FILE);
        let partial = pid_file.with_extension("partial");
        let written = fs::write(&partial, format!("{}\n", std::process::id()))
            .and_then(|()| fs::rename(&partial, &pid_file));
        written.with_context(|| format!("{} cannot be written", pid_file.display()))
    }

    /// Removes what was put there, unless it is another process' now.
    pub(in crate::server) fn release(&self) {
        if self.is_ours() {
            let _ = fs::remove_file(self.path.join(ADMIN_SOCKET));
            let _ = fs::remove_file(self.path.join(PID_FILE));
        }
    }
}

/// A socket with its mode, not listening yet: nobody can connect to it under another one.
fn bind_private(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(socket)
}

fn create(path: &Path) -> anyhow::Result<()> {
    if !path.is_dir() {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
        created.with_context(|| format!("runtime_dir {} cannot be created", path.display()))?;
    }
    check_private(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_socket_is_private_before_anybody_can_connect() {
        let path = std::env::temp_dir().join(format!("tollgate-test-{:x}", rand::random::<u64>()));
        let socket = bind_private(&path).expect("bound");
        let mode = fs::metadata(&path).expect("there").mode();
        let early = UnixStream::connect(&path).expect_err("too early");
        socket.listen(BACKLOG).expect("listening");
        let late = UnixStream::connect(&path);
        fs::remove_file(&path).expect("removed");
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(early.kind(), io::ErrorKind::ConnectionRefused);
        assert!(late.is_ok());
    }
}
