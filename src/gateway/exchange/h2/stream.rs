//! One try over HTTP/2: a stream to an endpoint, on a connection that others share. Given up it is reset; the connection
//! goes on.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, Request, Response, Uri, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};

use super::connections::StreamPermit;
use crate::config::HeadLimits;
use crate::gateway::ctx::Ctx;
use crate::gateway::exchange::attempts::Traffic;
use crate::gateway::exchange::trailers;
use crate::gateway::outgoing_head::{self, Destination};
use crate::gateway::{failure, judge};

/// A stream to an endpoint. Dropped before it ended it is reset, and its connection is there for others.
pub(in crate::gateway) struct Http2 {
    /// The way for the request's body.
    body: Option<SendStream<Bytes>>,
    /// What was put of it and not handed to the codec.
    piece: Bytes,
    /// The end of the body was put, perhaps with trailers.
    ending: Option<Option<HeaderMap>>,
    limits: HeadLimits,
    /// Until the head of the answer is here.
    awaited: Option<ResponseFuture>,
    /// A head that is here, until it is passed.
    head: Option<Box<ResponseHeader>>,
    /// The body of the answer.
    incoming: Option<RecvStream>,
    /// A piece of it that is here.
    payload: Bytes,
    /// What came behind it while the client took nothing, for which the endpoint's windows are not opened again yet.
    behind: BytesMut,
    /// The endpoint did not begin with the request: that it ended tells nothing about the endpoint.
    unprocessed: bool,
    /// The endpoint said so itself.
    refused: bool,
    /// Something came that nobody was told about.
    fresh: bool,
    traffic: Traffic,
    place: StreamPermit,
}

/// Fields that concern a connection of HTTP/1.
static OF_CONNECTION: [HeaderName; 4] = [
    header::CONNECTION,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Fields that have another value in each request. Kept for later requests to refer to (RFC 7541 §6.2), such values would fill
/// the codec's table, drive out those that come again, and each be compared with all of them before.
static TOLD_ONCE: [HeaderName; 3] = [
    HeaderName::from_static("x-trace-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("x-request-deadline"),
];

impl Http2 {
    /// A try in this place of a connection, to an upstream whose heads have these limits.
    pub(in crate::gateway) fn on(place: StreamPermit, limits: HeadLimits) -> Self {
        Self {
            body: None,
            piece: Bytes::new(),
            ending: None,
            limits,
            awaited: None,
            head: None,
            incoming: None,
            payload: Bytes::new(),
            behind: BytesMut::new(),
            unprocessed: false,
            refused: false,
            fresh: false,
            traffic: Traffic::default(),
            place,
        }
    }

    /// Whether its connection served a request before.
    pub(in crate::gateway) fn reused(&self) -> bool {
        self.place.reused
    }

    /// Keeps further streams off its connection. Those under way go on.
    pub(in crate::gateway) fn retire(&self) {
        self.place.closed().store(true, Ordering::Relaxed);
    }

    /// Whether the endpoint said that it did nothing of the request, so that any may be sent again (RFC 9113 §8.7).
    pub(in crate::gateway) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether its failure tells nothing about the endpoint.
    pub(in crate::gateway) fn is_stale(&self) -> bool {
        self.place.reused && self.unprocessed
    }

    /// Bytes of bodies that went each way.
    pub(in crate::gateway) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Whether something came since this was asked last.
    pub(in crate::gateway) fn take_fresh(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    /// Sends the request's head, which is all there is when it `ends` the request.
    pub(in crate::gateway) fn begin(
        &mut self,
        request: &RequestHeader,
        ctx: &Ctx,
        to: &Destination<'_>,
        ends: bool,
    ) -> Result<(), Box<Error>> {
        let head = head(request, ctx, to)?;
        let mut parts: http::request::Parts = head.into();
        for name in &TOLD_ONCE {
            if let Some(value) = parts.headers.get_mut(name) {
                value.set_sensitive(true);
            }
        }
        let request = Request::from_parts(parts, ());
        let sent = self.place.requests.send_request(request, ends);
        let (awaited, body) = sent.map_err(|error| {
            // The connection went away meanwhile, and nothing of the request with it.
            self.unprocessed = true;
            self.refused = true;
            Error::because(ErrorType::H2Error, "sending to the upstream", error).into_up()
        })?;
        self.awaited = Some(awaited);
        self.body = (!ends).then_some(body);
        Ok(())
    }

    /// Puts a piece of the request's body behind what was sent.
    pub(in crate::gateway) fn put_body(&mut self, piece: Bytes) {
        self.piece = piece;
    }

    /// Puts the end of the request's body behind what was sent.
    pub(in crate::gateway) fn end_body(&mut self, trailers: Option<&HeaderMap>) {
        self.ending = Some(trailers.cloned());
    }

    /// Hands to the codec what was put, as far as the endpoint's windows are open. An error means that the endpoint takes
    /// no more; it may have answered all the same.
    pub(in crate::gateway) fn poll_send_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ()>> {
        let sent = std::task::ready!(self.poll_hand_over(cx));
        if sent.is_err() {
            (self.piece, self.ending) = (Bytes::new(), None);
        }
        Poll::Ready(sent)
    }

    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        while !self.piece.is_empty() {
            let Some(body) = &mut self.body else {
                return Poll::Ready(Err(()));
            };
            body.reserve_capacity(self.piece.len());
            let open = match body.capacity() {
                0 => match std::task::ready!(body.poll_capacity(cx)) {
                    Some(Ok(open)) => open,
                    Some(Err(_)) | None => return Poll::Ready(Err(())),
                },
                open => open,
            };
            let piece = self.piece.split_to(self.piece.len().min(open));
            self.traffic.sent += piece.len() as u64;
            body.send_data(piece, false).map_err(|_| ())?;
        }
        let ended = match (self.ending.take(), &mut self.body) {
            (Some(Some(trailers)), Some(body)) => body.send_trailers(trailers),
            (Some(None), Some(body)) => body.send_data(Bytes::new(), true),
            (None, _) | (_, None) => Ok(()),
        };
        // An endpoint that reset the stream was heard before.
        Poll::Ready(ended.map_err(|_| ()))
    }

    /// Shows the next head of the answer, again until it is [passed](Self::pass_head), and whether the answer ended with
    /// it. The head is one that every parser reads alike, and holds nothing that is not passed on.
    pub(in crate::gateway) fn poll_head<R>(
        &mut self,
        cx: &mut Context<'_>,
        look: impl FnOnce(&ResponseHeader, bool) -> R,
    ) -> Poll<Result<R, Box<Error>>> {
        if self.head.is_none() {
            let mut head = std::task::ready!(self.poll_next_head(cx))?;
            judge::check(&mut head, self.limits)?;
            judge::strip(&mut head);
            self.head = Some(head);
        }
        match &self.head {
            Some(head) => {
                let incoming = self.incoming.as_ref();
                let ended = incoming.is_some_and(RecvStream::is_end_stream);
                Poll::Ready(Ok(look(head, ended)))
            }
            None => Poll::Ready(Err(broken_off())),
        }
    }

    /// The head that was shown last is done with.
    pub(in crate::gateway) fn pass_head(&mut self) {
        self.head = None;
    }

    fn poll_next_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Box<ResponseHeader>, Box<Error>>> {
        let Some(awaited) = &mut self.awaited else {
            return Poll::Ready(Err(broken_off()));
        };
        match awaited.poll_informational(cx) {
            Poll::Ready(Some(Ok(head))) => {
                let (head, ()) = head.into_parts();
                return Poll::Ready(Ok(Box::new(head.into())));
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
        self.incoming = Some(incoming);
        Poll::Ready(Ok(Box::new(head.into())))
    }

    fn failed(&mut self, error: h2::Error) -> Box<Error> {
        self.awaited = None;
        self.unprocessed = is_unprocessed(&error);
        self.refused = is_refused(&error);
        unreadable(error)
    }

    /// Whether there is [payload](Self::payload); not behind the last of it.
    pub(in crate::gateway) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Box<Error>>> {
        while self.payload.is_empty() {
            let Some(incoming) = &mut self.incoming else {
                return Poll::Ready(Err(broken_off()));
            };
            if !self.behind.is_empty() {
                self.payload = std::mem::take(&mut self.behind).freeze();
                let _ = incoming.flow_control().release_capacity(self.payload.len());
                break;
            }
            let piece = std::task::ready!(incoming.poll_data(cx)).transpose();
            let Some(piece) = piece.map_err(unreadable)? else {
                return Poll::Ready(Ok(false));
            };
            // The next piece is asked for when this one was sent on.
            let _ = incoming.flow_control().release_capacity(piece.len());
            self.traffic.received += piece.len() as u64;
            self.fresh = true;
            self.payload = piece;
        }
        Poll::Ready(Ok(true))
    }

    /// Takes from the codec what came while the client takes nothing. The codec keeps each frame by itself, and ends the
    /// connection with all its streams when too many small ones wait; here they are put together. What came is counted by
    /// the windows, so that no more than one of them waits.
    pub(in crate::gateway) fn gather(&mut self, cx: &mut Context<'_>) {
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        // An end, or an error, is found again when it is asked for next.
        while let Poll::Ready(Some(Ok(piece))) = incoming.poll_data(cx) {
            self.traffic.received += piece.len() as u64;
            self.fresh = true;
            self.behind.extend_from_slice(&piece);
        }
    }

    /// Payload that is here.
    pub(in crate::gateway) fn payload(&mut self) -> &mut Bytes {
        &mut self.payload
    }

    /// What follows the body.
    pub(in crate::gateway) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Box<Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(Err(broken_off()));
        };
        Poll::Ready(match std::task::ready!(incoming.poll_trailers(cx)) {
            Ok(Some(trailers)) if judge::bytes(&trailers) > self.limits.bytes => {
                Err(failure::invalid("the answer's trailers are too long"))
            }
            Ok(trailers) => {
                Ok(trailers.and_then(|trailers| trailers::checked(trailers, |_| false)))
            }
            Err(error) if says_all(&error) => Ok(None),
            Err(error) => Err(unreadable(error)),
        })
    }
}

/// The head of this try as HTTP/2 has it (RFC 9113 §8.2.2, §8.3.1).
fn head(
    request: &RequestHeader,
    ctx: &Ctx,
    to: &Destination<'_>,
) -> pingora::Result<RequestHeader> {
    let mut head = request.clone();
    head.set_version(Version::HTTP_2);
    outgoing_head::prepare(&mut head, ctx, to)?;
    for name in &OF_CONNECTION {
        head.remove_header(name);
    }
    let host = head.remove_header(&header::HOST);
    let tls = to.pool.settings().tls.is_some();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder()
        .scheme(if tls { "https" } else { "http" })
        .authority(host.as_ref().map_or(&b""[..], |host| host.as_bytes()))
        .path_and_query(path)
        .build()
        .map_err(|_| failure::unsendable())?;
    head.set_uri(uri);
    Ok(head)
}

/// Whether an endpoint says that it did not begin with a request (RFC 9113 §8.7), or the connection was gone before. What our
/// own codec ended is neither.
fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_io() || is_refused(error)
}

/// Whether the endpoint itself says that it did nothing of a request.
fn is_refused(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

/// Whether the endpoint wants no more of the request, and has said all (RFC 9113 §8.1).
pub(in crate::gateway) fn says_all(error: &h2::Error) -> bool {
    (error.is_go_away() || error.is_reset())
        && error.is_remote()
        && error.reason() == Some(Reason::NO_ERROR)
}

/// An error of the stream. What our own codec does not take is an answer that makes no sense, and would make none in another
/// try.
fn unreadable(error: h2::Error) -> Box<Error> {
    let kind = match error.is_library() {
        true => ErrorType::InvalidHTTPHeader,
        false => ErrorType::H2Error,
    };
    Error::because(kind, "reading from the upstream", error).into_up()
}

fn broken_off() -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, "the upstream broke off").into_up()
}
