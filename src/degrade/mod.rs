//! Doing less, and saying so: how much of its work each route does, and the answers that are kept for bad times.
//!
//! A route's level is set by an operator, or for a while by what it meets (an open breaker, requests that are shed);
//! the higher of both holds. A request reads it once, from one number. Levels and kept answers are facts: they outlive
//! a reload as long as their route is there.

mod last_good;
mod level;

pub use last_good::{
    Asked, CarriedAnswers, KeptAnswers, LastGood, LastGoodAnswer, LastGoodWriter, RouteAnswers,
};
pub use level::{CarriedLevels, KnownLevel, Levels, RouteLevel};
