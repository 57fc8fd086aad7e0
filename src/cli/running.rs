//! Finding the running gateway, and making sure that it is one.

use std::path::Path;

use super::admin_client::{AdminSocket, call};
use crate::api::Info;
use crate::server;

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
    if let Some(named) = named.filter(|socket| runs(socket, &wanted)) {
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
    let found = directories
        .into_iter()
        .map(|directory| AdminSocket::found(directory.to_owned()));
    found.into_iter().find(|socket| runs(socket, &wanted))
}

/// Whether a gateway with the file `wanted` serves the socket.
fn runs(socket: &AdminSocket, wanted: &Path) -> bool {
    let info = call::<Info>(socket, "GET", "/info");
    info.is_ok_and(|(_, info)| Path::new(&info.config_file) == wanted)
}
