//! What is left to ask of a signed request once its signature holds: its time, its body, its nonce.
//!
//! A signature that covers a digest is verified by the head alone. What the body decides is kept with the request until the
//! body is there, so that neither the head is read nor the signature verified a second time.

use std::sync::Arc;

use super::Principal;
use super::app::App;
use super::body;
use super::nonce::Share;

/// When a request was signed, by its own word.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    /// The first moment that may be meant, milliseconds since 1970.
    pub(super) first_ms: u64,
    /// The last one.
    pub(super) last_ms: u64,
    /// The second after which it holds no more.
    pub(super) expires: Option<u64>,
}

/// Where a time stamp must lie.
pub(super) struct Clock {
    /// The second of the request, in milliseconds.
    pub(super) now_ms: u64,
    pub(super) skew_ms: u64,
    /// Before this, nonces are unknown.
    pub(super) fence_ms: u64,
    /// From this stamp on, nonces are kept for the second skew only, narrower than this request's own.
    pub(super) narrowed: (u64, u64),
}

impl Clock {
    /// Whether a stamp may count.
    pub(super) fn admits(&self, stamp: &Stamp) -> bool {
        let Stamp {
            first_ms: first,
            last_ms: last,
            expires,
        } = *stamp;
        // The clock has whole seconds: it may really be up to 999 ms later.
        let (since, narrow_ms) = self.narrowed;
        let latest = self.now_ms.saturating_add(999).saturating_add(self.skew_ms);
        let over = expires.is_some_and(|expires| expires < self.now_ms / 1000);
        first <= latest
            && first.saturating_add(self.skew_ms) >= self.now_ms
            && (last < since || first.saturating_add(narrow_ms) >= self.now_ms)
            && last >= self.fence_ms
            && !over
    }
}

/// What a head says of its body.
#[derive(Default)]
pub(super) struct BodyClaim {
    /// `Content-MD5`.
    pub(super) md5: Option<Box<[u8]>>,
    /// `X-Ca-Content-Sha256`.
    pub(super) sha256: Option<Box<[u8]>>,
    /// `Content-Digest`.
    pub(super) content_digest: Option<Box<[u8]>>,
    /// The signature covers one of these, or the body itself.
    pub(super) vouched: bool,
}

impl BodyClaim {
    /// Whether there is a digest to compare the body with.
    pub(super) fn has_digest(&self) -> bool {
        self.md5.is_some() || self.sha256.is_some() || self.content_digest.is_some()
    }

    /// Whether the body is the one that was signed; with `required`, a body nobody vouches for is not.
    pub(super) fn fits(&self, body: &[u8], required: bool) -> bool {
        let fits = |claim: &Option<Box<[u8]>>, is: fn(&[u8], &[u8]) -> bool| {
            claim.as_ref().is_none_or(|claim| is(claim, body))
        };
        fits(&self.md5, body::is_md5)
            && fits(&self.sha256, body::is_sha256)
            && fits(&self.content_digest, body::fits_content_digest)
            && (body.is_empty() || !required || self.vouched)
    }
}

/// A request whose signature holds, while its body is awaited.
pub(super) struct Awaited {
    pub(super) share: Arc<Share>,
    pub(super) principal: Arc<Principal>,
    pub(super) nonce: Box<str>,
    pub(super) stamp: Stamp,
    pub(super) body: BodyClaim,
}

impl Awaited {
    /// What is left to ask of a request that `app` signed.
    pub(super) fn of(app: &App, nonce: &str, stamp: Stamp, body: BodyClaim) -> Self {
        Self {
            share: Arc::clone(&app.share),
            principal: Arc::clone(&app.principal),
            nonce: nonce.into(),
            stamp,
            body,
        }
    }
}
