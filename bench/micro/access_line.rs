//! Writing one line of the access log.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use http::{HeaderValue, Method, Uri, Version};
use tollgate::observe::{Record, Timestamp};
use tollgate::primitives::trace::TraceId;

use super::request::NOW;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access_line");
    let mask = ["token".to_owned(), "password".to_owned()];
    for (name, target) in [
        ("JSON", "/v1/orders/42"),
        ("JSON, query", "/v1/orders?status=open&page=2&size=50"),
        ("JSON, masked", "/v1/orders?status=open&token=abcdef"),
    ] {
        let target: Uri = target.parse().expect("a target");
        let (trace_id, agent) = (
            TraceId::parse(b"4bf92f3577b34da6a3ce929d0e0e4736").expect("an id"),
            HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101"),
        );
        let (mut timestamp, mut out) = (Timestamp::default(), Vec::new());
        let mut at = Duration::from_secs(NOW);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                at += Duration::from_micros(30);
                out.clear();
                timestamp.set(at);
                record(at, &trace_id, &target, &agent).write_json(&timestamp, &mask, &mut out);
                black_box(&out);
            });
        });
    }
    group.finish();
}

fn record<'r>(
    at: Duration,
    trace_id: &'r TraceId,
    target: &'r Uri,
    agent: &'r HeaderValue,
) -> Record<'r> {
    Record {
        at,
        trace_id,
        route: Some("orders"),
        method: &Method::GET,
        target,
        status: 200,
        took: Duration::from_micros(1234),
        upstream: Some("orders"),
        endpoint: Some("10.0.0.1:8080"),
        upstream_took: Some(Duration::from_micros(987)),
        attempts: 1,
        tries: &[],
        client_ip: [192, 0, 2, 1].into(),
        consumer: Some("user-1"),
        consumer_auth: Some("app"),
        bytes_in: 0,
        bytes_out: 128,
        version: Version::HTTP_11,
        user_agent: Some(agent),
        referer: None,
        reason: None,
        cause: None,
        fallback: None,
        tunnel_end: None,
    }
}
