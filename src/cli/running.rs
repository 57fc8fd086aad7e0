//! Finding the running gateway, and making sure that it is one.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

use super::admin_client::call;
use crate::api::Info;
use crate::server;

/// The admin socket of a gateway.
#[derive(Clone, Debug)]
pub(super) struct AdminSocket {
    directory: PathBuf,
    /// The configuration did not name it: anybody may have put it there.
    found: bool,
}

impl AdminSocket {
    /// The one in the directory that the configuration names.
    pub(super) fn configured(directory: PathBuf) -> Self {
        let found = false;
        Self { directory, found }
    }

    /// Connects. One that was found must be served by the caller's own user or by root: whoever else put it there would
    /// answer in the gateway's name.
    pub(super) fn connect(&self) -> anyhow::Result<UnixStream> {
        let path = self.directory.join("admin.sock");
        let stream = UnixStream::connect(&path)
            .with_context(|| format!("no gateway answers at {}; is it running?", path.display()))?;
        let owner = getsockopt(&stream, PeerCredentials)?.uid();
        if self.found && owner != 0 && owner != geteuid().as_raw() {
            bail!(
                "{} is served by user {owner}, who is neither you nor root",
                path.display()
            );
        }
        Ok(stream)
    }

    /// Whether a gateway with the file `wanted` serves it.
    fn runs(&self, wanted: &Path) -> bool {
        let info = call::<Info>(self, "GET", "/info");
        info.is_ok_and(|(_, info)| Path::new(&info.config_file) == wanted)
    }
}

/// The admin socket of the gateway that runs with this file.
pub(super) fn socket_of(path: &Path) -> anyhow::Result<AdminSocket> {
    match server::load(path) {
        Ok(loaded) => Ok(AdminSocket::configured(loaded.config.server.runtime_dir)),
        // A file that is broken now was good when the gateway read it.
        Err(problems) => Ok(running(path).ok_or(problems)?),
    }
}

/// The admin socket where the file is broken: what can be read of it may still say where the gateway is. Otherwise
/// every admin socket of this host is asked, as far as its owner is one to be asked.
fn running(path: &Path) -> Option<AdminSocket> {
    let wanted = std::path::absolute(path).ok()?;
    let named = server::runtime_dir_of(path).map(AdminSocket::configured);
    if let Some(named) = named.filter(|socket| socket.runs(&wanted)) {
        return Some(named);
    }
    let sockets = std::fs::read_to_string("/proc/net/unix").ok()?;
    let mut directories: Vec<&Path> = sockets
        .lines()
        .filter_map(|line| {
            let path = Path::new(line.split_whitespace().last()?);
            path.parent().filter(|_| line.ends_with("/admin.sock"))
        })
        .collect();
    directories.sort_unstable();
    directories.dedup();
    let found = directories.into_iter().map(|directory| AdminSocket {
        directory: directory.to_owned(),
        found: true,
    });
    found.into_iter().find(|socket| socket.runs(&wanted))
}
