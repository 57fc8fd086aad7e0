//! What a request begins with: handed over by whatever read its head.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::client::ClientIo;
use super::http1::head::Head;
use super::overload::shed_permit::ShedPermit;
use super::peer::Peer;
use super::snapshot::Snapshot;
use crate::filter::{Part, Principal};
use crate::observe::Internal;
use crate::primitives::trace::{TraceId, TraceParent};

/// What a request begins with. Its head stands beside it.
pub(super) struct RequestSeed {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) client: Arc<ClientIo>,
    pub(super) peer: Arc<Peer>,
    pub(super) head: Head,
    /// Proof that the gateway's own door let the request in already.
    pub(super) entered: Option<ShedPermit>,
    /// What a request made inside the process has of its maker. Boxed: few are.
    pub(super) inside: Option<Box<Inside>>,
}

/// What a request that was made inside the process has of whoever made it.
pub(super) struct Inside {
    pub(super) kind: Internal,
    pub(super) parts: Parts,
    pub(super) client_ip: IpAddr,
    /// Trace of the request that made it; `None`: it begins its own.
    pub(super) trace: Option<(TraceId, TraceParent)>,
    /// Who calls, where nobody is asked again.
    pub(super) principal: Option<Arc<Principal>>,
    /// When it ends at the latest.
    pub(super) latest: Option<Instant>,
    /// How many requests, one made by the other, stand above it.
    pub(super) depth: u8,
}

/// Which filters of its route a request made inside the process is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Rules of access: addresses, tokens, signatures, claims, maintenance. Without them it calls as the request that made it.
    pub access: bool,
    /// Limits. Without them it is part of what the request that made it was counted for.
    pub limits: bool,
}

impl Parts {
    /// All of them, as if it had come alone.
    pub const ALL: Self = Self {
        access: true,
        limits: true,
    };
    /// Access alone: its limits are those of the request that made it, which were asked.
    pub const ACCESS: Self = Self {
        access: true,
        limits: false,
    };
    /// None: all was asked of the request that made it.
    pub const NONE: Self = Self {
        access: false,
        limits: false,
    };

    /// Whether filters of this part are asked.
    pub(super) fn asks(self, part: Part) -> bool {
        match part {
            Part::Access => self.access,
            Part::Limits => self.limits,
            Part::Form => true,
        }
    }
}
