//! One way to find out who is calling, as the filter sees it.

use crate::filter::{FilterContext, Refusal, RequestView, Verdict};

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
    fn presented(&self, request: &RequestView<'_>) -> bool;

    /// Decides by the head, or asks for the body. Sets the principal when it continues.
    fn check(&self, context: &mut FilterContext<'_>) -> Verdict;

    /// Decides if the request brings credentials of this kind.
    fn check_presented(&self, context: &mut FilterContext<'_>) -> Option<Verdict> {
        self.presented(&context.request)
            .then(|| self.check(context))
    }

    /// Decides once the body is there; only after [`Verdict::NeedBody`].
    fn check_body(&self, context: &mut FilterContext<'_>, body: &[u8]) -> Verdict;

    /// What a request without credentials is told.
    fn missing(&self) -> Refusal;

    /// Whether the credentials sign the request itself; two such schemes in one request contradict each other.
    fn signs(&self) -> bool {
        false
    }
}
