//! From the plan of a request to the end of its answer: which endpoints are asked, over what, and what goes back.
//!
//! [`tries::forward`] is the one loop. It chooses an endpoint ([`choose`]), opens a [`transport::Transport`] to it, and
//! polls an [`stages::Exchange`] to its end: the request goes out by an [`upload::Upload`] while the answer comes back, both
//! at the same time. What a failure or a status means for the next try is decided in [`outcome`], alike for HTTP/1.1 and
//! HTTP/2, and each try leaves its times and its end in the request's [`attempts::Attempts`]. A [`race::Race`] begins
//! another try before the first has failed; nothing else about it is different.
//!
//! Files import downwards: `tries`, `stages`, `race`, `hedged`, `holding`, `upload`, `transport`, `h1` and `h2`, `attempts`.

pub(super) mod attempts;
mod choose;
pub(super) mod h1;
pub(super) mod h2;
mod hedged;
mod holding;
mod outcome;
mod race;
mod stages;
pub(super) mod trailers;
mod transport;
pub(super) mod tries;
mod upload;
