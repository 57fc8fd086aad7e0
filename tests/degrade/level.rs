//! How much of its work a route does: set by an operator or by what it meets, seen everywhere, and not forgotten.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Falls, get};
use crate::harness::{
    Answer, Gateway, Origin, Setup, admin_json, eventually, reserve, seconds, ways,
};

const ROUTES: &str = "[upstream.api]\nendpoints = [{ address = \"{origin}\" }, { address = \"{dead}\" }]\n\
     [upstream.api.passive]\nmax_fails = 0\n\
     [upstream.spare]\nendpoints = [{ address = \"{spare}\" }]\n\
     [[route]]\nid = \"r\"\npath = \"/**\"\nupstream = \"api\"\n[route.fallback]\ntext = \"degraded\"\n\
     [[route]]\nid = \"bare\"\npath = \"/bare\"\nupstream = \"api\"\n\
     [[route]]\nid = \"other\"\npath = \"/other\"\nupstream = \"api\"\nfallback = { upstream = \"spare\" }\n\
     [[route]]\nid = \"kept\"\npath = \"/kept\"\nupstream = \"api\"\nfallback = { last_good = {} }\n\
     [[route]]\npath = \"/by/path\"\nrespond = { text = \"own\" }\n";

fn gateway(origin: &Origin, spare: &Origin) -> Setup {
    Gateway::with(ROUTES)
        .to(origin)
        .to(spare)
        .fill("dead", reserve())
}

fn start() -> (Origin, Origin, Gateway) {
    let (origin, spare) = (Origin::start(), Origin::named("spare"));
    let gateway = gateway(&origin, &spare).start();
    (origin, spare, gateway)
}

#[track_caller]
fn degrade(gateway: &Gateway, arguments: &[&str]) -> String {
    gateway.run_cli(&["degrade"], arguments).expect(0).stdout
}

fn level(gateway: &Gateway, route: &str) -> Value {
    let routes = gateway.admin_get("/api/v1/routes").json();
    let mut routes = routes.as_array().unwrap().iter();
    let route = routes.find(|one| one["id"] == route).unwrap();
    route["policy"]["level"].clone()
}

#[test]
fn an_operator_sets_each_level_and_takes_it_back() {
    let (origin, _spare, gateway) = start();
    let said = degrade(&gateway, &["r", "fallback"]);
    assert_eq!(said, "route r is set to fallback\n");
    let client = gateway.client();
    let answer = client.get("/").header("X-Trace-ID", "set");
    let answer = answer.send().expect(200);
    assert_eq!(
        (answer.text().as_str(), answer.header("X-Fallback")),
        ("degraded", Some("fixed"))
    );
    assert_eq!(origin.count(), 0);
    let line = gateway.access_line("set");
    assert_eq!(
        (&line["fallback"], &line["fallback_cause"]),
        (&json!("fixed"), &json!("level"))
    );
    gateway.wait_for_metric("gateway_route_level", &[("route", "r")], 2.0);
    assert_eq!(
        gateway.metric("gateway_route_level", &[("route", "bare")]),
        0.0
    );
    degrade(&gateway, &["r", "off"]);
    let off = gateway.client().get("/").send().refused(503, "route_off");
    assert!(off.number("Retry-After") >= 1);
    gateway.wait_for_metric("gateway_route_level", &[("route", "r")], 3.0);
    degrade(&gateway, &["r", "normal"]);
    assert_eq!(gateway.client().get("/").send().seen().origin, "origin");
    assert_eq!(
        level(&gateway, "r"),
        json!({ "level": "normal", "operator": "normal", "own": "normal" })
    );
}

#[test]
fn the_fallback_may_be_another_upstream_or_what_was_kept() {
    let (_origin, _spare, gateway) = start();
    degrade(&gateway, &["other", "fallback"]);
    let answer = gateway.client().get("/other").send();
    assert_eq!(answer.header("X-Fallback"), Some("upstream"));
    assert_eq!(answer.seen().origin, "spare");
    gateway.client().get("/kept?1").send().expect(200);
    degrade(&gateway, &["kept", "fallback"]);
    let kept = gateway.client().get("/kept?1").send().expect(200);
    assert_eq!(kept.header("X-Fallback"), Some("last_good"));
    gateway
        .client()
        .get("/kept?2")
        .send()
        .refused(503, "route_off");
}

#[test]
fn the_fallback_holds_on_every_way_and_nobody_else_is_asked() {
    let (origin, spare) = (Origin::start(), Origin::named("spare"));
    let falls = Falls {
        api: Some(&origin),
        spare: Some(&spare),
        ..Falls::default()
    };
    let fixed = Falls {
        fallback: "text = \"degraded\"\n",
        ..falls
    };
    let elsewhere = Falls {
        fallback: "upstream = \"{spare}\"\n",
        ..falls
    };
    let [fixed, elsewhere] = [fixed, elsewhere].map(Falls::start);
    for way in ways() {
        degrade(&fixed, &[way.name(), "fallback"]);
        let answer = get(&fixed.client(), way, "/").send().expect(200);
        assert_eq!(answer.text(), "degraded", "{way}");
        degrade(&elsewhere, &[way.name(), "fallback"]);
        let seen = get(&elsewhere.client(), way, "/").send().seen();
        assert_eq!(seen.origin, "spare", "{way}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn lean_leaves_second_tries_out() {
    let (_origin, _spare, gateway) = start();
    for _ in 0..6 {
        gateway.client().get("/bare").send().expect(200);
    }
    degrade(&gateway, &["bare", "lean"]);
    let failed = (0..6).filter(|_| gateway.client().get("/bare").send().status == 502);
    assert_eq!(failed.count(), 3);
}

#[test]
fn what_makes_no_sense_is_refused_in_plain_words() {
    let (_origin, _spare, gateway) = start();
    gateway
        .run_cli(&["degrade"], &["bare", "fallback"])
        .expect(1)
        .says("route bare has no [route.fallback]");
    gateway
        .run_cli(&["degrade"], &["nobody", "off"])
        .expect(1)
        .says("there is no route nobody");
    gateway
        .run_cli(&["degrade"], &["r", "slow"])
        .expect(2)
        .says("none of normal, lean, fallback, off");
    gateway
        .run_cli(&["degrade"], &["r", "off", "--for", "5"])
        .expect(2)
        .says("no unit");
    gateway
        .run_cli(&["degrade"], &["r", "normal", "--for", "5m"])
        .expect(1)
        .says("set it without a time");
    gateway
        .run_cli(&["degrade"], &["r", "off", "--for", "90d"])
        .expect(1)
        .says("at most 30d");
    let put = |body: &Value| {
        let admin = gateway.admin();
        let request = admin_json(admin.request("PUT", "/api/v1/routes/r/level"), body);
        request.send().status
    };
    let off = json!({ "level": "off" });
    assert_eq!(put(&json!({ "levl": "off" })), 400);
    assert_eq!(level(&gateway, "r")["level"], "normal");
    assert_eq!(put(&off), 200);
    assert_eq!(level(&gateway, "r")["level"], "off");
}

#[test]
fn a_route_that_is_named_by_its_path_is_found() {
    let (_origin, _spare, gateway) = start();
    assert_eq!(
        degrade(&gateway, &["/by/path", "off"]),
        "route /by/path is set to off\n"
    );
    gateway
        .client()
        .get("/by/path")
        .send()
        .refused(503, "route_off");
    let (status, _) = gateway
        .over_socket(
            "PUT",
            "/api/v1/routes//by/path/level",
            b"{\"level\":\"normal\"}",
        )
        .unwrap();
    assert_eq!(status, 200);
    assert_eq!(
        gateway.client().get("/by/path").send().expect(200).text(),
        "own"
    );
}

#[test]
fn a_level_for_a_while_ends_by_itself_and_the_log_says_so() {
    let (_origin, _spare, gateway) = start();
    let said = degrade(&gateway, &["r", "off", "--for", "2s"]);
    assert!(said.starts_with("route r is set to off for "), "{said}");
    gateway.client().get("/").send().refused(503, "route_off");
    eventually(seconds(8), "the level ended", || {
        gateway.client().get("/").send().status == 200
    });
    gateway.wait_for_log(|line| {
        line["route"] == "r"
            && line["msg"]
                .as_str()
                .is_some_and(|msg| msg.contains("off ended"))
    });
}

#[test]
fn is_shown_by_status_routes_and_explain() {
    let (_origin, _spare, gateway) = start();
    degrade(&gateway, &["r", "fallback", "--for", "10m"]);
    gateway
        .run_cli(&["status"], &[])
        .expect(0)
        .says("LEVEL fallback of r, set by an operator");
    gateway
        .run_cli(&["routes"], &[])
        .expect(0)
        .says("r (fallback)");
    gateway
        .run_cli(&["explain"], &["GET", "/"])
        .expect(0)
        .says("decision  respond (200)")
        .says("fallback");
    let explain = |path: &str| {
        let question = json!({ "method": "GET", "url": path });
        gateway.admin_post("/api/v1/explain", &question).json()
    };
    assert_eq!(explain("/")["decision"], "respond");
    degrade(&gateway, &["other", "fallback"]);
    assert_eq!(explain("/other")["upstream"], "spare");
    degrade(&gateway, &["bare", "off"]);
    assert_eq!(explain("/bare")["decision"], "route_off");
    gateway
        .run_cli(&["explain"], &["GET", "/bare"])
        .expect(0)
        .says("decision  route_off (503)");
}

#[test]
fn survives_a_reload_an_upgrade_and_a_restart() {
    let (origin, spare) = (Origin::start(), Origin::named("spare"));
    let gateway = gateway(&origin, &spare).own_program().start();
    degrade(&gateway, &["r", "off"]);
    degrade(&gateway, &["bare", "lean", "--for", "1h"]);
    let still = |what: &str| {
        gateway.client().get("/").send().refused(503, "route_off");
        let bare = level(&gateway, "bare");
        assert_eq!(bare["operator"], "lean", "after {what}");
        let left = bare["left_seconds"].as_f64().unwrap();
        assert!((3500.0..3600.1).contains(&left), "after {what}: {left}");
        assert_eq!(level(&gateway, "other")["level"], "normal");
    };
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&text.replace("text = \"degraded\"", "text = \"changed\""));
    gateway.reload_ok();
    still("a reload");
    gateway.upgrade().expect(0);
    still("an upgrade");
}

#[test]
fn an_orderly_restart_forgets_nothing_either() {
    let (_origin, _spare, gateway) = start();
    degrade(&gateway, &["r", "off"]);
    gateway.restart(Signal::SIGTERM);
    gateway.client().get("/").send().refused(503, "route_off");
    gateway.client().get("/bare").send().expect(200);
}

#[test]
fn a_level_of_a_route_without_fallback_is_refused_by_check_too() {
    let text = ROUTES.replace(
        "id = \"bare\"\n",
        "id = \"bare\"\ndegrade = { on_breaker = \"fallback\" }\n",
    );
    let origin = Origin::answering(|_| Answer::echo());
    let ran = Gateway::with(&text)
        .to(&origin)
        .fill("dead", reserve())
        .fill("spare", reserve())
        .fails_to_start();
    ran.expect(1)
        .says("degrade.on_breaker")
        .says("the route has no [route.fallback]");
}

#[test]
fn a_level_whose_fallback_is_gone_is_told_of() {
    let (_origin, _spare, gateway) = start();
    degrade(&gateway, &["r", "fallback"]);
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&text.replace("[route.fallback]\ntext = \"degraded\"\n", ""));
    gateway.reload_ok();
    // There is nobody to answer in its place, so it does what it does when it is lean.
    assert_eq!(gateway.client().get("/").send().seen().origin, "origin");
    let said = "no fallback";
    gateway.wait_for_log(|line| {
        line["route"] == "r"
            && line["level"] == "warn"
            && line["msg"].as_str().is_some_and(|msg| msg.contains(said))
    });
    assert_eq!(level(&gateway, "r")["acts_as"], "lean");
    gateway.run_cli(&["status"], &[]).expect(0).says(
        "LEVEL fallback of r, set by an operator; the route has no fallback, so it acts as lean",
    );
    gateway
        .run_cli(&["explain"], &["GET", "/"])
        .expect(0)
        .says("fallback, as lean: the route has no fallback");
    gateway.rewrite(&text);
    gateway.reload_ok();
    let answer = gateway.client().get("/").send().expect(200);
    assert_eq!(answer.header("X-Fallback"), Some("fixed"));
    assert!(level(&gateway, "r")["acts_as"].is_null());
}

#[test]
fn an_open_breaker_sets_a_level_for_a_while() {
    let origin = Origin::answering(|seen| match seen.target.as_str() {
        "/good" => Answer::echo(),
        _ => Answer::status(503),
    });
    let gateway = Gateway::with(
        "[upstream.api]\nendpoints = [{ address = \"{origin}\" }]\n[upstream.api.retry]\nattempts = 0\n\
         [upstream.api.breaker]\nminimum_calls = 3\nwindow = 3\nopen_for = \"1s\"\nhalf_open_calls = 1\n\
         [[route]]\nid = \"r\"\npath = \"/**\"\nupstream = \"api\"\ndegrade = { on_breaker = \"off\", hold = \"2s\" }\n",
    )
    .to(&origin)
    .start();
    for _ in 0..3 {
        gateway.client().get("/").send().expect(503);
    }
    gateway
        .client()
        .get("/")
        .send()
        .refused(503, "breaker_open");
    // It takes the level as the request ends, a moment after its answer.
    eventually(seconds(5), "its own level is off", || {
        level(&gateway, "r")["own"] == "off"
    });
    gateway.client().get("/").send().refused(503, "route_off");
    eventually(seconds(15), "the route is back by itself", || {
        gateway.client().get("/good").send().status == 200
    });
    assert_eq!(level(&gateway, "r")["level"], "normal");
}
