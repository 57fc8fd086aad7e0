//! gRPC through the gateway, by a client and a server of another make.

use serde_json::{Value, json};

use crate::harness::{Gateway, Http2, RpcServer, asking, eventually, millis, rpc, seconds};

fn before(server: &RpcServer, more: &str) -> Gateway {
    let toml = format!(
        "[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n\
         [upstream.rpc]\nendpoints = [{{ address = \"127.0.0.1:{}\" }}]\nhttp_version = \"2\"\n{more}\
         [[route]]\nid = \"rpc\"\npath = \"/t.T/**\"\nupstream = \"rpc\"\n",
        server.port
    );
    Gateway::with(&toml).start()
}

#[test]
fn every_kind_of_method_works() {
    let server = RpcServer::start();
    let gateway = before(&server, "");
    let asked = rpc()
        .arg("ask")
        .arg(gateway.listen().to_string())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.success(), "{errors}\n{}", gateway.stdout());
    let result: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let chat: Vec<String> = (0..20).map(|n| format!("re: {n}")).collect();
    assert_eq!(
        result,
        json!({
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
        })
    );
    // The client's patience ended the call upstream as well, with or without its help.
    eventually(seconds(5), "nothing is in flight", || {
        gateway.metric("gateway_requests_in_flight", &[("route", "rpc")]) == 0.0
    });
}

#[test]
fn a_client_of_http_1_reaches_an_upstream_of_http_2() {
    let server = RpcServer::start();
    let gateway = before(&server, "");
    // No trailers over HTTP/1: the head is all that tells.
    let answer = gateway
        .client()
        .post("/t.T/unary")
        .body(b"\0\0\0\0\x05hello")
        .header("Content-Type", "application/grpc")
        .header("TE", "trailers")
        .send()
        .expect(200);
    assert_eq!(answer.header("content-type"), Some("application/grpc"));
    assert_eq!(answer.body.bytes, b"\0\0\0\0\x06hello|");
}

#[test]
fn an_upstream_that_is_gone_is_a_502_and_one_that_comes_back_is_used() {
    let server = RpcServer::start();
    let gateway = before(&server, "[upstream.rpc.passive]\nmax_fails = 0\n");
    let ask = || {
        gateway
            .client()
            .post("/t.T/unary")
            .body(b"\0\0\0\0\0")
            .header("Content-Type", "application/grpc")
            .send()
    };
    ask().expect(200);
    drop(server);
    ask().refused(502, "upstream_connect");
}

#[test]
fn a_conversation_may_be_slow() {
    let server = RpcServer::start();
    let gateway = before(&server, "[server.client]\nbody_timeout = \"1s\"\n");
    let client = Http2::connect(gateway.listen());
    let request = asking("POST", "/t.T/sum")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let mut call = client.begin(request.body(()).unwrap(), true);
    // Three messages of one byte a second: far below any rate that is demanded of bodies.
    for n in 0..10 {
        let message = bytes::Bytes::from_static(b"\0\0\0\0\x01x");
        call.body.send_data(message, n == 9).unwrap();
        std::thread::sleep(millis(300));
    }
    let answer = call.wait().expect("an answer").expect(200);
    assert_eq!(answer.body, b"\0\0\0\0\x0210");
    assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
}

#[test]
fn the_upstream_is_told_how_much_time_is_left() {
    let server = RpcServer::start();
    let gateway = before(&server, "[upstream.rpc.timeout]\nrequest = \"4s\"\n");
    let left = |asked: &str| -> u64 {
        let client = gateway.client();
        let request = client.post("/t.T/left").body(b"\0\0\0\0\0");
        let request = request.header("Content-Type", "application/grpc");
        let answer = request
            .header("X-Request-Deadline", asked)
            .send()
            .expect(200);
        let text = String::from_utf8_lossy(&answer.body.bytes[5..]).into_owned();
        text.parse().unwrap_or_else(|_| panic!("{text:?}"))
    };
    assert!((3000..=4000).contains(&left("60000")));
    assert!((1000..=2000).contains(&left("2000")));
}
