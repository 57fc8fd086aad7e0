//! tollgate: an API gateway for edge hosts, built on Pingora.
//!
//! # Bird's eye
//!
//! A connection comes in at a worker, its request head is examined as bytes, the route is found in one tree, the
//! route's filters are asked in order, an endpoint is chosen, head and body are forwarded, one record is written. The
//! configuration that decides all this is one immutable snapshot; a reload swaps it whole.
//!
//! # The house
//!
//! Modules are rooms and stand on floors; a file imports from its own room or from floors below. `tests/house.rs`
//! walks the tree and fails on an import that points up or sideways.
//!
//! | Floor | Rooms | Knows |
//! |---|---|---|
//! | 6 | [`cli`] | `server`, and the floors below for commands that serve nothing |
//! | 5 | [`server`] | the framework's server, the gateway, files, signals |
//! | 4 | [`gateway`] | every room; the framework's session |
//! | 3 | [`route`] [`auth`] [`limit`] [`upstream`] [`transform`] [`tls`] [`degrade`] [`rollout`] | floors 0 to 2; never each other |
//! | 2 | [`filter`] [`observe`] | floors 0 and 1 |
//! | 1 | [`config`] | `primitives` |
//! | 0 | [`primitives`] | crates |
//!
//! # One way for data
//!
//! TOML text → raw → validated [`config::Config`] → [`gateway::Snapshot`] → context of one request. Settings come that
//! way; facts (counts, health, nonces, connections) are [`gateway::Facts`]: they lie below every snapshot and outlive it.
//! Building a snapshot changes none that there is; [`gateway::State`] holds them and the snapshot in force, and is where
//! settings reach facts. What has to outlive the process is written in [sections](primitives::sections).
//!
//! # Invariants, which are absences
//!
//! - `config` performs no I/O: text in, a value or every problem out.
//! - No `static` holds mutable state.
//! - The framework's `Session` appears in `gateway` only, its `Server` in `server` only.
//! - No filter waits or writes to the client; no traffic reaches a panic that takes more than its own request along.
//! - Every wait has a deadline, every collection a bound, every metric label a finite set of values.

pub mod cli;
pub mod server;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

pub mod gateway;

pub mod auth;
pub mod degrade;
pub mod limit;
pub mod rollout;
pub mod route;
pub mod tls;
pub mod transform;
pub mod upstream;

pub mod filter;
pub mod observe;

pub mod config;

pub mod primitives;
