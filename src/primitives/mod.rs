//! Newtypes and pure algorithms: no sockets, no files, no clocks of their own.
//!
//! Everything here is a value or a function of its arguments; where time matters it is an argument. What the rooms
//! above share stands here because rooms do not import each other.

pub mod address;
pub mod calendar;
pub mod certificates;
pub mod clock;
#[cfg(test)]
pub(crate) mod corpus;
pub mod digest;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gcra;
pub mod interned;
pub mod level;
pub mod matcher;
pub mod names;
pub mod path;
pub mod pem;
pub mod proxy_header;
pub mod query;
pub mod ranges;
pub mod rotation;
pub mod secret;
pub mod sections;
pub mod sync;
pub mod template;
pub mod trace;
pub mod units;

pub use names::{AuthName, LimitName, ListenerName, RouteName, UpstreamName};
