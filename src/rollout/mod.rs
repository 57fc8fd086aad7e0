//! Several upstreams for one route: who goes to which side, and whether a side has to be stopped.
//!
//! A request goes to the side that names it (by header, cookie or claim), else to one by weight. With a key, each key
//! goes by weighted rendezvous hashing: raising a side's weight only brings further keys to it, and whoever was there
//! stays. The seed is the route's name, so the same user is on the same side on every host and after every restart.

mod comparison;
mod judge;
mod sides;

pub use comparison::worse;
pub use judge::{CarriedStops, KnownStop, RolloutFacts, Rollouts, SideFacts};
pub use sides::{Asked, Split, Why};
