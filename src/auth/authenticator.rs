//! One way to find out who is calling, as the filter sees it.

use crate::filter::{Exchange, Refusal, Verdict};

/// What an operator should know although nothing is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// TOML path.
    pub place: String,
    /// What is to be known.
    pub text: String,
}

/// A way to find out who is calling, ready for requests.
pub trait Authenticator: Send + Sync {
    /// The name of its `[auth.NAME]`.
    fn name(&self) -> &str;

    /// What an operator should know of its keys although it serves.
    fn warnings(&self) -> &[Warning] {
        &[]
    }

    /// Whether the request brings credentials of this kind, good or bad.
    fn presented(&self, exchange: &Exchange<'_>) -> bool;

    /// Decides by the head, or asks for the body. Sets the principal when it continues.
    fn check(&self, exchange: &mut Exchange<'_>) -> Verdict;

    /// Decides if the request brings credentials of this kind.
    fn check_presented(&self, exchange: &mut Exchange<'_>) -> Option<Verdict> {
        self.presented(exchange).then(|| self.check(exchange))
    }

    /// Decides once the body is there; only after [`Verdict::NeedBody`].
    fn check_body(&self, exchange: &mut Exchange<'_>, body: &[u8]) -> Verdict;

    /// What a request without credentials is told.
    fn missing(&self) -> Refusal;

    /// Whether the credentials sign the request itself; two such schemes in one request contradict each other.
    fn signs(&self) -> bool {
        false
    }
}
