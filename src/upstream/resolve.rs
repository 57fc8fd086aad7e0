//! Names of endpoints, resolved in the background and again when their time to live ends. Never on the request path.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;

use super::pool::Pool;
use crate::primitives::clock::Clock;

/// Least and greatest time between two look-ups of a name, whatever its TTL says.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// Time to the next try after a look-up failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// Bound of one look-up.
const DEADLINE: Duration = Duration::from_secs(5);

/// The resolver of the host: `/etc/resolv.conf` and `/etc/hosts`.
pub struct Names {
    resolver: Option<TokioResolver>,
}

impl Names {
    /// Reads the host's resolver settings. Without usable ones every look-up fails and says so.
    pub fn of_host() -> Self {
        let built = TokioResolver::builder_tokio().and_then(|mut builder| {
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
            builder.build()
        });
        let resolver = built
            .map_err(|error| log::warn!("the host's resolver settings cannot be used: {error}"))
            .ok();
        Self { resolver }
    }

    /// The addresses of `host` and how long they hold.
    async fn look_up(&self, host: &str) -> Result<(Vec<IpAddr>, Duration), String> {
        if matches!(host, "localhost" | "localhost.") {
            // RFC 6761 §6.3: never asked of a name server.
            return Ok((vec![IpAddr::from([127, 0, 0, 1])], LONGEST));
        }
        let resolver = self.resolver.as_ref().ok_or("no resolver")?;
        let found = tokio::time::timeout(DEADLINE, resolver.lookup_ip(host)).await;
        let found = found
            .map_err(|_| format!("no answer within {DEADLINE:?}"))?
            .map_err(|error| error.to_string())?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            return Err("an empty answer".to_owned());
        }
        let holds = found
            .valid_until()
            .saturating_duration_since(Instant::now());
        Ok((addresses, holds.clamp(SHORTEST, LONGEST)))
    }

    /// Resolves every name of the pool once. Says when the first answer runs out.
    pub async fn refresh(&self, pool: &Pool, clock: Clock) -> Duration {
        let mut next = LONGEST;
        for host in pool.names() {
            match self.look_up(host).await {
                Ok((addresses, holds)) => {
                    if pool.learn(host, addresses.clone(), clock.now()) {
                        log::info!(upstream = pool.settings().name.as_str(); "{host} is at {addresses:?}");
                    }
                    next = next.min(holds);
                }
                Err(why) => {
                    log::warn!(upstream = pool.settings().name.as_str();
                        "{host} cannot be resolved, known addresses stay in use: {why}");
                    next = next.min(AFTER_FAILURE);
                }
            }
        }
        next
    }
}

/// Keeps the pool's names resolved for as long as it is polled; at once when it has none.
pub(super) async fn keep(pool: Arc<Pool>, names: Arc<Names>, clock: Clock) {
    if pool.names().is_empty() {
        return;
    }
    loop {
        let wait = names.refresh(&pool, clock).await;
        tokio::time::sleep(wait).await;
    }
}
