//! Several upstreams for one route.

use std::collections::BTreeMap;

use serde_json::json;

use super::{side, with};
use crate::harness::{Gateway, Origin, tollgate};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn two() -> (Origin, Origin) {
    (Origin::named("old"), Origin::named("next"))
}

fn users(gateway: &Gateway, count: usize) -> BTreeMap<usize, String> {
    let client = gateway.client();
    let each = (0..count).map(|number| {
        let cookie = format!("a=b; uid=user-{number}");
        (number, side(&client, &[("Cookie", &cookie)]))
    });
    each.collect()
}

#[test]
fn each_side_gets_its_share_and_is_measured() {
    let (old, next) = two();
    let route =
        "split = [{ upstream = \"old\", weight = 80 }, { upstream = \"next\", weight = 20 }]\n";
    let gateway = with(&[&old, &next], route).start();
    for _ in 0..400 {
        gateway.client().get("/").send().expect(200);
    }
    // Forty is the mean of five standard deviations from none, and from half.
    let taken = next.count();
    assert!((40..=120).contains(&taken), "{taken}");
    assert_eq!(old.count() + taken, 400);
    for (upstream, count) in [("old", old.count()), ("next", taken)] {
        let labels = [("route", "r"), ("upstream", upstream), ("status", "200")];
        gateway.wait_for_metric("gateway_split_requests_total", &labels, count as f64);
        let labels = [("route", "r"), ("upstream", upstream)];
        assert_eq!(
            gateway.metric("gateway_split_seconds_count", &labels),
            count as f64
        );
        assert_eq!(gateway.metric("gateway_split_stopped", &labels), 0.0);
    }
    assert_eq!(
        gateway.metrics().label_names("gateway_split_seconds"),
        ["route", "upstream"]
    );
}

#[test]
fn a_user_stays_on_its_side_while_the_share_grows() {
    let (old, next) = two();
    let route = "split = [{ upstream = \"old\", weight = 90 }, { upstream = \"next\", weight = 10 }]\n\
                 rollout = { by = \"cookie:uid\" }\n";
    let gateway = with(&[&old, &next], route).start();
    let before = users(&gateway, 200);
    assert_eq!(users(&gateway, 200), before);
    let early = before.values().filter(|side| *side == "next").count();
    assert!((4..=45).contains(&early), "{early}");
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(
        &text
            .replace("weight = 90", "weight = 70")
            .replace("weight = 10", "weight = 30"),
    );
    gateway.reload_ok();
    let after = users(&gateway, 200);
    assert!(
        before
            .iter()
            .all(|(user, side)| side != "next" || after[user] == "next")
    );
    assert!(after.values().filter(|side| *side == "next").count() > early);
    // Another gateway with the same route sends each user to the same side.
    let twin = with(&[&old, &next], route).start();
    assert_eq!(users(&twin, 200), before);
}

#[test]
fn a_canary_takes_those_it_names_by_header_cookie_or_claim() {
    let (old, next) = two();
    let route = "auth = [\"app\"]\nsplit = [\n  { upstream = \"old\" },\n  { upstream = \"next\", weight = 0, headers = { x-canary = \"~on|yes\" }, \
                 cookies = { canary = \"*\" }, claims = { role = [\"tester\"] } },\n]\n";
    let auth =
        format!("[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n");
    let gateway = with(&[&old, &next], route).append(&auth).start();
    let token = |role: &str| {
        let claim = format!("role={role}");
        let made = tollgate()
            .args(["token", "--secret", SECRET, "--claim", &claim])
            .output()
            .unwrap();
        format!("Bearer {}", String::from_utf8(made.stdout).unwrap().trim())
    };
    let (user, tester) = (token("user"), token("tester"));
    let client = gateway.client();
    let goes = |authorization: &str, fields: &[(&str, &str)]| {
        let fields = [&[("Authorization", authorization)], fields].concat();
        side(&client, &fields)
    };
    for (authorization, fields, wanted) in [
        (&user, &[][..], "old"),
        (&tester, &[], "next"),
        (&user, &[("X-Canary", "yes")], "next"),
        (&user, &[("X-Canary", "no")], "old"),
        (&user, &[("Cookie", "x=1; canary=")], "next"),
        (&user, &[("Cookie", "x=canary")], "old"),
    ] {
        assert_eq!(goes(authorization, fields), wanted, "{fields:?}");
    }
    let question = json!({ "method": "GET", "url": "/", "headers": [["Authorization", tester]] });
    let answer = gateway.admin_post("/api/v1/explain", &question).json();
    assert_eq!(answer["upstream"], "next", "{answer}");
    gateway
        .client()
        .get("/")
        .send()
        .refused(401, "token_missing");
}

#[test]
fn is_shown_and_explained() {
    let (old, next) = two();
    let route = "split = [{ upstream = \"old\", weight = 9 }, { upstream = \"next\" }]\n";
    let gateway = with(&[&old, &next], route).start();
    gateway.run_cli(&["routes"], &[]).expect(0).says("old,next");
    gateway
        .run_cli(&["status"], &[])
        .expect(0)
        .says("SPLIT of r");
    gateway
        .run_cli(&["explain"], &["GET", "/"])
        .expect(0)
        .says("by chance, one of old 9, next 1");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (old, next) = two();
    for (route, why) in [
        ("split = [{ upstream = \"old\" }]\n", "needs 2 to 16 sides"),
        (
            "split = [{ upstream = \"old\" }, { upstream = \"nxt\" }]\n",
            "there is no [upstream.nxt]; did you mean \"next\"?",
        ),
        (
            "split = [{ upstream = \"old\" }, { upstream = \"old\" }]\n",
            "\"old\" stands twice",
        ),
        (
            "split = [{ upstream = \"old\" }, { upstream = \"next\", weight = 0 }]\n",
            "0 takes nothing",
        ),
        (
            "split = [{ upstream = \"old\", cookies = { a = \"1\" } }, { upstream = \"next\" }]\n",
            "the first side is the main one",
        ),
        (
            "upstream = \"old\"\nsplit = [{ upstream = \"old\" }, { upstream = \"next\" }]\n",
            "forwards to one upstream or splits",
        ),
        (
            "upstream = \"old\"\nrollout = { by = \"client_ip\" }\n",
            "there is none",
        ),
        (
            "split = [{ upstream = \"old\" }, { upstream = \"next\" }]\nrollout = { by = \"moon\" }\n",
            "none of random, client_ip",
        ),
        (
            "split = [{ upstream = \"old\" }, { upstream = \"next\" }]\nrollout = { window = \"1s\" }\n",
            "between 5s and 10m",
        ),
    ] {
        with(&[&old, &next], route)
            .fails_to_start()
            .expect(1)
            .says(why);
    }
}
