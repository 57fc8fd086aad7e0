//! gRPC through the gateway, by a client and a server of another make.

use serde_json::{Value, json};

use crate::harness::{
    END_HEADERS, END_STREAM, Frames, Gateway, Http2, RpcServer, asking, eventually, get, kind,
    millis, rpc, seconds,
};

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
    // Who says that it takes trailers gets them.
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
    let status = ("grpc-status".to_owned(), "0".to_owned());
    assert!(answer.body.trailers.contains(&status), "{answer:?}");
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

/// Refuses calls in several ways.
fn refusing(server: &RpcServer) -> Gateway {
    let toml = format!(
        "[server.client]\nmax_header_bytes = \"4KiB\"\n\
         [[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n\
         [auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"0123456789abcdef0123456789abcdef\"\n\
         [limit.one]\nkey = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"1/m\"\nburst = 1\n\
         [upstream.rpc]\nendpoints = [{{ address = \"127.0.0.1:{}\" }}]\nhttp_version = \"2\"\n\
         [upstream.gone]\nendpoints = [{{ address = \"127.0.0.1:1\" }}]\nhttp_version = \"2\"\n\
         [[route]]\nid = \"closed\"\npath = \"/t.T/closed\"\nauth = [\"app\"]\nupstream = \"rpc\"\n\
         [[route]]\nid = \"barred\"\npath = \"/t.T/barred\"\ndeny_ips = [\"0.0.0.0/0\"]\nupstream = \"rpc\"\n\
         [[route]]\nid = \"limited\"\npath = \"/t.T/limited\"\nlimits = [\"one\"]\nupstream = \"rpc\"\n\
         [[route]]\nid = \"get\"\npath = \"/t.T/get\"\nmethods = [\"GET\"]\nupstream = \"rpc\"\n\
         [[route]]\nid = \"gone\"\npath = \"/t.T/gone\"\nupstream = \"gone\"\n\
         [[route]]\nid = \"away\"\npath = \"/t.T/away\"\nupstream = \"rpc\"\n\
         maintenance = {{ enabled = true, text = \"back soon\" }}\n",
        server.port
    );
    Gateway::with(&toml).start()
}

/// `(method, status of HTTP, status of gRPC)` of calls that are refused.
const REFUSED: [(&str, u16, &str); 6] = [
    ("closed", 401, "16"),
    ("barred", 403, "7"),
    ("nowhere", 404, "12"),
    ("get", 405, "2"),
    ("gone", 502, "14"),
    ("away", 503, "14"),
];

#[test]
fn refusals_are_trailers_alone() {
    let server = RpcServer::start();
    let gateway = refusing(&server);
    let client = Http2::connect(gateway.listen());
    let ask = |target: &str, padding: usize| {
        let request = asking("POST", target)
            .header("content-type", "application/grpc+proto")
            .header("x-padding", "x".repeat(padding))
            .header("te", "trailers");
        client.send(request, Some(b"\0\0\0\0\x02hi"))
    };
    let refused = |target: &str, padding, status, code: &str| {
        let answer = ask(target, padding).expect(status);
        assert_eq!(answer.header("grpc-status"), Some(code), "{target}");
        let message = answer.header("grpc-message").unwrap_or_default();
        assert!(!message.is_empty(), "{answer:?}");
        // Fields of a head count as trailers only where nothing follows them.
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        assert!(
            answer.body.is_empty() && answer.trailers.is_none(),
            "{answer:?}"
        );
        assert!(answer.header("x-trace-id").is_some());
    };
    for (method, status, code) in REFUSED {
        refused(&format!("/t.T/{method}"), 0, status, code);
    }
    // The stream ends with the head itself, not with an empty frame behind it.
    let mut frames = Frames::open(gateway.listen());
    let mut fields = get("/t.T/closed").to_vec();
    fields.push(("content-type", "application/grpc"));
    frames.head(1, END_HEADERS | END_STREAM, &fields);
    let head = std::iter::from_fn(|| frames.read()).find(|frame| frame.kind == kind::HEADERS);
    assert_eq!(head.expect("an answer").flags & END_STREAM, END_STREAM);
    ask("/t.T/limited", 0).expect(200);
    refused("/t.T/limited", 0, 429, "14");
    // Of heads that are not read to their end, and of paths that have no single meaning.
    refused("/t.T/closed", 5000, 431, "2");
    refused("/t.T/a%2fb", 0, 400, "13");
}

#[test]
fn a_library_of_grpc_understands_them() {
    let server = RpcServer::start();
    let gateway = refusing(&server);
    let methods = REFUSED.map(|(method, ..)| method);
    let asked = rpc()
        .arg("refused")
        .arg(gateway.listen().to_string())
        .args(methods)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.success(), "{errors}\n{}", gateway.stdout());
    let result: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let names = [
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "UNIMPLEMENTED",
        "UNKNOWN",
        "UNAVAILABLE",
        "UNAVAILABLE",
    ];
    for ((method, status, _), name) in REFUSED.into_iter().zip(names) {
        let said = &result[method];
        assert_eq!(said[0], name, "{method}: {result}");
        // The words are ours, not the library's guess at the status.
        let words = said[1].as_str().unwrap_or_default();
        assert!(!words.contains(&status.to_string()), "{result}");
    }
}

#[test]
fn over_http_1_the_body_stays() {
    let server = RpcServer::start();
    let gateway = refusing(&server);
    for kind in ["application/grpc", "application/grpc-web+proto"] {
        let client = gateway.client();
        let answer = client
            .post("/t.T/closed")
            .body(b"\0\0\0\0\0")
            .header("Content-Type", kind)
            .send();
        assert_eq!(answer.header("grpc-status"), Some("16"));
        assert!(answer.header("grpc-message").is_some());
        answer.refused(401, "token_missing");
        let unread = client
            .get("/x")
            .header("content-type", kind)
            .header("X-Padding", "x".repeat(5000))
            .send();
        assert_eq!(unread.header("grpc-status"), Some("2"));
        unread.refused(431, "headers_too_large");
    }
    let other = gateway.client().post("/t.T/closed").send();
    assert_eq!(other.header("grpc-status"), None);
}
