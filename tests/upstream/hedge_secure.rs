//! A second try beside the first, towards endpoints that speak TLS.

use serde_json::Value;

use super::{endpoint, to};
use crate::harness::{Answer, Gateway, Nginx, Origin, Peer, Setup, eventually, millis, seconds};

const NAME: &str = "users.internal";

/// TLS in front of an origin. Who goes away here goes away there.
fn nginx(origin: &Origin, certificates: &Value) -> Nginx {
    let server = format!(
        "listen {{address}} ssl; ssl_certificate {{dir}}/server.pem; ssl_certificate_key {{dir}}/server.key;\n\
         client_max_body_size 1m;\n\
         location / {{ proxy_pass http://{}; proxy_set_header X-Connection $connection;\n\
         proxy_set_header X-Protocol $ssl_protocol; }}",
        origin.address()
    );
    let pem = |name: &str| certificates[name].as_str().unwrap();
    let files = [
        ("server.pem", pem("server")),
        ("server.key", pem("server_key")),
    ];
    Nginx::with(&server, &files)
}

fn config(endpoints: &str, sni: &str, more: &str) -> String {
    format!(
        "[upstream.api]\nendpoints = [{endpoints}]\ntls = {{ sni = \"{sni}\", ca = \"{{dir}}/ca.pem\" }}\n\
         [upstream.api.passive]\nmax_fails = 0\n[upstream.api.hedge]\nafter = \"60ms\"\n\
         [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n{more}\n"
    )
}

fn before(origins: [&Nginx; 2], certificates: &Value, more: &str) -> Setup {
    let endpoints: String = origins.iter().map(|o| endpoint(o.address(), "")).collect();
    Gateway::with(&config(&endpoints, NAME, more))
        .file("ca.pem", certificates["ca"].as_str().unwrap())
}

fn outcomes(gateway: &Gateway, outcome: &str) -> f64 {
    let labels = [("upstream", "api"), ("outcome", outcome)];
    gateway.metric("gateway_upstream_hedges_total", &labels)
}

#[test]
fn the_first_answer_wins_over_tls_and_the_other_is_cancelled() {
    let certificates = Peer::certificates(NAME);
    let slow = Origin::scripted("slow", |_| Answer::silence());
    let quick = Origin::named("quick");
    let (a, b) = (nginx(&slow, &certificates), nginx(&quick, &certificates));
    let gateway = before([&a, &b], &certificates, "").start();
    let mut client = gateway.client().connect();
    let mut connections = Vec::new();
    for _ in 0..6 {
        let seen = client.get("/").send().expect(200).seen();
        assert_eq!(seen.origin, "quick");
        assert!(seen.header("X-Protocol").unwrap().starts_with("TLSv1."));
        connections.push(seen.header("X-Connection").unwrap().to_owned());
    }
    assert_eq!((slow.count(), quick.count()), (3, 6));
    assert_eq!(
        (outcomes(&gateway, "won"), outcomes(&gateway, "lost")),
        (3.0, 0.0)
    );
    connections.dedup();
    assert_eq!(connections.len(), 1, "{connections:?}");
    eventually(seconds(4), "the late ones are let go", || slow.open() == 0);
}

#[test]
fn bodies_of_every_size_go_over_tls_twice() {
    let certificates = Peer::certificates(NAME);
    let slow = Origin::scripted("slow", |_| Answer::text("late").after(seconds(5)));
    let quick = Origin::named("quick");
    let (a, b) = (nginx(&slow, &certificates), nginx(&quick, &certificates));
    let gateway = before([&a, &b], &certificates, "hedge = true").start();
    for body in ["short", &"x".repeat(50_000)] {
        for _ in 0..2 {
            let client = gateway.client();
            let seen = client.post("/").body(body).send().expect(200).seen();
            assert_eq!(
                (seen.origin.as_str(), seen.body.len()),
                ("quick", body.len())
            );
        }
    }
    assert_eq!(outcomes(&gateway, "won"), 2.0);
    // Longer than what is kept for a second try: sent once, whole.
    let (slow, quick) = (Origin::named("slow"), Origin::named("quick"));
    let (a, b) = (nginx(&slow, &certificates), nginx(&quick, &certificates));
    let gateway = before([&a, &b], &certificates, "").start();
    let long = "y".repeat(600_000);
    let client = gateway.client();
    let seen = client.request("PUT", "/").body(&long).send().expect(200);
    assert_eq!(seen.seen().body.len(), long.len());
    assert_eq!(slow.count() + quick.count(), 1);
}

#[test]
fn who_is_not_trusted_any_more_is_not_asked_over_a_kept_connection() {
    let certificates = Peer::certificates(NAME);
    let origins = ["a", "b"].map(Origin::named);
    let fronts = origins
        .each_ref()
        .map(|origin| nginx(origin, &certificates));
    let gateway = before([&fronts[0], &fronts[1]], &certificates, "").start();
    for _ in 0..4 {
        gateway.client().get("/").send().expect(200);
    }
    let endpoints: String = fronts.iter().map(|o| endpoint(o.address(), "")).collect();
    gateway.rewrite(&config(&endpoints, "orders.internal", ""));
    gateway.reload();
    gateway
        .client()
        .get("/")
        .send()
        .refused(502, "upstream_connect");
}

#[test]
fn a_route_may_have_none_or_whatever_the_method() {
    let slow = Origin::scripted("slow", |_| Answer::echo().after(millis(400)));
    let quick = Origin::named("quick");
    let endpoints = to(&slow) + &to(&quick);
    let gateway = Gateway::with(&format!(
        "[upstream.api]\nendpoints = [{endpoints}]\npassive = {{ max_fails = 0 }}\nhedge = {{ after = \"50ms\" }}\n\
         [[route]]\nid = \"never\"\npath = \"/never\"\nupstream = \"api\"\nhedge = false\n\
         [[route]]\nid = \"reads\"\npath = \"/reads\"\nupstream = \"api\"\nhedge = true\n"
    ))
    .start();
    for _ in 0..2 {
        gateway.client().get("/never").send().expect(200);
    }
    assert_eq!((slow.count(), quick.count()), (1, 1));
    for _ in 0..2 {
        let seen = gateway.client().post("/reads").body("once").send();
        assert_eq!(seen.expect(200).seen().origin, "quick");
    }
    assert_eq!(outcomes(&gateway, "won"), 1.0);
    let explained = gateway.run_cli(&["explain", "GET", "/never"], &[]);
    assert!(
        explained.stdout.contains("not on this route"),
        "{}",
        explained.stdout
    );
}
