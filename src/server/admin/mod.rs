//! The admin listener: probes, info, metrics, and the API that the command line uses.
//!
//! The same connection handling as for clients guards it. On the Unix socket callers are trusted, its file mode lets
//! only the service user in; on TCP `/api/` needs the bearer token, and every request a name of this listener (see
//! `guard`).

pub(in crate::server) mod describe;
mod guard;
mod limits_page;
mod page;
pub(in crate::server) mod policies;

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode, header};
use pingora::apps::{HttpServerApp, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use serde::Serialize;
use tokio::sync::watch;

use self::page::Page;
use crate::api::{AuthBufferStatus, EndpointSet, HealthStatus, Info, NamedCheck, Question};
use crate::config::{self, Auth};
use crate::gateway::{
    Admission, CloseSchedule, ServeContext, Snapshot, State, WorkerLocal, explain,
};
use crate::observe::ListenerStats;
use crate::primitives::{clock, units};
use crate::server::handover::upgrade::Upgrader;
use crate::server::listeners::BoundSocket;
use crate::server::load;
use crate::server::reload::Reloader;
use crate::server::stream::Listener;
use crate::server::trial;
use crate::server::usage::Usage;
use crate::server::version::{COMMIT, VERSION};
use crate::server::worker::{Accepting, Gate, accept};

/// Serves the admin listener on a thread of its own.
pub(in crate::server) struct AdminWorker {
    unix: Option<StdUnixListener>,
    tcp: Option<BoundSocket>,
    state: Arc<State>,
    reloader: Arc<Reloader>,
    usage: Arc<Usage>,
    upgrader: Arc<Upgrader>,
    accepting: watch::Receiver<Accepting>,
}

impl AdminWorker {
    /// On these sockets.
    pub(in crate::server) fn new(
        unix: StdUnixListener,
        tcp: Option<BoundSocket>,
        state: Arc<State>,
        reloader: Arc<Reloader>,
        usage: Arc<Usage>,
        upgrader: Arc<Upgrader>,
        accepting: watch::Receiver<Accepting>,
    ) -> Self {
        Self {
            unix: Some(unix),
            tcp,
            state,
            reloader,
            usage,
            upgrader,
            accepting,
        }
    }

    fn door(
        &self,
        trusted: bool,
        shutdown: &ShutdownWatch,
        closing: &watch::Receiver<CloseSchedule>,
    ) -> ServeContext<Admin> {
        let (state, reloader) = (Arc::clone(&self.state), Arc::clone(&self.reloader));
        ServeContext {
            app: Arc::new(Admin {
                state: Arc::clone(&state),
                reloader,
                usage: Arc::clone(&self.usage),
                upgrader: Arc::clone(&self.upgrader),
                trusted,
            }),
            state,
            shutdown: shutdown.clone(),
            closing: closing.clone(),
            lane: Arc::new(WorkerLocal::new(0, 1)),
            public: false,
            listener: None,
        }
    }
}

#[async_trait]
impl Service for AdminWorker {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        _per_fd: usize,
    ) {
        // It answers to the end: a drain is watched through it.
        let (_open, closing) = watch::channel(None);
        let (_always, always) = watch::channel(Accepting::Open);
        let admission = Arc::new(Admission::default());
        let stats = Arc::new(ListenerStats::default());
        let tcp = self.tcp.take();
        let unix = self.unix.take().map(BoundSocket::Unix);
        let mut loops = Vec::new();
        for (socket, trusted) in [(tcp, false), (unix, true)] {
            let Some(socket) = socket else { continue };
            match Listener::new(socket) {
                Ok(listener) => {
                    let gate = Gate {
                        admission: Arc::clone(&admission),
                        stats: Arc::clone(&stats),
                        listener: None,
                        tls: false,
                    };
                    let door = self.door(trusted, &shutdown, &closing);
                    // The socket in the runtime directory is this process' own.
                    let accepting = if trusted { &always } else { &self.accepting };
                    loops.push(tokio::spawn(accept(
                        listener,
                        door,
                        gate,
                        accepting.clone(),
                    )));
                }
                Err(error) => log::error!("the admin listener cannot be served: {error}"),
            }
        }
        futures_util::future::join_all(loops).await;
    }

    fn name(&self) -> &str {
        "admin"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(Vec::new())
    }
}

/// The application behind the admin listener.
pub(in crate::server) struct Admin {
    state: Arc<State>,
    reloader: Arc<Reloader>,
    usage: Arc<Usage>,
    upgrader: Arc<Upgrader>,
    trusted: bool,
}

/// Longest body of an API call.
const LONGEST: usize = 1 << 20;

#[async_trait]
impl HttpServerApp for Admin {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !session.read_request().await.ok()? {
            return None;
        }
        let refusal = if self.trusted {
            None
        } else {
            guard::refuse(session.req_header(), self.state.snapshot().as_deref())
        };
        // Whoever is refused is refused by the head: not a byte of the body is read, and none is asked for.
        let body = match &refusal {
            None if session.req_header().uri.path().starts_with("/api/") => {
                read_body(&mut session).await?
            }
            _ => Some(Vec::new()),
        };
        // A process that was replaced ends only when this is written.
        let _answering = self.upgrader.answering();
        let page = match (refusal, body) {
            (Some(refusal), _) => refusal,
            (None, Some(body)) => self.page(&session, &body).await,
            (None, None) => Page::error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long"),
        };
        let mut head = ResponseHeader::build(page.status, Some(4)).ok()?;
        head.insert_header(header::CONTENT_TYPE, page.kind).ok()?;
        head.insert_header(header::CACHE_CONTROL, "no-store").ok()?;
        head.set_content_length(page.body.len()).ok()?;
        if page.challenge {
            head.insert_header(header::WWW_AUTHENTICATE, "Bearer")
                .ok()?;
        }
        let silent = session.req_header().method == Method::HEAD || page.body.is_empty();
        session.write_response_header(Box::new(head)).await.ok()?;
        if !silent {
            session
                .write_response_body(page.body.into(), true)
                .await
                .ok()?;
        }
        // Whether the connection goes on is known where it is served.
        session.finish().await.ok()?;
        None
    }
}

/// The body of a call; `Some(None)`: it is too long. `None`: the client is gone.
async fn read_body(session: &mut ServerSession) -> Option<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(piece) = session.read_request_body().await.ok()? {
        body.extend_from_slice(&piece);
        if body.len() > LONGEST {
            return Some(None);
        }
    }
    Some(Some(body))
}

impl Admin {
    async fn page(&self, session: &ServerSession, body: &[u8]) -> Page {
        let head = session.req_header();
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let get = matches!(head.method, Method::GET | Method::HEAD);
        if path.starts_with("/api/") {
            return self.api(&head.method, path, query, body).await;
        }
        match path {
            _ if !get => Page::error(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here"),
            "/livez" => Page::ok(&HealthStatus {
                status: "UP".into(),
                ..HealthStatus::default()
            }),
            "/readyz" | "/healthz" | "/health" | "/actuator/health" => {
                self.ready(query.contains("verbose"))
            }
            "/info" | "/actuator/info" => Page::ok(&self.info()),
            "/metrics" | "/actuator/prometheus" => match self.state.metrics.render() {
                Ok(text) => Page::text("text/plain; version=0.0.4; charset=utf-8", text),
                Err(error) => Page::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            },
            _ => Page::error(StatusCode::NOT_FOUND, "no such page"),
        }
    }

    fn ready(&self, verbose: bool) -> Page {
        let reason = self.state.not_ready();
        let (status, word) = match reason {
            None => (StatusCode::OK, "UP"),
            Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "OUT_OF_SERVICE"),
        };
        let checks = verbose.then(|| {
            let snapshot = self.state.snapshot();
            let reload = self
                .reloader
                .last()
                .map_or("none".into(), |report| report.result);
            let check = |name: &'static str, ok: bool| NamedCheck {
                name: name.into(),
                ok,
                result: None,
            };
            let going = snapshot.is_none() || matches!(reason, None | Some("starting"));
            vec![
                check("configuration", snapshot.is_some()),
                check("listeners", reason != Some("starting")),
                check("not stopping", going),
                NamedCheck {
                    name: "last reload".into(),
                    ok: reload != "error",
                    result: Some(reload),
                },
            ]
        });
        let body = HealthStatus {
            status: word.into(),
            reason: reason.map(Into::into),
            checks,
        };
        Page::json(status, &body)
    }

    fn info(&self) -> Info {
        let snapshot = self.state.snapshot();
        let started =
            jiff::Timestamp::from_second(self.state.started.as_secs() as i64).unwrap_or_default();
        let uptime = clock::unix_now().saturating_sub(self.state.started);
        Info {
            version: VERSION.into(),
            commit: COMMIT.into(),
            config_file: self.reloader.path().display().to_string(),
            config_hash: snapshot
                .as_ref()
                .map(|snapshot| snapshot.config.hash.clone()),
            pid: std::process::id(),
            started: started.to_string(),
            uptime_seconds: uptime.as_secs(),
            last_reload: self.reloader.last(),
            trial: self.reloader.trial(),
            last_upgrade: self.upgrader.last(),
            in_flight: self.state.in_flight(),
            connections: self.state.admission.open(),
            ready: self.state.ready(),
            overload: self.state.overload.describe(),
            auth_buffer: self.auth_buffer(snapshot.as_deref()),
            certificates: snapshot.as_deref().map(describe::certificates),
            not_ready: self.state.not_ready().map(Into::into),
        }
    }

    /// Bodies that are kept until it is known who sent them; `None` while no request is signed.
    fn auth_buffer(&self, snapshot: Option<&Snapshot>) -> Option<AuthBufferStatus> {
        let config = &snapshot?.config;
        let signed = |auth: &Auth| matches!(auth, Auth::Signature(_));
        let buffer = &self.state.auth_buffer;
        config.auths.values().any(signed).then(|| AuthBufferStatus {
            bytes: buffer.kept(),
            most: config.server.auth_buffer,
            refused: buffer.refused(),
        })
    }

    async fn api(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> Page {
        let rest = path.strip_prefix("/api/v1/").unwrap_or_default();
        let parts: Vec<&str> = rest.split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("GET", ["routes"]) => Page::ok(&describe::routes(&self.state)),
            ("GET", ["upstreams"]) => Page::ok(&describe::upstreams(&self.state)),
            ("GET", ["limits"]) => Page::ok(&limits_page::limits(&self.state)),
            ("GET", ["config"]) => self.config(),
            ("GET", ["headroom"]) => Page::ok(&self.usage.headroom()),
            ("POST", ["reload"]) => self.reload(query).await,
            ("POST", ["confirm"]) => match self.reloader.confirm() {
                Some(report) => Page::ok(&report),
                None => Page::error(StatusCode::CONFLICT, "no configuration is on trial"),
            },
            ("GET", ["trial"]) => match self.reloader.trial() {
                Some(report) => Page::ok(&report),
                None => Page::error(StatusCode::NOT_FOUND, "no configuration was on trial"),
            },
            ("POST", ["upgrade"]) => self.upgrade().await,
            ("POST", ["explain"]) => self.explain(body),
            (
                "POST",
                [
                    "upstreams",
                    name,
                    "endpoints",
                    address @ ..,
                    action @ ("drain" | "enable"),
                ],
            ) if !address.is_empty() => {
                // The path of a Unix socket may come with its slashes.
                self.drain(name, &address.join("/"), *action == "drain")
            }
            // A route that is named by its path brings slashes too.
            ("PUT", ["routes", id @ .., "level"]) if !id.is_empty() => done(policies::set_level(
                &self.state,
                &decoded(&id.join("/")),
                body,
            )),
            (
                "POST",
                [
                    "routes",
                    id @ ..,
                    "sides",
                    side,
                    action @ ("start" | "stop"),
                ],
            ) if !id.is_empty() => {
                let (id, side) = (decoded(&id.join("/")), decoded(side));
                done(policies::set_side(
                    &self.state,
                    &id,
                    &side,
                    *action == "start",
                ))
            }
            (
                _,
                [
                    "routes" | "upstreams" | "limits" | "config" | "headroom" | "reload"
                    | "confirm" | "trial" | "upgrade" | "explain",
                ],
            ) => Page::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "another method is served here",
            ),
            _ => Page::error(StatusCode::NOT_FOUND, "no such call"),
        }
    }

    fn config(&self) -> Page {
        let Some(snapshot) = self.state.snapshot() else {
            return Page::ok(&BTreeMap::<&str, ()>::new());
        };
        match config::show(&snapshot.sources, &load::environment) {
            Ok(text) => Page::text("application/toml", text),
            Err(problems) => Page::error(StatusCode::INTERNAL_SERVER_ERROR, &problems.to_string()),
        }
    }

    async fn reload(&self, query: &str) -> Page {
        let confirm = match query.strip_prefix("confirm=").map(confirm) {
            None => None,
            Some(Ok(span)) => Some(span),
            Some(Err(why)) => return Page::error(StatusCode::BAD_REQUEST, &why),
        };
        let report = self.reloader.reload(confirm).await;
        outcome(report.as_ref(), |report| report.error.is_none())
    }

    async fn upgrade(&self) -> Page {
        let report = self.upgrader.upgrade().await;
        outcome(report.as_ref(), |report| report.error.is_none())
    }

    fn explain(&self, body: &[u8]) -> Page {
        let question: Question = match serde_json::from_slice(body) {
            Ok(question) => question,
            Err(error) => {
                return Page::error(
                    StatusCode::BAD_REQUEST,
                    &format!("the question is malformed: {error}"),
                );
            }
        };
        match self.state.snapshot() {
            Some(snapshot) => Page::ok(&explain(&question, &snapshot, &self.state)),
            None => Page::error(
                StatusCode::SERVICE_UNAVAILABLE,
                "no configuration is in force",
            ),
        }
    }

    fn drain(&self, upstream: &str, endpoint: &str, drained: bool) -> Page {
        let snapshot = self.state.snapshot();
        let pool = snapshot
            .as_ref()
            .and_then(|s| s.pools.iter().find(|(name, _)| name.as_str() == upstream));
        let Some((_, pool)) = pool else {
            return Page::error(StatusCode::NOT_FOUND, "no such upstream");
        };
        let endpoint = percent_encoding::percent_decode_str(endpoint).decode_utf8_lossy();
        if !pool.set_drained(&endpoint, drained, self.state.clock.now()) {
            return Page::error(StatusCode::NOT_FOUND, "no such endpoint");
        }
        log::info!(upstream = upstream, endpoint = &*endpoint; "endpoint {}", if drained { "drained" } else { "enabled" });
        Page::ok(&EndpointSet {
            upstream: upstream.to_owned(),
            endpoint: endpoint.into_owned(),
            state: if drained { "drained" } else { "enabled" }.into(),
        })
    }
}

fn decoded(part: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(part);
    decoded.decode_utf8_lossy().into_owned()
}

/// What was set, or why not.
fn done(set: Result<impl Serialize, (StatusCode, String)>) -> Page {
    match set {
        Ok(now) => Page::ok(&now),
        Err((status, why)) => Page::error(status, &why),
    }
}

/// Reads how long a configuration is on trial.
fn confirm(text: &str) -> Result<Duration, String> {
    let span = units::duration(text)?;
    trial::check_span(span).map(|()| span)
}

/// How something that was asked for ended, `well` or not; `None` while the gateway is stopping.
fn outcome<R: Serialize>(report: Option<&R>, well: impl Fn(&R) -> bool) -> Page {
    let Some(report) = report else {
        return Page::error(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping");
    };
    let status = if well(report) {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    Page::json(status, report)
}
