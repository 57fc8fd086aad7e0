//! Requests made inside the process: the gateway runs in this one, beside real origins, and listens on a socket as well.
//!
//! What is asked over memory must be what is asked over a socket ([`alike`]), and a request that is dropped, wherever it
//! waits, must give everything back ([`dropped`]).

#![allow(
    clippy::unwrap_used,
    reason = "in a test a failed unwrap is the report"
)]
#![allow(
    clippy::print_stderr,
    reason = "a failing test shows the gateway's log"
)]

mod alike;
mod dropped;
mod gateway;
#[path = "../harness/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the other tests use what these do not"
)]
mod harness;
mod parts;
