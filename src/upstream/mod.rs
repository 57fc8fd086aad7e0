//! Upstreams: which endpoint a request goes to, and what is known about each.
//!
//! Settings come with the configuration and live in a [`Pool`], one per upstream and snapshot; facts (health,
//! ejection, drain, counts) live in [`Endpoint`]s, which outlive a reload. A pool whose settings did not change is
//! carried over whole, so that its rotation and its checks go on. Choosing takes no lock: the order of endpoints is
//! computed when something changes, and a pick is a look and one atomic add.

pub mod breaker;
mod budget;
mod endpoint;
mod health;
mod peer;
mod pool;
mod resolve;
mod ring;

pub use endpoint::{Endpoint, EndpointFacts, KnownEndpoint};
pub use peer::{PeerTemplate, TlsError};
pub use pool::{Outcome, Pool};
pub use resolve::Names;

use std::sync::Arc;

use crate::primitives::clock::Clock;

/// Keeps one pool's knowledge fresh: active checks and name resolution. Runs until dropped.
pub async fn keep(pool: Arc<Pool>, names: Arc<Names>, clock: Clock) {
    let resolving = resolve::keep(Arc::clone(&pool), names, clock);
    let checking = health::keep(pool, clock);
    futures_util::future::join(resolving, checking).await;
}
