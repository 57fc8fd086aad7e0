//! The life of a request.
//!
//! A connection ([`serve()`]) reads a head, examines it as bytes, and hands one message at a time to the framework, whose
//! hooks are in [`proxy`](self). They call what requests made inside the process ([`internal`]) call as well: the route is
//! found, its chain of filters asked, an endpoint chosen, head and body forwarded, one record written. What a request
//! needs of the configuration it takes from one [`Snapshot`], loaded when it begins and kept to its end; what outlives a
//! configuration is in [`State`].

mod address_lists;
mod admission;
mod affinity;
mod arrival;
mod asking;
mod auth_buffer;
mod breaking;
mod chain;
mod client;
mod connection;
mod contest;
#[cfg(test)]
mod corpus;
mod ctx;
mod decide;
mod decision;
mod door;
mod explain;
mod failure;
mod fallback;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hedge;
mod hop_by_hop;
mod http1;
mod http2;
mod inbound;
#[doc(hidden)]
pub mod internal;
mod judge;
mod judged;
mod lane;
mod limits;
mod memory;
mod mirror;
mod outgoing_head;
mod overload;
mod peer;
mod policy;
mod probe;
mod proxy;
mod relay;
mod reply;
mod serve;
mod session;
mod slashes;
mod snapshot;
mod socket;
mod start;
mod state;
mod streams;
mod supervise;
mod timers;
mod upstream_connections;

pub use admission::{Admission, Place};
pub use auth_buffer::AuthBuffer;
pub use breaking::describe as describe_breaker;
pub use connection::serve;
pub use decide::asked_host;
pub use door::{Door, Parting, Speaks};
pub use explain::{Question, explain};
pub use fallback::Fallback;
pub use lane::Lane;
pub use mirror::Mirror;
pub use overload::{Overload, ShedLevel, describe_places};
pub use policy::{Policy, Sides};
pub use proxy::Gateway;
pub use snapshot::{Material, RouteRuntime, Snapshot, Target};
pub use socket::Socket;
pub use state::{Phase, State};
pub use upstream_connections::UpstreamConnections;
