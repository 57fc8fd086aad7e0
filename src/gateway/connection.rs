//! One connection: what it speaks, the exchanges on it, and answers in place of requests that are gone.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use http::{HeaderValue, Method, Uri, Version};
use pingora::apps::HttpServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::sync::watch;

use super::admission::Place;
use super::answer::{AnswerPlan, ResponseWriter};
use super::client::ClientIo;
use super::ctx::{Ctx, Lane, Peer, Start};
use super::http1::body::BodyGuard;
use super::http1::connection::Ended;
use super::http1::head::Head;
use super::message::GatewayHeaders;
use super::overload::Met;
use super::reply::Caller;
use super::session::ClientSession;
use super::snapshot::Snapshot;
use super::socket::Socket;
use super::state::State;
use super::{failure, http1, http2, judged, overload, reply};
use crate::config::ErrorFormat;
use crate::filter::Refusal;
use crate::primitives::ListenerName;
use crate::primitives::trace::TraceId;

/// What all connections of a worker share: the application that answers, the state, and the word to stop.
pub struct Door<A> {
    /// Answers requests.
    pub app: Arc<A>,
    /// Facts, and the snapshot in force.
    pub state: Arc<State>,
    /// The framework's word to stop.
    pub shutdown: ShutdownWatch,
    /// Says from when on no further request should begin, once that is known.
    pub closing: watch::Receiver<Parting>,
    /// What the worker has for itself.
    pub lane: Arc<Lane>,
    /// Requests are counted and logged as the gateway's own; not so on the admin listener.
    pub public: bool,
    /// Where the connection came in; the admin listener has no name.
    pub listener: Option<ListenerName>,
}

/// From when on connections that wait for a request end; `None` while they need not. Those of HTTP/2 are told at once,
/// and lose nothing by it.
pub type Parting = Option<Instant>;

impl<A> Clone for Door<A> {
    fn clone(&self) -> Self {
        Self {
            app: Arc::clone(&self.app),
            state: Arc::clone(&self.state),
            shutdown: self.shutdown.clone(),
            closing: self.closing.clone(),
            lane: Arc::clone(&self.lane),
            public: self.public,
            listener: self.listener.clone(),
        }
    }
}

/// Which protocols a connection may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1 alone.
    Http1,
    /// HTTP/2: agreed upon in the TLS handshake.
    Http2,
    /// HTTP/1, or HTTP/2 from a client that begins with its preface (RFC 9113 §3.3).
    Either,
}

/// Serves a connection to its end.
pub async fn serve<A>(
    socket: Socket,
    address: Option<IpAddr>,
    speaks: Speaks,
    door: Door<A>,
    place: Place,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
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
        listener: door.listener.clone(),
        certified: socket.certified(),
    });
    let mut word = door.closing.clone();
    let mut closing = Closing {
        changed: door.closing.clone(),
        waiting: std::pin::pin!(async move {
            let _ = word.wait_for(Option::is_some).await;
        }),
        waker: Waker::noop().clone(),
    };
    let upgraded = match speaks {
        Speaks::Http2 => Some((socket, bytes::Bytes::new())),
        Speaks::Http1 | Speaks::Either => {
            let either = speaks == Speaks::Either;
            match http1::connection::serve(socket, &peer, either, &door, &mut closing).await {
                Ended::Preface(socket, read) => Some((socket, read)),
                Ended::Over => None,
            }
        }
    };
    if let Some((socket, read)) = upgraded {
        // Boxed, as is what few requests come to: every idle connection of HTTP/1 would hold room for it.
        Box::pin(http2::connection::serve(
            socket,
            read,
            &peer,
            &door,
            &mut closing,
        ))
        .await;
    }
    drop(place);
}

/// The word that no further request should begin. It comes once in the life of a process and is waited for before each
/// request, so while it would wake the same task it is only looked at.
pub(super) struct Closing<'c, F> {
    changed: watch::Receiver<Parting>,
    waiting: Pin<&'c mut F>,
    waker: Waker,
}

impl<F: Future<Output = ()>> Closing<'_, F> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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

    /// From when on connections end that cannot be told; at once if nobody says.
    pub(super) fn parting(&self) -> Instant {
        self.changed.borrow().unwrap_or_else(Instant::now)
    }
}

/// Most time an exchange may take on the admin listener.
const LONGEST: Duration = Duration::from_secs(60);

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// By itself; its answer may be cut short.
    Served,
    /// Abandoned: the client was told instead, if it had no answer.
    Abandoned,
}

/// Hands one message to the framework. `begin` was called on `client`.
pub(super) async fn exchange<A>(
    client: &Arc<ClientIo>,
    peer: &Arc<Peer>,
    snapshot: Arc<Snapshot>,
    (request, head): (Box<RequestHeader>, Head),
    door: &Door<A>,
) -> Outcome
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let mut entered = None;
    if overload::refuses_some(&snapshot, door) {
        let met = overload::meet(client, peer, &snapshot, (&request, &head), door);
        match Box::pin(met).await {
            Met::In(through) => entered = through,
            Met::Refusal => return Outcome::Served,
        }
    }
    let format = snapshot.config.server.error_format;
    let mut start = Some(Start {
        snapshot,
        client: Arc::clone(client),
        peer: Arc::clone(peer),
        request: std::ptr::from_ref(&*request).addr(),
        head,
        entered,
    });
    let session = ClientSession::new(request, head, Arc::clone(client));
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
        Ok(true) => {
            if !door.public {
                client.ended(Instant::now());
            }
            return Outcome::Served;
        }
        Ok(false) => {
            let refusal = failure::deadline();
            Box::pin(answer_for(client, format, &head, &refusal)).await;
        }
        Err(_) => {
            let trace = client.trace().unwrap_or_else(fresh_trace);
            log::error!(trace_id = trace.as_str(); "a request ended in a panic");
            let refusal = reply::internal();
            Box::pin(answer_for(client, format, &head, &refusal)).await;
        }
    }
    Outcome::Abandoned
}

fn fresh_trace() -> TraceId {
    TraceId::random(&mut rand::rng())
}

/// Answers in place of a request that is gone, unless an answer had begun. Its record is written, see [`Ctx`].
async fn answer_for(client: &Arc<ClientIo>, format: ErrorFormat, head: &Head, refusal: &Refusal) {
    if !client.answered() {
        let trace = client.trace().unwrap_or_else(fresh_trace);
        let writer = &mut ResponseWriter::new(Arc::clone(client), head.version, false);
        tell(writer, refusal, format, ("/", &trace), Caller::of(head)).await;
    }
}

/// What can be told of a request whose head is not fit to be forwarded: for the log only.
#[derive(Default)]
pub(super) struct Gist {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    /// The client speaks gRPC.
    pub(super) grpc: bool,
}

/// Answers a head that is not fit to be forwarded; over HTTP/1 the connection ends with it.
pub(super) async fn refuse<A>(
    client: &Arc<ClientIo>,
    peer: &Peer,
    snapshot: &Arc<Snapshot>,
    refusal: Refusal,
    gist: Gist,
    door: &Door<A>,
) {
    client.begin(BodyGuard::Done, false, &snapshot.config.server.client);
    let format = snapshot.config.server.error_format;
    let caller = Caller {
        version: gist.version,
        grpc: gist.grpc,
    };
    let mut writer = ResponseWriter::new(
        Arc::clone(client),
        gist.version,
        gist.method == Method::HEAD,
    );
    let writer = &mut writer;
    if door.public {
        let mut ctx = Ctx::new(Arc::clone(&door.state), &door.lane);
        ctx.began = Instant::now();
        ctx.client_ip = peer.address;
        (ctx.method, ctx.uri, ctx.version) = (gist.method, gist.uri, gist.version);
        tell(
            writer,
            &refusal,
            format,
            (ctx.uri.path(), &ctx.trace),
            caller,
        )
        .await;
        judged::head_refused(&mut ctx, &snapshot.config.server.client, refusal.reason);
        ctx.refusal = Some(refusal);
        ctx.record(client.ended(Instant::now()), None);
    } else {
        tell(writer, &refusal, format, ("/", &fresh_trace()), caller).await;
    }
}

/// Sends a refusal of which no request is left; the connection ends with it.
async fn tell(
    writer: &mut ResponseWriter,
    refusal: &Refusal,
    format: ErrorFormat,
    (path, trace): (&str, &TraceId),
    caller: Caller,
) {
    let Ok((head, body)) = reply::refusal(refusal, format, path, trace, caller) else {
        return;
    };
    let plan = AnswerPlan {
        ours: GatewayHeaders {
            trace: Some(*trace),
            ..GatewayHeaders::default()
        },
        last: true,
        ..AnswerPlan::default()
    };
    // Who is not there any more is told nothing.
    let _ = writer.send(head, body, plan).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pingora::server::configuration::ServerConf;
    use pingora_proxy::http_proxy;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;
    use crate::config::{self, Source};
    use crate::filter::{FilterContext, Reason, RequestFilter, Verdict};
    use crate::gateway::chain::Chain;
    use crate::gateway::parts::Parts;
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

        fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
            assert!(
                context.request.query != Some("boom"),
                "a bug met this request"
            );
            Verdict::Continue
        }
    }

    fn door(closing: watch::Receiver<Parting>) -> Door<pingora_proxy::HttpProxy<Gateway>> {
        let text = "[[listener]]\naddress = \"127.0.0.1:8080\"\n\
                    [[route]]\nid = \"r\"\npath = \"/\"\nrespond = { text = \"fine\" }\n";
        let sources = vec![Source {
            file: "t.toml".into(),
            text: text.into(),
        }];
        let config =
            config::load(&sources, &|_| Ok(None)).unwrap_or_else(|problems| panic!("{problems}"));
        let state = Arc::new(State::new(
            Arc::new(Metrics::new("0", "0").expect("metrics")),
            None,
        ));
        let mut snapshot =
            Snapshot::build(config, sources, &state, &[], &Nothing).expect("snapshot");
        let route = &snapshot.routes[0];
        snapshot.routes[0] = Arc::new(RouteRuntime {
            breaker: None,
            name: route.name.clone(),
            chain: Chain::with(vec![Arc::new(Faulty)]),
            target: match &route.target {
                crate::gateway::Target::Respond(reply) => {
                    crate::gateway::Target::Respond(Arc::clone(reply))
                }
                crate::gateway::Target::Forward { .. } => unreachable!("the route answers itself"),
            },
            class: config::Class::Normal,
            hedge: None,
            stats: Arc::clone(&route.stats),
            policy: crate::gateway::Policy::of(
                &snapshot.config.routes[0],
                &[],
                &Parts {
                    auths: &snapshot.config.auths,
                    authenticators: Default::default(),
                    limits: Default::default(),
                    pools: &snapshot.pools,
                },
                &state,
            ),
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
            shutdown: watch::channel(false).1,
            closing,
            public: true,
            listener: None,
        }
    }

    async fn ask(door: &Door<pingora_proxy::HttpProxy<Gateway>>, target: &str) -> String {
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
        let serving = tokio::spawn(serve(
            Socket::Unix(ours),
            None,
            Speaks::Http1,
            door.clone(),
            place,
        ));
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
        let (_stays_open, closing) = watch::channel(None);
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
