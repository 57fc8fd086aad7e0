//! What finding a route costs, with 10 routes and with 10 000.
//!
//! Prints nanoseconds a look-up, the least of many batches: `hot` asks for the same ten paths over and over, `spread`
//! walks over every route of the table in an order no prefetcher guesses, so that its larger part is memory.

use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use http::{HeaderMap, Method};
use tollgate::config::{self, Source};
use tollgate::route::{Asked, RouteTable};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCHES: usize = 200;
const LOOKUPS: usize = 20_000;

fn main() -> anyhow::Result<()> {
    let (few, many) = (table(10), table(10_000));
    let hot: Vec<String> = (0..10).map(path).collect();
    // 7919 has no factor in common with 10 000: every route once, far apart.
    let spread: Vec<String> = (0..10_000).map(|i| path(i * 7919 % 10_000)).collect();
    let mut least = [f64::MAX; 3];
    for _ in 0..BATCHES {
        for (least, (table, paths)) in
            least
                .iter_mut()
                .zip([(&few, &hot), (&many, &hot), (&many, &spread)])
        {
            *least = least.min(batch(table, paths));
        }
    }
    let [few, many, spread] = least;
    let mut out = std::io::stdout().lock();
    writeln!(out, "   10 routes, hot     {few:6.1} ns")?;
    writeln!(
        out,
        "10000 routes, hot     {many:6.1} ns   ratio {:.3}",
        many / few
    )?;
    writeln!(
        out,
        "10000 routes, spread  {spread:6.1} ns   ratio {:.3}",
        spread / few
    )?;
    Ok(())
}

fn path(i: usize) -> String {
    format!("/svc/s{i}/items/42")
}

fn table(routes: usize) -> RouteTable {
    let mut text = "[[listener]]\naddress = \"127.0.0.1:8080\"\n".to_owned();
    for i in 0..routes {
        text += &format!(
            "[[route]]\nid = \"r{i}\"\npath = \"/svc/s{i}/items/{{id}}\"\nrespond = {{ status = 204 }}\n"
        );
    }
    let source = Source {
        file: "bench.toml".into(),
        text: text.into(),
    };
    let config = config::load(&[source], &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    RouteTable::new(config.routes)
}

/// Nanoseconds a look-up.
fn batch(table: &RouteTable, paths: &[String]) -> f64 {
    let headers = HeaderMap::new();
    let begun = Instant::now();
    for path in paths.iter().cycle().take(LOOKUPS) {
        let asked = Asked {
            method: &Method::GET,
            host: "api.example.com",
            path,
            query: None,
            headers: &headers,
        };
        let found = table.find(black_box(&asked));
        assert!(black_box(found).is_ok());
    }
    begun.elapsed().as_nanos() as f64 / LOOKUPS as f64
}
