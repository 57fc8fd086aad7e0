//! The life of the process: starting, serving, not ready, no longer accepting, draining, gone.
//!
//! The framework sleeps its whole grace period even when nothing is in flight, so the drain is done here, before it is
//! told anything; what it hears is only "stop now".
//!
//! A process that was started to replace another one prepares everything, and serves when the other has handed over.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::channel;
use super::doors::Doors;
use super::notify::Manager;
use super::probe;
use super::runtime_dir::RuntimeDir;
use super::upgrade::Upgrader;
use crate::gateway::{Phase, State};
use crate::server::signals::{Signals, Stop};

/// Between two looks at what is in flight.
const LOOK: Duration = Duration::from_millis(10);
/// How long the process to be replaced may take to hand over: longer than it waits for this one.
const HAND_OVER: Duration = Duration::from_secs(60);
/// What is left of the grace period when idle connections are ended: time for a request that comes at that moment.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long the process stays for who asked for the upgrade to read the answer.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Starts serving, waits for the word to stop, and drains.
pub(in crate::server) struct Lifecycle {
    /// Facts.
    pub state: Arc<State>,
    /// Who is told of it.
    pub manager: Arc<Manager>,
    /// Every listener with an address at which it is reached.
    pub targets: Vec<(String, SocketAddr)>,
    /// What the accept loops do.
    pub doors: Doors,
    /// Starts the process that replaces this one.
    pub upgrader: Arc<Upgrader>,
    /// The way to the process that this one replaces.
    pub channel: Mutex<Option<StdUnixStream>>,
    /// Answers the process that this one replaced about nonces, until that is gone.
    pub predecessor: Mutex<Option<JoinHandle<()>>>,
    /// Where pid file and admin socket are.
    pub directory: Arc<RuntimeDir>,
    /// Words from outside.
    pub signals: Signals,
}

/// How serving ended.
enum End {
    Told(Stop),
    HandedOver,
}

impl Lifecycle {
    /// Starts, and serves until it is told to stop or another process does.
    async fn live(&self, stop: &mut watch::Receiver<Stop>) -> End {
        let channel = self.channel.lock().take();
        let begun = async {
            match channel {
                Some(channel) => self.take_over(channel).await,
                None => {
                    self.doors.open();
                    self.begin().await;
                    self.manager.ready();
                    Ok(())
                }
            }
        };
        tokio::select! {
            told = told(stop, Stop::Drain) => return End::Told(told),
            begun = begun => if let Err(error) = begun {
                log::error!("{error:#}");
                return End::Told(Stop::Now);
            },
        }
        loop {
            tokio::select! {
                told = told(stop, Stop::Drain) => return End::Told(told),
                () = self.upgrader.asked() => {}
                () = self.signals.upgrade.notified() => {}
            }
            tokio::select! {
                // The word to stop ends the new process as well.
                told = told(stop, Stop::Drain) => return End::Told(told),
                handed_over = self.upgrader.once(&self.doors) => if handed_over {
                    return End::HandedOver;
                },
            }
        }
    }

    /// Ready once every listener has answered.
    async fn begin(&self) {
        probe::all(&self.targets, &self.state).await;
        self.state.enter(Phase::Serving);
        log::info!("ready: every listener answers");
    }

    /// Serves in place of the process at the other end of `channel`.
    async fn take_over(&self, channel: StdUnixStream) -> anyhow::Result<()> {
        channel.set_nonblocking(true)?;
        let mut channel = UnixStream::from_std(channel)?;
        let carried = tokio::time::timeout(HAND_OVER, channel::ready(&mut channel)).await;
        let carried = carried.context("the process to be replaced did not hand over")??;
        log::info!("taking over {}", carried.describe());
        carried.give_to(&self.state);
        self.doors.open();
        self.begin().await;
        self.directory.take_over()?;
        self.manager.taking_over();
        self.state.metrics.upgraded(true);
        // If it is gone by now nobody else serves, and nothing is left to be told.
        if channel::serving(&mut channel).await.is_ok() {
            let answering = channel::answer(channel, Arc::clone(&self.state))?;
            *self.predecessor.lock() = Some(answering);
        }
        Ok(())
    }

    /// Another process serves; what began here ends here. Nobody is in a hurry: a client that sends another request on a
    /// connection of before is told with its answer to connect anew, and only one that says nothing until its time is
    /// over, or ours, is left without a word. Over HTTP/2 there is a word for it.
    async fn fade_out(&self) {
        self.state.enter(Phase::Draining);
        self.doors.give_away();
        self.upgrader.close_sockets();
        let grace = self.state.snapshot().map(|s| s.config.server.grace_period);
        let grace = grace.unwrap_or_default();
        let began = Instant::now();
        log::info!("draining for at most {grace:?}; another process serves");
        self.end_tunnels(began + grace, grace);
        self.doors.end_idle(began + grace.saturating_sub(FAREWELL));
        if !self.idle_by(began + grace).await {
            self.cut_off(grace);
        }
        // The process before this one asks about nonces through this one, as long as it has requests.
        while !self.is_last() && Instant::now() < began + grace {
            tokio::time::sleep(LOOK).await;
        }
        let deadline = Instant::now() + LAST_WORD;
        while !self.upgrader.all_answered() && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether no process before this one is left.
    fn is_last(&self) -> bool {
        let predecessor = self.predecessor.lock();
        predecessor.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Whether everything has ended before `deadline`.
    async fn idle_by(&self, deadline: Instant) -> bool {
        loop {
            if self.state.in_flight() == 0 && self.state.admission.open() == 0 {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn cut_off(&self, grace: Duration) {
        log::warn!(
            "{} requests were still in flight after {grace:?} and are cut off",
            self.state.in_flight()
        );
    }

    async fn drain(&self) {
        let Some(snapshot) = self.state.snapshot() else {
            return;
        };
        let (delay, grace) = (
            snapshot.config.server.drain_delay,
            snapshot.config.server.grace_period,
        );
        drop(snapshot);
        self.state.enter(Phase::Leaving);
        self.manager.stopping();
        if !delay.is_zero() {
            log::info!("stopping: not ready any more, still accepting for {delay:?}");
            self.manager.status(&format!(
                "Not ready any more, still accepting for {delay:?}"
            ));
            tokio::time::sleep(delay).await;
        }
        log::info!("stopping: no longer accepting, draining for at most {grace:?}");
        self.manager.status(&format!(
            "Draining: {} requests in flight, at most {grace:?}",
            self.state.in_flight()
        ));
        self.state.enter(Phase::Draining);
        self.upgrader.close_sockets();
        self.doors.close();
        let deadline = Instant::now() + grace;
        self.end_tunnels(deadline, grace);
        if !self.idle_by(deadline).await {
            self.cut_off(grace);
        }
    }

    /// Tunnels never end by themselves: those that are open then hear of the end a moment before `deadline`, which is `grace`
    /// from now.
    fn end_tunnels(&self, deadline: Instant, grace: Duration) {
        let before = FAREWELL.min(grace / 2);
        let moment = deadline.into_std();
        self.state
            .end_at(moment.checked_sub(before).unwrap_or(moment));
    }
}

#[async_trait]
impl ShutdownSignalWatch for Lifecycle {
    async fn recv(&self) -> ShutdownSignal {
        let mut stop = self.signals.stop.clone();
        let end = self.live(&mut stop).await;
        self.upgrader.refuse();
        let ending = async {
            match end {
                End::Told(Stop::Drain) => self.drain().await,
                End::Told(_) => {}
                End::HandedOver => self.fade_out().await,
            }
        };
        tokio::select! {
            () = ending => {}
            _ = told(&mut stop, Stop::Now) => log::warn!("stopping now"),
        }
        if self.directory.is_ours() {
            self.manager.stopping();
        }
        self.state.enter(Phase::Draining);
        self.upgrader.close_sockets();
        if self.directory.is_ours() {
            self.doors.close();
        }
        self.doors.end_idle(Instant::now());
        ShutdownSignal::FastShutdown
    }
}

/// Waits for a word at least as strong.
async fn told(stop: &mut watch::Receiver<Stop>, least: Stop) -> Stop {
    let told = stop.wait_for(|stop| *stop >= least).await;
    told.map_or(Stop::Now, |stop| *stop)
}
