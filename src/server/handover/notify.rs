//! Words to the service manager (`sd_notify(3)`), and its watchdog.
//!
//! One datagram each, never waited for: a manager that does not read loses words, and the gateway goes on.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;

/// The service manager, if there is one that listens.
#[derive(Default)]
pub(in crate::server) struct Manager {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// The status told last.
    told: Mutex<String>,
}

impl Manager {
    /// The manager that the environment names.
    pub(in crate::server) fn of_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        // Without a process id it is meant for whoever got it.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0);
        Self {
            to: socket.as_deref().and_then(connect),
            watchdog: watchdog.map(Duration::from_micros),
            told: Mutex::default(),
        }
    }

    /// How long the manager waits for a sign of life before it ends the process.
    pub(in crate::server) fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.to.is_some())
    }

    /// The gateway serves, or does so with another configuration.
    pub(in crate::server) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is being read again; [`ready`](Self::ready) ends it.
    pub(in crate::server) fn reloading(&self) {
        let micros = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map(Duration::from)
            .map_or(0, |now| now.as_micros());
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The gateway is about to end.
    pub(in crate::server) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says that this process is the service from now on, and ready.
    pub(in crate::server) fn taking_over(&self) {
        self.tell(&format!("MAINPID={}\nREADY=1", std::process::id()));
    }

    /// A sign of life.
    pub(in crate::server) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// What the gateway is about, in one line; told when it changed.
    pub(in crate::server) fn status(&self, text: &str) {
        let mut told = self.told.lock();
        if *told != text {
            text.clone_into(&mut told);
            self.tell(&format!("STATUS={}", text.replace('\n', " ")));
        }
    }

    fn tell(&self, words: &str) {
        if let Some((socket, address)) = &self.to
            && let Err(error) = socket.send_to_addr(words.as_bytes(), address)
        {
            log::debug!("the service manager was not told {words:?}: {error}");
        }
    }
}

/// A leading `@` stands for a name that is in no directory.
fn connect(name: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    };
    let socket = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    match (socket, address) {
        (Ok(socket), Ok(address)) => Some((socket, address)),
        (Err(error), _) | (_, Err(error)) => {
            log::warn!("NOTIFY_SOCKET {} cannot be used: {error}", name.display());
            None
        }
    }
}
