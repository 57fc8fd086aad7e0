//! The life of a request.
//!
//! A connection ([`serve()`]) reads a head, examines it as bytes, and hands one message at a time to the hooks of
//! [`Gateway`], which are the framework's and called by [`Hooks`]. They call what requests made inside the process ([`internal`]) call as well: the route is
//! found, its chain of filters asked, an endpoint chosen, head and body forwarded, one record kept. Whoever gives the answer
//! writes it with the `ResponseWriter` of `answer`. What a request needs of the configuration it takes from one [`Snapshot`],
//! loaded when it begins and kept to its end; what outlives a configuration is in [`Facts`], below it; [`State`] holds both.

mod address_lists;
mod admission;
mod affinity;
mod answer;
mod application;
mod arrival;
mod asking;
mod asking_filters;
mod auth_buffer;
mod breaking;
mod chain;
mod client;
mod connection;
#[cfg(test)]
mod corpus;
mod ctx;
mod decide;
mod decision;
mod door;
mod exchange;
mod explain;
mod facts;
mod failure;
mod fallback;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hooks;
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
mod material;
mod memory;
mod message;
mod mirror;
mod outgoing_head;
mod overload;
mod parts;
mod peer;
mod policy;
mod probe;
mod protected_names;
mod proxy;
mod refusal;
mod refusals;
mod reply;
mod route_fallback;
mod route_mirror;
mod route_policy;
mod route_runtime;
mod serve;
mod session;
mod slashes;
mod snapshot;
mod socket;
mod start;
mod state;
mod supervise;
mod timers;
mod upstream_connections;

pub use admission::{Admission, Place};
pub use application::{Application, ClientMessage};
pub use auth_buffer::AuthBuffer;
pub use breaking::describe as describe_breaker;
pub use connection::serve;
pub use decide::asked_host;
pub use door::{Door, Parting, Speaks};
pub use explain::explain;
pub use facts::Facts;
pub use hooks::Hooks;
pub use lane::Lane;
pub use material::Material;
pub use overload::{Overload, ShedLevel, describe_places};
pub use proxy::Gateway;
pub use route_fallback::Fallback;
pub use route_mirror::Mirror;
pub use route_policy::{Policy, Sides};
pub use route_runtime::{RouteRuntime, Target};
pub use snapshot::Snapshot;
pub use socket::Socket;
pub use state::{Phase, State};
pub use upstream_connections::UpstreamConnections;
