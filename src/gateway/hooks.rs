//! The gateway's hooks as an application: called in the framework's order, on a session that serves one request after the
//! other.
//!
//! The framework's own proxy makes its session anew for each request and keeps room for all that a request might become -
//! a cache's, a retry's, an upgrade's - which is 13 KiB to be set up and moved. The gateway serves a request within one hook, so
//! none of that room is used.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use http::Version;
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::custom::server::Session as AnySession;
use pingora::server::ShutdownWatch;
use pingora_proxy::{ProxyHttp, Session};

use super::application::{Application, ClientMessage};
use super::client::ClientIo;
use super::http1::head::Head;
use super::memory::MemoryWire;
use super::proxy::Gateway;
use super::session::ClientSession;

/// Most sessions that a worker keeps for requests to come.
const SPARE: usize = 64;

/// Answers requests by the hooks of a [`Gateway`].
pub struct Hooks {
    gateway: Gateway,
    /// Taken and given back by the worker's own thread.
    #[expect(clippy::vec_box, reason = "a session is large, and moved in and out")]
    spare: Mutex<Vec<Box<Reused>>>,
}

impl Hooks {
    /// The hooks of this gateway.
    pub fn new(gateway: Gateway) -> Self {
        Self {
            gateway,
            spare: Mutex::default(),
        }
    }

    /// A session for one request.
    fn session(&self, of: ClientSession) -> Option<Box<Reused>> {
        let spare = self.spare.lock().pop();
        let mut session = spare.or_else(Reused::new)?;
        session.exchange(Box::new(of));
        Some(session)
    }

    /// Keeps a session whose request is over.
    fn keep(&self, session: Box<Reused>) {
        let mut spare = self.spare.lock();
        if spare.len() < SPARE {
            spare.push(session);
        }
    }
}

impl Application for Hooks {
    /// A request dropped on its way takes its session along.
    async fn answer(self: &Arc<Self>, message: ClientMessage, _: &ShutdownWatch) {
        let ClientMessage {
            request,
            head,
            client,
            mut ctx,
        } = message;
        let Some(mut session) = self.session(ClientSession::new(request, head, client)) else {
            return;
        };
        let served = self
            .gateway
            .request_filter(&mut session.session, &mut ctx)
            .await;
        let error = served.as_ref().err().map(|error| &**error);
        self.gateway
            .logging(&mut session.session, error, &mut ctx)
            .await;
        drop(ctx);
        session.rest();
        self.keep(session);
    }
}

/// A session of the framework, made once for many requests.
struct Reused {
    session: Session,
    /// What stands in it while it has no request; while it has one, nothing.
    resting: Option<Box<dyn AnySession>>,
}

impl Reused {
    fn new() -> Option<Box<Self>> {
        // The only sessions that can be made outside of the framework are of HTTP/1; this one never reads.
        let mut session = Session::new_h1(Box::new(Cursor::new(Vec::<u8>::new())));
        let request = Box::new(RequestHeader::build("GET", b"/", None).ok()?);
        let head = Head::unfit(Version::HTTP_11, false);
        let nobody = ClientIo::memory(MemoryWire::new(Bytes::new(), Arc::default()));
        let nobody = ClientSession::new(request, head, nobody);
        *session.downstream_session = ServerSession::new_custom(Box::new(nobody));
        Some(Box::new(Self {
            session,
            resting: None,
        }))
    }

    /// Puts a request's session in.
    fn exchange(&mut self, of: Box<dyn AnySession>) {
        if let Some(inner) = self.session.downstream_session.as_custom_mut() {
            self.resting = Some(std::mem::replace(inner, of));
        }
    }

    /// Drops the session of the request that is over.
    fn rest(&mut self) {
        let inner = self.session.downstream_session.as_custom_mut();
        if let Some((inner, resting)) = inner.zip(self.resting.take()) {
            *inner = resting;
        }
    }
}
