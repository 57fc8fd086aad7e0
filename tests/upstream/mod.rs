//! Which endpoint a request goes to, and what happens when that one does not do.

mod answer;
mod answer_streams;
mod backup;
mod balance;
mod bodies;
mod breaker;
mod connection;
mod deadline;
mod error;
mod health;
mod hedge;
mod hedge_places;
mod hedge_secure;
mod hedge_streams;
mod interim;
mod outlier;
mod passive;
mod pieces;
mod policy;
mod relay;
mod retry;
mod sticky;
mod tls;
mod trailers;
mod tries;
mod unix;
mod workers;

use std::net::SocketAddr;

use crate::harness::{Gateway, Origin, Setup};

/// One upstream `api` of these endpoints, with more keys and tables of it, behind one route.
fn before(endpoints: &str, upstream: &str) -> Setup {
    Gateway::with(&format!(
        "[upstream.api]\nendpoints = [{endpoints}]\n{upstream}\n[[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n"
    ))
}

/// An endpoint as the configuration writes it.
fn endpoint(address: SocketAddr, more: &str) -> String {
    format!("{{ address = \"{address}\"{more} }}, ")
}

fn to(origin: &Origin) -> String {
    endpoint(origin.address(), "")
}
