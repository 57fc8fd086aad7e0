//! Finding a route, with 10 routes and with 10 000.
//!
//! `hot` asks for the same ten paths over and over, `spread` for every route of the table, far apart, so that its larger
//! part is memory.

use std::hint::black_box;

use criterion::Criterion;
use http::{HeaderMap, Method};
use tollgate::route::{Asked, RouteTable};

use super::request::{configuration, far_apart};
use tollgate::config::Scheme;

pub(crate) fn bench(criterion: &mut Criterion) {
    let (few, many) = (table(10), table(10_000));
    let hot: Vec<String> = (0..10).map(path).collect();
    let spread: Vec<String> = (0..10_000).map(|i| path(far_apart(i, 10_000))).collect();
    let mut group = criterion.benchmark_group("route_match");
    for (name, table, paths) in [
        ("10 routes, hot", &few, &hot),
        ("10000 routes, hot", &many, &hot),
        ("10000 routes, spread", &many, &spread),
    ] {
        let headers = HeaderMap::new();
        let mut paths = paths.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let asked = Asked {
                    method: &Method::GET,
                    host: "api.example.com",
                    path: paths.next().map_or("", String::as_str),
                    scheme: Scheme::Https,
                    query: None,
                    headers: &headers,
                };
                assert!(table.find(black_box(&asked)).is_ok());
            });
        });
    }
    group.finish();
}

fn path(i: u64) -> String {
    format!("/svc/s{i}/items/42")
}

/// Routes as gateways have them: below one prefix, told apart by the second segment.
pub(crate) fn routes(count: u32) -> String {
    let one = |i| {
        format!(
            "[[route]]\nid = \"r{i}\"\npath = \"/svc/s{i}/items/{{id}}\"\nrespond = {{ status = 204 }}\n"
        )
    };
    (0..count).map(one).collect()
}

fn table(count: u32) -> RouteTable {
    RouteTable::new(configuration(&routes(count)).routes)
}
