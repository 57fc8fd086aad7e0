//! The real binary over real sockets. One file per room of `src/`, names as claims; `harness` is what they stand on.

#![allow(
    clippy::unwrap_used,
    reason = "in a test a failed unwrap is the report"
)]
#![allow(
    clippy::print_stderr,
    reason = "a failing test shows the gateway's log"
)]

mod admin;
mod cli;
mod client;
mod clock;
mod config;
mod degrade;
mod differential;
mod docs;
mod explain;
mod harness;
mod headroom;
mod http2;
mod identity;
mod jwt;
mod life;
mod limit;
mod listener;
mod log;
mod metrics;
mod overload;
mod rollout;
mod route;
mod signature;
mod systemd;
mod tls;
mod upstream;
mod websocket;
