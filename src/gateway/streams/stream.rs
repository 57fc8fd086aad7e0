//! A stream to an endpoint, on a connection that others share. Given up it is reset; the connection goes on.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, Request, Response, Uri, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use super::connections::Place;
use crate::gateway::ctx::Ctx;
use crate::gateway::lane::Lane;
use crate::gateway::state::State;
use crate::gateway::{forward, outgoing_head};
use crate::primitives::address::Address;

/// A stream to an endpoint. Dropped before it ended it is reset, and its connection is there for others.
pub(super) struct Stream {
    /// The way for the request's body.
    pub(super) body: Option<SendStream<Bytes>>,
    /// Until the head of the answer is here.
    awaited: Option<ResponseFuture>,
    head: Option<ResponseHeader>,
    /// The body of the answer.
    incoming: Option<RecvStream>,
    /// The endpoint did not begin with the request: that it ended tells nothing about the endpoint.
    unprocessed: bool,
    /// The endpoint said so itself.
    refused: bool,
    place: Place,
}

/// What the head of an answer turned out to be.
pub(super) enum Heads {
    /// Another will follow.
    Informational(Box<ResponseHeader>),
    /// The final one, see [`Stream::head`].
    Final,
}

/// Fields that concern a connection of HTTP/1.
static OF_CONNECTION: [HeaderName; 4] = [
    header::CONNECTION,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

impl Stream {
    /// Opens one, on a connection that is there or on a new one.
    pub(super) async fn open(
        (state, lane): (Arc<State>, Arc<Lane>),
        address: Address,
        peer: Box<HttpPeer>,
    ) -> Result<Self, Box<Error>> {
        let transport = state.connections.upstreams(lane.index()).transport();
        let place = lane.streams.place(transport, &address, &peer).await?;
        Ok(Self {
            body: None,
            awaited: None,
            head: None,
            incoming: None,
            unprocessed: false,
            refused: false,
            place,
        })
    }

    /// Whether its connection served a request before.
    pub(super) fn reused(&self) -> bool {
        self.place.reused
    }

    /// Keeps further streams off its connection, when it is set.
    pub(super) fn closed(&self) -> Arc<AtomicBool> {
        self.place.closed()
    }

    /// Whether the endpoint said that it did nothing of the request, so that any may be sent again (RFC 9113 §8.7).
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether its failure tells nothing about the endpoint.
    pub(super) fn is_stale(&self) -> bool {
        self.place.reused && self.unprocessed
    }

    /// Sends the head, which is all there is when it `ends` the request.
    pub(super) fn begin(&mut self, head: Box<RequestHeader>, ends: bool) -> Result<(), Box<Error>> {
        let request = Request::from_parts((*head).into(), ());
        let sent = self.place.requests.send_request(request, ends);
        let (awaited, body) = sent.map_err(|error| {
            // The connection went away meanwhile.
            self.unprocessed = true;
            Error::because(ErrorType::H2Error, "sending to the upstream", error).into_up()
        })?;
        self.awaited = Some(awaited);
        self.body = (!ends).then_some(body);
        Ok(())
    }

    /// The next head of the answer. Not asked again once the final one is here, or failed.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Heads, Box<Error>>> {
        let Some(awaited) = &mut self.awaited else {
            return Poll::Ready(match self.head {
                Some(_) => Ok(Heads::Final),
                None => Err(broken_off()),
            });
        };
        match awaited.poll_informational(cx) {
            Poll::Ready(Some(Ok(head))) => {
                let (head, ()) = head.into_parts();
                return Poll::Ready(Ok(Heads::Informational(Box::new(head.into()))));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.failed(error))),
            Poll::Ready(None) => {}
            Poll::Pending => return Poll::Pending,
        }
        let answer = std::task::ready!(std::pin::Pin::new(awaited).poll(cx));
        self.awaited = None;
        let answer: Response<RecvStream> = match answer {
            Ok(answer) => answer,
            Err(error) => return Poll::Ready(Err(self.failed(error))),
        };
        let (head, incoming) = answer.into_parts();
        self.head = Some(head.into());
        self.incoming = Some(incoming);
        Poll::Ready(Ok(Heads::Final))
    }

    fn failed(&mut self, error: h2::Error) -> Box<Error> {
        self.awaited = None;
        self.unprocessed = is_unprocessed(&error);
        self.refused = error.is_remote()
            && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
        unreadable(error)
    }

    /// The final head, when it is here.
    pub(super) fn head(&self) -> Option<&ResponseHeader> {
        self.head.as_ref()
    }

    /// The same, to be judged.
    pub(super) fn head_mut(&mut self) -> Option<&mut ResponseHeader> {
        self.head.as_mut()
    }

    /// Whether the answer has ended.
    pub(super) fn ended(&self) -> bool {
        let incoming = self.incoming.as_ref();
        incoming.is_some_and(RecvStream::is_end_stream)
    }

    /// The next piece of the answer's body; `None` behind the last.
    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Box<Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(Err(broken_off()));
        };
        let piece = std::task::ready!(incoming.poll_data(cx)).transpose();
        let piece = piece.map_err(unreadable)?;
        if let Some(piece) = &piece {
            // The next piece is asked for when this one was sent on.
            let _ = incoming.flow_control().release_capacity(piece.len());
        }
        Poll::Ready(Ok(piece))
    }

    /// What follows the body.
    pub(super) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Box<Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(Err(broken_off()));
        };
        Poll::Ready(match std::task::ready!(incoming.poll_trailers(cx)) {
            Ok(trailers) => Ok(trailers),
            // The endpoint wants no more of the request, and has said all (RFC 9113 §8.1).
            Err(error)
                if (error.is_go_away() || error.is_reset())
                    && error.is_remote()
                    && error.reason() == Some(Reason::NO_ERROR) =>
            {
                Ok(None)
            }
            Err(error) => Err(unreadable(error)),
        })
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
