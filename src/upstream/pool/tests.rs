use std::net::IpAddr;

use super::*;
use crate::config::{self, Source};
use crate::primitives::UpstreamName;
use crate::upstream::Names;
use crate::upstream::resolve::Dns;
use crate::upstream::source::EndpointSource;

fn pool(upstream: &str) -> Pool {
    let text = format!("[[listener]]\naddress = \"127.0.0.1:8080\"\n[upstream.u]\n{upstream}");
    let source = Source {
        file: "t.toml".into(),
        text: text.into(),
    };
    let config =
        config::load(&[source], &|_| Ok(None)).unwrap_or_else(|problems| panic!("{problems}"));
    let settings = config.upstreams[&UpstreamName::new("u")].clone();
    let peers = PeerTemplate::new(&settings, &|_| Err("no files".into())).expect("no TLS");
    let metrics = Arc::new(crate::observe::Metrics::new("0", "0").expect("metrics"));
    let facts = Arc::new(EndpointFacts::new(metrics));
    let pool = Pool::new(settings, peers, facts, Arc::default(), 1);
    pool.begin(&[], 1);
    pool
}

/// A name is at these addresses now. Says whether that changed anything.
fn learn(pool: &Pool, host: &str, addresses: Vec<IpAddr>, now: u64) -> bool {
    let names = Names::nowhere();
    let dns = Dns::of(pool, &names);
    dns.learn(host, addresses);
    let found = dns.watch().borrow().clone();
    pool.follow(&found, 0.0, now)
}

fn port(endpoint: &Endpoint) -> u16 {
    endpoint.address.inet().expect("address").port()
}

fn ports(pool: &Pool, now: u64, times: usize) -> Vec<u16> {
    (0..times)
        .filter_map(|_| pool.pick(now, &[]))
        .map(|endpoint| port(&endpoint))
        .collect()
}

const THREE: &str = r#"endpoints = [
    { address = "127.0.0.1:1", weight = 5 }, { address = "127.0.0.1:2" }, { address = "127.0.0.1:3" }]"#;
const BACKED: &str = r#"endpoints = [
    { address = "127.0.0.1:1" }, { address = "127.0.0.1:2" }, { address = "127.0.0.1:3", backup = true }]
    passive = { max_fails = 2, fail_timeout = "10s" }"#;

#[test]
fn picks_in_the_smooth_order() {
    assert_eq!(ports(&pool(THREE), 1, 7), [1, 1, 2, 1, 3, 1, 1]);
}

#[test]
fn shares_are_exact_over_threads() {
    let pool = Arc::new(pool(THREE));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let pool = Arc::clone(&pool);
            std::thread::spawn(move || ports(&pool, 1, 7000))
        })
        .collect();
    let all: Vec<u16> = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("thread"))
        .collect();
    let share = |port| all.iter().filter(|p| **p == port).count();
    assert_eq!((share(1), share(2), share(3)), (20_000, 4_000, 4_000));
}

#[test]
fn uses_backups_only_when_no_primary_is_left() {
    let pool = pool(BACKED);
    let pick = |tried: &[&Arc<Endpoint>]| {
        let tried: Vec<_> = tried
            .iter()
            .map(|endpoint| endpoint.address.clone())
            .collect();
        pool.pick(1, &tried)
    };
    let (one, two) = (pick(&[]).expect("first"), pick(&[]).expect("second"));
    assert_ne!(one.address, two.address);
    assert!([&one, &two].iter().all(|endpoint| port(endpoint) < 3));
    let three = pick(&[&one, &two]).expect("third");
    assert_eq!(port(&three), 3);
    assert!(pick(&[&one, &two, &three]).is_some());
}

#[test]
fn puts_a_failing_endpoint_aside_and_lets_it_back() {
    let pool = pool(BACKED);
    let second = 1_000_000_000;
    let first = pool.pick(second, &[]).expect("pick");
    pool.report(&first, Outcome::Bad, second);
    assert!(first.usable(second));
    pool.report(&first, Outcome::Bad, second);
    assert!(!first.usable(second));
    assert!(
        ports(&pool, 2 * second, 6)
            .iter()
            .all(|used| *used == 3 - port(&first))
    );
    assert!(ports(&pool, 12 * second, 6).contains(&port(&first)));
    pool.report(&first, Outcome::Bad, 12 * second);
    assert!(!first.usable(12 * second), "one failed probe is enough");
}

#[test]
fn never_puts_the_last_one_aside() {
    let pool = pool("endpoints = [{ address = \"127.0.0.1:1\" }]\npassive = { max_fails = 1 }");
    let only = pool.pick(1, &[]).expect("pick");
    (0..10).for_each(|_| pool.report(&only, Outcome::Bad, 1));
    assert!(only.usable(1));
}

#[test]
fn a_good_check_ends_an_ejection_and_a_bad_one_takes_it_out() {
    let pool = pool(&format!("{BACKED}\nhealth = {{ path = \"/\" }}"));
    let first = pool.pick(1, &[]).expect("pick");
    (0..2).for_each(|_| pool.report(&first, Outcome::Bad, 1));
    pool.checked(&first, true, 2);
    assert!(first.usable(2));
    assert!(pool.checked(&first, false, 3));
    assert!(!ports(&pool, 3, 6).contains(&port(&first)));
}

#[test]
fn what_another_process_knew_is_gone_on_from() {
    const NOW: u64 = 1_000_000_000;
    let (old, new) = (pool(THREE), pool(THREE));
    old.set_drained("127.0.0.1:1", true, NOW);
    let second = Arc::clone(&old.endpoints()[1].0);
    for _ in 0..3 {
        old.report(&second, Outcome::Bad, NOW);
    }
    let known = old.facts.export(NOW);
    new.recall(&known, Duration::from_secs(1), NOW);
    assert_eq!(ports(&new, NOW, 3), [3, 3, 3]);
    let states = |pool: &Pool| -> Vec<&str> {
        let endpoints = pool.endpoints();
        endpoints.iter().map(|(e, _, _)| e.state(NOW)).collect()
    };
    assert_eq!(states(&new), states(&old));
    let later = pool(THREE);
    later.recall(&known, Duration::from_secs(3600), NOW);
    assert_eq!(states(&later), ["drained", "up", "up"]);
    // Nothing checks these endpoints, so nothing would ever find one healthy again.
    let unhealthy: Vec<KnownEndpoint> = known
        .into_iter()
        .map(|known| KnownEndpoint {
            unhealthy: true,
            drained: false,
            ejected_ms: 0,
            ..known
        })
        .collect();
    let unchecked = pool(THREE);
    unchecked.recall(&unhealthy, Duration::ZERO, NOW);
    assert_eq!(states(&unchecked), ["up", "up", "up"]);
}

#[test]
fn an_empty_answer_never_empties_a_pool() {
    let pool = pool("endpoints = [{ address = \"origin.internal:80\" }]");
    assert!(pool.pick(1, &[]).is_none());
    assert!(learn(
        &pool,
        "origin.internal",
        vec![IpAddr::from([10, 0, 0, 1])],
        2
    ));
    assert!(!learn(&pool, "origin.internal", Vec::new(), 3));
    assert_eq!(
        pool.pick(3, &[])
            .map(|endpoint| endpoint.address.to_string())
            .as_deref(),
        Some("10.0.0.1:80")
    );
}

#[test]
fn a_name_with_another_port_goes_on_with_its_addresses() {
    let old = pool("endpoints = [{ address = \"origin.internal:80\" }]");
    assert!(learn(
        &old,
        "origin.internal",
        vec![[10, 0, 0, 1].into()],
        2
    ));
    let new = pool(
        "endpoints = [{ address = \"origin.internal:81\" }, { address = \"other.internal:81\" }]",
    );
    let new = new.inherit(&old, 3);
    let endpoints = new.endpoints();
    let addresses = endpoints.iter().map(|(one, ..)| one.address.to_string());
    assert_eq!(addresses.collect::<Vec<_>>(), ["10.0.0.1:81"]);
    assert!(new.unresolved(), "the other one");
}

#[test]
fn names_that_change_their_addresses_leave_nothing_behind() {
    let pool = pool("endpoints = [{ address = \"elsewhere.test:80\" }]");
    pool.begin(&[], 1);
    for last in 1..=50 {
        assert!(learn(
            &pool,
            "elsewhere.test",
            vec![[192, 0, 2, last].into()],
            1
        ));
        pool.facts.prune();
        assert_eq!(pool.facts.dump().len(), 1);
    }
}

#[test]
fn a_pool_that_is_not_in_force_changes_nothing_of_the_endpoints_it_shares() {
    let in_force = pool(THREE);
    let settings = Upstream {
        passive: pool(BACKED).settings.passive,
        ..in_force.settings.clone()
    };
    let (first, ..) = &in_force.endpoints()[0];
    first.live.set_factor(0.25);
    let before = in_force.facts.dump();
    let peers = PeerTemplate::new(&settings, &|_| Err("no files".into())).expect("no TLS");
    let built = Pool::new(
        settings,
        peers,
        Arc::clone(&in_force.facts),
        Arc::default(),
        1,
    );
    let built = built.inherit(&in_force, 1);
    assert_eq!(before, in_force.facts.dump());
    built.begin(&[&in_force], 1);
    assert_ne!(
        before,
        in_force.facts.dump(),
        "it is used by other settings now"
    );
}

#[test]
fn two_names_of_one_address_are_two_endpoints() {
    let pool = pool("endpoints = [{ address = \"one.test:80\" }, { address = \"two.test:80\" }]");
    let address = vec![[192, 0, 2, 1].into()];
    for host in ["one.test", "two.test"] {
        learn(&pool, host, address.clone(), 1);
    }
    assert!(pool.set_drained("one.test:80", true, 1));
    pool.gather(1);
    let states: Vec<_> = pool
        .endpoints()
        .iter()
        .map(|(one, ..)| one.state(1))
        .collect();
    assert_eq!(states, ["drained", "up"]);
}
