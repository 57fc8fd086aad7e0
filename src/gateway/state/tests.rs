//! Whatever reload fails or is taken back: facts, and the settings they are kept by, are what they were.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{self, Source};
use crate::gateway::Material;
use crate::primitives::level::Level;
use crate::primitives::secret::{Secret, SecretSource};
use crate::primitives::{AuthName, RouteName, UpstreamName};
use crate::upstream::Outcome;
use crate::upstream::breaker::Ending;

/// A host with every secret but one.
struct Host;

impl Material for Host {
    fn secret(&self, source: &SecretSource) -> Result<Secret, String> {
        match source {
            SecretSource::File(path) => Err(format!("{path:?} is not there")),
            _ => Ok(Secret::new("a secret that is long enough for everybody")),
        }
    }

    fn file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Err("no files here".into())
    }
}

/// A configuration in which each of these numbers decides about one thing.
struct Written<'c> {
    choices: &'c [u8],
    next: usize,
}

impl Written<'_> {
    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        let choice = self.choices[self.next % self.choices.len()];
        self.next += 1;
        of[usize::from(choice) % of.len()]
    }

    fn text(mut self) -> String {
        let mut text = String::from("[[listener]]\naddress = \"127.0.0.1:8080\"\n");
        text += &self.auth();
        text += &self.limits();
        for name in ["main", "next"] {
            text += &self.upstream(name);
        }
        text += &self.routes();
        text
    }

    fn auth(&mut self) -> String {
        let skew = self.one(&["300s", "1s", "30s"]);
        let capacity = self.one(&["1000", "1", "2", "100000"]);
        let more = self.one(&["", "[auth.partner.apps.two]\nsecret = \"env:TWO\"\n"]);
        let cache = self.one(&["100", "7"]);
        let audience = self.one(&["", "audience = [\"web\"]\n"]);
        format!(
            "[auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\nskew = \"{skew}\"\nnonce_capacity = {capacity}\n\
             [auth.partner.apps.one]\nsecret = \"env:ONE\"\n{more}\
             [auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"env:JWT\"\ncache = {cache}\n{audience}"
        )
    }

    fn limits(&mut self) -> String {
        let kinds = [
            ("estimator", "rate = \"100/s\"", ""),
            ("token_bucket", "rate = \"100/s\"\nburst = 9", "capacity"),
            ("leaky_bucket", "rate = \"100/s\"\nburst = 9", "capacity"),
            ("concurrency", "max = 9", "capacity"),
            ("quota", "quota = 9\nwindow = \"day\"", "capacity"),
            ("bandwidth", "rate = \"1MB/s\"", "capacity"),
        ];
        let mut text = String::new();
        for (kind, amounts, capacity) in kinds {
            let key = self.one(&["client_ip", "client_ip", "route"]);
            text +=
                &format!("[limit.{kind}]\nkey = \"{key}\"\nalgorithm = \"{kind}\"\n{amounts}\n");
            let most = self.one(&["1000", "1", "20"]);
            if !capacity.is_empty() {
                text += &format!("{capacity} = {most}\n");
            }
        }
        text
    }

    fn upstream(&mut self, name: &str) -> String {
        let balance = self.one(&[
            "weighted_round_robin",
            "score",
            "peak_ewma",
            "consistent_hash",
        ]);
        let weight = self.one(&["1", "5"]);
        let other = self.one(&[
            "",
            ", { address = \"127.0.0.1:2\" }",
            ", { address = \"127.0.0.1:3\", backup = true }",
        ]);
        let health = self.one(&["", "health = { path = \"/up\" }\n"]);
        let passive = self.one(&[
            "passive = { max_fails = 1, fail_timeout = \"1h\" }\n",
            "passive = { slow_start = \"1h\" }\n",
            "",
        ]);
        let outlier = self.one(&["", "outlier = { interval = \"5s\" }\n"]);
        let concurrency = self.one(&[
            "concurrency = { adaptive = true }\n",
            "concurrency = { adaptive = true, max = 5 }\n",
            "concurrency = { max = 4 }\n",
            "",
        ]);
        let breaker = self.one(&[
            "breaker = { minimum_calls = 1 }\n",
            "breaker = { minimum_calls = 2 }\n",
            "",
        ]);
        let hedge = self.one(&["", "hedge = { after = \"p95\" }\n"]);
        let hedge = if other.contains(":2") { hedge } else { "" };
        let passive = match (balance, passive.contains("slow_start")) {
            ("consistent_hash", true) => "",
            _ => passive,
        };
        let hash = match balance {
            "consistent_hash" => "hash_on = \"path\"\n",
            _ => "",
        };
        format!(
            "[upstream.{name}]\nbalance = \"{balance}\"\n{hash}\
             endpoints = [{{ address = \"127.0.0.1:1\", weight = {weight} }}{other}]\n\
             {health}{passive}{outlier}{concurrency}{breaker}{hedge}"
        )
    }

    fn routes(&mut self) -> String {
        let cost = self.one(&["1", "3"]);
        let age = self.one(&["10m", "1m"]);
        let size = self.one(&["1MiB", "2MiB"]);
        let path = self.one(&["/kept", "/kept/**"]);
        let weight = self.one(&["5", "50"]);
        let stop = self.one(&["true", "false"]);
        let mirror = self.one(&["", "mirror = { upstream = \"next\" }\n"]);
        let breaker = self.one(&["breaker = { minimum_calls = 1 }\n", ""]);
        let more = self.one(&[
            "",
            "[[route]]\nid = \"more\"\npath = \"/more\"\nupstream = \"main\"\n",
        ]);
        format!(
            "[[route]]\nid = \"kept\"\npath = \"{path}\"\nupstream = \"main\"\nauth = [\"partner\", \"app\"]\n\
             limits = [\"estimator\", \"token_bucket\", \"leaky_bucket\", \"concurrency\", \"quota\", \"bandwidth\"]\n\
             {breaker}\
             fallback = {{ last_good = {{ max_age = \"{age}\", size = \"{size}\", per = \"consumer\" }} }}\n[route.limit_overrides]\nestimator = {{ cost = {cost} }}\n\
             [[route]]\nid = \"split\"\npath = \"/split\"\n{mirror}\
             split = [{{ upstream = \"main\", weight = 95 }}, {{ upstream = \"next\", weight = {weight} }}]\n\
             [route.rollout]\nstop = {stop}\n{more}"
        )
    }
}

/// What makes a build fail, each at another stage.
const STAGES: [&str; 7] = [
    "\n[admin]\ntoken = \"file:/missing\"\n",
    "\n[auth.late]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"file:/missing\"\n",
    "\n[auth.later]\ntype = \"signature\"\nscheme = \"ca\"\n[auth.later.apps.one]\nsecret = \"env:ONE\"\n\
     [auth.later.apps.two]\nsecret = \"file:/missing\"\n",
    "\n[upstream.late]\nendpoints = [{ address = \"127.0.0.1:9\" }]\nconcurrency = { max = 4 }\n\
     sticky = { secret = \"file:/missing\" }\n",
    "\n[upstream.late]\nendpoints = [{ address = \"127.0.0.1:9\" }]\ntls = { ca = \"/missing\", sni = \"late.test\" }\n",
    "\n[[listener]]\naddress = \"127.0.0.1:8443\"\ntls = { certificates = [{ cert = \"/missing\", key = \"/missing\" }] }\n",
    "\n[[route]]\nid = \"late\"\npath = \"/late\"\nupstream = \"elsewhere_main\"\n\
     request = { set = { X-Secret = \"file:/missing\" } }\n",
];

/// The same with other names throughout.
fn elsewhere(text: &str) -> String {
    let mut text = text.to_owned();
    for name in ["main", "next"] {
        text = text.replace(&format!("\"{name}\""), &format!("\"elsewhere_{name}\""));
        text = text.replace(
            &format!("[upstream.{name}"),
            &format!("[upstream.elsewhere_{name}"),
        );
    }
    for name in ["kept", "split", "more"] {
        text = text.replace(
            &format!("id = \"{name}\""),
            &format!("id = \"elsewhere_{name}\""),
        );
    }
    let text = text.replace("[limit.", "[limit.elsewhere_");
    let text = text.replace("limits = [\"", "limits = [\"elsewhere_");
    let text = text.replace("\", \"token_bucket\", \"leaky_bucket\", \"concurrency\", \"quota\", \"bandwidth\"]",
        "\", \"elsewhere_token_bucket\", \"elsewhere_leaky_bucket\", \"elsewhere_concurrency\", \"elsewhere_quota\", \
         \"elsewhere_bandwidth\"]");
    let text = text.replace(
        "limit_overrides]\nestimator",
        "limit_overrides]\nelsewhere_estimator",
    );
    let text = text
        .replace("[auth.partner", "[auth.elsewhere_partner")
        .replace("[auth.app]", "[auth.elsewhere_app]");
    text.replace(
        "auth = [\"partner\", \"app\"]",
        "auth = [\"elsewhere_partner\", \"elsewhere_app\"]",
    )
}

fn build(text: &str, state: &State) -> Result<Arc<Snapshot>, String> {
    let source = Source {
        file: "t.toml".into(),
        text: text.into(),
    };
    let sources = vec![source];
    let config = config::load(&sources, &|_| Ok(None)).map_err(|problems| problems.to_string())?;
    let built = Snapshot::build(config, sources, state, &state.earlier(), &Host);
    built.map(Arc::new).map_err(|problems| problems.to_string())
}

fn built(choices: &[u8], state: &State) -> Arc<Snapshot> {
    let text = Written { choices, next: 0 }.text();
    build(&text, state).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

/// A process that serves this configuration, and knows something of everything.
fn experienced(choices: &[u8]) -> (State, Arc<Snapshot>) {
    let metrics = Metrics::new("0", "0").expect("metrics");
    let state = State::new(Arc::new(metrics), None);
    let snapshot = built(choices, &state);
    state.publish(&snapshot);
    let now = state.clock.now();
    let nonces = [(7, Duration::from_secs(500)), (8, Duration::from_secs(90))];
    state
        .auth
        .import_nonces(&AuthName::new("partner"), &nonces, now);
    state.auth.remember_tokens();
    let owed = state.limits.export(now).into_iter().map(|mut limit| {
        limit.entries = vec![
            (5, Duration::from_secs(5000)),
            (6, Duration::from_secs(6000)),
        ];
        limit
    });
    let owed: Vec<_> = owed.collect();
    state.limits.import([1, 2], &owed, Duration::ZERO, now);
    let mut quotas = state.limits.export_quotas();
    quotas
        .limits
        .iter_mut()
        .for_each(|(_, counts)| counts.push((9, 9 << 40 | 3)));
    state.limits.import_quotas(&quotas);
    for pool in snapshot.pools.values() {
        let (first, ..) = &pool.endpoints()[0];
        pool.set_drained("127.0.0.1:2", true, now);
        pool.observe(first, Duration::from_millis(3), true, now);
        pool.report(first, Outcome::Bad, now);
    }
    for breaker in snapshot.breakers() {
        let Ok(permit) = breaker.enter(now) else {
            continue;
        };
        permit.tell(Ending::Answered(500), Duration::from_millis(1), now);
    }
    for route in &snapshot.routes {
        route.policy.level.set(Level::Lean, None, now);
        route.stats.served("GET", 200, Duration::from_millis(3));
        if let Some(sides) = &route.policy.sides {
            let side = sides.split.facts().side_of("next").expect("a side");
            side.stop("it was worse", 7);
        }
    }
    snapshot.tick_breakers(now);
    (state, snapshot)
}

/// Every fact, and every setting it is kept by.
fn picture(state: &State) -> Vec<String> {
    let mut lines = state.auth.dump();
    lines.extend(state.limits.dump());
    lines.extend(state.endpoints.dump());
    lines.push(format!("{:?}", state.kept_answers));
    lines.push(format!("{:?}", state.rollouts.export()));
    lines.push(format!("{:?}", state.levels.export(0)));
    let routes = state.metrics.each_route();
    lines.extend(routes.iter().map(|(name, _)| format!("counted: {name}")));
    let metrics = state.metrics.render().expect("metrics");
    lines.extend(metrics.lines().map(str::to_owned));
    let snapshot = state.snapshot().expect("a snapshot");
    lines.push(format!("in force: {:?}", Arc::as_ptr(&snapshot)));
    for (name, pool) in &snapshot.pools {
        let gate = pool.gate().map(|gate| (gate.limit(), gate.unloaded()));
        let standings = pool.standings(0).into_iter();
        let shares: Vec<_> = standings.map(|one| (one.weight, one.effective)).collect();
        lines.push(format!(
            "{name}: {:?} {gate:?} {shares:?}",
            Arc::as_ptr(pool)
        ));
    }
    let breakers = snapshot.breakers();
    lines.extend(breakers.map(|breaker| format!("{:?}", breaker.standing(0))));
    lines
}

fn same(before: &[String], after: &[String], what: &str) {
    for (before, after) in before.iter().zip(after) {
        assert_eq!(before, after, "{what}");
    }
    assert_eq!(before.len(), after.len(), "{what}");
}

fn choices() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 61)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 16, ..ProptestConfig::default() })]

    /// It fails at once, or when all is built (a log that cannot be opened).
    #[test]
    fn a_refused_reload_leaves_every_fact_and_setting_as_it_was(
        [in_force, wanted] in [choices(), choices()],
    ) {
        let (state, _snapshot) = experienced(&in_force);
        let before = picture(&state);
        let text = Written { choices: &wanted, next: 0 }.text();
        let broken = format!("{text}\n[admin]\ntoken = \"file:/missing\"\n");
        prop_assert!(build(&broken, &state).is_err());
        state.prune();
        same(&before, &picture(&state), "refused while it was built");
        drop(built(&wanted, &state));
        state.prune();
        same(&before, &picture(&state), "refused when it was built");
    }

    #[test]
    fn a_reload_taken_back_leaves_every_fact_and_setting_as_it_was(
        [in_force, first, second] in [choices(), choices(), choices()],
    ) {
        let (state, fallback) = experienced(&in_force);
        let before = picture(&state);
        for wanted in [first, second] {
            let trial = built(&wanted, &state);
            state.publish_beside(&trial, Some(&fallback));
        }
        state.publish(&fallback);
        same(&before, &picture(&state), "taken back");
    }

    /// What a build makes is its own: nobody sees it while it waits, and it goes with what is not put in force, without
    /// anybody who forgets it. A build may fail at every stage.
    #[test]
    fn a_build_changes_no_fact_there_is(
        [in_force, wanted] in [choices(), choices()],
        stage in 0..STAGES.len(),
    ) {
        let (state, _snapshot) = experienced(&in_force);
        let before = picture(&state);
        let text = elsewhere(&Written { choices: &wanted, next: 0 }.text());
        let waiting = [built(&wanted, &state), build(&text, &state).expect("built")];
        same(&before, &picture(&state), "while they wait");
        prop_assert!(build(&(text + STAGES[stage]), &state).is_err());
        same(&before, &picture(&state), STAGES[stage]);
        drop(waiting);
        same(&before, &picture(&state), "when they are gone");
    }

    /// Whichever of two comes into force first, both count on the same, also when the first is taken back.
    #[test]
    fn two_that_were_built_from_the_same_facts_agree(
        [in_force, wanted] in [choices(), choices()],
    ) {
        let (state, fallback) = experienced(&in_force);
        let text = elsewhere(&Written { choices: &wanted, next: 0 }.text());
        let [first, second] = [0, 1].map(|_| build(&text, &state).expect("built"));
        state.publish_beside(&second, Some(&fallback));
        let shown = picture(&state).into_iter().filter(|line| line.contains("elsewhere"));
        let shown: Vec<_> = shown.collect();
        prop_assert!(!shown.is_empty());
        state.publish(&fallback);
        state.publish(&first);
        for (one, other) in first.routes.iter().zip(&second.routes) {
            prop_assert!(Arc::ptr_eq(&one.stats, &other.stats));
            prop_assert!(Arc::ptr_eq(&one.policy.level, &other.policy.level));
        }
        for (name, pool) in &first.pools {
            for ((one, ..), (other, ..)) in pool.endpoints().iter().zip(second.pools[name].endpoints()) {
                prop_assert!(Arc::ptr_eq(one, &other));
            }
        }
        drop((second, fallback));
        state.prune();
        let metrics = state.metrics.render().expect("metrics");
        prop_assert!(metrics.contains("elsewhere_kept") && !metrics.contains("\"kept\""));
    }

    /// What is refused while another is on trial leaves the trial alone.
    #[test]
    fn a_reload_refused_during_a_trial_changes_nothing_either(
        [in_force, on_trial, wanted] in [choices(), choices(), choices()],
    ) {
        let (state, fallback) = experienced(&in_force);
        let trial = built(&on_trial, &state);
        state.publish_beside(&trial, Some(&fallback));
        let before = picture(&state);
        drop(built(&wanted, &state));
        state.prune();
        same(&before, &picture(&state), "refused");
    }

    /// A reload that brings back what was in force before the trial goes on from there.
    #[test]
    fn what_was_before_the_trial_is_found_again_by_a_reload(
        [in_force, on_trial] in [choices(), choices()],
    ) {
        let (state, fallback) = experienced(&in_force);
        let trial = built(&on_trial, &state);
        state.publish_beside(&trial, Some(&fallback));
        let again = built(&in_force, &state);
        for (name, pool) in &fallback.pools {
            prop_assert!(Arc::ptr_eq(pool, &again.pools[name]), "{name}");
        }
        for (old, new) in fallback.breakers().zip(again.breakers()) {
            prop_assert!(Arc::ptr_eq(old, new));
        }
    }
}

#[test]
fn confirmed_it_alone_says_how_much_is_kept() {
    let wide = [0; 61];
    let mut narrow = wide;
    // The skew and the capacity of nonces: 1s and 1.
    (narrow[0], narrow[1]) = (1, 1);
    let (state, fallback) = experienced(&wide);
    let trial = built(&narrow, &state);
    state.publish_beside(&trial, Some(&fallback));
    let kept = || {
        state
            .auth
            .dump()
            .into_iter()
            .find(|line| line.contains("partner"))
    };
    assert!(
        kept().is_some_and(|line| line.contains("602s") && line.contains("of 1000")),
        "{:?}",
        kept()
    );
    state.confirm();
    assert!(
        kept().is_some_and(|line| line.contains("4s") && line.contains("of 1 ")),
        "{:?}",
        kept()
    );
    assert!(state.fallback().is_none());
}

#[test]
fn an_endpoint_that_is_no_longer_checked_takes_requests() {
    let checked = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[upstream.main]\nhealth = { path = \"/\" }\n\
                   endpoints = [{ address = \"127.0.0.1:1\" }]\n";
    let unchecked = checked.replace("health = { path = \"/\" }\n", "");
    let metrics = Metrics::new("0", "0").expect("metrics");
    let state = State::new(Arc::new(metrics), None);
    let with = build(checked, &state).expect("built");
    state.publish(&with);
    let main = UpstreamName::new("main");
    let usable = || {
        let snapshot = state.snapshot().expect("a snapshot");
        snapshot.pools[&main].pick(state.clock.now(), &[]).is_some()
    };
    with.pools[&main].set_drained("127.0.0.1:1", true, state.clock.now());
    let mut known = state.endpoints.export(state.clock.now());
    known.iter_mut().for_each(|known| {
        (known.unhealthy, known.drained) = (true, false);
    });
    with.pools[&main].recall(&known, Duration::ZERO, state.clock.now());
    assert!(!usable());
    let without = build(&unchecked, &state).expect("built");
    state.publish_beside(&without, Some(&with));
    assert!(usable());
    state.publish(&with);
    assert!(!usable(), "what was found by its checks is still known");
}

#[test]
fn an_endpoint_drained_during_a_trial_stays_so_when_it_is_taken_back() {
    let (state, fallback) = experienced(&[0; 61]);
    let mut other = [0; 61];
    other[19..].fill(1);
    let trial = built(&other, &state);
    state.publish_beside(&trial, Some(&fallback));
    let (main, now) = (UpstreamName::new("main"), state.clock.now());
    trial.pools[&main].set_drained("127.0.0.1:1", true, now);
    state.publish(&fallback);
    assert!(fallback.pools[&main].pick(now, &[]).is_none());
    let route = RouteName::new("kept");
    assert_eq!(state.metrics.route(&route).in_flight.value(), 0);
}
