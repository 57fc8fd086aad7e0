//! Signed requests: the `X-Ca-*` scheme in its strict profile, and RFC 9421 HTTP Message Signatures.
//!
//! The order of work is the promise: parse, time stamp, key, signature, address, body digest, and the nonce last. So a
//! request that proves nothing never spends a nonce, and one whose body is wrong can be sent again with the right one.
//! A form is signed itself, so nothing can be verified before it is there; what can be known without it is asked before it
//! is read: the stamp, whether there is such an application, its address, the nonce. All of it is asked again once the body
//! is there. Where a digest is signed the signature is verified once, by the head, and the body is then compared with the
//! digest. Either way the time when the body was there counts: it may be held back for longer than a nonce is kept.
//! Whoever signs, signs what was sent: everything here reads the target and the head as received.

mod app;
mod awaited;
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

pub use nonce::{NonceOutcome, NonceOwner};
pub(super) use nonce::{NonceStore, Ownership};

use self::app::{App, AppKey};
use self::awaited::{Awaited, BodyClaim, Clock, Stamp};
use self::nonce::{Share, lifetime_of};
use super::{AuthFacts, Authenticator, BuildError, ReadSecret};
use crate::config::{SignatureAuth, SignatureScheme};
use crate::filter::{FilterContext, Principal, Reason, Refusal, RequestView, Verdict};

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

    /// When it says it was signed.
    fn stamp(&self) -> Stamp;

    /// Whether the body takes part in what was signed, so that nothing can be verified without it.
    fn signs_body(&self) -> bool;

    /// What it says of the body.
    fn body_claim(&self) -> BodyClaim;

    /// Whether the signature is `key`'s.
    fn holds(&self, key: &AppKey, body: &[u8]) -> bool;

    /// Whether parameters could have been moved or added under the same signature.
    fn loose_parameters(&self, _body: &[u8]) -> bool {
        false
    }
}

/// How far a request got.
enum Step {
    Done(Arc<Principal>),
    /// Nothing can be verified without the body.
    NeedBody,
    /// All that the head can prove is proven.
    NeedDigest(Awaited),
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
    fn decide(&self, context: &mut FilterContext<'_>, body: Option<&[u8]>) -> Verdict {
        let request = &context.request;
        let step = match self.scheme {
            SignatureScheme::Ca => ca::read(request.head, request.raw_target)
                .ok_or_else(invalid)
                .and_then(|proof| self.prove(context, &proof, body)),
            SignatureScheme::Rfc9421 => rfc9421::read(request)
                .ok_or_else(invalid)
                .and_then(|proof| self.prove(context, &proof, body)),
        };
        self.told(context, step)
    }

    /// The verdict of a step, and what is remembered for the next.
    fn told(&self, context: &mut FilterContext<'_>, step: Result<Step, Refusal>) -> Verdict {
        match step {
            Ok(Step::Done(principal)) => {
                context.principal = Some(principal);
                Verdict::Continue
            }
            Ok(Step::NeedBody) => Verdict::NeedBody,
            Ok(Step::NeedDigest(awaited)) => {
                context.memory.keep(self, awaited);
                Verdict::NeedBody
            }
            Err(refusal) => Verdict::Refuse(refusal),
        }
    }

    fn prove(
        &self,
        context: &FilterContext<'_>,
        proof: &impl Proof,
        body: Option<&[u8]>,
    ) -> Result<Step, Refusal> {
        let body = body.or((!head::may_have_body(context.request.head)).then_some(&[]));
        let stamp = proof.stamp();
        self.check_time(context, &stamp)?;
        if body.is_none() && proof.signs_body() {
            return self.awaited(context, proof);
        }
        let app = self.verified(proof, body.unwrap_or_default())?;
        admits(app, context)?;
        let claim = proof.body_claim();
        match body {
            // A replay is refused before its body is read; the nonce is spent only once that has proved right.
            None if self.require_body_digest || claim.has_digest() => {
                self.answer(self.nonces.peek(&app.share, proof.nonce(), context.now))?;
                let awaited = Awaited::of(app, proof.nonce(), stamp, claim);
                return Ok(Step::NeedDigest(awaited));
            }
            Some(body) => self.check_digest(&claim, body)?,
            None => {}
        }
        self.spend(context, &app.share, proof.nonce())?;
        Ok(Step::Done(Arc::clone(&app.principal)))
    }

    /// What is left to ask once the body is there of a request whose signature holds.
    fn finish(
        &self,
        context: &FilterContext<'_>,
        awaited: &Awaited,
        body: &[u8],
    ) -> Result<Step, Refusal> {
        self.check_time(context, &awaited.stamp)?;
        self.check_digest(&awaited.body, body)?;
        self.spend(context, &awaited.share, &awaited.nonce)?;
        Ok(Step::Done(Arc::clone(&awaited.principal)))
    }

    fn check_time(&self, context: &FilterContext<'_>, stamp: &Stamp) -> Result<(), Refusal> {
        if self.clock(context).admits(stamp) {
            return Ok(());
        }
        Err(refuse(
            Reason::SigExpired,
            "The signature's time stamp is not accepted.",
        ))
    }

    fn check_digest(&self, claim: &BodyClaim, body: &[u8]) -> Result<(), Refusal> {
        if claim.fits(body, self.require_body_digest) {
            return Ok(());
        }
        Err(refuse(
            Reason::BodyDigest,
            "The body is not the one that was signed.",
        ))
    }

    /// Whether a body is worth reading without which nothing can be verified. What the head alone shows is told at once,
    /// for whoever sends the body pays nothing and we keep it: that an application is unknown is quicker to learn by
    /// that, and is no secret beside the key that names it.
    fn awaited(&self, context: &FilterContext<'_>, proof: &impl Proof) -> Result<Step, Refusal> {
        let app = self.apps.get(proof.app()).ok_or_else(invalid)?;
        admits(app, context)?;
        self.answer(self.nonces.peek(&app.share, proof.nonce(), context.now))?;
        Ok(Step::NeedBody)
    }

    fn clock(&self, context: &FilterContext<'_>) -> Clock {
        Clock {
            now_ms: context.unix_time.saturating_mul(1000),
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

    fn spend(
        &self,
        context: &FilterContext<'_>,
        share: &Arc<Share>,
        nonce: &str,
    ) -> Result<(), Refusal> {
        let claim = if context.dry_run {
            self.nonces.peek(share, nonce, context.now)
        } else {
            let (lifetime, now) = (self.lifetime, context.now);
            self.nonces.claim_for(share, nonce, lifetime, now)
        };
        self.answer(claim)
    }

    fn answer(&self, claim: NonceOutcome) -> Result<(), Refusal> {
        match claim {
            NonceOutcome::Fresh => Ok(()),
            NonceOutcome::Seen => Err(refuse(
                Reason::SigReplayed,
                "The request was made before; sign it anew.",
            )),
            NonceOutcome::Full => Err(Refusal::new(
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

    fn presented(&self, request: &RequestView<'_>) -> bool {
        let header = match self.scheme {
            SignatureScheme::Ca => CA_HEADER,
            SignatureScheme::Rfc9421 => RFC9421_HEADER,
        };
        request.head.headers.contains_key(header)
    }

    fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
        if !self.presented(&context.request) {
            return Verdict::Refuse(self.missing());
        }
        self.decide(context, None)
    }

    fn check_body(&self, context: &mut FilterContext<'_>, body: &[u8]) -> Verdict {
        match context.memory.take::<Awaited>(self) {
            Some(awaited) => {
                let step = self.finish(context, &awaited, body);
                self.told(context, step)
            }
            None => self.decide(context, Some(body)),
        }
    }

    fn missing(&self) -> Refusal {
        refuse(Reason::SigMissing, "A signed request is required.")
    }

    fn signs(&self) -> bool {
        true
    }
}

/// Refuses an application that calls from elsewhere than it may.
fn admits(app: &App, context: &FilterContext<'_>) -> Result<(), Refusal> {
    if app.admits(context.request.client_ip) {
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
