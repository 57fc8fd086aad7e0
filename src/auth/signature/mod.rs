//! Signed requests: the `X-Ca-*` scheme in its strict profile, and RFC 9421 HTTP Message Signatures.
//!
//! The order of work is the promise: parse, time stamp, key, signature, address, body digest, and the nonce last. So a
//! request that proves nothing never spends a nonce, and one whose body is wrong can be sent again with the right one.
//! A form is signed itself, so nothing can be verified before it is there; what can be known without it is asked before it
//! is read: the stamp, whether there is such an application, its address, the nonce. All of it is asked again once the body
//! is there, and the time then counts: a body may be held back for longer than a nonce is kept.
//! Whoever signs, signs what was sent: everything here reads the target and the head as received.

mod app;
mod body;
pub mod ca;
#[cfg(test)]
mod corpus;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod nonce;
pub mod rfc9421;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use nonce::{Claim, NonceOwner};
pub(super) use nonce::{NonceStore, Ownership};

use self::app::{App, AppKey};
use self::nonce::lifetime_of;
use super::{AuthFacts, Authenticator, BuildError, ReadSecret};
use crate::config::{SignatureAuth, SignatureScheme};
use crate::filter::{Exchange, Principal, Reason, Refusal, Verdict};

/// The header that says a request is signed by the `ca` scheme.
pub(super) const CA_HEADER: &str = "x-ca-signature";
/// The header that says a request is signed by RFC 9421.
pub(super) const RFC9421_HEADER: &str = "signature-input";

/// One `[auth.NAME]` of type `signature`.
pub(super) struct SignatureAuthenticator {
    name: String,
    scheme: SignatureScheme,
    skew_ms: u64,
    /// How long nonces are to be kept by that skew.
    lifetime: Duration,
    require_body_digest: bool,
    strict_params: bool,
    apps: HashMap<String, App>,
    /// Verifies for applications that do not exist, so that the time taken does not tell them from those that do.
    nobody: AppKey,
    nonces: Arc<NonceStore>,
}

/// What a scheme finds in a head: a claim to be somebody, with its proof.
trait Proof {
    /// The application it names.
    fn app(&self) -> &str;

    /// The nonce of the request, well formed.
    fn nonce(&self) -> &str;

    /// Whether its time stamp counts now.
    fn is_timely(&self, clock: &Clock) -> bool;

    /// Whether the body takes part in what was signed, so that nothing can be verified without it.
    fn signs_body(&self) -> bool;

    /// Whether the head claims a digest of the body.
    fn has_digest(&self) -> bool;

    /// Whether the signature is `key`'s.
    fn holds(&self, key: &AppKey, body: &[u8]) -> bool;

    /// Whether parameters could have been moved or added under the same signature.
    fn loose_parameters(&self, _body: &[u8]) -> bool {
        false
    }

    /// Whether the body is the one that was signed; with `required`, a body nobody vouches for is not.
    fn fits_body(&self, body: &[u8], required: bool) -> bool;
}

/// Where a time stamp must lie.
struct Clock {
    /// The second of the request, in milliseconds.
    now_ms: u64,
    skew_ms: u64,
    /// Before this, nonces are unknown.
    fence_ms: u64,
    /// From this stamp on, nonces are kept for the second skew only, narrower than this request's own.
    narrowed: (u64, u64),
}

impl Clock {
    /// Whether a stamp that means some moment from `first` to `last` (milliseconds) may count.
    fn admits(&self, first: u64, last: u64) -> bool {
        // The clock has whole seconds: it may really be up to 999 ms later.
        let (since, narrow_ms) = self.narrowed;
        let latest = self.now_ms.saturating_add(999).saturating_add(self.skew_ms);
        first <= latest
            && first.saturating_add(self.skew_ms) >= self.now_ms
            && (last < since || first.saturating_add(narrow_ms) >= self.now_ms)
            && last >= self.fence_ms
    }
}

/// How far a request got.
enum Step {
    Done(Arc<Principal>),
    NeedBody,
}

impl SignatureAuthenticator {
    pub(super) fn build(
        auth: &SignatureAuth,
        read: ReadSecret<'_>,
        facts: &AuthFacts,
    ) -> Result<Self, BuildError> {
        let nonces = facts.nonces(&auth.name, auth.skew, auth.nonce_capacity);
        let mut apps = HashMap::with_capacity(auth.apps.len());
        for (key, settings) in &auth.apps {
            let share = nonces.share(key, auth.apps.len());
            let place = format!("auth.{}.apps.{key:?}", auth.name);
            apps.insert(
                key.clone(),
                App::build((&auth.name, key), settings, &place, read, share)?,
            );
        }
        Ok(Self {
            name: auth.name.as_str().to_owned(),
            scheme: auth.scheme,
            skew_ms: u64::try_from(auth.skew.as_millis()).unwrap_or(u64::MAX),
            lifetime: lifetime_of(auth.skew),
            require_body_digest: auth.require_body_digest,
            strict_params: auth.strict_params,
            apps,
            nobody: AppKey::nobody(),
            nonces,
        })
    }

    /// Decides; `body` is `None` while it is not there yet.
    fn decide(&self, exchange: &mut Exchange<'_>, body: Option<&[u8]>) -> Verdict {
        let step = match self.scheme {
            SignatureScheme::Ca => ca::read(exchange.head, exchange.raw_target)
                .ok_or_else(invalid)
                .and_then(|proof| self.prove(exchange, &proof, body)),
            SignatureScheme::Rfc9421 => rfc9421::read(exchange)
                .ok_or_else(invalid)
                .and_then(|proof| self.prove(exchange, &proof, body)),
        };
        match step {
            Ok(Step::Done(principal)) => {
                exchange.principal = Some(principal);
                Verdict::Continue
            }
            Ok(Step::NeedBody) => Verdict::NeedBody,
            Err(refusal) => Verdict::Refuse(refusal),
        }
    }

    fn prove(
        &self,
        exchange: &Exchange<'_>,
        proof: &impl Proof,
        body: Option<&[u8]>,
    ) -> Result<Step, Refusal> {
        let body = body.or((!head::may_have_body(exchange.head)).then_some(&[]));
        if !proof.is_timely(&self.clock(exchange)) {
            return Err(refuse(
                Reason::SigExpired,
                "The signature's time stamp is not accepted.",
            ));
        }
        if body.is_none() && proof.signs_body() {
            return self.awaited(exchange, proof);
        }
        let app = self.verified(proof, body.unwrap_or_default())?;
        admits(app, exchange)?;
        let required = self.require_body_digest;
        match body {
            // A replay is refused before its body is read; the nonce is spent only once that has proved right.
            None if required || proof.has_digest() => {
                self.answer(self.nonces.peek(&app.share, proof.nonce(), exchange.now))?;
                return Ok(Step::NeedBody);
            }
            Some(body) if !proof.fits_body(body, required) => {
                return Err(refuse(
                    Reason::BodyDigest,
                    "The body is not the one that was signed.",
                ));
            }
            _ => {}
        }
        self.spend(exchange, app, proof.nonce())?;
        Ok(Step::Done(Arc::clone(&app.principal)))
    }

    /// Whether a body is worth reading without which nothing can be verified. What the head alone shows is told at once,
    /// for whoever sends the body pays nothing and we keep it: that an application is unknown is quicker to learn by
    /// that, and is no secret beside the key that names it.
    fn awaited(&self, exchange: &Exchange<'_>, proof: &impl Proof) -> Result<Step, Refusal> {
        let app = self.apps.get(proof.app()).ok_or_else(invalid)?;
        admits(app, exchange)?;
        self.answer(self.nonces.peek(&app.share, proof.nonce(), exchange.now))?;
        Ok(Step::NeedBody)
    }

    fn clock(&self, exchange: &Exchange<'_>) -> Clock {
        Clock {
            now_ms: exchange.unix_time.saturating_mul(1000),
            skew_ms: self.skew_ms,
            fence_ms: self.nonces.fence_unix_ms(),
            narrowed: self.nonces.narrowed(),
        }
    }

    /// The application whose signature it is. An unknown one costs the same work and is told the same.
    fn verified(&self, proof: &impl Proof, body: &[u8]) -> Result<&App, Refusal> {
        let app = self.apps.get(proof.app());
        let key = app.map_or(&self.nobody, |app| &app.key);
        let holds = proof.holds(key, body);
        let loose = self.strict_params && proof.loose_parameters(body);
        app.filter(|_| holds && !loose).ok_or_else(invalid)
    }

    fn spend(&self, exchange: &Exchange<'_>, app: &App, nonce: &str) -> Result<(), Refusal> {
        let claim = if exchange.dry_run {
            self.nonces.peek(&app.share, nonce, exchange.now)
        } else {
            let (share, now) = (&app.share, exchange.now);
            self.nonces.claim_for(share, nonce, self.lifetime, now)
        };
        self.answer(claim)
    }

    fn answer(&self, claim: Claim) -> Result<(), Refusal> {
        match claim {
            Claim::Fresh => Ok(()),
            Claim::Seen => Err(refuse(
                Reason::SigReplayed,
                "The request was made before; sign it anew.",
            )),
            Claim::Full => Err(Refusal::new(
                Reason::RateLimited,
                "Too many signed requests; come back later.",
            )
            .retry_after(self.nonces.relief())),
        }
    }
}

impl Authenticator for SignatureAuthenticator {
    fn name(&self) -> &str {
        &self.name
    }

    fn presented(&self, exchange: &Exchange<'_>) -> bool {
        let header = match self.scheme {
            SignatureScheme::Ca => CA_HEADER,
            SignatureScheme::Rfc9421 => RFC9421_HEADER,
        };
        exchange.head.headers.contains_key(header)
    }

    fn check(&self, exchange: &mut Exchange<'_>) -> Verdict {
        if !self.presented(exchange) {
            return Verdict::Refuse(self.missing());
        }
        self.decide(exchange, None)
    }

    fn check_body(&self, exchange: &mut Exchange<'_>, body: &[u8]) -> Verdict {
        self.decide(exchange, Some(body))
    }

    fn missing(&self) -> Refusal {
        refuse(Reason::SigMissing, "A signed request is required.")
    }

    fn signs(&self) -> bool {
        true
    }
}

/// Refuses an application that calls from elsewhere than it may.
fn admits(app: &App, exchange: &Exchange<'_>) -> Result<(), Refusal> {
    if app.admits(exchange.client_ip) {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::AppDenied,
        "The application may not call from this address.",
    ))
}

/// One sentence for everything between a malformed header and a wrong signature.
fn invalid() -> Refusal {
    refuse(Reason::SigInvalid, "The signature does not hold.")
}

fn refuse(reason: Reason, detail: &'static str) -> Refusal {
    Refusal::new(reason, detail).challenge("Signature")
}
