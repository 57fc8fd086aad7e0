//! Replacing the binary: the old process' side.
//!
//! The new binary is asked for its version, then to check the configuration, then started with every listening socket.
//! It builds everything and accepts nothing. When it is ready this process holds its accept loops, hands over what it
//! knows (nonces, limits, health), and waits until the new one has taken a connection on every listener. Connections
//! that come meanwhile wait in the kernel's queue, which both share. Until then every failure ends the new process, and
//! this one goes on as if nothing had been; from then on it drains.
//!
//! Between the moment the nonces are handed over and the end of this process a nonce is decided about in one place: the
//! new process. This one asks it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use command_fds::{CommandFdExt, FdMapping};
use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::carried::HandoverState;
use super::channel::{self, HandoverMessage, Remote};
use super::doors::Doors;
use super::inherited::CHANNEL;
use super::runtime_dir::RuntimeDir;
use crate::api::UpgradeReport;
use crate::gateway::State;
use crate::primitives::clock;
use crate::server::listeners::Shared;

/// How long the new binary may take to say its version, to check, to get ready, and to serve: together below the time
/// that the command which asks waits.
const VERSION: Duration = Duration::from_secs(5);
const CHECK: Duration = Duration::from_secs(20);
const START: Duration = Duration::from_secs(20);
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Starts successors on request.
pub(in crate::server) struct Upgrader {
    program: PathBuf,
    config: PathBuf,
    state: Arc<State>,
    directory: Arc<RuntimeDir>,
    /// Emptied when accepting ends: a socket is closed only with its last descriptor.
    sockets: Mutex<Vec<Shared>>,
    asked: Notify,
    waiting: Mutex<Vec<oneshot::Sender<UpgradeReport>>>,
    answering: AtomicUsize,
    last: Mutex<Option<UpgradeReport>>,
}

impl Upgrader {
    /// Upgrades to whatever is then where this program was started from, with the configuration at `config`.
    pub(in crate::server) fn new(
        config: PathBuf,
        state: Arc<State>,
        directory: Arc<RuntimeDir>,
        sockets: Vec<Shared>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            program: program()?,
            config,
            state,
            directory,
            sockets: Mutex::new(sockets),
            asked: Notify::new(),
            waiting: Mutex::default(),
            answering: AtomicUsize::new(0),
            last: Mutex::default(),
        })
    }

    /// Asks for an upgrade and waits for its end. `None` when the process is stopping instead.
    pub(in crate::server) async fn upgrade(&self) -> Option<UpgradeReport> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().push(sender);
        self.asked.notify_one();
        receiver.await.ok()
    }

    /// Comes when somebody asked.
    pub(in crate::server) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Nobody who asks from now on, or did so before, gets an upgrade.
    pub(in crate::server) fn refuse(&self) {
        self.waiting.lock().clear();
    }

    /// How the last upgrade ended; `None` before the first.
    pub(in crate::server) fn last(&self) -> Option<UpgradeReport> {
        self.last.lock().clone()
    }

    /// Counts a caller who must still be answered, until it is dropped.
    pub(in crate::server) fn answering(&self) -> Answering<'_> {
        self.answering.fetch_add(1, Ordering::AcqRel);
        Answering(&self.answering)
    }

    /// Whether every caller was answered.
    pub(in crate::server) fn all_answered(&self) -> bool {
        self.answering.load(Ordering::Acquire) == 0
    }

    /// Lets go of the listening sockets.
    pub(in crate::server) fn close_sockets(&self) {
        self.sockets.lock().clear();
    }

    /// Does it once, for everybody who asked until now; says whether another process serves now.
    pub(in crate::server) async fn once(&self, doors: &Doors) -> bool {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        log::info!("upgrading to {}", self.program.display());
        let mut version = None;
        let outcome = self.attempt(doors, &mut version).await;
        let moment = jiff::Timestamp::from_second(clock::unix_now().as_secs() as i64);
        let report = UpgradeReport {
            result: if outcome.is_ok() { "ok" } else { "error" }.into(),
            at: moment.unwrap_or_default().to_string(),
            error: outcome.as_ref().err().map(|error| format!("{error:#}")),
            pid: *outcome.as_ref().unwrap_or(&std::process::id()),
            version,
        };
        match &report.error {
            None => log::info!(pid = report.pid; "upgraded: another process serves now"),
            Some(error) => log::error!("upgrade failed, this process goes on serving: {error}"),
        }
        if report.error.is_some() {
            self.directory.put_back();
        }
        self.state.metrics.upgraded(report.error.is_none());
        *self.last.lock() = Some(report.clone());
        for sender in waiting {
            let _ = sender.send(report.clone());
        }
        outcome.is_ok()
    }

    /// Returns the id of the process that serves now.
    async fn attempt(&self, doors: &Doors, version: &mut Option<String>) -> anyhow::Result<u32> {
        *version = Some(self.ask_version().await?);
        self.check().await?;
        let (mut successor, mut channel) = self.spawn()?;
        let ready = timeout(START, channel::word(&mut channel)).await;
        let ready = ready.map_err(|_| anyhow!("the new process is not ready after {START:?}"))?;
        match successor.unless_ended(ready)? {
            HandoverMessage::Ready => {}
            HandoverMessage::Failed(why) => bail!("the new process cannot start: {why}"),
            HandoverMessage::Serving => bail!("the new process serves before it was told to"),
        }
        let pid = successor.pid();
        let mut handing_over = HandingOver::begin(self, doors, successor);
        let carried = HandoverState::of(&self.state).with_answers(&self.state);
        log::info!(pid = pid; "handing over {}", carried.describe());
        let carried = carried.encode()?;
        let taking_over = async {
            channel::go(&mut channel, &carried).await?;
            channel::word(&mut channel).await
        };
        let word = timeout(TAKE_OVER, taking_over).await;
        let word =
            word.map_err(|_| anyhow!("the new process does not serve after {TAKE_OVER:?}"))?;
        match handing_over.successor.unless_ended(word)? {
            HandoverMessage::Serving => {}
            HandoverMessage::Failed(why) => bail!("the new process cannot serve: {why}"),
            HandoverMessage::Ready => bail!("the new process repeats itself"),
        }
        if let Ok(remote) = Remote::new(channel) {
            self.state.auth.ask(remote);
        }
        handing_over.done();
        Ok(pid)
    }

    /// Nothing else is started under our name.
    async fn ask_version(&self) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("--version");
        let (ok, said) = run(command, VERSION)
            .await
            .with_context(|| format!("{} --version", self.program.display()))?;
        let version = said.strip_prefix("tollgate ").filter(|_| ok);
        let version = version.with_context(|| {
            let first = said.lines().next().unwrap_or_default();
            format!(
                "{} is no tollgate: it says {first:?}",
                self.program.display()
            )
        })?;
        Ok(version.trim().to_owned())
    }

    async fn check(&self) -> anyhow::Result<()> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(["check", "-c"]).arg(&self.config);
        let (ok, said) = run(command, CHECK).await.context("tollgate check")?;
        ensure!(
            ok,
            "the new binary refuses the configuration:\n{}",
            said.trim()
        );
        Ok(())
    }

    fn spawn(&self) -> anyhow::Result<(Successor, UnixStream)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut passed: Vec<OwnedFd> = Vec::new();
        for shared in self.sockets.lock().iter() {
            passed.push(shared.socket.try_clone()?);
        }
        let mut names = vec!["listener"; passed.len()];
        passed.push(theirs.into());
        names.push(CHANNEL);
        let mut command = Command::new(&self.program);
        command
            .args(["run", "-c"])
            .arg(&self.config)
            .env("LISTEN_FDS", passed.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
        for foreign in ["LISTEN_PID", "LISTEN_FDS_FIRST_FD", "WATCHDOG_PID"] {
            command.env_remove(foreign);
        }
        let mapped = (3..).zip(passed).map(|(child_fd, parent_fd)| FdMapping {
            parent_fd,
            child_fd,
        });
        command.fd_mappings(mapped.collect())?;
        let child = command
            .spawn()
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        Ok((Successor(Some(child)), UnixStream::from_std(ours)?))
    }
}

/// A caller who is waited for.
pub(in crate::server) struct Answering<'a>(&'a AtomicUsize);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The new process. Ended unless it was released.
struct Successor(Option<Child>);

impl Successor {
    fn pid(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// Adds to an error how the process ended, if it did.
    fn unless_ended(
        &mut self,
        word: anyhow::Result<HandoverMessage>,
    ) -> anyhow::Result<HandoverMessage> {
        word.map_err(|error| {
            // The end of its words comes a moment before its own.
            std::thread::sleep(Duration::from_millis(20));
            let status = self.0.as_mut().and_then(|child| child.try_wait().ok()?);
            match status {
                Some(status) => {
                    anyhow!("the new process ended ({status}); its last words are in the log")
                }
                None => error.context("the new process"),
            }
        })
    }

    /// Lets it live on.
    fn release(&mut self) {
        self.0 = None;
    }

    /// Ends it unless it was released, and waits for its end.
    fn end(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        self.end();
    }
}

/// The time in which neither process accepts. Everything is as before when it ends without being done.
struct HandingOver<'a> {
    upgrader: &'a Upgrader,
    doors: &'a Doors,
    successor: Successor,
    done: bool,
}

impl<'a> HandingOver<'a> {
    fn begin(upgrader: &'a Upgrader, doors: &'a Doors, successor: Successor) -> Self {
        doors.hold();
        upgrader.directory.keep_aside();
        Self {
            upgrader,
            doors,
            successor,
            done: false,
        }
    }

    fn done(mut self) {
        self.done = true;
        self.successor.release();
        self.upgrader.directory.given_away();
    }
}

impl Drop for HandingOver<'_> {
    fn drop(&mut self) {
        if !self.done {
            // Before anything is taken back: two must not decide about the same nonces.
            self.successor.end();
            self.upgrader.directory.put_back();
            self.upgrader.state.auth.take_back();
            self.doors.open();
        }
    }
}

/// Where this program was started from. Not where it lies: a link is followed anew each time, and a file that was
/// replaced has another name in `/proc`.
fn program() -> anyhow::Result<PathBuf> {
    let called = std::env::args_os().next().map(PathBuf::from);
    match called {
        Some(path) if path.components().count() > 1 => Ok(std::path::absolute(path)?),
        _ => Ok(std::env::current_exe()?),
    }
}

/// Runs a command to its end. Says whether it succeeded, and what it said.
async fn run(
    mut command: tokio::process::Command,
    within: Duration,
) -> anyhow::Result<(bool, String)> {
    command
        .stdin(Stdio::null())
        .env_remove("LISTEN_FDS")
        .env_remove("NOTIFY_SOCKET")
        .kill_on_drop(true);
    let output = timeout(within, command.output()).await;
    let output = output.map_err(|_| anyhow!("no end after {within:?}"))??;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), said))
}

#[cfg(test)]
mod tests;
