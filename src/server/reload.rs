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
use serde::Serialize;
use tokio::sync::{Notify, oneshot, watch};

use super::load::{Host, Loaded, load};
use super::log_settings_of;
use super::notify::Manager;
use super::signals::Signals;
use crate::config::Config;
use crate::gateway::{Snapshot, State};
use crate::primitives::{ListenerName, clock};
use crate::upstream::Names;

/// Least time between two builds.
const SPACING: Duration = Duration::from_millis(200);
/// How long a reload waits for names that were never resolved.
pub(super) const FIRST_NAMES: Duration = Duration::from_secs(3);

/// What a reload cannot change in place.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Fixed {
    /// Listeners: name, address, and whether TLS is spoken. Certificates are read again by each reload.
    pub listeners: Vec<(ListenerName, SocketAddr, bool)>,
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
                    (listener.name.clone(), listener.address, tls)
                })
                .collect(),
            threads: config.server.threads,
            admin: config.admin.address,
            runtime_dir: config.server.runtime_dir.clone(),
        }
    }

    /// Worker threads: as configured, or one a core.
    pub(super) fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
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

/// How a reload ended.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// `ok` or `error`.
    pub result: &'static str,
    /// When, RFC 3339.
    pub at: String,
    /// Hash of the configuration in force afterwards.
    pub config_hash: String,
    /// Why it failed, one problem a line.
    pub error: Option<String>,
    /// Keys that changed but take effect only with an upgrade.
    pub needs_upgrade: Vec<&'static str>,
}

/// Reloads on request.
pub(super) struct Reloader {
    path: PathBuf,
    state: Arc<State>,
    fixed: Fixed,
    names: Arc<Names>,
    manager: Arc<Manager>,
    asked: Notify,
    waiting: Mutex<Vec<oneshot::Sender<Report>>>,
    last: Mutex<Option<Report>>,
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
            published: watch::channel(0).0,
        }
    }

    /// Asks for a reload and waits for its end.
    pub(super) async fn reload(&self) -> Option<Report> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().push(sender);
        self.asked.notify_one();
        receiver.await.ok()
    }

    /// The file that is read.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How the last reload ended; `None` before the first.
    pub(super) fn last(&self) -> Option<Report> {
        self.last.lock().clone()
    }

    /// Changes whenever a snapshot is published.
    pub(super) fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Builds and publishes once, for everybody who asked until now.
    async fn once(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        // A start or a stop under way is not interrupted by other news.
        let serving = self.state.ready();
        if serving {
            self.manager.reloading();
        }
        let built = self.build().await;
        if serving {
            // Serving goes on either way; how it ended is what the command that asked says.
            self.manager.ready();
        }
        let (error, needs_upgrade) = match built {
            Ok(needs_upgrade) => (None, needs_upgrade),
            Err(error) => (Some(format!("{error:#}")), Vec::new()),
        };
        let now = clock::unix_now();
        let moment = jiff::Timestamp::from_second(now.as_secs() as i64).unwrap_or_default();
        let report = Report {
            result: if error.is_none() { "ok" } else { "error" },
            at: moment.to_string(),
            config_hash: self
                .state
                .snapshot()
                .map(|s| s.config.hash.clone())
                .unwrap_or_default(),
            error,
            needs_upgrade,
        };
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
        *self.last.lock() = Some(report.clone());
        for sender in waiting {
            let _ = sender.send(report.clone());
        }
    }

    async fn build(&self) -> anyhow::Result<Vec<&'static str>> {
        let Loaded { config, sources } = load(&self.path)?;
        let snapshot = Snapshot::build(config, sources, &self.state, &Host)?;
        self.resolve(&snapshot).await;
        if let Some(log) = &self.state.log {
            log.configure(log_settings_of(&snapshot))?;
        }
        let needs_upgrade = self.fixed.differences(&Fixed::of(&snapshot.config));
        self.state.publish(&Arc::new(snapshot));
        self.published.send_modify(|count| *count += 1);
        Ok(needs_upgrade)
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
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
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
