//! Several limits of one route, costs, tiers, amounts of routes' own, limits that only count, and what clients are told.

use super::{admitted, refused};
use crate::harness::{Client, Folder, Gateway, Peer, reserve};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A limit that lets `burst` pass and then nothing for a day.
fn bucket(name: &str, key: &str, burst: u32, more: &str) -> String {
    format!(
        "[limit.{name}]\nkey = \"{key}\"\nalgorithm = \"token_bucket\"\nrate = \"1/d\"\nburst = {burst}\n{more}\n"
    )
}

fn route(path: &str, keys: &str) -> String {
    format!(
        "[[route]]\nid = \"{path}\"\npath = \"{path}\"\nrespond = {{ text = \"in\" }}\n{keys}\n"
    )
}

fn decisions(gateway: &Gateway, limit: &str, outcome: &str) -> f64 {
    let labels = [("limit", limit), ("outcome", outcome)];
    gateway.metric("gateway_limit_decisions_total", &labels)
}

#[test]
fn none_is_charged_when_one_refuses() {
    let text = [
        bucket("wide", "route", 5, ""),
        bucket("narrow", "client_ip", 2, ""),
        "[limit.window]\nkey = \"route\"\nalgorithm = \"estimator\"\nrate = \"5/d\"\n".to_owned(),
        "[limit.daily]\nkey = \"route\"\nalgorithm = \"quota\"\nquota = 5\nwindow = \"month\"\n"
            .to_owned(),
        route(
            "/",
            "limits = [\"wide\", \"window\", \"daily\", \"narrow\"]",
        ),
    ];
    let gateway = Gateway::with(&text.concat()).start();
    let client = gateway.client();
    assert_eq!(admitted(&client, 20), 2);
    // Eighteen were refused and cost nobody anything: three more places are there, for others.
    assert_eq!(admitted(&client.from(2), 20), 2);
    assert_eq!(admitted(&gateway.client().from(3), 20), 1);
    gateway.wait_for_metric(
        "gateway_limit_decisions_total",
        &[("limit", "narrow"), ("outcome", "refused")],
        36.0,
    );
    assert!(decisions(&gateway, "wide", "returned") >= 36.0);
}

#[test]
fn a_limit_behind_authentication_gives_back_what_those_before_it_took() {
    let auth = format!(
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\ntier_claim = \"plan\"\n"
    );
    let text = [
        auth,
        bucket("wide", "client_ip", 6, ""),
        bucket("each", "consumer", 1, "tiers = { gold = { burst = 3 } }"),
        route("/", "auth = [\"app\"]\nlimits = [\"wide\", \"each\"]"),
    ];
    let gateway = Gateway::with(&text.concat()).start();
    let client = gateway.client();
    let passed = |who: &str, plan: &str| {
        let claims = serde_json::json!({ "sub": who, "plan": plan, "exp": crate::harness::unix_now() + 600 });
        let token = Peer::token("HS256", SECRET, &claims);
        let ask = |_: &usize| client.get("/").bearer(&token).send().status == 200;
        (0..5).filter(ask).count()
    };
    assert_eq!(passed("ann", "free"), 1);
    assert_eq!(passed("bob", "gold"), 3);
    assert_eq!(passed("cem", "free"), 1);
    // Who is not let in at all is counted: guessing is what the limit by address is for.
    assert_eq!(client.get("/").send().status, 401);
    refused(client.get("/").send());
}

/// A route at level fallback that has no answer refuses what its limit counted, and the limit knows by whose amounts.
#[test]
fn a_route_without_an_answer_gives_a_tier_back_what_it_took() {
    let auth = format!(
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\ntier_claim = \"plan\"\n"
    );
    let gold = "tiers = { gold = { rate = \"1/h\", burst = 3 } }";
    let keys = "auth = [\"app\"]\nlimits = [\"each\"]";
    let text = [
        auth,
        format!(
            "[upstream.api]\nendpoints = [{{ address = \"{}\" }}]\n",
            reserve()
        ),
        bucket("each", "consumer", 1, gold),
        route("/a", keys),
        format!(
            "[[route]]\nid = \"b\"\npath = \"/b\"\nupstream = \"api\"\n{keys}\nfallback = {{ last_good = {{ per = \"consumer\" }} }}\n"
        ),
    ];
    let gateway = Gateway::with(&text.concat()).start();
    gateway.run_cli(&["degrade"], &["b", "fallback"]).expect(0);
    let claims = serde_json::json!({ "sub": "ann", "plan": "gold", "exp": crate::harness::unix_now() + 600 });
    let token = Peer::token("HS256", SECRET, &claims);
    let client = gateway.client();
    let ask = |path: &str| client.get(path).bearer(&token).send().status;
    assert_eq!(
        [ask("/a"), ask("/a"), ask("/b"), ask("/b")],
        [200, 200, 503, 503]
    );
    assert_eq!(ask("/a"), 200);
    for _ in 0..3 {
        assert_eq!([ask("/b"), ask("/a")], [429, 429]);
    }
}

#[test]
fn costs_and_amounts_of_a_route_of_its_own() {
    let text = [
        bucket("units", "client_ip", 10, ""),
        route("/cheap", "limits = [\"units\"]"),
        route(
            "/dear",
            "limits = [\"units\"]\nlimit_overrides = { units = { cost = 4 } }",
        ),
        route(
            "/own",
            "limits = [\"units\"]\nlimit_overrides = { units = { burst = 2 } }",
        ),
    ];
    let gateway = Gateway::with(&text.concat()).start();
    let client = gateway.client();
    let remaining = |path: &str| {
        let answer = client.get(path).send().expect(200);
        answer.number("x-ratelimit-remaining")
    };
    assert_eq!([remaining("/dear"), remaining("/cheap")], [6, 5]);
    assert_eq!(remaining("/dear"), 1);
    refused(client.get("/dear").send());
    assert_eq!([remaining("/own"), remaining("/own")], [1, 0]);
    refused(client.get("/own").send());
    assert_eq!(remaining("/cheap"), 0);
    refused(client.get("/cheap").send());
    // The next reload goes on from there, also where a route counts apart.
    gateway.reload_ok();
    refused(client.get("/own").send());
}

#[test]
fn a_limit_that_only_counts_lets_everything_pass() {
    let text = [
        bucket("trial", "client_ip", 2, "dry_run = true"),
        route("/", "limits = [\"trial\"]"),
    ];
    let gateway = Gateway::with(&text.concat()).start();
    assert_eq!(admitted(&gateway.client(), 5), 5);
    let labels = [("limit", "trial"), ("outcome", "would_refuse")];
    gateway.wait_for_metric("gateway_limit_decisions_total", &labels, 3.0);
    assert_eq!(decisions(&gateway, "trial", "refused"), 0.0);
    let answer = gateway.client().get("/").send();
    assert_eq!(answer.header("x-ratelimit-limit"), None);
    let shown = gateway.admin_get("/api/v1/limits").expect(200).json();
    let (dry_run, would) = (&shown[0]["dry_run"], &shown[0]["would_refuse"]);
    assert_eq!((dry_run, would), (&true.into(), &4.into()), "{shown}");
    let status = gateway.run_cli(&["status"], &[]).expect(0);
    status.says("only counts: 4 would be refused");
    let explained = gateway.run_cli(&["explain"], &["GET", "/"]).expect(0);
    explained.says("limit.trial, only counts");
    gateway.wait_for_log(|line| line["limit"] == "limit.trial" && line["level"] == "info");
}

#[test]
fn clients_are_told_in_the_headers_of_choice() {
    let with = |headers: &str| {
        let text = [
            bucket("per_user", "client_ip", 2, headers),
            route("/", "limits = [\"per_user\"]"),
        ];
        Gateway::with(&text.concat()).start()
    };
    let told = |gateway: &Gateway| {
        let client: Client = gateway.client();
        let answer = client.get("/").send().expect(200);
        let said = |name: &str| answer.header(name).map(str::to_owned);
        [
            said("x-ratelimit-limit"),
            said("ratelimit-policy"),
            said("ratelimit"),
        ]
    };
    let [policy, left] = [
        Some("\"per_user\";q=2;w=172800".to_owned()),
        Some("\"per_user\";r=1;t=86400".to_owned()),
    ];
    let legacy = Some("2".to_owned());
    assert_eq!(told(&with("")), [legacy.clone(), None, None]);
    assert_eq!(
        told(&with("headers = \"draft\"")),
        [None, policy.clone(), left.clone()]
    );
    assert_eq!(told(&with("headers = \"both\"")), [legacy, policy, left]);
    let none = with("headers = \"none\"");
    assert_eq!(told(&none), [None, None, None]);
    none.client().get("/").send().expect(200);
    // When to come back is always said.
    refused(none.client().get("/").send());
}

#[test]
fn a_request_waits_once_and_only_when_all_agree() {
    let text = [
        "[limit.slow]\nkey = \"route\"\nalgorithm = \"leaky_bucket\"\nrate = \"1/s\"\nburst = 9\nmax_delay = \"9s\"\n".to_owned(),
        bucket("few", "client_ip", 1, ""),
        route("/", "limits = [\"slow\", \"few\"]"),
    ];
    let gateway = Gateway::with(&text.concat()).start();
    let client = gateway.client();
    client.get("/").send().expect(200);
    let began = std::time::Instant::now();
    for _ in 0..5 {
        refused(client.get("/").send());
    }
    // Nobody stands in the queue: whoever may come waits for the next turn, not for the seventh.
    gateway.client().from(2).get("/").send().expect(200);
    assert!(
        began.elapsed() < crate::harness::seconds(3),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let check = |limit: &str, keys: &str| {
        let text = [
            "[[listener]]\naddress = \"127.0.0.1:8080\"\n",
            &format!("[limit.l]\nkey = \"client_ip\"\n{limit}\n"),
            &route("/", &format!("limits = [\"l\"]\n{keys}")),
        ];
        Folder::with(&text.concat()).check()
    };
    let bucket = "algorithm = \"token_bucket\"\nrate = \"5/s\"";
    for (limit, keys, why) in [
        (
            bucket,
            "limit_overrides = { l = { cost = 6 } }",
            "more than the limit ever lets pass",
        ),
        (
            bucket,
            "limit_overrides = { l = { cost = 0 } }",
            "must be at least 1",
        ),
        (
            bucket,
            "limit_overrides = { m = { cost = 2 } }",
            "does not ask this limit",
        ),
        (
            bucket,
            "limit_overrides = { l = { max = 2 } }",
            "means nothing to this algorithm",
        ),
        (
            "algorithm = \"token_bucket\"\nrate = \"5/s\"\ntiers = { tin = { burst = 2 } }",
            "limit_overrides = { l = { cost = 3 } }",
            "for the tier \"tin\", which is 2",
        ),
        (
            "algorithm = \"token_bucket\"\nrate = \"5/s\"\ntiers = { tin = {} }",
            "",
            "says nothing",
        ),
        (
            "algorithm = \"estimator\"\nrate = \"5/s\"\ntiers = { tin = { rate = \"5/m\" } }",
            "",
            "write the same period",
        ),
        ("algorithm = \"quota\"", "", "a quota needs `quota`"),
        (
            "algorithm = \"quota\"\nquota = 0",
            "",
            "a quota needs `quota`",
        ),
        (
            "algorithm = \"quota\"\nquota = 5\nutc_offset = \"8\"",
            "",
            "no distance from UTC",
        ),
        (
            "algorithm = \"quota\"\nquota = 5\nrate = \"5/d\"",
            "",
            "means nothing",
        ),
        (
            "algorithm = \"token_bucket\"\nrate = \"5/s\"\nwindow = \"day\"",
            "",
            "means nothing",
        ),
        (
            "algorithm = \"bandwidth\"\nrate = \"5/s\"",
            "",
            "is no rate of bytes",
        ),
        (
            "algorithm = \"bandwidth\"\nrate = \"5B/s\"\ndry_run = true",
            "",
            "means nothing",
        ),
    ] {
        check(limit, keys).expect(1).says(why);
    }
    check(bucket, "limit_overrides = { l = { cost = 5 } }").expect(0);
    let response = "[limit.m]\nkey = \"response\"\nalgorithm = \"token_bucket\"\nrate = \"5/s\"\n";
    check(&format!("{bucket}\n{response}"), "")
        .expect(1)
        .says("is for bandwidth only");
}
