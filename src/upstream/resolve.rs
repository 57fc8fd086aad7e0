//! The source of endpoints by name: names are resolved in the background and again when their time to live ends. Never on the request path.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::follow;
use super::pool::Pool;
use super::source::{self, Discovery, EndpointSource};
use crate::config::Endpoint;
use crate::primitives::UpstreamName;
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

    /// Looks every name of the pool up once.
    pub async fn refresh(&self, pool: &Pool, clock: Clock) {
        follow::follow_once(pool, &Dns::of(pool, self), clock).await;
    }

    /// Names that are nowhere.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        Self { resolver: None }
    }
}

/// The endpoints of an upstream, those by name with the addresses of their names.
pub(super) struct Dns<'n> {
    names: &'n Names,
    upstream: UpstreamName,
    endpoints: Vec<Endpoint>,
    hosts: Vec<String>,
    resolved: Mutex<HashMap<String, Vec<IpAddr>>>,
    discovery: watch::Sender<Discovery>,
}

impl<'n> Dns<'n> {
    /// Goes on from what the pool knows.
    pub(super) fn of(pool: &Pool, names: &'n Names) -> Self {
        let resolved = pool.resolved();
        let settings = pool.settings();
        let endpoints = source::configured(&settings.endpoints, &resolved);
        Self {
            names,
            upstream: settings.name.clone(),
            endpoints: settings.endpoints.clone(),
            hosts: pool.names().into_iter().map(str::to_owned).collect(),
            resolved: Mutex::new(resolved),
            discovery: watch::Sender::new(Discovery {
                endpoints,
                ..Discovery::default()
            }),
        }
    }

    /// Takes over the addresses of a name. Says whether they changed. No address at all is never taken.
    pub(super) fn learn(&self, host: &str, mut addresses: Vec<IpAddr>) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        let mut resolved = self.resolved.lock();
        if addresses.is_empty() || resolved.get(host) == Some(&addresses) {
            return false;
        }
        resolved.insert(host.to_owned(), addresses);
        let endpoints = source::configured(&self.endpoints, &resolved);
        self.discovery
            .send_modify(|discovery| discovery.endpoints = endpoints);
        true
    }

    /// Looks every name up once. Says when the first answer runs out.
    async fn look_once(&self) -> Duration {
        let mut next = LONGEST;
        let mut failure = None;
        for host in &self.hosts {
            match self.names.look_up(host).await {
                Ok((addresses, holds)) => {
                    if self.learn(host, addresses.clone()) {
                        log::info!(upstream = self.upstream.as_str(); "{host} is at {addresses:?}");
                    }
                    next = next.min(holds);
                }
                Err(why) => {
                    log::warn!(upstream = self.upstream.as_str();
                        "{host} cannot be resolved, known addresses stay in use: {why}");
                    failure = Some(format!("{host} cannot be resolved: {why}"));
                    next = next.min(AFTER_FAILURE);
                }
            }
        }
        self.discovery.send_modify(|discovery| {
            discovery.failure = failure;
            discovery.looked = true;
        });
        next
    }
}

impl EndpointSource for Dns<'_> {
    fn watch(&self) -> watch::Receiver<Discovery> {
        self.discovery.subscribe()
    }

    fn look(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            loop {
                let wait = self.look_once().await;
                tokio::time::sleep(wait).await;
            }
        })
    }
}

/// Keeps the pool's names resolved for as long as it is polled; at once when it has none.
pub(super) async fn keep(pool: Arc<Pool>, names: Arc<Names>, clock: Clock) {
    if !pool.names().is_empty() {
        follow::follow(&pool, &Dns::of(&pool, &names), clock).await;
    }
}
