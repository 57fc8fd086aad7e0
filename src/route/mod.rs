//! Finding the route of a request, and the path that goes out.
//!
//! The table is built once per snapshot and never changes. A look-up walks a tree of path segments, so its cost
//! depends on the length of the path and not on the number of routes.

mod nearest;
mod outgoing;
mod predicate;
mod preflight;
mod table;

pub use nearest::Loss;
pub use outgoing::Outgoing;
pub use predicate::Asked;
pub use table::{Found, Miss, RouteTable};
