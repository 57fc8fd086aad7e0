//! Picking an endpoint: smooth weighted round robin over 2, 100 and 10 000 of them.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use tollgate::observe::Metrics;
use tollgate::upstream::{EndpointFacts, PeerTemplate, Pool};

use super::request::configuration;
use super::together::together;

const START: u64 = 1_000_000_000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("balancer");
    for count in [2, 100, 10_000] {
        let pool = pool(count);
        let pick = || assert!(pool.pick(black_box(START), &[]).is_some());
        group.bench_function(format!("{count} endpoints"), |bencher| bencher.iter(pick));
    }
    let pool = pool(2);
    let pick = |_, _| assert!(pool.pick(black_box(START), &[]).is_some());
    group.bench_function("2 endpoints, 2 threads", |bencher| {
        bencher.iter_custom(|times| together(2, times, pick));
    });
    group.finish();
}

/// An upstream of `count` endpoints with weights 1, 2 and 3.
pub(crate) fn pool(count: u32) -> Pool {
    let one = |i: u32| {
        let [_, a, b, c] = i.to_be_bytes();
        format!(
            "{{ address = \"10.{a}.{b}.{c}:80\", weight = {} }}",
            1 + i % 3
        )
    };
    let endpoints: Vec<String> = (0..count).map(one).collect();
    let text = format!("[upstream.u]\nendpoints = [{}]\n", endpoints.join(", "));
    let config = configuration(&text);
    let settings = config
        .upstreams
        .values()
        .next()
        .expect("one upstream")
        .clone();
    let peers = PeerTemplate::new(&settings, &|_| Err("no files".into())).expect("no TLS");
    let facts = Arc::new(EndpointFacts::new(Arc::new(
        Metrics::new("0", "0").expect("metrics"),
    )));
    Pool::new(settings, peers, facts, Arc::default(), START)
}
