//! Boot and life of the process: configuration files, listeners, workers, signals, reload, drain, admin.

mod admin;
mod descriptors;
mod handover;
mod headroom;
mod housekeeping;
mod include;
mod listeners;
mod load;
mod logging;
mod offline;
mod pressure;
mod processors;
mod proxy_protocol;
mod reload;
mod signals;
mod stream;
mod supervision;
mod trial;
mod usage;
mod version;
mod worker;

use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use parking_lot::Mutex;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;
use tokio::sync::watch;

pub use admin::describe::describe_route;
pub use descriptors::check_here as check_descriptors;
pub use load::{Loaded, environment, load, runtime_dir_of};
pub use offline::Offline;
pub use version::{COMMIT, VERSION};

use crate::gateway::{Snapshot, State};
use crate::observe::{self, LogHandle, LogSettings, Metrics};
use crate::upstream::Names;
use admin::AdminWorker;
use handover::carried::{self, HandoverState};
use handover::doors::Doors;
use handover::inherited::Inherited;
use handover::life::Lifecycle;
use handover::notify::Manager;
use handover::probe;
use handover::quota_file::QuotaFile;
use handover::runtime_dir::RuntimeDir;
use handover::upgrade::Upgrader;
use housekeeping::Housekeeping;
use listeners::Bound;
use load::Host;
use logging::{LAST_LINES, log_settings_of};
use reload::{Fixed, Reloader};
use supervision::Supervision;
use usage::Usage;
use worker::{Accepting, Worker};

/// Runs the gateway in the foreground until it is told to stop.
///
/// Everything that can be wrong is found before the first connection is accepted: the configuration, what it points
/// to, the runtime directory, every address.
///
/// A process that was started to replace another one tells it when it cannot.
pub fn run(path: &Path) -> anyhow::Result<()> {
    let inherited = Inherited::take()?;
    let mut channel = inherited.channel.as_ref().and_then(|c| c.try_clone().ok());
    let mut log = None;
    let started = AssertUnwindSafe(|| start(path, inherited, &mut log));
    let ended = catch_unwind(started)
        .unwrap_or_else(|_| Err(anyhow!("a panic ended the process; the log says where")));
    // Whatever ends the process early has been said by now, and is written before it ends.
    if let Some(log) = log.filter(|_| ended.is_err()) {
        log.finish(LAST_LINES);
    }
    if let (Err(error), Some(channel)) = (&ended, &mut channel) {
        handover::channel::failed(channel, &format!("{error:#}"));
    }
    ended
}

/// An idle connection touches a little of buffers that are large where the HTTP/2 codec makes them. In huge pages the rest
/// of them takes memory as well: 46 KiB a connection instead of 30, and twice as much in all, for no measurable time.
fn forgo_huge_pages() {
    let _ = nix::sys::prctl::set_thp_disable(true);
}

fn start(
    path: &Path,
    mut inherited: Inherited,
    kept_log: &mut Option<LogHandle>,
) -> anyhow::Result<()> {
    forgo_huge_pages();
    let channel = inherited.channel.take();
    let signals = signals::listen().context("signals cannot be received")?;
    crate::auth::install_crypto();
    crate::tls::install();
    let loaded = load(path)?;
    let metrics = Arc::new(Metrics::new(VERSION, COMMIT)?);
    let log_settings = LogSettings::new(loaded.config.log.clone(), [], &[]);
    let log = observe::install(log_settings, &metrics).context("the log cannot be opened")?;
    *kept_log = Some(log.clone());
    install_panic_hook();
    let files = descriptors::raise_limit();
    descriptors::check(&loaded.config, files)?;
    let state = Arc::new(State::new(metrics, Some(log.clone())));
    let needed = descriptors::needed(&loaded.config);
    state.admission.keep_below(files.saturating_sub(needed));
    let Loaded { config, sources } = loaded;
    let snapshot = Snapshot::build(config, sources, &state, &[], &Host)?;
    log.configure(log_settings_of(&snapshot))?;
    snapshot.warn();
    let fixed = Fixed::of(&snapshot.config);
    let directory = Arc::new(match channel {
        None => RuntimeDir::claim(&fixed.runtime_dir)?,
        Some(_) => RuntimeDir::prepare(&fixed.runtime_dir)?,
    });
    let workers = fixed.workers();
    let mut bound = listeners::bind(&snapshot.config, workers, inherited, channel.is_some())?;
    let socket_files = std::mem::take(&mut bound.files);
    resolve_names(&snapshot, &state);
    let snapshot = Arc::new(snapshot);
    state.overload.begin(workers);
    state.connections.begin(workers);
    state.publish(&snapshot);
    let states = carried::directory(directory.path());
    let quotas = Arc::new(QuotaFile::new(&states, &directory));
    if directory.is_ours() {
        quotas.restore(&state);
    }
    if directory.is_ours()
        && let Some(carried) = HandoverState::take_from(&states)
    {
        log::info!("going on with {}", carried.describe());
        carried.give_to(&state);
    }
    log::info!(version = VERSION, config_hash = snapshot.config.hash.as_str(), workers = workers, pid = std::process::id();
        "started with {} routes", snapshot.routes.len());
    say_when_capped(&state, files);
    let kept = (&directory, &quotas);
    let served = serve(path, &state, fixed, bound, kept, (signals, channel));
    quotas.write(&state);
    if directory.is_ours() {
        socket_files.remove();
    }
    if directory.is_ours()
        && let Err(error) = HandoverState::of(&state).leave_in(&states)
    {
        log::warn!("what is known of nonces and limits cannot be kept: {error:#}");
    }
    log::info!("stopped");
    log.finish(LAST_LINES);
    directory.release();
    served
}

/// Names of endpoints get a moment to be resolved before the first request depends on them.
fn resolve_names(snapshot: &Snapshot, state: &State) {
    let unresolved: Vec<_> = snapshot
        .pools
        .values()
        .filter(|pool| pool.unresolved())
        .collect();
    if unresolved.is_empty() {
        return;
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return;
    };
    runtime.block_on(async {
        // A resolver of its own: its connections end with this runtime.
        let names = Names::of_host();
        let all = unresolved
            .into_iter()
            .map(|pool| names.refresh(pool, state.clock));
        let _ =
            tokio::time::timeout(reload::FIRST_NAMES, futures_util::future::join_all(all)).await;
    });
}

fn serve(
    path: &Path,
    state: &Arc<State>,
    fixed: Fixed,
    bound: Bound,
    (directory, quotas): (&Arc<RuntimeDir>, &Arc<QuotaFile>),
    (signals, replaced): (signals::Signals, Option<UnixStream>),
) -> anyhow::Result<()> {
    let mut server = Server::new_with_opt_and_conf(None, framework_settings());
    let manager = Arc::new(Manager::of_environment());
    let (closing_sender, closing) = watch::channel(None);
    let (public_sender, public) = watch::channel(Accepting::Held);
    let (admin_sender, admin) = watch::channel(Accepting::Held);
    let targets = probe::targets(&bound.all);
    let names = Arc::new(Names::of_host());
    let path = std::path::absolute(path)?;
    let upgrader = Arc::new(Upgrader::new(
        path.clone(),
        Arc::clone(state),
        Arc::clone(directory),
        bound.all,
    )?);
    let reloader = Arc::new(Reloader::new(
        path,
        Arc::clone(state),
        fixed,
        Arc::clone(&names),
        Arc::clone(&manager),
    ));
    let workers = bound.workers.len();
    let usage = Arc::new(Usage::new(workers));
    for (index, listeners) in bound.workers.into_iter().enumerate() {
        server.add_service(Worker::new(
            (index, workers),
            listeners,
            usage.pulse(index),
            Arc::clone(state),
            closing.clone(),
            public.clone(),
        ));
    }
    let admin_socket = directory.bind_admin()?;
    server.add_service(AdminWorker::new(
        admin_socket,
        bound.admin,
        Arc::clone(state),
        Arc::clone(&reloader),
        Arc::clone(&usage),
        Arc::clone(&upgrader),
        admin,
    ));
    server.add_service(background_service(
        "reload",
        reload::Service::new(Arc::clone(&reloader), &signals),
    ));
    server.add_service(background_service(
        "housekeeping",
        Housekeeping::new(
            Arc::clone(state),
            names,
            &reloader,
            Arc::clone(&usage),
            Arc::clone(quotas),
        ),
    ));
    server.add_service(background_service(
        "supervision",
        Supervision::new(Arc::clone(state), usage, Arc::clone(&manager)),
    ));
    server.bootstrap();
    let life = Lifecycle {
        state: Arc::clone(state),
        manager,
        targets,
        doors: Doors {
            closing: closing_sender,
            public: public_sender,
            admin: admin_sender,
        },
        upgrader,
        channel: Mutex::new(replaced),
        predecessor: Mutex::default(),
        directory: Arc::clone(directory),
        signals,
    };
    server.run(RunArgs {
        shutdown_signal: Box::new(life),
    });
    Ok(())
}

/// The framework's settings. Its defaults are for another house: see each line.
fn framework_settings() -> ServerConf {
    ServerConf {
        // A worker is a service of its own with one thread: nothing is shared between workers by the runtime.
        threads: 1,
        work_stealing: false,
        // The drain is ours (see `life`): when the framework is told to stop, everything is done.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    }
}

/// Panics go to the log like everything else. The request that met one is answered by its connection.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let what = panic.payload();
        let what = what
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| what.downcast_ref::<String>().map(String::as_str));
        log::error!(at = place.as_str(); "panic: {}", what.unwrap_or("unknown"));
    }));
}

/// A limit that the configuration does not show must not be a surprise.
fn say_when_capped(state: &State, files: u64) {
    let Some(snapshot) = state.snapshot() else {
        return;
    };
    let (wanted, most) = (
        snapshot.config.server.client.max_connections,
        state.admission.ceiling(),
    );
    if most < wanted {
        log::warn!(
            "at most {most} connections are taken, not the {wanted} of server.client.max_connections: \
             this process may open {files} files"
        );
    }
}
