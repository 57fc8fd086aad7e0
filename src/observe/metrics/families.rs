//! Every metric family on one page: name, kind, help and labels. Labels are configured names and enums, never
//! anything a client sent.

use std::sync::atomic::Ordering;

use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

use super::Metrics;
use crate::config::Class;
use crate::observe::BreakerStats;
use crate::observe::family::{Family, counter, gauge, histogram, labels, observed};
use crate::observe::overload::ShedCause;
use crate::observe::stats::TurnedAway;

impl Metrics {
    /// All families in the text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(
            self.collect()
                .into_iter()
                .filter(|family| !family.get_metric().is_empty()),
        );
        TextEncoder::new().encode_to_string(&families)
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.route_families();
        families.extend(self.upstream_families());
        families.extend(self.endpoint_families());
        families.extend(self.breaker_families());
        families.extend(self.other_families());
        families.extend(self.rollouts.families());
        families.extend(self.overload_families());
        families.push(self.internal.family());
        families
    }

    fn route_families(&self) -> Vec<MetricFamily> {
        let mut seconds = histogram(
            "gateway_requests_seconds",
            "Time from the request's head to the end of its answer",
        );
        let mut by_route = counter(
            "gateway_requests_by_route_total",
            "Answers by route and exact status",
        );
        let mut in_flight = gauge("gateway_requests_in_flight", "Requests being served");
        let mut refused = counter("gateway_refused_total", "Requests refused, by reason");
        for (route, stats) in self.each_route() {
            for (method, class, latency) in stats.latencies() {
                let status = ["1xx", "2xx", "3xx", "4xx", "5xx"][class - 1];
                seconds.push(
                    labels(&[("route", &route), ("method", method), ("status", status)]),
                    observed(latency),
                );
            }
            for (status, count) in stats.statuses.seen() {
                by_route.push(
                    labels(&[("routeId", &route), ("status", &status.to_string())]),
                    count as f64,
                );
            }
            in_flight.push(labels(&[("route", &route)]), stats.in_flight.value() as f64);
            for (reason, count) in stats.refusals() {
                refused.push(
                    labels(&[("route", &route), ("reason", reason.code())]),
                    count as f64,
                );
            }
        }
        vec![
            seconds.done(),
            by_route.done(),
            in_flight.done(),
            refused.done(),
        ]
    }

    fn upstream_families(&self) -> Vec<MetricFamily> {
        let mut seconds = histogram(
            "gateway_upstream_seconds",
            "Time from sending a try to the head of its answer",
        );
        let mut retries = counter(
            "gateway_upstream_retries_total",
            "Repeated tries, by what caused them",
        );
        let mut sticky = counter(
            "gateway_sticky_requests_total",
            "Requests of upstreams whose clients stay with their endpoint, by what their cookie said",
        );
        let mut hedges = counter(
            "gateway_upstream_hedges_total",
            "Second tries beside the first, by what became of them",
        );
        for (upstream, stats) in self.upstreams.lock().known() {
            for (result, count) in stats.stickiness().filter(|(_, count)| *count > 0) {
                sticky.push(
                    labels(&[("upstream", upstream.as_str()), ("result", result)]),
                    count as f64,
                );
            }
            seconds.push(
                labels(&[("upstream", upstream.as_str())]),
                observed(&stats.latency),
            );
            for (cause, count) in stats.retries() {
                retries.push(
                    labels(&[("upstream", upstream.as_str()), ("cause", cause)]),
                    count as f64,
                );
            }
        }
        for (upstream, stats) in self.upstreams.lock().known() {
            for (outcome, count) in stats.hedges.seen() {
                let place = [("upstream", upstream.as_str()), ("outcome", outcome)];
                hedges.push(labels(&place), count as f64);
            }
        }
        vec![seconds.done(), retries.done(), sticky.done(), hedges.done()]
    }

    fn endpoint_families(&self) -> Vec<MetricFamily> {
        let mut requests = counter(
            "http_client_requests_total",
            "Tries sent to endpoints, by exact status or error",
        );
        let mut healthy = gauge(
            "gateway_endpoint_healthy",
            "Whether requests are sent to the endpoint",
        );
        let mut weight = gauge(
            "gateway_endpoint_weight",
            "The endpoint's weight now: as configured, less what the score and a slow start take from it",
        );
        let mut ejections = counter(
            "gateway_endpoint_ejections_total",
            "How often the endpoint was put aside, by cause",
        );
        for ((upstream, endpoint), counts) in self.endpoints.lock().known() {
            let place = [("upstream", upstream.as_str()), ("endpoint", &**endpoint)];
            let errors = counts.stats.errors.value();
            let statuses = counts
                .stats
                .statuses
                .seen()
                .map(|(status, count)| (status.to_string(), count));
            let errors = (errors > 0).then(|| ("error".to_owned(), errors));
            for (status, count) in statuses.chain(errors) {
                requests.push(
                    labels(&[place[0], place[1], ("status", &status)]),
                    count as f64,
                );
            }
            healthy.push(
                labels(&place),
                f64::from(u8::from(counts.healthy.load(Ordering::Relaxed))),
            );
            weight.push(
                labels(&place),
                f64::from_bits(counts.weight.load(Ordering::Relaxed)),
            );
            for (cause, count) in counts.stats.ejections().filter(|(_, count)| *count > 0) {
                ejections.push(
                    labels(&[place[0], place[1], ("cause", cause)]),
                    count as f64,
                );
            }
        }
        vec![
            requests.done(),
            healthy.done(),
            weight.done(),
            ejections.done(),
        ]
    }

    fn overload_families(&self) -> Vec<MetricFamily> {
        let mut limit = gauge(
            "gateway_upstream_concurrency_limit",
            "Requests that the upstream may get at once",
        );
        let mut in_flight = gauge(
            "gateway_upstream_concurrency_in_flight",
            "Requests that hold a place at the upstream",
        );
        let mut queued = gauge(
            "gateway_upstream_queued",
            "Requests that wait for a place at the upstream",
        );
        let mut shed = counter(
            "gateway_shed_total",
            "Requests refused as too much, by class and cause; without an upstream, by the gateway as a whole",
        );
        let mut count = |upstream: &str, class: Class, cause: ShedCause, n: u64| {
            let (class, cause) = (("class", class.as_str()), ("cause", cause.label()));
            shed.push(labels(&[("upstream", upstream), class, cause]), n as f64);
        };
        for (upstream, stats) in self.concurrency.lock().known() {
            let place = [("upstream", upstream.as_str())];
            for (family, value) in [&mut limit, &mut in_flight, &mut queued]
                .into_iter()
                .zip(stats.now())
            {
                family.push(labels(&place), f64::from(value));
            }
            for (class, cause, n) in stats.shed.seen() {
                count(upstream.as_str(), class, cause, n);
            }
        }
        for (class, cause, n) in self.overload.shed.seen() {
            count("", class, cause, n);
        }
        let mut level = gauge(
            "gateway_overload_level",
            "What is refused at present: 0 nothing, 1 sheddable, 2 normal as well, 3 critical as well",
        );
        level.push(
            labels(&[]),
            f64::from(self.overload.level.load(Ordering::Relaxed)),
        );
        let mut lag = gauge(
            "gateway_overload_lag_seconds",
            "By how much workers were late of late; 0 while nobody asks for it",
        );
        let nanos = self.overload.lag.load(Ordering::Relaxed);
        lag.push(labels(&[]), nanos as f64 / 1e9);
        vec![
            limit.done(),
            in_flight.done(),
            queued.done(),
            shed.done(),
            level.done(),
            lag.done(),
        ]
    }

    fn breaker_families(&self) -> [MetricFamily; 4] {
        let mut of_upstream = breaker_pair("breaker", "of the upstream");
        for (upstream, stats) in self.upstreams.lock().known() {
            show_breaker(
                &mut of_upstream,
                ("upstream", upstream.as_str()),
                &stats.breaker,
            );
        }
        let mut of_route = breaker_pair("route_breaker", "of the route");
        for (route, stats) in self.routes.lock().known() {
            show_breaker(&mut of_route, ("route", route.as_str()), &stats.breaker);
        }
        let ([a, b], [c, d]) = (of_upstream, of_route);
        [a, b, c, d].map(Family::done)
    }

    fn other_families(&self) -> Vec<MetricFamily> {
        let mut decisions = counter("gateway_limit_decisions_total", "What limits decided");
        for (limit, stats) in self.limits.lock().known() {
            let counts = [
                ("allowed", &stats.allowed),
                ("delayed", &stats.delayed),
                ("refused", &stats.refused),
                ("skipped", &stats.skipped),
                ("returned", &stats.returned),
                ("would_refuse", &stats.would_refuse),
                ("would_delay", &stats.would_delay),
            ];
            for (outcome, count) in counts {
                decisions.push(
                    labels(&[("limit", limit.as_str()), ("outcome", outcome)]),
                    count.value() as f64,
                );
            }
        }
        let mut connections = gauge("gateway_connections_active", "Connections open now");
        let mut turned_away = counter(
            "gateway_connections_refused_total",
            "Connections closed before they were served, by reason",
        );
        let mut certificates = gauge(
            "gateway_tls_cert_not_after_seconds",
            "End of validity of each certificate, seconds since 1970",
        );
        for (listener, stats) in self.listeners.lock().iter() {
            let listener = listener.as_str();
            connections.push(
                labels(&[("listener", listener)]),
                stats.connections.value() as f64,
            );
            for (why, reason) in TurnedAway::ALL {
                turned_away.push(
                    labels(&[("listener", listener), ("reason", reason)]),
                    stats.turned_away[why as usize].value() as f64,
                );
            }
            for (name, not_after) in stats.certificates.lock().iter() {
                certificates.push(
                    labels(&[("listener", listener), ("name", name)]),
                    *not_after as f64,
                );
            }
        }
        let mut dropped = counter(
            "gateway_log_dropped_total",
            "Log lines dropped because a queue was full",
        );
        for (sink, count) in [
            ("access", &self.dropped_access),
            ("messages", &self.dropped_messages),
        ] {
            dropped.push(labels(&[("sink", sink)]), count.value() as f64);
        }
        vec![
            decisions.done(),
            connections.done(),
            turned_away.done(),
            certificates.done(),
            dropped.done(),
        ]
    }
}

/// State and changes of breakers.
fn breaker_pair(name: &str, whose: &str) -> [Family<f64>; 2] {
    let (state, turns) = (
        format!("gateway_{name}_state"),
        format!("gateway_{name}_transitions_total"),
    );
    [
        gauge(
            &state,
            &format!("Circuit breaker {whose}: 0 closed, 1 half-open, 2 open"),
        ),
        counter(
            &turns,
            &format!("Changes of the circuit breaker {whose}, by the state it went to"),
        ),
    ]
}

fn show_breaker([state, turns]: &mut [Family<f64>; 2], place: (&str, &str), stats: &BreakerStats) {
    let Some((value, changes)) = stats.seen() else {
        return;
    };
    state.push(labels(&[place]), value.into());
    for (to, count) in changes {
        turns.push(labels(&[place, ("to", to)]), count as f64);
    }
}
