//! The life of a request.
//!
//! A connection ([`serve()`]) reads a head, examines it as bytes, and hands one message at a time to the framework's hooks
//! of [`Gateway`], in `proxy.rs`, called by [`Hooks`]. They call `serve.rs`, as requests made inside the process ([`internal`]) do: the route is found,
//! its chain of filters asked, and the request forwarded, answered or refused. What a request needs of the configuration it
//! takes from one [`Snapshot`], loaded when it begins and kept to its end; what outlives a configuration is in [`Facts`],
//! below it; [`State`] holds both. `docs/architecture.md` goes along the whole road.
//!
//! | In the order in which a request meets them | What they do |
//! |---|---|
//! | `connection.rs`, `http1/`, `http2/`, `memory.rs` | the wires: heads and bodies as bytes, frames or neither |
//! | `client/`, `timers/`, `message/` | the client's side of an exchange whatever carries it, its time limits, messages as every protocol has them |
//! | `supervise.rs`, `request_seed.rs`, `ctx/` | one message of a connection: shed, or begun with a context, and never left without an answer |
//! | `application.rs`, `hooks.rs`, `proxy.rs`, `serve.rs` | who calls the framework's hooks, the hooks, and what they call |
//! | `inbound.rs`, `arrival.rs`, `asking_filters.rs`, `chain.rs`, `decide.rs` | what becomes of a request: its route, and the route's filters in order |
//! | `policy.rs`, `fallback.rs`, `mirror.rs`, `affinity.rs`, `breaking.rs`, `overload/` | what a request does with policies of its route and upstream |
//! | `route_*.rs`, `snapshot.rs`, `state.rs`, `facts.rs` | what these policies are built of, and what is in force and known |
//! | `exchange/` | tries at an upstream, over every transport |
//! | `answer/`, `reply.rs` | the answer's way to the client; whoever gives one writes it with the `ResponseWriter` |
//! | `refusal.rs`, `refusals.rs`, `failure.rs` | how a refusal looks, who makes them, what an error of the framework means |
//! | `judged.rs`, `explain.rs` | who learns of a request what it tells of a configuration; what would become of one |

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
mod request_seed;
mod route_fallback;
mod route_mirror;
mod route_policy;
mod route_runtime;
mod serve;
mod serve_context;
mod session;
mod slashes;
mod snapshot;
mod socket;
mod state;
mod supervise;
mod timers;
mod upstream_connections;
mod worker_local;

pub use admission::{Admission, AdmissionPermit};
pub use application::{Application, ClientMessage};
pub use auth_buffer::AuthBuffer;
pub use breaking::describe as describe_breaker;
pub use connection::serve;
pub use decide::asked_host;
pub use explain::explain;
pub use facts::Facts;
pub use hooks::Hooks;
pub use material::Material;
pub use overload::{Overload, ShedLevel, describe_places};
pub use proxy::Gateway;
pub use route_fallback::Fallback;
pub use route_mirror::Mirror;
pub use route_policy::{Policy, TrafficSplit};
pub use route_runtime::{RouteRuntime, Target};
pub use serve_context::{CloseSchedule, Protocols, ServeContext};
pub use snapshot::Snapshot;
pub use socket::Socket;
pub use state::{Phase, State};
pub use upstream_connections::UpstreamConnections;
pub use worker_local::WorkerLocal;
