//! Signals, received from the first moment on by a thread of their own.
//!
//! Until a handler is installed SIGHUP and SIGUSR1 would end the process, so this comes before everything else. The
//! thread outlives the framework's runtimes and only passes words on.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

/// How the process is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    /// Not at all.
    No,
    /// After what is in flight (SIGTERM).
    Drain,
    /// Now (SIGINT).
    Now,
}

/// What signals say. Clones hear the same.
#[derive(Clone)]
pub(super) struct Signals {
    /// SIGHUP: read the configuration again.
    pub reload: Arc<Notify>,
    /// SIGUSR1: reopen log files.
    pub reopen: Arc<Notify>,
    /// SIGUSR2: replace the binary.
    pub upgrade: Arc<Notify>,
    /// SIGTERM and SIGINT.
    pub stop: watch::Receiver<Stop>,
}

/// Installs the handlers and starts the thread.
pub(super) fn listen() -> std::io::Result<Signals> {
    let (stop_sender, stop) = watch::channel(Stop::No);
    let signals = Signals {
        reload: Arc::default(),
        reopen: Arc::default(),
        upgrade: Arc::default(),
        stop,
    };
    let (ready_sender, ready) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let heard = signals.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async move {
                let installed = Handlers::install();
                match installed {
                    Ok(handlers) => {
                        let _ = ready_sender.send(Ok(()));
                        handlers.pass_on(&heard, &stop_sender).await;
                    }
                    Err(error) => {
                        let _ = ready_sender.send(Err(error));
                    }
                }
            });
        })?;
    ready.recv().map_err(std::io::Error::other)??;
    Ok(signals)
}

struct Handlers {
    hangup: tokio::signal::unix::Signal,
    reopen: tokio::signal::unix::Signal,
    upgrade: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl Handlers {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn pass_on(mut self, signals: &Signals, stop: &watch::Sender<Stop>) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => signals.reload.notify_one(),
                _ = self.reopen.recv() => signals.reopen.notify_one(),
                _ = self.upgrade.recv() => signals.upgrade.notify_one(),
                // A repeated SIGTERM is no order to cut anything off: supervisors and `timeout` send it twice.
                _ = self.terminate.recv() => stop.send_modify(|stop| *stop = (*stop).max(Stop::Drain)),
                _ = self.interrupt.recv() => stop.send_modify(|stop| *stop = Stop::Now),
                // The framework's word for handing sockets over; never meant by us.
                _ = self.quit.recv() => log::warn!("SIGQUIT is ignored; SIGTERM stops the gateway"),
            }
        }
    }
}
