//! Large numbers: bounds hold, memory stays where the figures of `bench/CAPACITY.md` say, and a look-up costs the same.
//! A target of its own, since the counting allocator serves the whole program. What cannot be reached from outside a room
//! (tokens, nonces, probes of a table) is counted in that room's own tests.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use allocation_counter::{AllocationInfo, measure};
use pingora::http::RequestHeader;
use tollgate::config::{self, Config, Source};
use tollgate::filter::{FilterContext, Moment, RequestFilter, RequestView};
use tollgate::gateway::{Material, Snapshot, State};
use tollgate::limit::{self, LimitFacts};
use tollgate::observe::Metrics;
use tollgate::primitives::RouteName;
use tollgate::primitives::secret::{Secret, SecretSource};
use tollgate::upstream::{EndpointFacts, PeerTemplate, Pool};

const START: u64 = 1_000_000_000;
const MILLION: u32 = 1_000_000;

fn source(text: &str) -> Source {
    Source {
        file: "t.toml".into(),
        text: format!("[[listener]]\naddress = \"127.0.0.1:8080\"\n{text}").into(),
    }
}

fn configuration(text: &str) -> Config {
    config::load(&[source(text)], &|_| Ok(None)).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What stays in memory of what `act` takes, per each of `count`.
fn bytes_each(info: &AllocationInfo, count: u32) -> f64 {
    info.bytes_current as f64 / f64::from(count)
}

/// A limit by address, and the way to ask it.
struct Limited {
    filter: Arc<dyn RequestFilter>,
    head: RequestHeader,
    route: RouteName,
}

impl Limited {
    fn by(algorithm: &str, rule: &str) -> Self {
        let text =
            format!("[limit.one]\nkey = \"client_ip\"\nalgorithm = \"{algorithm}\"\n{rule}\n");
        let config = configuration(&text);
        let limit = config.limits.values().next().expect("one limit");
        Self {
            filter: limit::build(limit, Arc::default(), &LimitFacts::new()),
            head: RequestHeader::build("GET", b"/", None).expect("head"),
            route: RouteName::new("r"),
        }
    }

    /// What is left for this client once it has asked.
    fn ask(&self, client: u32, dry_run: bool) -> Option<u64> {
        let request = RequestView {
            client_ip: IpAddr::V4(Ipv4Addr::from(client)),
            ..RequestView::bare(&self.head, "/", &self.route)
        };
        let moment = Moment {
            now: START,
            unix_time: 1_800_000_000,
        };
        let mut context = FilterContext {
            dry_run,
            ..FilterContext::new(request, moment)
        };
        self.filter.check(&mut context);
        context.quota.map(|quota| quota.remaining)
    }
}

#[test]
fn a_million_keys_do_not_make_an_exact_limit_grow_beyond_its_capacity() {
    const CAPACITY: u32 = 200_000;
    let limited = Limited::by(
        "token_bucket",
        &format!("rate = \"1/d\"\nburst = 9\ncapacity = {CAPACITY}"),
    );
    let filling = measure(|| {
        for client in 0..CAPACITY {
            limited.ask(client, false);
        }
    });
    let each = bytes_each(&filling, CAPACITY);
    assert!((16.0..=43.0).contains(&each), "{each:.1} bytes a key");
    let remembered = |clients: std::ops::Range<u32>| {
        // Looking at a key that was counted shows one less than a look at a new one.
        let known = clients.filter(|client| limited.ask(*client, true) == Some(7));
        known.count()
    };
    assert!(remembered(0..CAPACITY) > CAPACITY as usize * 99 / 100);
    let flood = measure(|| {
        for client in CAPACITY..MILLION {
            limited.ask(client, false);
        }
    });
    // What counts is that it ends: shards grow to their last size a little apart.
    let grown = filling.bytes_current + flood.bytes_current;
    let most = i64::from(CAPACITY) * 43;
    assert!(grown <= most, "{grown} bytes, {most} at most");
    let kept = remembered(0..MILLION);
    assert!(kept <= CAPACITY as usize + 256, "{kept} keys");
    let again = measure(|| {
        for client in MILLION..MILLION + 100_000 {
            limited.ask(client, false);
        }
    });
    assert!(
        again.bytes_current <= most / 20,
        "still growing: {} bytes",
        again.bytes_current
    );
}

#[test]
fn a_million_keys_take_no_memory_in_an_estimator() {
    let limited = Limited::by("estimator", "rate = \"9/s\"");
    let asking = measure(|| {
        for client in 0..MILLION {
            limited.ask(client, false);
        }
    });
    assert_eq!((asking.count_total, asking.bytes_current), (0, 0));
}

fn endpoints(count: u32) -> Pool {
    let one = |i: u32| {
        let [_, a, b, c] = i.to_be_bytes();
        format!(
            "{{ address = \"10.{a}.{b}.{c}:80\", weight = {} }}",
            1 + i % 3
        )
    };
    let endpoints: Vec<String> = (0..count).map(one).collect();
    let config = configuration(&format!(
        "[upstream.u]\nendpoints = [{}]\n",
        endpoints.join(", ")
    ));
    let settings = config.upstreams.values().next().expect("one").clone();
    let peers = PeerTemplate::new(&settings, &|_| Err("no files".into())).expect("no TLS");
    let metrics = Arc::new(Metrics::new("0", "0").expect("metrics"));
    let facts = Arc::new(EndpointFacts::new(metrics));
    Pool::new(settings, peers, facts, Arc::default(), START)
}

#[test]
fn ten_thousand_endpoints_are_picked_from_as_two_are() {
    let (few, many) = (endpoints(2), endpoints(10_000));
    let pick = |pool: &Pool| {
        let info = measure(|| drop(pool.pick(START, &[]).expect("an endpoint")));
        (info.count_total, info.bytes_total)
    };
    // A first pick may have something to set up.
    let _warm = (pick(&few), pick(&many));
    assert_eq!(pick(&few), pick(&many));
    let period: u32 = (0..10_000).map(|i| 1 + i % 3).sum();
    let begun = std::time::Instant::now();
    let mut picked = std::collections::HashMap::new();
    for _ in 0..period {
        let endpoint = many.pick(START, &[]).expect("an endpoint");
        *picked.entry(endpoint.address.clone()).or_insert(0u32) += 1;
    }
    assert_eq!(picked.len(), 10_000);
    for (address, times) in picked {
        let IpAddr::V4(ip) = address.inet().unwrap().ip() else {
            panic!("{address}")
        };
        let weight = 1 + (u32::from(ip) & 0x00ff_ffff) % 3;
        assert_eq!(times, weight, "{address}");
    }
    // 20 000 picks; a walk over all endpoints for each would be 200 million steps.
    let took = begun.elapsed();
    assert!(took.as_secs() < 5, "{took:?}");
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

#[test]
fn ten_thousand_routes_take_a_few_kilobytes_each() {
    const COUNT: u32 = 10_000;
    let mut text = "[upstream.u]\nendpoints = [{ address = \"127.0.0.1:9000\" }]\n".to_owned();
    for i in 0..COUNT {
        text += &format!(
            "[[route]]\nid = \"r{i}\"\npath = \"/svc/s{i}/items/{{id}}\"\nupstream = \"u\"\n"
        );
    }
    let metrics = Arc::new(Metrics::new("0", "0").expect("metrics"));
    let state = State::new(metrics, None);
    let mut kept = None;
    let info = measure(|| {
        let sources = vec![source(&text)];
        let config =
            config::load(&sources, &|_| Ok(None)).unwrap_or_else(|wrong| panic!("{wrong}"));
        let snapshot = Snapshot::build(config, sources, &state, &[], &Nothing);
        kept = Some(snapshot.unwrap_or_else(|wrong| panic!("{wrong}")));
    });
    let each = bytes_each(&info, COUNT);
    assert!(each <= 4096.0, "{each:.0} bytes a route");
    assert_eq!(kept.map(|snapshot| snapshot.routes.len()), Some(10_000));
}
