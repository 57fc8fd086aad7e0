//! What a head asks for, and the route that takes it: the same for serving, for shedding, and for judging a trial.

use std::borrow::Cow;
use std::net::IpAddr;

use pingora::http::RequestHeader;

use super::decide;
use super::peer::Peer;
use super::route_runtime::RouteRuntime;
use super::snapshot::Snapshot;
use crate::filter::{ClientCertificate, Reason, Refusal, RequestView, Scheme};
use crate::route::{Asked, Found};

/// What a head asks for, and the route that takes it.
pub(super) struct Arrival<'r> {
    /// The target as received, everything escaped.
    pub(super) received: &'r str,
    pub(super) target: decide::Target<'r>,
    pub(super) authority: &'r str,
    pub(super) host: Cow<'r, str>,
    /// How the client reached us, or the trusted proxy before us.
    pub(super) asked_for: Scheme,
    pub(super) found: Found,
}

impl<'r> Arrival<'r> {
    /// Reads the head, or says why nobody takes it.
    pub(super) fn of(
        head: &'r RequestHeader,
        peer: &Peer,
        snapshot: &Snapshot,
        client_ip: IpAddr,
    ) -> Result<Self, Refusal> {
        if let Some(refusal) = snapshot.turns_away(peer.listener.as_ref(), client_ip) {
            return Err(refusal);
        }
        let received = decide::sent(head)?;
        let (authority, host) = decide::host(head);
        let certified = peer.certified.as_ref();
        if certified.is_some_and(|certified| !certified.may_ask(&host)) {
            return Err(Refusal::new(
                Reason::MisdirectedRequest,
                "the connection was opened for another host",
            ));
        }
        let trusted = &snapshot.config.server.trusted_proxies;
        let asked = Asked {
            method: &head.method,
            host: &host,
            path: "/",
            scheme: match peer.inside {
                true => peer.scheme,
                false => decide::scheme(peer.scheme, peer.address, trusted, head),
            },
            query: None,
            headers: &head.headers,
        };
        let (target, found) = decide::place(head, &snapshot.table, &asked)?;
        let asked_for = asked.scheme;
        Ok(Self {
            received,
            target,
            authority,
            host,
            asked_for,
            found,
        })
    }

    /// The request as its filters see it, on this route.
    pub(super) fn view<'v>(
        &'v self,
        head: &'v RequestHeader,
        client: &ClientView<'v>,
        route: &'v RouteRuntime,
    ) -> RequestView<'v> {
        RequestView {
            head,
            raw_target: self.target.raw,
            path: &self.target.path,
            query: self.target.query,
            host: &self.host,
            authority: self.authority,
            scheme: client.scheme,
            client_ip: client.address,
            certificate: client.certificate,
            route: &route.name,
            max_body: route.max_body,
            body_length: client.body_length,
        }
    }
}

/// What is known of a client besides the head that it sent.
pub(super) struct ClientView<'v> {
    /// How it reached us.
    pub(super) scheme: Scheme,
    /// Where it is, seen through trusted proxies.
    pub(super) address: IpAddr,
    pub(super) certificate: Option<&'v ClientCertificate>,
    /// How long it says its body is.
    pub(super) body_length: Option<u64>,
}
