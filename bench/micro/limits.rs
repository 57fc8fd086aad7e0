//! Deciding a limit: one key, two workers at once, and a table of a million keys.
//!
//! `2 threads, one key` is the worst there is: both ask for the same counter all the time. `2 threads` with keys of
//! their own is what two workers do. The rate is one that admits every request but where it says `refused`.

use std::cell::OnceCell;
use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use criterion::measurement::WallTime;
use tollgate::filter::{RequestFilter, Verdict};
use tollgate::limit::{self, LimitFacts};
use tollgate::primitives::RouteName;

use super::request::{MILLION, configuration, context, far_apart, head};
use super::together::together;

type Group<'g> = criterion::BenchmarkGroup<'g, WallTime>;

/// Nanoseconds between two requests.
const GAP: u64 = 1000;
const START: u64 = 1_000_000_000;

pub(crate) fn bench(criterion: &mut Criterion) {
    for (name, rule) in [
        ("estimator", "rate = \"1000000000/s\""),
        (
            "token_bucket",
            "rate = \"1000000000/s\"\nburst = 1000000\ncapacity = 1000000",
        ),
        (
            "leaky_bucket",
            "rate = \"1000000000/s\"\ncapacity = 1000000",
        ),
        ("concurrency", "max = 1000000\ncapacity = 1000000"),
    ] {
        let mut group = criterion.benchmark_group(format!("limits/{name}"));
        known_key(&mut group, &|| filter(name, rule));
        contended(&mut group, &|| filter(name, rule));
        if name.ends_with("bucket") {
            million_keys(&mut group, name);
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("limits/token_bucket");
    refused(&mut group);
    group.finish();
}

/// The filter of one limit by address.
pub(crate) fn filter(algorithm: &str, rule: &str) -> Arc<dyn RequestFilter> {
    let text = format!("[limit.one]\nkey = \"client_ip\"\nalgorithm = \"{algorithm}\"\n{rule}\n");
    let config = configuration(&text);
    let limit = config.limits.values().next().expect("one limit");
    limit::build(limit, Arc::default(), &LimitFacts::new())
}

/// One request of `client`: whether it passes.
fn ask(filter: &dyn RequestFilter, asking: &Asking, client: u32, now: u64) -> bool {
    let mut context = context(&asking.head, "/", &asking.route, client, now);
    matches!(filter.check(black_box(&mut context)), Verdict::Continue)
}

/// What all requests share.
struct Asking {
    head: pingora::http::RequestHeader,
    route: RouteName,
}

impl Asking {
    fn new() -> Self {
        Self {
            head: head("/", &[]),
            route: RouteName::new("r"),
        }
    }
}

fn known_key(group: &mut Group<'_>, filter: &dyn Fn() -> Arc<dyn RequestFilter>) {
    let (filter, asking) = (filter(), Asking::new());
    let mut now = START;
    group.bench_function("known key", |bencher| {
        bencher.iter(|| {
            now += GAP;
            assert!(ask(&*filter, &asking, 1, now));
        });
    });
}

fn contended(group: &mut Group<'_>, filter: &dyn Fn() -> Arc<dyn RequestFilter>) {
    let (filter, asking) = (filter(), Asking::new());
    for (name, threads, keys) in [
        ("1 thread, 1024 keys", 1, 1024),
        ("2 threads, 1024 keys", 2, 1024),
        ("1 thread, one key", 1, 1),
        ("2 threads, one key", 2, 1),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                together(threads, times, |thread, i| {
                    // The second thread starts half a walk ahead, so that they meet by chance only.
                    let client = (i + thread * keys / 2) % keys;
                    // Each sample begins with the same time again, so that a bucket may be empty at last.
                    black_box(ask(&*filter, &asking, client as u32, START + i * GAP));
                })
            });
        });
    }
}

/// A table that is full of keys, none of them idle. Three of four requests wait for memory.
fn million_keys(group: &mut Group<'_>, name: &str) {
    let full = OnceCell::new();
    let asking = Asking::new();
    let fill = || {
        // A bucket that takes a day to fill again: no key is idle.
        let rule = match name {
            "leaky_bucket" => {
                "rate = \"1/m\"\nburst = 100000\nmax_delay = \"30d\"\ncapacity = 1000000"
            }
            _ => "rate = \"1/m\"\nburst = 100000\ncapacity = 1000000",
        };
        let filter = filter(name, rule);
        (0..MILLION).for_each(|client| {
            ask(&*filter, &asking, client, START);
        });
        filter
    };
    let mut i = 0;
    group.bench_function("a million keys, known", |bencher| {
        let filter = full.get_or_init(fill);
        bencher.iter(|| {
            i += 1;
            let client = far_apart(i, u64::from(MILLION)) as u32;
            ask(&**filter, &asking, client, START)
        });
    });
    let mut client = MILLION;
    group.bench_function("a million keys, new: one goes", |bencher| {
        let filter = full.get_or_init(fill);
        bencher.iter(|| {
            client = client.wrapping_add(1);
            ask(&**filter, &asking, client, START)
        });
    });
}

fn refused(group: &mut Group<'_>) {
    let (filter, asking) = (
        filter("token_bucket", "rate = \"1/d\"\nburst = 1"),
        Asking::new(),
    );
    ask(&*filter, &asking, 1, START);
    group.bench_function("refused", |bencher| {
        bencher.iter(|| assert!(!ask(&*filter, &asking, 1, START)));
    });
}
