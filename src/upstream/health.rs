//! Active checks: each endpoint is asked every `interval`, and flips after `rise` or `fall` answers of a kind.
//!
//! The connections are the framework's; the counting is ours, because an endpoint must keep its standing over a reload and
//! a change of weight, and a slow endpoint must not delay the checks of others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::{HeaderName, StatusCode};
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::{HealthCheck, TcpHealthCheck};

use super::endpoint::Endpoint;
use super::pool::Pool;
use super::{peer, score};
use crate::config::{EndpointAddress, Health, Upstream};
use crate::primitives::address::Address;
use crate::primitives::clock::Clock;

/// Checks under way at once in one upstream.
const AT_ONCE: usize = 64;

/// Checks the pool's endpoints for as long as it is polled; at once when there is nothing to check.
pub(super) async fn keep(pool: Arc<Pool>, clock: Clock) {
    let Some(settings) = pool.settings().health.clone() else {
        return;
    };
    let mut standings: HashMap<Address, (Standing, Arc<Probe>)> = HashMap::new();
    loop {
        let endpoints = pool.endpoints();
        standings.retain(|address, _| {
            endpoints
                .iter()
                .any(|(endpoint, ..)| endpoint.address == *address)
        });
        let checks = endpoints.into_iter().map(|(endpoint, ..)| {
            let (_, probe) = standings
                .entry(endpoint.address.clone())
                .or_insert_with(|| {
                    (
                        Standing::default(),
                        Arc::new(probe(&pool, &settings, &endpoint, clock)),
                    )
                });
            let probe = Arc::clone(probe);
            async move {
                let good = check(&probe, &endpoint.address, settings.timeout).await;
                (endpoint, good)
            }
        });
        let checks: Vec<_> = checks.collect();
        let mut checks = futures_util::stream::iter(checks).buffer_unordered(AT_ONCE);
        while let Some((endpoint, result)) = checks.next().await {
            let Some((standing, _)) = standings.get_mut(&endpoint.address) else {
                continue;
            };
            let healthy = standing.add(result.is_ok(), endpoint.healthy(), &settings);
            if pool.checked(&endpoint, healthy, clock.now()) {
                report(&pool, &endpoint.label, healthy, result.err());
            }
        }
        tokio::time::sleep(jittered(settings.interval)).await;
    }
}

/// Answers of one kind in a row.
#[derive(Default)]
struct Standing {
    good: u32,
    bad: u32,
}

impl Standing {
    /// Adds a result and says whether the endpoint counts as healthy now.
    fn add(&mut self, good: bool, healthy: bool, settings: &Health) -> bool {
        if good {
            *self = Self {
                good: self.good.saturating_add(1),
                bad: 0,
            };
            healthy || self.good >= settings.rise
        } else {
            *self = Self {
                good: 0,
                bad: self.bad.saturating_add(1),
            };
            healthy && self.bad < settings.fall
        }
    }
}

fn report(pool: &Pool, endpoint: &str, healthy: bool, why: Option<String>) {
    let upstream = pool.settings().name.as_str();
    if healthy {
        log::info!(upstream = upstream, endpoint = endpoint; "endpoint is healthy again");
    } else {
        let why = why.unwrap_or_default();
        log::warn!(upstream = upstream, endpoint = endpoint; "endpoint failed its checks: {why}");
    }
}

async fn check(probe: &Probe, address: &Address, limit: Duration) -> Result<(), String> {
    let asked = async {
        match probe {
            Probe::Connect(probe) => {
                let target = Backend {
                    addr: peer::socket_address(address).ok_or("no address of a socket")?,
                    weight: 1,
                    ext: Default::default(),
                };
                probe
                    .check(&target)
                    .await
                    .map_err(|error| error.to_string())
            }
            Probe::Ask(question) => question.ask(address).await,
        }
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

/// How an endpoint is checked. One for each: an answer may tell something about it beside its status.
enum Probe {
    /// The endpoint takes a connection.
    Connect(Box<TcpHealthCheck>),
    /// The endpoint answers well.
    Ask(Box<Question>),
}

/// What an endpoint is asked, and which answers are good.
struct Question {
    peer: HttpPeer,
    connector: Connector,
    head: RequestHeader,
    /// Good statuses; none: any that says success.
    expect: Vec<u16>,
    load_header: Option<HeaderName>,
    endpoint: Arc<Endpoint>,
    clock: Clock,
}

/// Interim answers before the final one; more are a flood.
const MOST_INFORMATIONAL: u32 = 100;

impl Question {
    /// Asks on a connection of its own: one that is there for requests would hide what is wrong with new ones.
    async fn ask(&self, address: &Address) -> Result<(), String> {
        let mut peer = self.peer.clone();
        peer._address = peer::socket_address(address).ok_or("no address of a socket")?;
        let told = |error: Box<pingora::Error>| error.to_string();
        let (mut session, _) = self.connector.get_http_session(&peer).await.map_err(told)?;
        session.set_write_timeout(peer.options.write_timeout);
        let head = Box::new(self.head.clone());
        session.write_request_header(head).await.map_err(told)?;
        session.finish_request_body().await.map_err(told)?;
        session.set_read_timeout(peer.options.read_timeout);
        for _ in 0..=MOST_INFORMATIONAL {
            session.read_response_header().await.map_err(told)?;
            let head = session.response_header().ok_or("no answer")?;
            // An interim answer says nothing about the endpoint (RFC 9110 §15.2); an upgrade was not asked for.
            if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            self.judge(head)?;
            while session.read_response_body().await.map_err(told)?.is_some() {}
            return Ok(());
        }
        Err("too many informational answers".to_owned())
    }

    fn judge(&self, head: &ResponseHeader) -> Result<(), String> {
        let report = self.load_header.as_ref();
        let report = report.and_then(|name| head.headers.get(name));
        if let Some(load) = report.and_then(|text| score::load(text.as_bytes())) {
            self.endpoint.live.report_load(load, self.clock.now());
        }
        let status = head.status.as_u16();
        let good = if self.expect.is_empty() {
            head.status.is_success()
        } else {
            self.expect.contains(&status)
        };
        if good {
            Ok(())
        } else {
            Err(format!("status {status}"))
        }
    }
}

fn probe(pool: &Pool, settings: &Health, endpoint: &Arc<Endpoint>, clock: Clock) -> Probe {
    let Some(path) = &settings.path else {
        let mut probe = TcpHealthCheck::new();
        probe.peer_template.options.connection_timeout = Some(settings.timeout);
        return Probe::Connect(probe);
    };
    let upstream = pool.settings();
    let sni = upstream.tls.as_ref().map(|tls| tls.sni.as_str());
    let host = upstream.host.as_deref().or(sni);
    let label = upstream
        .endpoints
        .first()
        .map(|endpoint| match &endpoint.address {
            // A path names no host.
            EndpointAddress::Fixed(Address::Unix(_)) => "localhost".to_owned(),
            // The dot at the end of a whole name is for resolvers alone.
            EndpointAddress::Named(host, port) => format!("{}:{port}", host.trim_end_matches('.')),
            address => address.to_string(),
        })
        .unwrap_or_default();
    let mut peer = pool.peer_template();
    peer.options.connection_timeout = Some(settings.timeout);
    peer.options.read_timeout = Some(settings.timeout);
    let Some(head) = question(upstream, path, host.unwrap_or(&label)) else {
        // The configuration is checked: a path and a host make a head.
        let mut probe = TcpHealthCheck::new();
        probe.peer_template.options.connection_timeout = Some(settings.timeout);
        return Probe::Connect(probe);
    };
    Probe::Ask(Box::new(Question {
        peer,
        connector: Connector::new(None),
        head,
        expect: settings.expect.clone(),
        load_header: pool.load_header().cloned(),
        endpoint: Arc::clone(endpoint),
        clock,
    }))
}

/// The request of a check.
fn question(upstream: &Upstream, path: &str, host: &str) -> Option<RequestHeader> {
    let agent = concat!("tollgate/", env!("CARGO_PKG_VERSION"), " health-check");
    if upstream.http2 {
        let scheme = if upstream.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let request = http::Request::builder()
            .version(http::Version::HTTP_2)
            .uri(format!("{scheme}://{host}{path}"))
            .header("user-agent", agent)
            .body(())
            .ok()?;
        return Some(request.into_parts().0.into());
    }
    let mut head = RequestHeader::build("GET", path.as_bytes(), Some(2)).ok()?;
    head.insert_header("Host", host).ok()?;
    head.insert_header("User-Agent", agent).ok()?;
    Some(head)
}

/// Up to a tenth more or less, so that checks of many gateways do not fall together.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::random_range(0.9..1.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_after_fall_and_comes_back_after_rise() {
        let settings = Health {
            path: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            expect: Vec::new(),
        };
        let mut standing = Standing::default();
        let mut healthy = true;
        let mut feed = |good| {
            healthy = standing.add(good, healthy, &settings);
            healthy
        };
        assert_eq!(
            [false, false, true, false, false, false].map(&mut feed),
            [true, true, true, true, true, false]
        );
        assert_eq!(
            [true, false, true, true].map(&mut feed),
            [false, false, false, true]
        );
    }
}
