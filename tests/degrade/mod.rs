//! What a route does in bad times: its fallback, and how much of its work it does.

mod elsewhere;
mod fallback;
mod last_good;
mod level;
mod off;
mod shed;

use crate::harness::{Client, Request};

/// What a request says of its connection: its head is changed on its way where another field is named.
const WAYS: [&str; 2] = ["close, X-Relayed", "close"];

/// A request that takes one of the ways.
fn get<'c>(client: &'c Client, way: &str, target: &str) -> Request<'c> {
    client.get(target).header("Connection", way)
}
