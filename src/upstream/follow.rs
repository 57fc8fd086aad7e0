//! A pool follows its source.

use futures_util::future::{Either, join, select};

use super::pool::Pool;
use super::source::EndpointSource;
use crate::primitives::clock::Clock;

/// Keeps the endpoints of a pool those of its source, for as long as it is polled.
pub(super) async fn follow(pool: &Pool, source: &dyn EndpointSource, clock: Clock) {
    let mut discovery = source.watch();
    let following = async {
        loop {
            let found = discovery.borrow_and_update().clone();
            pool.follow(&found, source.min_keep(), clock.now());
            if discovery.changed().await.is_err() {
                return;
            }
        }
    };
    join(source.look(), following).await;
}

/// Keeps the endpoints of a pool those of its source until everything was looked for once, found or not.
pub(super) async fn follow_once(pool: &Pool, source: &dyn EndpointSource, clock: Clock) {
    let mut discovery = source.watch();
    let looked = std::pin::pin!(discovery.wait_for(|found| found.looked));
    let following = std::pin::pin!(follow(pool, source, clock));
    let found = match select(looked, following).await {
        Either::Left((Ok(found), _)) => found.clone(),
        _ => return,
    };
    pool.follow(&found, source.min_keep(), clock.now());
}

#[cfg(test)]
mod tests;
