//! Who may call: tokens, request signatures, what a token must say, and from which addresses.
//!
//! An [`Authenticator`] is one `[auth.NAME]` made ready: keys read and parsed, stores attached. [`AuthFilter`] puts those
//! of a route in order. Nothing here touches a socket or a file: secrets are handed in by the caller of [`build`], and
//! what must outlive a reload lives in [`AuthFacts`]. A client is told which step failed and never why: the sentences
//! are constants, so an attacker who varies a request learns nothing from the answer.

mod authenticator;
mod claims;
mod error;
mod facts;
mod filter;
mod header_text;
mod ip_rules;
mod jwt;
pub mod signature;
#[cfg(test)]
mod testing;

use std::sync::Arc;

pub use authenticator::{Authenticator, Warning};
pub use claims::ClaimsFilter;
pub use error::BuildError;
pub use facts::{AuthFacts, CarriedNonces, UsedNonces};
pub use filter::AuthFilter;
pub use ip_rules::IpRules;
pub use signature::{NonceOutcome, NonceOwner};

use crate::config;
pub use crate::primitives::secret::ReadSecret;
/// Makes an authenticator ready: reads its keys, attaches the stores that `facts` keeps for it.
pub fn build(
    auth: &config::Auth,
    read: ReadSecret<'_>,
    facts: &AuthFacts,
) -> Result<Arc<dyn Authenticator>, BuildError> {
    Ok(match auth {
        config::Auth::Jwt(auth) => Arc::new(jwt::JwtAuthenticator::build(auth, read, facts)?),
        config::Auth::Signature(auth) => {
            Arc::new(signature::SignatureAuthenticator::build(auth, read, facts)?)
        }
    })
}

/// Tells the token library which cryptography to use. To be called before anything else: the library keeps its first
/// answer, and a wrong one panics at the first token.
pub fn install_crypto() {
    // An error means that a provider is there already, which is what we want.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}
