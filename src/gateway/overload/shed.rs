//! The gateway's door while it refuses: a request is answered before it becomes anybody's work.
//!
//! What is refused must cost a fraction of what is served, or refusing is all that a worker does (the point that DAGOR and
//! the SRE book make of cheap rejections). So while something is refused the route is looked up as soon as the head is read,
//! and whoever is turned away reaches neither context nor framework. A route that changes its answers - for browsers, say -
//! takes the long way.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode};
use pingora::http::RequestHeader;

use super::shed_permit::ShedPermit;
use super::turn_away;
use crate::gateway::answer::{AnswerPlan, ResponseWriter};
use crate::gateway::arrival::Arrival;
use crate::gateway::client::ClientIo;
use crate::gateway::ctx::Ctx;
use crate::gateway::decide;
use crate::gateway::http1::head::Head;
use crate::gateway::message::{AnswerHead, GatewayHeaders, whole_seconds};
use crate::gateway::peer::Peer;
use crate::gateway::refusal::{self, Caller, GRPC};
use crate::gateway::route_runtime::Target;
use crate::gateway::snapshot::Snapshot;
use crate::gateway::state::State;
use crate::gateway::worker_local::WorkerLocal;

/// What a request met at the door.
pub(in crate::gateway) enum ShedDecision {
    /// Nobody, or it was let in.
    In(Option<ShedPermit>),
    /// A refusal, which it was told.
    Refusal,
}

/// Whether the door refuses some requests at the moment: only then is it asked before a request begins.
pub(in crate::gateway) fn refuses_some(
    snapshot: &Snapshot,
    state: &State,
    lane: &WorkerLocal,
) -> bool {
    let watched = snapshot.config.server.overload.as_ref();
    watched.is_some_and(|watched| state.overload.refuses_some(lane.index(), watched))
}

/// Asks the door, which [`refuses_some`]. `begin` was called on `client`.
pub(in crate::gateway) async fn shed(
    client: &Arc<ClientIo>,
    peer: &Peer,
    snapshot: &Snapshot,
    (request, head): (&RequestHeader, &Head),
    state: &Arc<State>,
    lane: &WorkerLocal,
) -> ShedDecision {
    let Some(watched) = snapshot.config.server.overload.as_ref() else {
        return ShedDecision::In(None);
    };
    let (overload, worker) = (&state.overload, lane.index());
    let trusted = &snapshot.config.server.trusted_proxies;
    let client_ip = decide::client_ip(peer.address, trusted, request);
    // What is wrong with it is told where everything is.
    let Ok(arrival) = Arrival::of(request, peer, snapshot, client_ip) else {
        return ShedDecision::In(None);
    };
    let route = &snapshot.routes[arrival.found.index];
    let answers = matches!(route.target, Target::Respond(_));
    if answers || !route.response_filters.is_empty() {
        return ShedDecision::In(None);
    }
    let cause = match overload.enter(route.class, worker, watched) {
        Ok(entered) => return ShedDecision::In(Some(entered)),
        Err(cause) => cause,
    };
    let mut ctx = Ctx::new(Arc::clone(state), lane, None);
    ctx.learn(request, peer.address, snapshot);
    ctx.enter(Arc::clone(route));
    let refusal = turn_away(&ctx, route, cause);
    // A body that is here already is dropped, so that the connection can go on.
    client.drop_body_here().await;
    let keep_alive = snapshot.config.server.client.keepalive_timeout;
    let format = snapshot.config.server.error_format;
    let caller = Caller::of(head);
    let (content_type, body) = if caller.reads_head_alone() {
        (GRPC, String::new())
    } else {
        refusal::body(&refusal, format, ctx.uri.path(), &ctx.trace)
    };
    let answer = MinimalHead {
        status: refusal.reason.status(),
        content_type,
        length: body.len() as u64,
        grpc: caller.grpc.then(|| refusal::grpc_fields(&refusal)),
        retry_after: whole_seconds(refusal.retry_after.unwrap_or_default()).max(1),
    };
    let plan = AnswerPlan {
        ours: GatewayHeaders {
            trace: Some(ctx.trace),
            keep_alive: Some(keep_alive.as_secs().max(1)),
            ..GatewayHeaders::default()
        },
        last: state.draining(),
        ..AnswerPlan::default()
    };
    let head_only = request.method == Method::HEAD;
    let mut writer = ResponseWriter::new(Arc::clone(client), head.version, head_only);
    // Whether it was taken is the client's.
    let _ = writer.send(answer, Bytes::from(body), plan).await;
    ctx.refusal = Some(refusal);
    ctx.record(client.ended(Instant::now()), Some(&request.headers));
    ShedDecision::Refusal
}

/// The head of a refusal, without a map for its few fields.
struct MinimalHead {
    status: u16,
    content_type: &'static str,
    length: u64,
    retry_after: u64,
    /// Status and message of gRPC, for those who look for them.
    grpc: Option<[String; 2]>,
}

impl AnswerHead for MinimalHead {
    fn status(&self) -> u16 {
        self.status
    }

    fn reason(&self) -> &str {
        let status = StatusCode::from_u16(self.status).ok();
        let reason = status.and_then(|status| status.canonical_reason());
        reason.unwrap_or_default()
    }

    fn each(&self, mut show: impl FnMut(&[u8], &[u8])) {
        show(b"Content-Type", self.content_type.as_bytes());
        if let Some([status, message]) = &self.grpc {
            show(b"grpc-status", status.as_bytes());
            show(b"grpc-message", message.as_bytes());
        }
        for (name, number) in [
            (&b"Content-Length"[..], self.length),
            (b"Retry-After", self.retry_after),
        ] {
            // Twenty digits are all that a number may have.
            let mut digits = [0; 20];
            let mut left = &mut digits[..];
            let _ = write!(left, "{number}");
            let free = left.len();
            show(name, &digits[..digits.len() - free]);
        }
    }
}
