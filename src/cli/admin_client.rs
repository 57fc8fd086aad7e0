//! Asking the running gateway through its admin socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;
use serde::de::DeserializeOwned;

use super::output::Shown;

/// Longest wait for an answer: a reload of a large configuration included.
const PATIENCE: Duration = Duration::from_secs(60);

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

    /// One in a directory that was come upon.
    pub(super) fn found(directory: PathBuf) -> Self {
        let found = true;
        Self { directory, found }
    }

    /// Connects. One that was found must be served by the caller's own user or by root: whoever else put it there would
    /// answer in the gateway's name.
    fn connect(&self) -> anyhow::Result<UnixStream> {
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
}

/// One request to the admin socket: status, and what the body says. A body that is not understood (the gateway may be of
/// another version) is told of, and says nothing.
pub(super) fn call<T: DeserializeOwned + Default>(
    socket: &AdminSocket,
    method: &str,
    path: &str,
) -> anyhow::Result<(u16, T)> {
    let (status, body) = exchange(socket, method, path, "")?;
    if !(200..300).contains(&status) && status != 422 {
        eprintln!("{}", body.trim());
        return Err(Shown.into());
    }
    let answer = serde_json::from_str(&body).unwrap_or_else(|error| {
        eprintln!("the answer to {method} {path} is not understood: {error}");
        T::default()
    });
    Ok((status, answer))
}

/// One request to the admin socket: status and body, whatever they are.
pub(super) fn exchange(
    socket: &AdminSocket,
    method: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<(u16, String)> {
    let mut stream = socket.connect()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the gateway's answer is cut short")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .context("no status")?;
    Ok((status, body.to_owned()))
}
