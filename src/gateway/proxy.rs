//! The hooks of the framework in the order in which a request meets them.
//!
//! A request's head was read and judged before, so what it brings along is known and comes as its context: nothing is
//! looked up. The hooks are called by [`Hooks`](super::Hooks).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use pingora::modules::http::HttpModules;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use super::ctx::Ctx;
use super::reply;
use super::serve::serve;
use super::worker_local::WorkerLocal;

/// The gateway as the framework sees it.
pub struct Gateway {
    lane: Arc<WorkerLocal>,
}

impl Gateway {
    /// A gateway of the worker that has this lane.
    pub fn new(lane: Arc<WorkerLocal>) -> Self {
        Self { lane }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// What is known of the request; boxed, since it is moved several times.
    type CTX = Option<Box<Ctx>>;

    fn new_ctx(&self) -> Self::CTX {
        None
    }

    /// No module is needed by default; the framework's idle compressor would cost every request.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

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

    /// One record goes out, to metrics and log. What waits for them is written by others. By hand: a future of no size is not
    /// allocated.
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
