//! One connection: heads are read and examined here, each message is handed to the framework, and the end is clean.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::{HeaderValue, Method, Version};
use pingora::apps::HttpServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::sync::watch;

use super::admission::Place;
use super::client::{ClientIo, NoHead};
use super::ctx::{Ctx, Lane, Peer, Start};
use super::http1::body::BodyGuard;
use super::http1::head::{self, Head, Scan};
use super::http1::session::Http1Session;
use super::snapshot::Snapshot;
use super::socket::Socket;
use super::state::State;
use super::{failure, reply};
use crate::config::{ClientLimits, ErrorFormat};
use crate::filter::{Reason, Refusal};
use crate::primitives::trace::TraceId;

/// What all connections of a worker share: the application that answers, the state, and the word to stop.
pub struct Door<A> {
    /// Answers requests.
    pub app: Arc<A>,
    /// Facts, and the snapshot in force.
    pub state: Arc<State>,
    /// The framework's word to stop.
    pub shutdown: ShutdownWatch,
    /// Turns true when no further request should begin.
    pub closing: watch::Receiver<bool>,
    /// What the worker has for itself.
    pub lane: Arc<Lane>,
    /// Requests are counted and logged as the gateway's own; not so on the admin listener.
    pub public: bool,
}

impl<A> Clone for Door<A> {
    fn clone(&self) -> Self {
        Self {
            app: Arc::clone(&self.app),
            state: Arc::clone(&self.state),
            shutdown: self.shutdown.clone(),
            closing: self.closing.clone(),
            lane: Arc::clone(&self.lane),
            public: self.public,
        }
    }
}

/// Serves a connection to its end.
pub async fn serve<A>(socket: Socket, address: Option<IpAddr>, door: Door<A>, place: Place)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let Some(snapshot) = door.state.snapshot() else {
        return;
    };
    let address = address
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .to_canonical();
    let Ok(text) = HeaderValue::from_str(&address.to_string()) else {
        return;
    };
    let peer = Arc::new(Peer {
        address,
        text,
        scheme: socket.scheme(),
    });
    let client = ClientIo::new(socket);
    drop(snapshot);
    let mut word = door.closing.clone();
    let mut closing = Closing {
        changed: door.closing.clone(),
        waiting: std::pin::pin!(async move {
            let _ = word.wait_for(|closing| *closing).await;
        }),
        waker: Waker::noop().clone(),
    };
    let mut served = 0;
    let mut clean = true;
    while clean {
        let Some(snapshot) = door.state.snapshot() else {
            break;
        };
        clean = match next_head(&client, &snapshot, &mut closing).await {
            Next::Request(request, head) => {
                served += 1;
                let last = served >= snapshot.config.server.client.keepalive_requests;
                one_request(&client, &peer, snapshot, (request, head), last, &door).await
            }
            Next::Refused(refusal, bytes) => {
                refuse(&client, &peer, &snapshot, refusal, &bytes, &door).await;
                false
            }
            Next::Closed => break,
        };
    }
    drop(place);
}

/// The word that no further request should begin. It comes once in the life of a process and is waited for before each
/// request, so while it would wake the same task it is only looked at.
struct Closing<'c, F> {
    changed: watch::Receiver<bool>,
    waiting: Pin<&'c mut F>,
    waker: Waker,
}

impl<F: Future<Output = ()>> Closing<'_, F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waker.will_wake(cx.waker()) {
            self.waker.clone_from(cx.waker());
            // Unconstrained: a task that used up its turn would be told "not yet" without its waker being taken.
            return Pin::new(&mut tokio::task::unconstrained(self.waiting.as_mut())).poll(cx);
        }
        match self.changed.has_changed() {
            Ok(false) => Poll::Pending,
            Ok(true) | Err(_) => Poll::Ready(()),
        }
    }
}

enum Next {
    Request(Box<RequestHeader>, Head),
    /// With what there was of the head.
    Refused(Refusal, Bytes),
    Closed,
}

/// Waits for the next head. Idle time is bounded until its first byte, and from there its total time.
async fn next_head(
    client: &ClientIo,
    snapshot: &Snapshot,
    closing: &mut Closing<'_, impl Future<Output = ()>>,
) -> Next {
    let limits = &snapshot.config.server.client;
    let mut looking = Looking {
        seen: 0,
        found: None,
    };
    let first = client.read_head(None, limits.keepalive_timeout, |bytes| {
        looking.at(bytes, limits);
        true
    });
    let begun = tokio::select! {
        biased;
        begun = first => begun,
        () = poll_fn(|cx| closing.poll(cx)) => return Next::Closed,
    };
    if begun.is_err() {
        return Next::Closed;
    }
    if looking.found.is_none() {
        let begun = Some(Instant::now());
        let whole = client.read_head(begun, limits.header_timeout, |bytes| {
            looking.at(bytes, limits)
        });
        match whole.await {
            Ok(()) => {}
            Err(NoHead::Gone) => return Next::Closed,
            Err(NoHead::TimedOut) => {
                let refusal =
                    Refusal::new(Reason::RequestTimeout, "the request head took too long");
                return Next::Refused(refusal, client.peek(Bytes::copy_from_slice));
            }
        }
    }
    match looking.found {
        Some((start, Scan::Whole(length))) => {
            let bytes = client.take_head(start, length);
            match head::parse(&bytes, limits) {
                Ok((request, head)) => Next::Request(request, head),
                Err(refusal) => Next::Refused(refusal, bytes),
            }
        }
        Some((_, Scan::TooLong(refusal))) => {
            Next::Refused(refusal, client.peek(Bytes::copy_from_slice))
        }
        Some((_, Scan::Partial)) | None => Next::Closed,
    }
}

/// What the bytes of a head amount to so far.
struct Looking {
    /// Bytes looked at without finding the end.
    seen: usize,
    /// Where the head begins, and what it is.
    found: Option<(usize, Scan)>,
}

impl Looking {
    /// Looks at all bytes read so far; `true` when it is known what they are. An empty line before a request line is
    /// skipped when the head is taken (RFC 9112 §2.2).
    fn at(&mut self, bytes: &BytesMut, limits: &ClientLimits) -> bool {
        let start = leading_empty_line(bytes);
        if bytes.len() <= start {
            return false;
        }
        match head::scan(&bytes[start..], self.seen, limits) {
            Scan::Partial => self.seen = bytes.len() - start,
            found => self.found = Some((start, found)),
        }
        self.found.is_some()
    }
}

fn leading_empty_line(bytes: &[u8]) -> usize {
    if bytes.starts_with(b"\r\n") { 2 } else { 0 }
}

/// Most time an exchange may take on the admin listener.
const LONGEST: Duration = Duration::from_secs(60);

/// Hands one message to the framework. Says whether the connection can go on.
async fn one_request<A>(
    client: &Arc<ClientIo>,
    peer: &Arc<Peer>,
    snapshot: Arc<Snapshot>,
    (request, head): (Box<RequestHeader>, Head),
    last: bool,
    door: &Door<A>,
) -> bool
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let server = &snapshot.config.server;
    let format = server.error_format;
    let persistent = head.persistent && !last;
    client.begin(BodyGuard::new(head.framing), persistent, &server.client);
    let mut start = Some(Start {
        snapshot,
        client: Arc::clone(client),
        peer: Arc::clone(peer),
        request: std::ptr::from_ref(&*request).addr(),
        head,
    });
    let session = Http1Session::new(request, head, Arc::clone(client));
    let session = ServerSession::new_custom(Box::new(session));
    let mut serving = door.app.process_new_http(session, &door.shutdown);
    if !door.public {
        client.set_deadline(Instant::now() + LONGEST);
    }
    let outcome = AssertUnwindSafe(poll_fn(|cx| {
        let polled = door
            .lane
            .handing_over(&mut start, || serving.as_mut().poll(cx));
        match polled {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending => client.poll_overdue(cx).map(|()| false),
        }
    }));
    let outcome = outcome.catch_unwind().await;
    // Abandons an exchange that is overdue; its record is written.
    drop(serving);
    match outcome {
        Ok(true) => {}
        Ok(false) => {
            answer_for(client, format, &failure::deadline()).await;
            return false;
        }
        Err(_) => {
            let trace = client.trace().unwrap_or_else(fresh_trace);
            log::error!(trace_id = trace.as_str(); "a request ended in a panic");
            answer_for(client, format, &reply::internal()).await;
            return false;
        }
    }
    if !door.public {
        client.ended(Instant::now());
    }
    // A client that was not told of the end is not left in the middle: its next answer tells it.
    if client.goes_on() {
        return true;
    }
    let whole = client.drop_body();
    if !client.upgraded() && (!whole || client.has_ahead()) {
        client.linger().await;
    }
    false
}

fn fresh_trace() -> TraceId {
    TraceId::random(&mut rand::rng())
}

/// Answers in place of a request that is gone, unless an answer had begun. Its record is written, see [`Ctx`].
async fn answer_for(client: &ClientIo, format: ErrorFormat, refusal: &Refusal) {
    if !client.answered() {
        let trace = client.trace().unwrap_or_else(fresh_trace);
        let answer = reply::raw(refusal, format, "/", &trace, false);
        let _ = client.write(&answer).await;
    }
    client.linger().await;
}

/// Answers a head that is not fit to be forwarded; the connection ends with it.
async fn refuse<A>(
    client: &Arc<ClientIo>,
    peer: &Peer,
    snapshot: &Arc<Snapshot>,
    refusal: Refusal,
    bytes: &[u8],
    door: &Door<A>,
) {
    client.begin(BodyGuard::Done, false, &snapshot.config.server.client);
    let line = RequestLine::of(bytes);
    let format = snapshot.config.server.error_format;
    let head_only = line.method == Method::HEAD;
    if door.public {
        let mut ctx = Ctx::new(Arc::clone(&door.state), &door.lane);
        ctx.began = Instant::now();
        ctx.client_ip = peer.address;
        ctx.method = line.method;
        ctx.uri = line.target.parse().unwrap_or_default();
        ctx.version = line.version;
        let answer = reply::raw(&refusal, format, ctx.uri.path(), &ctx.trace, head_only);
        let status = refusal.reason.status();
        ctx.refusal = Some(refusal);
        let _ = client.write(&answer).await;
        ctx.record(status, answer.len() as u64, None, None);
    } else {
        let answer = reply::raw(&refusal, format, "/", &fresh_trace(), head_only);
        let _ = client.write(&answer).await;
    }
    client.linger().await;
}

/// As much of a refused request line as can be told: for the log only.
#[derive(Default)]
struct RequestLine {
    method: Method,
    target: String,
    version: Version,
}

impl RequestLine {
    fn of(bytes: &[u8]) -> Self {
        let line = bytes
            .split(|byte| matches!(byte, b'\r' | b'\n'))
            .next()
            .unwrap_or_default();
        let mut parts = line.split(|byte| *byte == b' ');
        let method = parts
            .next()
            .and_then(|method| Method::from_bytes(method).ok())
            .unwrap_or_default();
        let target = parts
            .next()
            .and_then(|target| std::str::from_utf8(target).ok())
            .unwrap_or("/");
        let target = if target.starts_with('/') { target } else { "/" };
        let version = if parts.next() == Some(b"HTTP/1.0") {
            Version::HTTP_10
        } else {
            Version::HTTP_11
        };
        Self {
            method,
            target: target.chars().take(1024).collect(),
            version,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pingora::proxy::http_proxy;
    use pingora::server::configuration::ServerConf;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;
    use crate::config::{self, Source};
    use crate::filter::{Exchange, RequestFilter, Verdict};
    use crate::gateway::chain::Chain;
    use crate::gateway::{Gateway, Material, RouteRuntime};
    use crate::observe::{ListenerStats, Metrics};
    use crate::primitives::secret::{Secret, SecretSource};

    struct Nothing;

    impl Material for Nothing {
        fn secret(&self, _: &SecretSource) -> Result<Secret, String> {
            Err("none here".into())
        }

        fn file(&self, _: &std::path::Path) -> Result<Vec<u8>, String> {
            Err("none here".into())
        }
    }

    /// A filter with a bug.
    struct Faulty;

    impl RequestFilter for Faulty {
        fn name(&self) -> &str {
            "faulty"
        }

        fn check(&self, exchange: &mut Exchange<'_>) -> Verdict {
            assert!(exchange.query != Some("boom"), "a bug met this request");
            Verdict::Continue
        }
    }

    fn door(closing: watch::Receiver<bool>) -> Door<pingora::proxy::HttpProxy<Gateway>> {
        let text = "[[listener]]\naddress = \"127.0.0.1:8080\"\n\
                    [[route]]\nid = \"r\"\npath = \"/\"\nrespond = { text = \"fine\" }\n";
        let sources = vec![Source {
            file: "t.toml".into(),
            text: text.into(),
        }];
        let config =
            config::load(&sources, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
        let state = Arc::new(State::new(
            Arc::new(Metrics::new("0", "0").expect("metrics")),
            None,
        ));
        let mut snapshot = Snapshot::build(config, sources, &state, &Nothing).expect("snapshot");
        let route = &snapshot.routes[0];
        snapshot.routes[0] = Arc::new(RouteRuntime {
            name: route.name.clone(),
            chain: Chain::with(vec![Arc::new(Faulty)]),
            target: match &route.target {
                crate::gateway::Target::Respond(reply) => {
                    crate::gateway::Target::Respond(Arc::clone(reply))
                }
                crate::gateway::Target::Forward { .. } => unreachable!("the route answers itself"),
            },
            stats: Arc::clone(&route.stats),
            max_body: route.max_body,
            upstream_filters: Vec::new(),
            response_filters: Vec::new(),
        });
        state.publish(&Arc::new(snapshot));
        let lane = Arc::new(Lane::new(0, 1));
        let app = Arc::new(http_proxy(
            &Arc::new(ServerConf::default()),
            Gateway::new(Arc::clone(&state), Arc::clone(&lane)),
        ));
        Door {
            lane,
            app,
            state,
            shutdown: closing.clone(),
            closing,
            public: true,
        }
    }

    async fn ask(door: &Door<pingora::proxy::HttpProxy<Gateway>>, target: &str) -> String {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        let limits = door
            .state
            .snapshot()
            .expect("snapshot")
            .config
            .server
            .client;
        let place = door
            .state
            .admission
            .enter(None, &limits, &Arc::new(ListenerStats::default()))
            .expect("place");
        let serving = tokio::spawn(serve(Socket::Unix(ours), None, door.clone(), place));
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nX-Trace-ID: known\r\nConnection: close\r\n\r\n"
        );
        theirs.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        let read = theirs.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(5), read)
            .await
            .expect("in time")
            .expect("answer");
        drop(theirs);
        serving.await.expect("the connection's task survives");
        answer
    }

    #[tokio::test]
    async fn a_panic_in_a_filter_costs_one_request_and_no_other() {
        let (_stays_open, closing) = watch::channel(false);
        let door = door(closing);
        let answer = ask(&door, "/?boom").await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(
            answer.contains("X-Trace-ID: known") && answer.contains("\"code\":\"internal\""),
            "{answer}"
        );
        let answer = ask(&door, "/?fine").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("fine"),
            "{answer}"
        );
        let stats = &door.state.snapshot().expect("snapshot").routes[0].stats;
        assert_eq!(
            stats.refusals().collect::<Vec<_>>(),
            [(Reason::Internal, 1)]
        );
        assert_eq!(
            stats.statuses.seen().collect::<Vec<_>>(),
            [(200, 1), (500, 1)]
        );
        assert_eq!(
            (
                stats.in_flight.value(),
                door.state.in_flight(),
                door.state.admission.open()
            ),
            (0, 0, 0)
        );
    }
}
