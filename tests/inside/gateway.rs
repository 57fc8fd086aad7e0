//! A gateway in this process: one worker, a listener, and a way in without a socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Version;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tollgate::config::{self, Source};
use tollgate::gateway::internal::{self, Internal, NotWhole, Origin, Parts, Whole};
use tollgate::gateway::{
    Gateway, Hooks, Material, Phase, Protocols, ServeContext, Snapshot, Socket, State, WorkerLocal,
    serve,
};
use tollgate::observe::{LogSettings, Metrics, install};
use tollgate::primitives::secret::{Secret, SecretSource};

/// Whoever asks.
pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A running gateway.
pub(crate) struct Inside {
    /// One thread: the worker's.
    pub(crate) runtime: Runtime,
    pub(crate) state: Arc<State>,
    pub(crate) lane: Arc<WorkerLocal>,
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

/// A request, as both sides send it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Its client speaks HTTP/2.
    pub(crate) http2: bool,
}

impl Asked {
    pub(crate) fn new(method: &'static str, target: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            fields: Vec::new(),
            body: Vec::new(),
            http2: false,
        }
    }

    pub(crate) fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, length: usize) -> Self {
        self.body = (0..length).map(|at| b'a' + (at % 26) as u8).collect();
        self
    }

    pub(crate) fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }
}

/// Nothing is kept anywhere but in the configuration itself.
struct Nothing;

impl Material for Nothing {
    fn secret(&self, source: &SecretSource) -> Result<Secret, String> {
        match source {
            SecretSource::Literal(secret) => Ok(secret.clone()),
            _ => Err("none here".into()),
        }
    }

    fn file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Err("none here".into())
    }
}

impl Inside {
    /// Starts one. `{log}` in its configuration becomes a file of its own.
    pub(crate) fn start(toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:1\"\nhttp2 = true\n\
             [log]\naccess = {log:?}\nfile = {:?}\n{toml}",
            folder.path().join("messages.log"),
        );
        let sources = vec![Source {
            file: "t.toml".into(),
            text: text.into(),
        }];
        let config =
            config::load(&sources, &|_| Ok(None)).unwrap_or_else(|problems| panic!("{problems}"));
        let metrics = Arc::new(Metrics::new("0", "0").unwrap());
        let settings = LogSettings::new(config.log.clone(), [], &[]);
        let log = install(settings, &metrics).unwrap();
        let state = Arc::new(State::new(metrics, Some(log)));
        state.overload.begin(1);
        state.connections.begin(1);
        let snapshot = Snapshot::build(config, sources, &state, &[], &Nothing);
        let snapshot = snapshot.unwrap_or_else(|problems| panic!("{problems}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        state.publish(&Arc::new(snapshot));
        state.enter(Phase::Serving);
        let lane = Arc::new(WorkerLocal::new(0, 1));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(accept(listener, Arc::clone(&state), Arc::clone(&lane)));
        drop(entered);
        Self {
            runtime,
            state,
            lane,
            address,
            folder,
        }
    }

    /// A request over memory.
    pub(crate) fn request(&self, asked: &Asked, parts: Parts) -> internal::Request {
        let mut head = http::Request::builder()
            .method(asked.method)
            .uri(&asked.target)
            .version(match asked.http2 {
                true => Version::HTTP_2,
                false => Version::HTTP_11,
            })
            .header("host", "gateway.test");
        for (name, value) in &asked.fields {
            head = head.header(*name, value);
        }
        let (head, ()) = head.body(()).unwrap().into_parts();
        internal::Request {
            head,
            body: Bytes::from(asked.body.clone()),
            origin: Origin::own(&self.state, CLIENT).unwrap(),
            kind: Internal::Batch,
            parts,
            deadline: None,
        }
    }

    /// Sends it and waits for all of the answer.
    pub(crate) fn ask(&self, request: internal::Request) -> Result<Whole, NotWhole> {
        let lane = Arc::clone(&self.lane);
        let asking = async move { request.send(&lane).unwrap().whole(64 << 20).await };
        self.runtime.block_on(self.runtime.spawn(asking)).unwrap()
    }

    /// Everything that is counted, by series.
    pub(crate) fn counts(&self) -> String {
        self.state.metrics.render().unwrap()
    }

    /// Nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.state.in_flight() == 0
    }

    /// All access lines; nothing is logged after that.
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        self.state
            .log
            .as_ref()
            .unwrap()
            .finish(Duration::from_secs(10));
        let text = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, lane: Arc<WorkerLocal>) {
    let app = Hooks::new(Gateway::new(Arc::clone(&lane)));
    let (open, closing) = watch::channel(None::<Instant>);
    let door = ServeContext {
        app: Arc::new(app),
        state: Arc::clone(&state),
        shutdown: watch::channel(false).1,
        closing,
        lane,
        public: true,
        listener: None,
    };
    while let Ok((stream, address)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let limits = state.snapshot().unwrap().config.server.client;
        let stats = Arc::default();
        let place = state.admission.enter(None, &limits, &stats).unwrap();
        tokio::spawn(serve(
            Socket::Tcp(stream),
            Some(address.ip()),
            Protocols::Either,
            door.clone(),
            place,
        ));
    }
    drop(open);
}
