//! Reading the configuration again, in place.
//!
//! One build at a time; what asks meanwhile shares the next one, so a storm of signals builds a few times and ends on
//! the last file. A build that fails changes nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::{Notify, oneshot, watch};

use super::handover::notify::Manager;
use super::load::{Host, Loaded, load};
use super::logging::log_settings_of;
use super::processors;
use super::signals::Signals;
use super::trial::Trial;
use crate::api::{ApiWord, ReloadReport, TrialReport};
use crate::config::{Config, Problem, Problems};
use crate::gateway::{Snapshot, State};
use crate::observe::TrialEnd;
use crate::primitives::address::Address;
use crate::primitives::{ListenerName, clock};
use crate::upstream::Names;

/// Least time between two builds.
const SPACING: Duration = Duration::from_millis(200);
/// How often a configuration on trial is looked at.
const LOOKS: Duration = Duration::from_millis(500);
/// How long a reload waits for names that were never resolved.
pub(super) const FIRST_NAMES: Duration = Duration::from_secs(3);

/// What a reload cannot change in place.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Fixed {
    /// Listeners: name, address with mode, and whether TLS is spoken. Certificates are read again by each reload.
    pub listeners: Vec<(ListenerName, Address, u32, bool)>,
    /// Worker threads as configured.
    pub threads: Option<u16>,
    /// Admin address.
    pub admin: Option<SocketAddr>,
    /// Runtime directory.
    pub runtime_dir: PathBuf,
}

impl Fixed {
    /// What of `config` is fixed for the life of the process.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            listeners: config
                .listeners
                .iter()
                .map(|listener| {
                    let tls = listener.tls.is_some();
                    (
                        listener.name.clone(),
                        listener.address.clone(),
                        listener.mode,
                        tls,
                    )
                })
                .collect(),
            threads: config.server.threads,
            admin: config.admin.address,
            runtime_dir: config.server.runtime_dir.clone(),
        }
    }

    /// Worker threads: as configured, or one a processor that this process may keep busy.
    pub(super) fn workers(&self) -> usize {
        let cores = || processors::threads(&processors::kernel);
        self.threads.map_or_else(cores, usize::from)
    }

    /// What differs in `wanted`, by key.
    fn differences(&self, wanted: &Self) -> Vec<&'static str> {
        let keys = [
            ("listener", self.listeners != wanted.listeners),
            ("server.threads", self.threads != wanted.threads),
            ("admin.address", self.admin != wanted.admin),
            ("server.runtime_dir", self.runtime_dir != wanted.runtime_dir),
        ];
        keys.into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(key, _)| key)
            .collect()
    }
}

/// Somebody who waits for a reload.
struct Waiting {
    sender: oneshot::Sender<ReloadReport>,
    /// The configuration is on trial for so long.
    confirm: Option<Duration>,
}

/// Reloads on request.
pub(super) struct Reloader {
    path: PathBuf,
    state: Arc<State>,
    fixed: Fixed,
    names: Arc<Names>,
    manager: Arc<Manager>,
    asked: Notify,
    waiting: Mutex<Vec<Waiting>>,
    last: Mutex<Option<ReloadReport>>,
    trial: Mutex<Option<Trial>>,
    /// How the last trial ended.
    tried: Mutex<Option<TrialReport>>,
    published: watch::Sender<u64>,
}

impl Reloader {
    /// Reloads the file at `path`.
    pub(super) fn new(
        path: PathBuf,
        state: Arc<State>,
        fixed: Fixed,
        names: Arc<Names>,
        manager: Arc<Manager>,
    ) -> Self {
        Self {
            path,
            state,
            fixed,
            names,
            manager,
            asked: Notify::new(),
            waiting: Mutex::default(),
            last: Mutex::default(),
            trial: Mutex::default(),
            tried: Mutex::default(),
            published: watch::channel(0).0,
        }
    }

    /// Asks for a reload and waits for its end. With `confirm` what is read is on trial for so long.
    pub(super) async fn reload(&self, confirm: Option<Duration>) -> Option<ReloadReport> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().push(Waiting { sender, confirm });
        self.asked.notify_one();
        receiver.await.ok()
    }

    /// The file that is read.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How the last reload ended; `None` before the first.
    pub(super) fn last(&self) -> Option<ReloadReport> {
        self.last.lock().clone()
    }

    /// Changes whenever a snapshot is published.
    pub(super) fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// How the trial under way stands, or how the last one ended; `None` before the first.
    pub(super) fn trial(&self) -> Option<TrialReport> {
        let running = self.trial.lock();
        let running = running
            .as_ref()
            .map(|trial| trial.look(&self.state.metrics));
        running.or_else(|| self.tried.lock().clone())
    }

    /// Keeps what is on trial; `None`: nothing is.
    pub(super) fn confirm(&self) -> Option<TrialReport> {
        let mut running = self.trial.lock();
        let trial = running.take()?;
        self.state.confirm();
        drop(running);
        log::info!("the configuration on trial was confirmed");
        Some(self.end(&trial, TrialEnd::Confirmed))
    }

    fn end(&self, trial: &Trial, end: TrialEnd) -> TrialReport {
        let report = TrialReport {
            state: end.label().into(),
            ..trial.look(&self.state.metrics)
        };
        self.state.metrics.tried(end);
        *self.tried.lock() = Some(report.clone());
        report
    }

    /// Takes a configuration on trial back when it has to be.
    fn judge(&self) {
        let mut running = self.trial.lock();
        let Some(trial) = &*running else { return };
        let seen = trial.look(&self.state.metrics);
        let end = if !seen.worse.is_empty() {
            TrialEnd::Worse
        } else if trial.expired() {
            TrialEnd::Expired
        } else {
            return;
        };
        let Some(trial) = running.take() else { return };
        let why = match end {
            TrialEnd::Worse => seen.worse.join("; "),
            _ => "nobody confirmed it in time".to_owned(),
        };
        if let Some(log) = &self.state.log
            && let Err(error) = log.configure(log_settings_of(&trial.fallback))
        {
            log::error!("the log stays as the configuration on trial had it: {error}");
        }
        self.state.publish(&trial.fallback);
        drop(running);
        self.published.send_modify(|count| *count += 1);
        let report = self.end(&trial, end);
        let error = format!(
            "configuration {} was on trial and is taken back: {why}",
            report.config_hash
        );
        log::error!(config_hash = report.fallback_hash.as_str(); "{error}");
        self.remember(Some(error), Vec::new());
    }

    /// Builds and publishes once, for everybody who asked until now.
    async fn once(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        // A start or a stop under way is not interrupted by other news.
        let serving = self.state.ready();
        if serving {
            self.manager.reloading();
        }
        let confirm = waiting.iter().filter_map(|one| one.confirm).min();
        let built = self.build(confirm).await;
        let rejected = built.as_ref().err().map_or(0, rejected_certificates);
        self.state.metrics.rejected_certificates(rejected);
        if serving {
            // Serving goes on either way; how it ended is what the command that asked says.
            self.manager.ready();
        }
        let (error, needs_upgrade) = match built {
            Ok(needs_upgrade) => (None, needs_upgrade),
            Err(error) => {
                // What was made for it; nothing else was changed.
                self.state.prune();
                (Some(format!("{error:#}")), Vec::new())
            }
        };
        let report = self.remember(error, needs_upgrade);
        match &report.error {
            None => log::info!(config_hash = report.config_hash.as_str(); "configuration reloaded"),
            Some(error) => log::error!("reload failed, the old configuration stays: {error}"),
        }
        if !report.needs_upgrade.is_empty() {
            log::warn!(
                "needs upgrade: {} changed, which a reload cannot apply",
                report.needs_upgrade.join(", ")
            );
        }
        self.state.metrics.reloaded(report.error.is_none());
        for Waiting { sender, .. } in waiting {
            let _ = sender.send(report.clone());
        }
    }

    /// Keeps how a reload, or what came of it, ended.
    fn remember(&self, error: Option<String>, needs_upgrade: Vec<&'static str>) -> ReloadReport {
        let now = clock::unix_now();
        let moment = jiff::Timestamp::from_second(now.as_secs() as i64).unwrap_or_default();
        let snapshot = self.state.snapshot();
        let report = ReloadReport {
            result: if error.is_none() { "ok" } else { "error" }.into(),
            at: moment.to_string(),
            config_hash: snapshot
                .map(|snapshot| snapshot.config.hash.clone())
                .unwrap_or_default(),
            error,
            needs_upgrade: needs_upgrade.into_iter().map(ApiWord::from).collect(),
        };
        *self.last.lock() = Some(report.clone());
        report
    }

    async fn build(&self, confirm: Option<Duration>) -> anyhow::Result<Vec<&'static str>> {
        let Loaded { config, sources } = load(&self.path)?;
        let earlier = self.state.earlier();
        let snapshot = Snapshot::build(config, sources, &self.state, &earlier, &Host)?;
        self.resolve(&snapshot).await;
        if let Some(log) = &self.state.log {
            log.configure(log_settings_of(&snapshot))?;
        }
        snapshot.warn();
        let needs_upgrade = self.fixed.differences(&Fixed::of(&snapshot.config));
        self.publish(&Arc::new(snapshot), confirm);
        Ok(needs_upgrade)
    }

    /// Puts a snapshot in force, perhaps on trial. What a trial under way had to be measured against stays so when
    /// another begins; a reload without a trial says that the operator is content, or has something better.
    fn publish(&self, snapshot: &Arc<Snapshot>, confirm: Option<Duration>) {
        let mut trial = self.trial.lock();
        let earlier = trial.take();
        if let Some(earlier) = &earlier {
            log::warn!("the configuration on trial was replaced");
            self.end(earlier, TrialEnd::Replaced);
        }
        let fallback =
            earlier.map_or_else(|| self.state.snapshot(), |earlier| Some(earlier.fallback));
        *trial = confirm.zip(fallback).map(|(span, fallback)| {
            Trial::begin(&self.state, fallback, &snapshot.config.hash, span)
        });
        let fallback = trial.as_ref().map(|trial| &trial.fallback);
        self.state.publish_beside(snapshot, fallback);
        drop(trial);
        self.published.send_modify(|count| *count += 1);
    }

    /// A new name gets a moment to be resolved before requests depend on it.
    async fn resolve(&self, snapshot: &Snapshot) {
        let new = snapshot.pools.values().filter(|pool| pool.unresolved());
        let all = futures_util::future::join_all(
            new.map(|pool| self.names.refresh(pool, self.state.clock)),
        );
        let _ = tokio::time::timeout(FIRST_NAMES, all).await;
    }
}

/// How many of the problems are about files of listeners' TLS.
fn rejected_certificates(error: &anyhow::Error) -> usize {
    let of_tls =
        |problem: &&Problem| problem.key.starts_with("listener[") && problem.key.contains("].tls.");
    let problems = error.downcast_ref::<Problems>();
    problems.map_or(0, |problems| problems.0.iter().filter(of_tls).count())
}

/// The background service that reloads.
pub(super) struct Service {
    reloader: Arc<Reloader>,
    signals: Signals,
}

impl Service {
    /// Listens to SIGHUP, SIGUSR1 and the reloader's own requests.
    pub(super) fn new(reloader: Arc<Reloader>, signals: &Signals) -> Self {
        Self {
            reloader,
            signals: signals.clone(),
        }
    }
}

#[async_trait]
impl BackgroundService for Service {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut looks = tokio::time::interval(LOOKS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = looks.tick() => {
                    self.reloader.judge();
                    continue;
                }
                () = self.signals.reload.notified() => {}
                () = self.reloader.asked.notified() => {}
                () = self.signals.reopen.notified() => {
                    if let Some(log) = &self.reloader.state.log {
                        log.reopen();
                        log::info!("log files reopened");
                    }
                    continue;
                }
            }
            self.reloader.once().await;
            tokio::time::sleep(SPACING).await;
        }
    }
}
