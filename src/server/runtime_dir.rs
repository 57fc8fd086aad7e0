//! The runtime directory: pid file and admin socket, private to the service user.

use std::fs::{self, DirBuilder, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Name of the admin socket in the directory.
pub(super) const ADMIN_SOCKET: &str = "admin.sock";
const PID_FILE: &str = "tollgate.pid";

/// The directory, claimed by this process.
pub(super) struct RuntimeDir {
    path: PathBuf,
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
    pub(super) fn claim(path: &Path) -> anyhow::Result<Self> {
        if !path.is_dir() {
            let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
            created.with_context(|| format!("runtime_dir {} cannot be created", path.display()))?;
        }
        check_private(path)?;
        let socket = path.join(ADMIN_SOCKET);
        if UnixStream::connect(&socket).is_ok() {
            bail!(
                "another gateway is running with runtime_dir {}",
                path.display()
            );
        }
        let _ = fs::remove_file(&socket);
        let pid_file = path.join(PID_FILE);
        let written = fs::File::create(&pid_file)
            .and_then(|mut file| writeln!(file, "{}", std::process::id()));
        written.with_context(|| format!("{} cannot be written", pid_file.display()))?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Binds the admin socket, mode 0600.
    pub(super) fn bind_admin(&self) -> anyhow::Result<UnixListener> {
        let path = self.path.join(ADMIN_SOCKET);
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("{} cannot be bound", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Removes what was put there.
    pub(super) fn release(&self) {
        let _ = fs::remove_file(self.path.join(ADMIN_SOCKET));
        let _ = fs::remove_file(self.path.join(PID_FILE));
    }
}
