//! What answers the messages of a listener's connections: the gateway's hooks, or an application of the framework.

use std::sync::Arc;

use pingora::apps::HttpServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;

use super::client::ClientIo;
use super::ctx::Ctx;
use super::http1::head::Head;
use super::session::ClientSession;

/// One message of a client, and somewhere to answer it.
pub struct ClientMessage {
    pub(super) request: Box<RequestHeader>,
    pub(super) head: Head,
    pub(super) client: Arc<ClientIo>,
    /// What the gateway knows of it; messages of the admin listener have none.
    pub(super) ctx: Option<Box<Ctx>>,
}

/// Whatever answers the messages of a listener.
pub trait Application: Send + Sync + 'static {
    /// Answers a message. Dropped before that is done, the exchange is abandoned.
    fn answer(
        self: &Arc<Self>,
        message: ClientMessage,
        shutdown: &ShutdownWatch,
    ) -> impl Future<Output = ()> + Send;
}

impl<A: HttpServerApp + Send + Sync + 'static> Application for A {
    async fn answer(self: &Arc<Self>, message: ClientMessage, shutdown: &ShutdownWatch) {
        let ClientMessage {
            request,
            head,
            client,
            ..
        } = message;
        let session = ClientSession::new(request, head, client);
        let session = ServerSession::new_custom(Box::new(session));
        self.process_new_http(session, shutdown).await;
    }
}
