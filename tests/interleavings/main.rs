//! What threads share, taken through the orders in which they can meet.
//!
//! The rooms of `src/` are compiled here once more, the files as they are, but with the atomics and locks of
//! `primitives::sync` from a model checker (`loom`). It runs each model below once for every order of the threads' steps
//! that could make a difference, and with every value a relaxed load may bring. What is not ours (the counters of the
//! sketch, `ArcSwap`) keeps its own types: it takes part, and nobody is interrupted inside it.
//!
//! `cargo test --test interleavings` runs all, `-- limits` those with that in their name.
//!
//! A model that cannot fail proves nothing. Each was seen failing with its code broken by hand; the break is named with it.

#![allow(dead_code, unused_imports, unreachable_pub)]
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test program of its own"
)]

#[path = "../../src/auth/mod.rs"]
mod auth;
#[path = "../../src/limit/mod.rs"]
mod limit;
#[path = "../../src/upstream/mod.rs"]
mod upstream;

mod limits;
mod nonces;
mod observe;
mod primitives;
mod request;
mod threads;
mod upstreams;

use tollgate::{api, config, filter};

/// Each model with its name.
const MODELS: [(&str, fn()); 14] = [
    (
        "limits: a token bucket lets its burst pass and no more",
        limits::token_bucket,
    ),
    (
        "limits: an estimator lets its rate pass and no more",
        limits::estimator,
    ),
    (
        "limits: an estimator forgets nothing while its window turns",
        limits::turning,
    ),
    (
        "limits: a concurrency limit holds, and gives back",
        limits::concurrency,
    ),
    (
        "limits: a bound on keys in flight holds, and gives back",
        limits::keys_in_flight,
    ),
    ("limits: a store counts its keys", limits::keys_of_a_store),
    (
        "nonces: of two requests with one nonce one passes",
        nonces::one_passes,
    ),
    ("nonces: a store for one keeps one", nonces::capacity),
    (
        "lines: none is lost, each worker's stay in order",
        observe::lines::none_is_lost,
    ),
    ("upstreams: turns are shared exactly", upstreams::shares),
    (
        "upstreams: no retry goes uncounted when a second begins",
        upstreams::retries,
    ),
    (
        "upstreams: a success between two failures counts",
        upstreams::success_between_failures,
    ),
    (
        "upstreams: failures that meet open a breaker",
        upstreams::failures,
    ),
    (
        "upstreams: a breaker's quota holds, and is given back",
        upstreams::probes,
    ),
];

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    tollgate::auth::install_crypto();
    for (name, model) in MODELS.into_iter().filter(|(name, _)| is_wanted(name)) {
        let mut builder = loom::model::Builder::new();
        builder.max_branches = 10_000;
        let orders = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let begun = std::time::Instant::now();
        let counted = std::sync::Arc::clone(&orders);
        builder.check(move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            threads::spawn(model).join().unwrap();
        });
        let orders = orders.load(std::sync::atomic::Ordering::Relaxed);
        println!(
            "model {name} ... ok, {orders} orders, {:.1?}",
            begun.elapsed()
        );
        assert!(orders > 1, "the threads of this model never meet");
    }
}
