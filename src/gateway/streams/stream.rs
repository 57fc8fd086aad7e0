//! A stream to an endpoint, on a connection that others share. Given up it is reset; the connection goes on.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderName, Uri, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v2::client::Http2Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use crate::gateway::ctx::Ctx;
use crate::gateway::state::State;
use crate::gateway::{forward, outgoing_head};

/// A stream to an endpoint.
pub(super) struct Stream {
    /// `None` once it was given back.
    session: Option<Http2Session>,
    /// The way for the request's body.
    pub(super) body: Option<SendStream<Bytes>>,
    peer: Box<HttpPeer>,
    state: Arc<State>,
    /// The worker whose connection it is on.
    lane: usize,
    reused: bool,
    /// The endpoint did not begin with the request: that it ended tells nothing about the endpoint.
    unprocessed: bool,
}

/// Fields that concern a connection of HTTP/1.
static OF_CONNECTION: [HeaderName; 4] = [
    header::CONNECTION,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

impl Stream {
    /// Opens one, on a connection of worker number `lane` that is there or on a new one.
    pub(super) async fn open(
        (state, lane): (Arc<State>, usize),
        peer: Box<HttpPeer>,
    ) -> Result<Self, Box<Error>> {
        let connector = state.connections.upstreams(lane);
        let (session, reused) = match connector.reused_http_session(&*peer).await {
            Ok(Some(session)) => (session, true),
            Ok(None) | Err(_) => {
                let session = connector.new_http_session::<_, ()>(&*peer).await;
                match session.map_err(Error::into_up)? {
                    HttpSession::H2(session) => (session, false),
                    _ => {
                        let why = "the endpoint does not speak HTTP/2";
                        return Err(Error::explain(ErrorType::H2Downgrade, why).into_up());
                    }
                }
            }
        };
        Ok(Self {
            session: Some(session),
            body: None,
            peer,
            state,
            lane,
            reused,
            unprocessed: false,
        })
    }

    /// Whether its connection served a request before.
    pub(super) fn reused(&self) -> bool {
        self.reused
    }

    /// Whether its failure tells nothing about the endpoint.
    pub(super) fn is_stale(&self) -> bool {
        self.reused && self.unprocessed
    }

    /// Sends the head, which is all there is when it `ends` the request.
    pub(super) fn begin(&mut self, head: Box<RequestHeader>, ends: bool) -> Result<(), Box<Error>> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let sent = session.write_request_header(head, ends);
        self.body = session.take_request_body_writer();
        sent.map_err(|error| {
            // The connection went away meanwhile.
            self.unprocessed = true;
            Error::because(ErrorType::H2Error, "sending to the upstream", error).into_up()
        })
    }

    /// The head of the final answer. Not asked again once it is here, or failed.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Box<Error>>> {
        let Some(session) = &mut self.session else {
            return Poll::Ready(Err(broken_off()));
        };
        let head = std::task::ready!(session.poll_read_response_header(cx));
        Poll::Ready(head.map_err(|error| {
            self.unprocessed = is_unprocessed(&error);
            unreadable(error)
        }))
    }

    /// The head, when it is here.
    pub(super) fn head(&self) -> Option<&ResponseHeader> {
        self.session.as_ref()?.response_header()
    }

    /// Whether the answer has ended.
    pub(super) fn ended(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(Http2Session::response_finished)
    }

    /// The next piece of the answer's body; `None` behind the last.
    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Box<Error>>> {
        let Some(session) = &mut self.session else {
            return Poll::Ready(Err(broken_off()));
        };
        let piece = std::task::ready!(session.poll_read_response_body(cx));
        Poll::Ready(piece.transpose().map_err(unreadable))
    }

    /// What follows the body.
    pub(super) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Box<Error>>> {
        let Some(session) = &mut self.session else {
            return Poll::Ready(Err(broken_off()));
        };
        // Nothing is kept in this future: the next one goes on.
        let trailers = pin!(session.read_trailers()).poll(cx);
        trailers.map_err(Error::into_up)
    }
}

impl Drop for Stream {
    /// What was not ended is reset with this, and the connection is there for others.
    fn drop(&mut self) {
        self.body = None;
        if let Some(session) = self.session.take() {
            let connector = self.state.connections.upstreams(self.lane);
            let idle = self.peer.options.idle_timeout;
            connector.release_http_session(session, &*self.peer, idle);
        }
    }
}

/// The head of the current try: what the framework would send.
pub(super) fn head(request: &RequestHeader, ctx: &Ctx) -> pingora::Result<Box<RequestHeader>> {
    let mut head = request.clone();
    head.set_version(Version::HTTP_2);
    outgoing_head::prepare(&mut head, ctx)?;
    for name in &OF_CONNECTION {
        head.remove_header(name);
    }
    let host = head.remove_header(&header::HOST);
    let tls = ctx
        .forward
        .pool
        .as_ref()
        .is_some_and(|pool| pool.settings().tls.is_some());
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder()
        .scheme(if tls { "https" } else { "http" })
        .authority(host.as_ref().map_or(&b""[..], |host| host.as_bytes()))
        .path_and_query(path)
        .build()
        .map_err(|_| forward::unsendable())?;
    head.set_uri(uri);
    Ok(Box::new(head))
}

/// Whether an endpoint says that it did not begin with a request (RFC 9113 §8.7), or the connection was gone before.
fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_io() || error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM)
}

fn unreadable(error: h2::Error) -> Box<Error> {
    Error::because(ErrorType::H2Error, "reading from the upstream", error).into_up()
}

fn broken_off() -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, "the upstream broke off").into_up()
}
