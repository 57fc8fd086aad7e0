//! A route whose requests are shed does less of its work for a while.

use serde_json::Value;

use crate::harness::{Answer, Connection, Gateway, Origin, Setup, eventually, seconds};

fn origin() -> Origin {
    Origin::answering(|seen| match seen.target.as_str() {
        "/never" | "/free/never" => Answer::silence(),
        _ => Answer::echo(),
    })
}

/// A route `r` with one place at its upstream and these keys, and one beside it that needs no place there.
fn gateway(keys: &str, server: &str) -> Setup {
    Gateway::with(&format!(
        "[upstream.api]\nendpoints = [{{ address = \"{{origin}}\" }}]\nconcurrency = {{ max = 1, queue = 0 }}\n\
         [upstream.free]\nendpoints = [{{ address = \"{{origin}}\" }}]\n\
         [[route]]\nid = \"r\"\npath = \"/**\"\nupstream = \"api\"\n{keys}\n\
         [[route]]\nid = \"free\"\npath = \"/free/**\"\nupstream = \"free\"\n{server}\n"
    ))
}

fn hold(gateway: &Gateway, origin: &Origin, target: &str) -> Connection {
    let before = origin.count();
    let held = gateway.client().get(target).begin();
    eventually(seconds(5), "it arrived", || origin.count() == before + 1);
    held
}

/// Waits for the level that the route takes by itself: it does so as the request ends, a moment after its answer.
#[track_caller]
fn takes(gateway: &Gateway, own: &str) {
    eventually(seconds(5), own, || level(gateway)["own"] == own);
}

fn level(gateway: &Gateway) -> Value {
    let routes = gateway.admin_get("/api/v1/routes").json();
    let mut routes = routes.as_array().unwrap().iter();
    routes.find(|one| one["id"] == "r").unwrap()["policy"]["level"].clone()
}

#[test]
fn shedding_at_an_upstream_turns_to_the_fallback_for_a_while() {
    let origin = origin();
    let keys =
        "degrade = { on_overload = \"fallback\", hold = \"2s\" }\nfallback = { text = \"later\" }";
    let gateway = gateway(keys, "").to(&origin).start();
    let held = hold(&gateway, &origin, "/never");
    gateway.client().get("/x").send().refused(503, "overloaded");
    takes(&gateway, "fallback");
    // From now on nobody is asked, and so nothing is shed.
    let answer = gateway.client().get("/x").send().expect(200);
    assert_eq!(answer.header("X-Fallback"), Some("fixed"));
    assert_eq!(level(&gateway)["level"], "fallback");
    gateway.wait_for_metric("gateway_route_level", &[("route", "r")], 2.0);
    gateway
        .run_cli(&["status"], &[])
        .expect(0)
        .says("LEVEL fallback of r, by itself");
    gateway.wait_for_log(|line| {
        line["route"] == "r"
            && line["level"] == "warn"
            && line["msg"]
                .as_str()
                .is_some_and(|msg| msg.contains("requests are shed"))
    });
    drop(held);
    eventually(seconds(10), "it is back by itself", || {
        let answer = gateway.client().get("/x").send().expect(200);
        answer.header("X-Fallback").is_none()
    });
    assert_eq!(level(&gateway)["level"], "normal");
}

#[test]
fn a_request_that_is_shed_itself_gets_the_fallback_where_that_is_wanted() {
    let origin = origin();
    let keys = "degrade = { on_overload = \"lean\", hold = \"2s\" }\nfallback = { on = [\"overloaded\"], text = \"later\" }";
    let gateway = gateway(keys, "").to(&origin).start();
    let _held = hold(&gateway, &origin, "/never");
    for _ in 0..2 {
        let answer = gateway.client().get("/x").send().expect(200);
        assert_eq!(answer.header("X-Fallback"), Some("fixed"));
        takes(&gateway, "lean");
    }
}

#[test]
fn shedding_at_the_door_of_the_gateway_counts_as_well() {
    let origin = origin();
    let keys = "degrade = { on_overload = \"off\", hold = \"2s\" }";
    let server = "[server.overload]\nmax_in_flight = 1\n";
    let gateway = gateway(keys, server).to(&origin).start();
    let held = hold(&gateway, &origin, "/free/never");
    gateway.client().get("/x").send().refused(503, "overloaded");
    takes(&gateway, "off");
    drop(held);
    eventually(seconds(5), "the door is free", || {
        gateway.client().get("/free").send().status == 200
    });
    gateway.wait_for_metric("gateway_requests_in_flight", &[], 0.0);
    gateway.client().get("/x").send().refused(503, "route_off");
    eventually(seconds(10), "it is back by itself", || {
        gateway.client().get("/x").send().status == 200
    });
}
