//! A second try beside the first, towards endpoints that speak HTTP/2: the other is reset, its connection goes on.

use std::net::SocketAddr;
use std::time::Instant;

use super::endpoint;
use crate::harness::{
    Answer, Does, Gateway, Http2, Nginx, Origin, Peer, RpcServer, StreamOrigin, asking, eventually,
    millis, reserve, rpc, seconds,
};

const NEVER: Does = Does::Answers(seconds(30));

fn config(endpoints: [SocketAddr; 2], more: &str) -> String {
    let endpoints = endpoints.map(|address| endpoint(address, "")).concat();
    format!(
        "[server]\nthreads = 1\n[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n\
         [upstream.api]\nendpoints = [{endpoints}]\nhttp_version = \"2\"\n{more}\
         [upstream.api.passive]\nmax_fails = 0\n[upstream.api.hedge]\nafter = \"60ms\"\n\
         [[route]]\nid = \"calls\"\npath = \"/t.T/**\"\nupstream = \"api\"\nhedge = true\n\
         [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n"
    )
}

fn before(a: &StreamOrigin, b: &StreamOrigin) -> Gateway {
    Gateway::with(&config([a.address(), b.address()], "")).start()
}

fn outcomes(gateway: &Gateway, outcome: &str) -> f64 {
    let labels = [("upstream", "api"), ("outcome", outcome)];
    gateway.metric("gateway_upstream_hedges_total", &labels)
}

fn quick() -> StreamOrigin {
    StreamOrigin::start("quick", Does::Answers(millis(0)))
}

#[test]
fn the_first_answer_wins_and_the_stream_of_the_other_is_reset() {
    let (slow, quick) = (StreamOrigin::start("slow", NEVER), quick());
    let gateway = before(&slow, &quick);
    let client = Http2::connect(gateway.listen());
    for _ in 0..6 {
        let begun = Instant::now();
        let answer = client.get("/").expect(200);
        assert_eq!(answer.text(), "quick 0");
        assert_eq!(answer.trailers.expect("trailers")["x-trailer"], "seen");
        assert!(begun.elapsed() < seconds(5), "{:?}", begun.elapsed());
    }
    assert_eq!((slow.count(), quick.count()), (3, 6));
    assert_eq!(
        (outcomes(&gateway, "won"), outcomes(&gateway, "lost")),
        (3.0, 0.0)
    );
    eventually(seconds(5), "they are reset", || slow.given_up() == 3);
    // The connections that others share went on.
    assert_eq!((slow.connections(), quick.connections()), ((1, 1), (1, 1)));
    let upstreams = gateway.admin_get("/api/v1/upstreams").expect(200).json();
    for endpoint in upstreams[0]["endpoints"].as_array().unwrap() {
        assert_eq!(endpoint["in_flight"], 0, "{endpoint}");
    }
    // A client of HTTP/1 is told what it can be told.
    let answer = gateway.client().get("/").send().expect(200);
    assert_eq!(answer.text(), "quick 0");
    gateway.client().request("HEAD", "/").send().expect(200);
}

#[test]
fn the_first_may_still_win_and_the_second_is_reset() {
    let slow = StreamOrigin::start("slow", Does::Answers(millis(250)));
    let never = StreamOrigin::start("never", NEVER);
    // Each worker has connections of its own, and there is one.
    let gateway = before(&slow, &never);
    for _ in 0..2 {
        assert_eq!(
            gateway.client().get("/").send().expect(200).text(),
            "slow 0"
        );
    }
    eventually(seconds(5), "it is reset", || never.given_up() == 2);
    assert_eq!(never.connections(), (1, 1));
    assert_eq!(
        (outcomes(&gateway, "won"), outcomes(&gateway, "lost")),
        (1.0, 1.0)
    );
}

#[test]
fn bodies_go_twice_when_they_are_short_and_whole_when_they_are_long() {
    let (slow, quick) = (StreamOrigin::start("slow", NEVER), quick());
    let gateway = before(&slow, &quick);
    for length in [5, 50_000] {
        for _ in 0..2 {
            let client = gateway.client();
            let answer = client.post("/t.T/x").body("x".repeat(length)).send();
            assert_eq!(answer.expect(200).text(), format!("quick {length}"));
        }
    }
    assert_eq!(outcomes(&gateway, "won"), 2.0);
    let slow = StreamOrigin::start("slow", Does::Answers(millis(300)));
    let slower = StreamOrigin::start("slower", Does::Answers(millis(300)));
    let gateway = before(&slow, &slower);
    let client = gateway.client();
    let long = client.post("/t.T/x").body("x".repeat(600_000)).send();
    assert_eq!(long.expect(200).text(), "slow 600000");
    assert_eq!((slow.count(), slower.count()), (1, 0));
}

#[test]
fn a_try_that_fails_leaves_the_other_to_answer() {
    let late = || StreamOrigin::start("late", Does::Answers(millis(400)));
    let bad = StreamOrigin::start("bad", Does::Resets(millis(150)));
    let (late_a, late_b) = (late(), late());
    let gateway = before(&bad, &late_a);
    assert_eq!(
        gateway.client().get("/").send().expect(200).text(),
        "late 0"
    );
    assert_eq!((bad.count(), late_a.count()), (1, 1));
    assert_eq!(outcomes(&gateway, "won"), 1.0);
    let gateway = before(
        &late_b,
        &StreamOrigin::start("bad", Does::Resets(millis(50))),
    );
    assert_eq!(
        gateway.client().get("/").send().expect(200).text(),
        "late 0"
    );
    assert_eq!(outcomes(&gateway, "failed"), 1.0);
    // Nobody there at all.
    let gateway = Gateway::with(&config([reserve(), reserve()], "")).start();
    gateway
        .client()
        .get("/")
        .send()
        .refused(502, "upstream_connect");
}

#[test]
fn a_client_that_leaves_ends_both() {
    let origins = ["a", "b"].map(|name| StreamOrigin::start(name, NEVER));
    let gateway = before(&origins[0], &origins[1]);
    let client = gateway.client().get("/").begin();
    eventually(seconds(5), "both are asked", || {
        origins.iter().all(|origin| origin.count() == 1)
    });
    client.abort();
    eventually(seconds(5), "both are let go", || {
        origins.iter().all(|origin| origin.given_up() == 1)
    });
    let http2 = Http2::connect(gateway.listen());
    let asked = http2.begin(asking("GET", "/").body(()).unwrap(), false);
    eventually(seconds(5), "both are asked", || {
        origins.iter().all(|origin| origin.count() == 2)
    });
    asked.reset();
    eventually(seconds(5), "both are let go", || {
        origins.iter().all(|origin| origin.given_up() == 2)
    });
    assert_eq!(outcomes(&gateway, "lost"), 2.0);
}

#[test]
fn over_tls_too() {
    let certificates = Peer::certificates("users.internal");
    let pem = |name: &str| certificates[name].as_str().unwrap();
    let front = |origin: &Origin| {
        let server = format!(
            "listen {{address}} ssl http2; ssl_certificate {{dir}}/server.pem;\n\
             ssl_certificate_key {{dir}}/server.key;\n\
             location / {{ proxy_pass http://{}; proxy_set_header X-Protocol $server_protocol; }}",
            origin.address()
        );
        let files = [
            ("server.pem", pem("server")),
            ("server.key", pem("server_key")),
        ];
        Nginx::with(&server, &files)
    };
    let slow = Origin::scripted("slow", |_| Answer::silence());
    let quick = Origin::named("quick");
    let (a, b) = (front(&slow), front(&quick));
    let tls = "tls = { sni = \"users.internal\", ca = \"{dir}/ca.pem\" }\n";
    let gateway = Gateway::with(&config([a.address(), b.address()], tls))
        .file("ca.pem", pem("ca"))
        .start();
    for _ in 0..4 {
        let seen = gateway.client().get("/").send().expect(200).seen();
        assert_eq!(seen.origin, "quick");
        assert_eq!(seen.header("X-Protocol"), Some("HTTP/2.0"));
    }
    assert_eq!(outcomes(&gateway, "won"), 2.0);
    eventually(seconds(5), "the late ones are let go", || slow.open() == 0);
}

#[test]
fn calls_of_every_kind_pass_as_they_do_without() {
    let servers = [RpcServer::start(), RpcServer::start()];
    let address = |server: &RpcServer| SocketAddr::from(([127, 0, 0, 1], server.port));
    let gateway = Gateway::with(&config(servers.each_ref().map(address), "")).start();
    let mut ask = rpc();
    let asked = ask.arg("ask").arg(gateway.listen().to_string()).output();
    let asked = asked.unwrap();
    let errors = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.success(), "{errors}\n{}", gateway.stdout());
    let result: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    let chat: Vec<String> = (0..20).map(|n| format!("re: {n}")).collect();
    let expected = serde_json::json!({
        "unary": "hello|yes",
        "trailer": "seen",
        "large": 900_001,
        "fails": ["FAILED_PRECONDITION", "not today"],
        "unknown": ["UNIMPLEMENTED", "Method not found!"],
        "deadline": ["DEADLINE_EXCEEDED", true],
        "many": 1000,
        "sum": "500000",
        "chat": chat,
        "at_once": 500,
    });
    assert_eq!(result, expected);
    eventually(seconds(5), "nothing is in flight", || {
        gateway.metric("gateway_requests_in_flight", &[("route", "calls")]) == 0.0
    });
}
