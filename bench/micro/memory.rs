//! What it takes to remember one more of each thing: `cargo bench --bench micro -- memory` prints the table.
//!
//! Resident memory of a process that holds many of a thing, less what it held before, by their number; each kind in a
//! process of its own, so that none finds room that another gave back. What the allocator keeps for later is in it.

use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pingora::http::RequestHeader;
use tollgate::auth::AuthFacts;
use tollgate::config::{self, Source};
use tollgate::filter::{RequestFilter, Ticket};
use tollgate::gateway::{Material, Snapshot, State};
use tollgate::observe::Metrics;
use tollgate::primitives::secret::{Secret, SecretSource};
use tollgate::primitives::{AuthName, RouteName};

use super::request::{MILLION, context, head};
use super::{balancer, limits, tokens};

const START: u64 = 1_000_000_000;

/// One kind of thing: its name, how many are made, and what makes and then holds them.
struct Kind {
    name: &'static str,
    count: u32,
    make: fn(u32) -> Box<dyn std::any::Any>,
}

const KINDS: [Kind; 8] = [
    kind("route to an upstream", 10_000, routes),
    kind("endpoint of an upstream", 10_000, |count| {
        Box::new(balancer::pool(count))
    }),
    kind("remembered token of 230 bytes", MILLION, remembered_tokens),
    kind("limit key, token_bucket", MILLION, |count| {
        limit_keys(
            "token_bucket",
            "rate = \"1/m\"\nburst = 9\ncapacity = 1000000",
            count,
        )
    }),
    kind("limit key, leaky_bucket", MILLION, |count| {
        limit_keys(
            "leaky_bucket",
            "rate = \"1/m\"\nburst = 9\ncapacity = 1000000",
            count,
        )
    }),
    kind("limit key in flight, concurrency", MILLION, |count| {
        limit_keys("concurrency", "max = 9\ncapacity = 1000000", count)
    }),
    kind("limit key, estimator", MILLION, |count| {
        limit_keys("estimator", "rate = \"9/s\"", count)
    }),
    kind("nonce", MILLION, nonces),
];

const fn kind(name: &'static str, count: u32, make: fn(u32) -> Box<dyn std::any::Any>) -> Kind {
    Kind { name, count, make }
}

/// Prints the whole table, or with the number of a kind its row.
pub(crate) fn table(kind: Option<&str>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if let Some(kind) = kind.and_then(|kind| KINDS.get(kind.parse::<usize>().ok()?)) {
        // A few first: what is taken once, and what the making leaves behind, is not counted.
        let few = (kind.make)(100);
        let before = resident();
        let kept = (kind.make)(kind.count);
        let bytes = resident().saturating_sub(before) as f64;
        black_box((&*few, &*kept));
        return writeln!(
            out,
            "| {} | {} | {:.1} MiB | {:.1} |",
            kind.name,
            kind.count,
            bytes / f64::from(1 << 20),
            bytes / f64::from(kind.count)
        );
    }
    writeln!(
        out,
        "| One more | Made | Memory | Bytes each |\n|---|---|---|---|"
    )?;
    drop(out);
    for kind in 0..KINDS.len() {
        Command::new(std::env::current_exe()?)
            .args(["memory", &kind.to_string()])
            .status()?;
    }
    Ok(())
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

/// A snapshot in which this many routes lead to one upstream, as it is after a start.
fn routes(count: u32) -> Box<dyn std::any::Any> {
    let mut text = "[[listener]]\naddress = \"127.0.0.1:8080\"\n\
        [upstream.u]\nendpoints = [{ address = \"127.0.0.1:9000\" }]\n"
        .to_owned();
    for i in 0..count {
        text += &format!(
            "[[route]]\nid = \"r{i}\"\npath = \"/svc/s{i}/items/{{id}}\"\nupstream = \"u\"\n"
        );
    }
    let sources = vec![Source {
        file: "memory.toml".into(),
        text: text.into(),
    }];
    let config =
        config::load(&sources, &|_| Ok(None)).unwrap_or_else(|problems| panic!("{problems}"));
    let metrics = Arc::new(Metrics::new("0", "0").expect("metrics"));
    let state = State::new(metrics, None);
    let snapshot = Snapshot::build(config, sources, &state, &[], &Nothing)
        .unwrap_or_else(|problems| panic!("{problems}"));
    Box::new((state, snapshot))
}

/// A configuration that points to nothing outside itself.
struct Nothing;

impl Material for Nothing {
    fn secret(&self, _: &SecretSource) -> Result<Secret, String> {
        Err("none here".into())
    }

    fn file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Err("none here".into())
    }
}

fn remembered_tokens(count: u32) -> Box<dyn std::any::Any> {
    let filter = tokens::remembering(count);
    let route = RouteName::new("r");
    for number in 0..count {
        let head = tokens::request(number);
        filter.check(&mut context(&head, "/", &route, 1, 1));
    }
    Box::new(filter)
}

/// A limit with this many keys; what they hold while in flight is held.
fn limit_keys(algorithm: &str, rule: &str, count: u32) -> Box<dyn std::any::Any> {
    let filter = limits::filter(algorithm, rule);
    let (head, route): (RequestHeader, _) = (head("/", &[]), RouteName::new("r"));
    let mut tickets: Vec<Ticket> = Vec::with_capacity(count as usize);
    for client in 0..count {
        let mut context = context(&head, "/", &route, client, START);
        filter.check(&mut context);
        tickets.extend(context.tickets.drain(..));
    }
    Box::new((filter, tickets))
}

fn nonces(count: u32) -> Box<dyn std::any::Any> {
    let facts = AuthFacts::new(0);
    // Keys are digests, so any number spread as widely does.
    let spread = |i: u32| u128::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    for piece in (0..count).collect::<Vec<_>>().chunks(1000) {
        let entries: Vec<_> = (piece.iter())
            .map(|i| (spread(*i), Duration::from_secs(600)))
            .collect();
        facts.import_nonces(&AuthName::new("partner"), &entries, START);
    }
    Box::new(facts)
}
