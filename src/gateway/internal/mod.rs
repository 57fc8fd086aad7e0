//! Requests made inside the process: items of a batch, parts of an aggregate, answers fetched anew.
//!
//! Such a request takes the same road as one from a connection - route, filters, upstream, record - but is neither written
//! as bytes nor read again. Its head is judged as a client's is. It has the trace of the request that made it and a span
//! of its own, ends no later than that, and lives in it: an [`Answer`] is driven by whoever holds it, and what it held of
//! everything is given back when it is dropped. So a client that leaves takes along what was asked on its behalf.
//!
//! Whoever holds an answer polls it or drops it: a deadline that nobody polls passes unnoticed.

mod answer;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::request::Parts as Head;
use http::{HeaderValue, Method, header};
use pingora::http::RequestHeader;

use super::answer::ResponseWriter;
use super::client::ClientIo;
use super::ctx::Ctx;
use super::http1::body::BodyDecoder;
use super::http1::head::Head as KnownHead;
use super::memory::{MemoryWire, Pipe};
use super::peer::Peer;
use super::request_seed::{Inside, RequestSeed};
use super::snapshot::Snapshot;
use super::state::State;
use super::supervise::supervise;
use super::worker_local::WorkerLocal;
use super::{hop_by_hop, http2, judged, outgoing_head, reply, serve};
use crate::config::ClientLimits;
use crate::filter::{Principal, Refusal, Scheme};
use crate::primitives::trace::{TraceId, TraceParent};

pub use self::answer::{Answer, Cut, Next, NotWhole, Whole};
pub use super::request_seed::Parts;
pub use crate::observe::Internal;

/// Most requests that may stand above another, each made by the one above it.
const DEEPEST: u8 = 4;

/// On whose behalf requests are made: what they have of it.
#[derive(Clone)]
pub struct Origin {
    state: Arc<State>,
    snapshot: Arc<Snapshot>,
    peer: Arc<Peer>,
    client_ip: IpAddr,
    trace: Option<(TraceId, TraceParent)>,
    principal: Option<Arc<Principal>>,
    latest: Option<Instant>,
    depth: u8,
}

/// No further request may be made on behalf of one that others made in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("requests were made by requests too often")]
pub struct TooDeep;

impl Origin {
    /// The request of this context, once it is known who sent it and for what.
    pub fn of(ctx: &Ctx) -> Option<Self> {
        let start = ctx.start.as_ref()?;
        Some(Self {
            state: Arc::clone(&ctx.state),
            snapshot: Arc::clone(&start.snapshot),
            peer: match start.peer.inside {
                true => Arc::clone(&start.peer),
                false => Arc::new(start.peer.found(ctx.client_ip, ctx.scheme)?),
            },
            client_ip: ctx.client_ip,
            trace: ctx.parent.map(|parent| (ctx.trace, parent)),
            principal: ctx.principal.clone(),
            latest: start.client.deadline(),
            depth: ctx.inside().map_or(0, |inside| inside.depth),
        })
    }

    /// The gateway itself, or a client at `address` that it speaks for; by the configuration in force. `None` before there
    /// is one.
    pub fn own(state: &Arc<State>, address: IpAddr) -> Option<Self> {
        let address = address.to_canonical();
        Some(Self {
            state: Arc::clone(state),
            snapshot: state.snapshot()?,
            peer: Arc::new(Peer {
                address,
                text: HeaderValue::from_str(&address.to_string()).ok()?,
                scheme: Scheme::Http,
                listener: None,
                certified: None,
                inside: true,
            }),
            client_ip: address,
            trace: None,
            principal: None,
            latest: None,
            depth: 0,
        })
    }
}

/// A request to be made. Its head names the host (`Host`, or in the target); what concerns a connection is taken out of it.
pub struct Request {
    /// Method, target and fields.
    pub head: Head,
    /// Body; its length is that of the head.
    pub body: Bytes,
    /// On whose behalf.
    pub origin: Origin,
    /// What for.
    pub kind: Internal,
    /// Which filters of its route are asked.
    pub parts: Parts,
    /// When it ends at the latest; never later than the request that made it.
    pub deadline: Option<Instant>,
}

impl Request {
    /// The answer to it, which is on its way while it is polled. It is served by the worker that has `lane`.
    pub fn send(mut self, lane: &Arc<WorkerLocal>) -> Result<Answer, TooDeep> {
        let Origin { depth, .. } = self.origin;
        let depth = depth.checked_add(1).filter(|depth| *depth <= DEEPEST);
        let depth = depth.ok_or(TooDeep)?;
        self.origin.depth = depth;
        let pipe = Arc::new(Pipe::default());
        let client = ClientIo::memory(MemoryWire::new(self.body.clone(), Arc::clone(&pipe)));
        let serving = self.serve(client, Arc::clone(lane));
        Ok(Answer::new(serving, pipe))
    }

    async fn serve(mut self, client: Arc<ClientIo>, lane: Arc<WorkerLocal>) {
        self.complete();
        let Self {
            head: parts,
            body,
            origin,
            kind,
            parts: asked,
            deadline,
        } = self;
        let Origin {
            state,
            snapshot,
            peer,
            ..
        } = origin;
        let limits = snapshot.config.server.client;
        let format = snapshot.config.server.error_format;
        let Judged {
            request,
            head,
            refusal,
        } = judge(parts, body.is_empty(), &limits);
        let inside = Inside {
            kind,
            parts: asked,
            client_ip: origin.client_ip,
            trace: origin.trace,
            principal: origin.principal,
            latest: earlier(origin.latest, deadline),
            depth: origin.depth,
        };
        client.begin(BodyDecoder::Done, true, &limits);
        let start = RequestSeed {
            snapshot: Arc::clone(&snapshot),
            client: Arc::clone(&client),
            peer,
            head,
            entered: None,
            inside: Some(Box::new(inside)),
        };
        let mut ctx = Ctx::new(state, &lane, Some(start));
        let head_only = request.method == Method::HEAD;
        let writer = ResponseWriter::new(Arc::clone(&client), head.version, head_only);
        let mut writer = writer.with_trailers(true);
        let serving = std::pin::pin!(Some(async move {
            match refusal {
                None => serve::serve(&request, &mut ctx, &lane, &mut writer).await,
                Some(refusal) => {
                    ctx.learn(&request, origin.client_ip, &snapshot);
                    judged::head_refused(&mut ctx, &limits, refusal.reason);
                    // Whoever asked is there, or this is not polled any more.
                    let _ = reply::refuse(&mut writer, &request, &mut ctx, refusal).await;
                }
            }
            ctx.finish(&request.headers);
        }));
        supervise(&client, format, &head, serving).await;
    }

    /// Makes the head say what is true of the body, and nothing of a connection.
    fn complete(&mut self) {
        let headers = &mut self.head.headers;
        hop_by_hop::strip(headers);
        headers.remove(header::TRANSFER_ENCODING);
        headers.remove(header::EXPECT);
        // Where a body is expected, that there is none is said (RFC 9110 §8.6).
        let expected = [Method::POST, Method::PUT, Method::PATCH].contains(&self.head.method);
        let said = expected || headers.contains_key(header::CONTENT_LENGTH);
        if said || !self.body.is_empty() {
            headers.insert(header::CONTENT_LENGTH, self.body.len().into());
        }
    }
}

/// A head that was judged as a client's is; one with a `refusal` is not fit to be forwarded.
struct Judged {
    request: Box<RequestHeader>,
    head: KnownHead,
    refusal: Option<Refusal>,
}

fn judge(parts: Head, bodiless: bool, limits: &ClientLimits) -> Judged {
    let grpc = outgoing_head::is_grpc(&parts.headers);
    let (mut bare, ()) = http::Request::new(()).into_parts();
    bare.method = parts.method.clone();
    bare.uri = parts.uri.clone();
    let version = parts.version;
    let (mut request, mut head, refusal) = match http2::head::judge(parts, (bodiless, grpc), limits)
    {
        Ok((request, head)) => (request, head, None),
        Err(refusal) => {
            let head = KnownHead::unfit(version, grpc);
            (Box::new(RequestHeader::from(bare)), head, Some(refusal))
        }
    };
    request.set_version(version);
    head.version = version;
    Judged {
        request,
        head,
        refusal,
    }
}

/// The earlier of two moments, of which either may be missing.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;
    use std::time::Duration;

    use http::Version;

    use super::*;
    use crate::config::{self, Source};
    use crate::gateway::Material;
    use crate::observe::Metrics;
    use crate::primitives::secret::{Secret, SecretSource};

    struct Nothing;

    impl Material for Nothing {
        fn secret(&self, _: &SecretSource) -> Result<Secret, String> {
            Err("none here".into())
        }

        fn file(&self, _: &Path) -> Result<Vec<u8>, String> {
            Err("none here".into())
        }
    }

    fn state(toml: &str) -> Arc<State> {
        let sources = vec![Source {
            file: "t.toml".into(),
            text: format!("[[listener]]\naddress = \"127.0.0.1:1\"\n{toml}").into(),
        }];
        let config =
            config::load(&sources, &|_| Ok(None)).unwrap_or_else(|problems| panic!("{problems}"));
        let metrics = Arc::new(Metrics::new("0", "0").expect("metrics"));
        let state = Arc::new(State::new(metrics, None));
        let snapshot = Snapshot::build(config, sources, &state, &[], &Nothing).expect("a snapshot");
        state.publish(&Arc::new(snapshot));
        state
    }

    /// The context of a request that came from 192.0.2.7 and has so long.
    fn maker(state: &Arc<State>, lane: &WorkerLocal, left: Duration) -> Ctx {
        let own = Origin::own(state, [192, 0, 2, 7].into()).expect("an origin");
        let client = ClientIo::memory(MemoryWire::new(Bytes::new(), Arc::default()));
        client.begin(BodyDecoder::Done, true, &own.snapshot.config.server.client);
        client.set_deadline(Instant::now() + left);
        let start = RequestSeed {
            snapshot: Arc::clone(&own.snapshot),
            client,
            peer: Arc::clone(&own.peer),
            head: KnownHead::unfit(Version::HTTP_11, false),
            entered: None,
            inside: None,
        };
        let mut ctx = Ctx::new(Arc::clone(state), lane, Some(start));
        let head = RequestHeader::build("GET", b"/", None).expect("a head");
        ctx.learn(&head, own.peer.address, &own.snapshot);
        ctx
    }

    fn request(origin: Origin, target: &str) -> Request {
        let head = http::Request::builder().uri(target).header("host", "a");
        let (head, ()) = head.body(()).expect("a request").into_parts();
        Request {
            head,
            body: Bytes::new(),
            origin,
            kind: Internal::Batch,
            parts: Parts::ALL,
            deadline: None,
        }
    }

    #[tokio::test]
    async fn it_has_the_trace_of_the_request_that_made_it_whatever_its_head_says() {
        let state = state("[[route]]\nid = \"r\"\npath = \"/\"\nrespond = { text = \"fine\" }\n");
        let lane = Arc::new(WorkerLocal::new(0, 1));
        let maker = maker(&state, &lane, Duration::from_secs(5));
        let mut request = request(Origin::of(&maker).expect("an origin"), "/");
        let theirs = HeaderValue::from_static("theirs");
        request.head.headers.insert("x-trace-id", theirs);
        let answer = request.send(&lane).expect("not too deep").whole(100).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.head.status(), 200);
        assert_eq!(
            answer.head.headers()["x-trace-id"].as_bytes(),
            maker.trace.as_bytes()
        );
        assert_eq!(&answer.body[..], b"fine");
    }

    #[test]
    fn it_comes_from_where_the_request_that_made_it_was_found_to_come_from() {
        let state = state("[[route]]\nid = \"r\"\npath = \"/\"\nrespond = { text = \"fine\" }\n");
        let mut maker = maker(&state, &WorkerLocal::new(0, 1), Duration::from_secs(5));
        let start = maker.start.as_mut().expect("a start");
        let proxy = start.peer.found([192, 0, 2, 7].into(), Scheme::Http);
        let proxy = proxy.expect("a peer");
        start.peer = Arc::new(Peer {
            inside: false,
            ..proxy
        });
        (maker.client_ip, maker.scheme) = ([203, 0, 113, 9].into(), Scheme::Https);
        let peer = Origin::of(&maker).expect("an origin").peer;
        assert_eq!(peer.address, maker.client_ip);
        assert_eq!(peer.text, "203.0.113.9");
        assert_eq!((peer.scheme, peer.inside), (Scheme::Https, true));
    }

    #[tokio::test]
    async fn it_ends_no_later_than_the_request_that_made_it() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let state = state(&format!(
            "[upstream.silent]\nendpoints = [{{ address = \"{}\" }}]\n\
             [[route]]\nid = \"r\"\npath = \"/\"\nupstream = \"silent\"\n",
            silent.local_addr().expect("its address")
        ));
        let lane = Arc::new(WorkerLocal::new(0, 1));
        let began = Instant::now();
        let maker = maker(&state, &lane, Duration::from_millis(80));
        let mut late = request(Origin::of(&maker).expect("an origin"), "/");
        late.deadline = Some(began + Duration::from_secs(60));
        let answer = late.send(&lane).expect("not too deep").whole(1000).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.head.status(), 504);
        assert!(began.elapsed() < Duration::from_secs(5), "the maker's time");
        assert_eq!(state.in_flight(), 1, "the maker alone is left");
    }

    #[tokio::test]
    async fn requests_that_make_requests_come_to_an_end() {
        let state = state("[[route]]\nid = \"r\"\npath = \"/\"\nrespond = { text = \"fine\" }\n");
        let lane = Arc::new(WorkerLocal::new(0, 1));
        let mut origin = Origin::own(&state, [192, 0, 2, 7].into()).expect("an origin");
        origin.depth = DEEPEST - 1;
        let last = request(origin.clone(), "/").send(&lane);
        assert!(last.is_ok());
        origin.depth = DEEPEST;
        let beyond = request(origin, "/").send(&lane);
        assert_eq!(beyond.err(), Some(TooDeep));
    }
}
