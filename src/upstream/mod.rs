//! Upstreams: which endpoint a request goes to, and what is known about each.
//!
//! Settings come with the configuration and live in a [`Pool`], one per upstream and snapshot; facts (health,
//! ejection, drain, counts) live in [`Endpoint`]s, which outlive a reload. A pool whose settings did not change is
//! carried over whole, so that its rotation and its checks go on. Choosing takes no lock: the order of endpoints is
//! computed when something changes, and a pick is a look and one atomic add. Other ways to choose are in `balance`; what
//! they and the rules about outliers read is written by workers into `live`, one relaxed operation each, and only where
//! one of them is configured.

mod backoff;
mod balance;
pub mod breaker;
mod budget;
mod concurrency;
mod endpoint;
mod follow;
mod health;
mod hedge_delay;
mod live;
mod members;
mod outlier;
mod peer;
mod pool;
mod resolve;
mod ring;
mod score;
mod source;
mod sticky;

pub use backoff::backoff;
pub use balance::hash;
pub use concurrency::{Gate, GatePermit};
pub use endpoint::{CarriedEndpoints, Endpoint, EndpointFacts, KnownEndpoint};
pub use hedge_delay::HedgeDelay;
pub use peer::{PeerTemplate, TlsError};
pub use pool::{Outcome, PickHints, Pool, Standing};
pub use resolve::Names;
pub use sticky::{Stickiness, StickyCookie};

use std::sync::Arc;

use crate::primitives::clock::Clock;

/// Keeps one pool's knowledge fresh: active checks and what the source of its endpoints finds. Runs until dropped.
pub async fn keep(pool: Arc<Pool>, names: Arc<Names>, clock: Clock) {
    let resolving = resolve::keep(Arc::clone(&pool), names, clock);
    let checking = health::keep(pool, clock);
    futures_util::future::join(resolving, checking).await;
}
