//! What both kinds of connections do with a message: it is shed, or handed to the application under its time limit;
//! and whoever is left without an answer is told why.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use http::{Method, Uri, Version};
use pingora::http::RequestHeader;

use super::answer::{AnswerPlan, ResponseWriter};
use super::application::{Application, ClientMessage};
use super::client::ClientIo;
use super::ctx::Ctx;
use super::http1::body::BodyDecoder;
use super::http1::head::Head;
use super::message::GatewayHeaders;
use super::overload::ShedDecision;
use super::overload::shed_permit::ShedPermit;
use super::peer::Peer;
use super::reply::Caller;
use super::request_seed::RequestSeed;
use super::serve_context::ServeContext;
use super::snapshot::Snapshot;
use super::{failure, judged, overload, reply};
use crate::config::ErrorFormat;
use crate::filter::Refusal;
use crate::primitives::trace::TraceId;

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

/// Asks the gateway's door, while it refuses some requests. `begin` was called on `client`.
pub(super) async fn at_the_door<A>(
    client: &Arc<ClientIo>,
    peer: &Peer,
    snapshot: &Snapshot,
    asked: (&RequestHeader, &Head),
    door: &ServeContext<A>,
) -> ShedDecision {
    if door.public && overload::refuses_some(snapshot, &door.state, &door.lane) {
        // Boxed: few meet it, and it would be a part of every request.
        let decision = overload::shed(client, peer, snapshot, asked, &door.state, &door.lane);
        return Box::pin(decision).await;
    }
    ShedDecision::In(None)
}

/// Hands one message to the application. `begin` was called on `client`, and [`at_the_door`] let it in.
pub(super) async fn exchange<A>(
    client: &Arc<ClientIo>,
    peer: &Arc<Peer>,
    snapshot: Arc<Snapshot>,
    (request, head): (Box<RequestHeader>, Head),
    entered: Option<ShedPermit>,
    door: &ServeContext<A>,
) -> Outcome
where
    A: Application,
{
    let format = snapshot.config.server.error_format;
    let ctx = if door.public {
        let start = RequestSeed {
            snapshot,
            client: Arc::clone(client),
            peer: Arc::clone(peer),
            head,
            entered,
            inside: None,
        };
        let ctx = Ctx::new(Arc::clone(&door.state), &door.lane, Some(start));
        Some(Box::new(ctx))
    } else {
        client.set_deadline(Instant::now() + LONGEST);
        None
    };
    let message = ClientMessage {
        request,
        head,
        client: Arc::clone(client),
        ctx,
    };
    let serving = pin!(Some(door.app.answer(message, &door.shutdown)));
    let outcome = supervise(client, format, &head, serving).await;
    if outcome == Outcome::Served && !door.public {
        client.ended(Instant::now());
    }
    outcome
}

/// Runs `serving` within the time of its exchange, and answers in its place when that is over or it panics. It is dropped
/// then.
pub(super) async fn supervise(
    client: &Arc<ClientIo>,
    format: ErrorFormat,
    head: &Head,
    mut serving: Pin<&mut Option<impl Future>>,
) -> Outcome {
    let outcome = AssertUnwindSafe(poll_fn(|cx| {
        let Some(serving) = serving.as_mut().as_pin_mut() else {
            return Poll::Ready(true);
        };
        match serving.poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending => client.poll_overdue(cx).map(|()| false),
        }
    }));
    let outcome = outcome.catch_unwind().await;
    // Abandons an exchange that is overdue; its record is written.
    serving.set(None);
    match outcome {
        Ok(true) => return Outcome::Served,
        Ok(false) => Box::pin(answer_for(client, format, head, &failure::deadline())).await,
        Err(_) => {
            let trace = client.trace().unwrap_or_else(fresh_trace);
            log::error!(trace_id = trace.as_str(); "a request ended in a panic");
            Box::pin(answer_for(client, format, head, &reply::internal())).await;
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
pub(super) struct RefusedHead {
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
    refused_head: RefusedHead,
    door: &ServeContext<A>,
) {
    client.begin(BodyDecoder::Done, false, &snapshot.config.server.client);
    let format = snapshot.config.server.error_format;
    let caller = Caller {
        version: refused_head.version,
        grpc: refused_head.grpc,
    };
    let head_only = refused_head.method == Method::HEAD;
    let writer = &mut ResponseWriter::new(Arc::clone(client), refused_head.version, head_only);
    if door.public {
        let mut ctx = Ctx::new(Arc::clone(&door.state), &door.lane, None);
        ctx.client_ip = peer.address;
        (ctx.method, ctx.uri, ctx.version) =
            (refused_head.method, refused_head.uri, refused_head.version);
        let asked = (ctx.uri.path(), &ctx.trace);
        tell(writer, &refusal, format, asked, caller).await;
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
