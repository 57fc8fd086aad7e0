//! JSON Web Tokens.
//!
//! The configuration fixes the algorithms and keys; a token's own header only says which key of a set it means
//! (RFC 8725 §3.1). A verified token is remembered by its exact bytes, so that a client's next request costs a hash
//! instead of a signature; what it may do until when is decided by the same [`Window`] either way.

mod cache;
mod key_set;
mod keys;
mod principal;
mod source;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

pub(super) use cache::TokenCache;

use self::keys::Keys;
use self::principal::Naming;
use self::source::Found;
use self::verify::{Flaw, Rules, Window};
use super::header_text::header_text;
use super::{Authenticator, BuildError, ReadSecret, Warning, facts::AuthFacts};
use crate::config::{JwtAuth, TokenSource};
use crate::filter::{FilterContext, Principal, Refusal, RequestView, Verdict};
use crate::primitives::digest;

/// One `[auth.NAME]` of type `jwt`.
pub(super) struct JwtAuthenticator {
    name: String,
    from: Vec<TokenSource>,
    keys: Keys,
    rules: Rules,
    naming: Naming,
    /// Longest token looked at: what is decoded for anybody who asks.
    max_token: usize,
    cache: Arc<TokenCache>,
    warnings: Vec<Warning>,
}

impl JwtAuthenticator {
    pub(super) fn build(
        auth: &JwtAuth,
        read: ReadSecret<'_>,
        facts: &AuthFacts,
    ) -> Result<Self, BuildError> {
        let (keys, material, warnings) = Keys::build(auth, read)?;
        let fingerprint = fingerprint(auth, material.expose());
        Ok(Self {
            name: auth.name.as_str().to_owned(),
            from: auth.from.clone(),
            keys,
            rules: Rules::new(auth),
            naming: Naming {
                auth: auth.name.clone(),
                header: header_text(auth.name.as_str()),
                forward: auth.forward_claims.clone(),
                tier: auth.tier_claim.clone(),
            },
            max_token: auth.max_token,
            cache: facts.tokens(&auth.name, fingerprint, auth.cache),
            warnings,
        })
    }

    fn authenticate(&self, context: &FilterContext<'_>) -> Result<Arc<Principal>, Flaw> {
        let token = match source::find(&self.from, &context.request) {
            Found::Nothing => return Err(Flaw::Missing),
            Found::Several => return Err(Flaw::Invalid("the header stands twice")),
            Found::Token(token) => token,
        };
        if token.len() > self.max_token {
            return Err(Flaw::Invalid("the token is longer than max_token"));
        }
        if let Some((principal, window)) = self.cache.find(&token) {
            window.holds(context.unix_time)?;
            return Ok(principal);
        }
        let (principal, window) = self.verify(&token)?;
        window.holds(context.unix_time)?;
        if !context.dry_run {
            let now = context.unix_time;
            self.cache.keep(&token, Arc::clone(&principal), window, now);
        }
        Ok(principal)
    }

    fn verify(&self, token: &[u8]) -> Result<(Arc<Principal>, Window), Flaw> {
        let (claims, window) = verify::verify(token, &self.keys, &self.rules)?;
        let principal = self.naming.principal(claims).map_err(Flaw::Invalid)?;
        Ok((Arc::new(principal), window))
    }
}

impl Authenticator for JwtAuthenticator {
    fn name(&self) -> &str {
        &self.name
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn presented(&self, request: &RequestView<'_>) -> bool {
        !matches!(source::find(&self.from, request), Found::Nothing)
    }

    fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
        self.check_presented(context)
            .unwrap_or_else(|| Verdict::Refuse(self.missing()))
    }

    /// Looks for the token once, where the two questions would look twice.
    fn check_presented(&self, context: &mut FilterContext<'_>) -> Option<Verdict> {
        Some(match self.authenticate(context) {
            Ok(principal) => {
                context.principal = Some(principal);
                Verdict::Continue
            }
            Err(Flaw::Missing) => return None,
            Err(flaw) => Verdict::Refuse(flaw.refusal()),
        })
    }

    fn check_body(&self, _context: &mut FilterContext<'_>, _body: &[u8]) -> Verdict {
        Verdict::Continue
    }

    fn missing(&self) -> Refusal {
        Flaw::Missing.refusal()
    }
}

/// Everything that decides what a remembered token means. When one of them changes, nothing remembered holds any more.
fn fingerprint(auth: &JwtAuth, material: &[u8]) -> u128 {
    let rules = format!(
        "{:?}",
        (
            &auth.algorithms,
            &auth.issuer,
            &auth.audience,
            auth.leeway,
            &auth.forward_claims,
            &auth.tier_claim,
            auth.cache,
        )
    );
    digest::key128(&[rules.as_bytes(), material])
}
