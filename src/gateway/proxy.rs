//! The hooks of the framework in the order in which a request meets them.
//!
//! A request's head was read and judged before the framework hears of it, so what it brings along is known: its context
//! lies in the extensions of its head ([`hand_over`]), from where the first hook takes it. Nothing is looked up.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use http::Extensions;
use pingora::http::RequestHeader;
use pingora::modules::http::HttpModules;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use super::ctx::Ctx;
use super::lane::Lane;
use super::reply;
use super::serve::serve;

/// The gateway as the framework sees it.
pub struct Gateway {
    lane: Arc<Lane>,
}

impl Gateway {
    /// A gateway of the worker that has this lane.
    pub fn new(lane: Arc<Lane>) -> Self {
        Self { lane }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Of a request that was handed over; boxed, since the framework moves it several times.
    type CTX = Option<Box<Ctx>>;

    fn new_ctx(&self) -> Self::CTX {
        None
    }

    /// No module is needed by default; the framework's idle compressor would cost every request.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// The request's context is taken over. By hand, as `logging`: a future of no size is not allocated.
    fn early_request_filter<'g, 's, 'c, 'f>(
        &'g self,
        session: &'s mut Session,
        ctx: &'c mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'f>>
    where
        'g: 'f,
        's: 'f,
        'c: 'f,
        Self: 'f,
    {
        *ctx = taken_over(session.req_header_mut());
        Box::pin(poll_fn(|_| Poll::Ready(Ok(()))))
    }

    /// The request is decided on - route, addresses, tokens, signatures, limits - and served: forwarded, answered or
    /// refused. The framework has nothing left to do.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        let Some(ctx) = ctx else {
            return Err(Error::new(ErrorType::InternalError));
        };
        let request = session.req_header();
        let Some(start) = &ctx.start else {
            return Err(Error::new(ErrorType::InternalError));
        };
        let mut writer = reply::writer(start, request);
        serve(request, ctx, &self.lane, &mut writer).await;
        Ok(true)
    }

    /// Every request is served by the hook before: none gets here.
    async fn upstream_peer(&self, _: &mut Session, _: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        Err(Error::new(ErrorType::InternalError))
    }

    /// A request that nobody handed over has no context, and no answer.
    async fn fail_to_proxy(&self, _: &mut Session, _: &Error, _: &mut Self::CTX) -> FailToProxy {
        FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        }
    }

    /// One record goes out, to metrics and log. What waits for them is written by others.
    fn logging<'g, 's, 'e, 'c, 'f>(
        &'g self,
        session: &'s mut Session,
        _error: Option<&'e Error>,
        ctx: &'c mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'f>>
    where
        'g: 'f,
        's: 'f,
        'e: 'f,
        'c: 'f,
        Self: 'f,
    {
        if let Some(ctx) = ctx {
            ctx.finish(&session.req_header().headers);
        }
        Box::pin(poll_fn(|_| Poll::Ready(())))
    }
}

/// A context on its way to the framework's hooks. A copy of the head has none.
struct HandedOver(Option<Box<Ctx>>);

impl Clone for HandedOver {
    fn clone(&self) -> Self {
        Self(None)
    }
}

/// Gives a request its context along, for the hooks.
pub(super) fn hand_over(request: &mut RequestHeader, ctx: Ctx) {
    request
        .extensions_mut()
        .insert(HandedOver(Some(Box::new(ctx))));
}

/// The context that was given along.
fn taken_over(request: &mut RequestHeader) -> Option<Box<Ctx>> {
    let extensions = request.extensions_mut();
    let handed = extensions.remove::<HandedOver>()?;
    if extensions.is_empty() {
        // Copies of the head need not copy a map with nothing in it.
        *extensions = Extensions::new();
    }
    handed.0
}
