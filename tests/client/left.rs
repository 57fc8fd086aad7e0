//! Clients that leave: what stands of them in the records, and that nobody else is blamed.

use crate::harness::{
    Answer, Connection, Gateway, Http2, Origin, Setup, asking, eventually, millis, seconds,
};

/// Every way to an upstream, and every place in which a client may be waiting.
fn setup() -> Setup {
    Gateway::with(
        r#"
        [[listener]]
        name = "public"
        address = "{listen}"
        http2 = true
        [auth.signed]
        type = "signature"
        scheme = "ca"
        require_body_digest = true
        apps = { "key" = { secret = "0123456789abcdef0123456789abcdef" } }
        [limit.turns]
        key = "client_ip"
        algorithm = "leaky_bucket"
        rate = "1/m"
        burst = 5
        max_delay = "60s"
        [upstream.api]
        endpoints = [{ address = "{origin}" }]
        [upstream.hedged]
        endpoints = [{ address = "{origin}" }, { address = "{other}" }]
        hedge = { after = "20s" }
        [upstream.few]
        endpoints = [{ address = "{origin}" }]
        concurrency = { max = 1, queue = 5, queue_timeout = "25s" }
        [[route]]
        id = "api"
        path = "/api/**"
        upstream = "api"
        [[route]]
        id = "hedged"
        path = "/hedged/**"
        upstream = "hedged"
        [[route]]
        id = "few"
        path = "/few/**"
        upstream = "few"
        [[route]]
        id = "turns"
        path = "/turns/**"
        timeout = "100s"
        limits = ["turns"]
        upstream = "api"
        [[route]]
        id = "signed"
        path = "/signed/**"
        auth = ["signed"]
        upstream = "api"
        "#,
    )
}

/// Says nothing, or begins an answer, or answers.
fn origin() -> Origin {
    Origin::answering(|seen| match seen.target.rsplit('/').next() {
        Some("silent") => Answer::silence(),
        Some("begins") => {
            Answer::raw_then_silence("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        }
        _ => Answer::echo(),
    })
}

fn send(gateway: &Gateway, trace: &str, head: &str, rest: &str) -> Connection {
    let mut connection = gateway.client().connect();
    connection
        .write(format!(
            "{head} HTTP/1.1\r\nHost: a\r\nX-Trace-ID: {trace}\r\n{rest}"
        ))
        .unwrap();
    connection
}

#[track_caller]
fn is_gone(gateway: &Gateway, trace: &str, status: u16) {
    let line = gateway.access_line(trace);
    assert_eq!(
        (line["status"].as_u64(), line["reason"].as_str()),
        (Some(status.into()), Some("client_gone")),
        "{line}"
    );
}

fn counted(gateway: &Gateway, route: &str, count: f64) {
    let labels = [("routeId", route), ("status", "499")];
    gateway.wait_for_metric("gateway_requests_by_route_total", &labels, count);
}

#[test]
fn who_leaves_while_the_upstream_thinks() {
    let (origin, other) = (origin(), origin());
    let gateway = setup().to(&origin).fill("other", other.address()).start();
    for (n, route) in ["api", "hedged"].into_iter().enumerate() {
        let head = format!("GET /{route}/silent");
        for (end, abort) in [("fin", false), ("rst", true)] {
            let trace = format!("{route}-{end}");
            let connection = send(&gateway, &trace, &head, "\r\n");
            let asked = n * 4 + if abort { 2 } else { 1 };
            eventually(seconds(5), "it was asked", || {
                origin.count() + other.count() == asked
            });
            if abort {
                connection.abort();
            } else {
                drop(connection);
            }
            is_gone(&gateway, &trace, 499);
        }
        // One stream given up, and a connection with a stream that ends.
        let client = Http2::connect(gateway.listen());
        for end in ["stream", "connection"] {
            let trace = format!("{route}-{end}");
            let request = asking("GET", &format!("/{route}/silent")).header("x-trace-id", &trace);
            let asked = client.begin(request.body(()).unwrap(), false);
            let count = n * 4 + if end == "stream" { 3 } else { 4 };
            eventually(seconds(5), "it was asked", || {
                origin.count() + other.count() == count
            });
            if end == "stream" {
                asked.reset();
                is_gone(&gateway, &trace, 499);
            }
        }
        drop(client);
        is_gone(&gateway, &format!("{route}-connection"), 499);
        counted(&gateway, route, 4.0);
    }
    // Neither answers nor refusals.
    let text = gateway.metrics_text();
    assert!(
        !text.contains("gateway_requests_seconds_count{route=\"api\""),
        "{text}"
    );
    assert!(
        text.contains("gateway_refused_total{route=\"api\",reason=\"client_gone\"} 4"),
        "{text}"
    );
    let routes = gateway.admin_get("/api/v1/routes").json();
    assert!(!routes.to_string().contains("5xx\":1"), "{routes}");
}

#[test]
fn who_leaves_an_upgrade_that_is_not_answered() {
    let (origin, other) = (origin(), origin());
    let gateway = setup().to(&origin).fill("other", other.address()).start();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let connection = send(&gateway, "upgrade", "GET /api/silent", upgrade);
    eventually(seconds(5), "it was asked", || origin.count() == 1);
    drop(connection);
    is_gone(&gateway, "upgrade", 499);
}

#[test]
fn who_leaves_within_its_body() {
    let (origin, other) = (origin(), origin());
    let gateway = setup().to(&origin).fill("other", other.address()).start();
    let signature = "X-Ca-Key: key\r\nX-Ca-Nonce: n\r\nX-Ca-Signature: eA==\r\n\
        X-Ca-Signature-Headers: x-ca-key,x-ca-nonce,x-ca-timestamp\r\n";
    for (trace, head, fields) in [
        ("streamed", "POST /api/x", ""),
        ("hedged", "POST /hedged/x", ""),
        ("buffered", "POST /signed/x", signature),
    ] {
        let now = crate::harness::unix_millis();
        let stamp =
            format!("X-Ca-Timestamp: {now}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
        for (n, framing) in [
            "Content-Length: 30\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ]
        .into_iter()
        .enumerate()
        {
            let trace = format!("{trace}-{n}");
            let connection = send(&gateway, &trace, head, &format!("{fields}{stamp}{framing}"));
            std::thread::sleep(millis(100));
            drop(connection);
            is_gone(&gateway, &trace, 499);
        }
    }
    let client = Http2::connect(gateway.listen());
    let request = asking("POST", "/api/x").header("x-trace-id", "http2");
    let mut asked = client.begin(request.body(()).unwrap(), true);
    asked.body.send_data("abc".into(), false).unwrap();
    std::thread::sleep(millis(100));
    asked.reset();
    is_gone(&gateway, "http2", 499);
    assert_eq!(origin.count() + other.count(), 0);
}

#[test]
fn who_leaves_while_it_waits_for_a_place() {
    let (origin, other) = (origin(), origin());
    let gateway = setup().to(&origin).fill("other", other.address()).start();
    let _holder = send(&gateway, "holder", "GET /few/silent", "\r\n");
    eventually(seconds(5), "it has the place", || origin.count() == 1);
    let waiting = send(&gateway, "place", "GET /few/x", "\r\n");
    gateway.wait_for_metric("gateway_upstream_queued", &[("upstream", "few")], 1.0);
    drop(waiting);
    is_gone(&gateway, "place", 499);
}

#[test]
fn who_leaves_while_it_waits_for_its_turn() {
    let (origin, other) = (origin(), origin());
    let gateway = setup().to(&origin).fill("other", other.address()).start();
    gateway.client().get("/turns/x").send().expect(200);
    let waiting = send(&gateway, "turn", "GET /turns/x", "\r\n");
    std::thread::sleep(millis(300));
    drop(waiting);
    is_gone(&gateway, "turn", 499);
    assert_eq!(origin.count(), 1);
}

#[test]
fn who_leaves_while_nobody_takes_the_connection() {
    // A listener whose queue is full answers no more.
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener
        .bind(
            &"127.0.0.1:0"
                .parse::<std::net::SocketAddr>()
                .unwrap()
                .into(),
        )
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let _full: Vec<_> = (0..4)
        .map(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        })
        .collect();
    let gateway = Gateway::with(&format!(
        "[upstream.api]\nendpoints = [{{ address = \"{address}\" }}]\ntimeout = {{ connect = \"20s\" }}\n\
         [[route]]\nid = \"api\"\npath = \"/**\"\nupstream = \"api\"\n"
    ))
    .start();
    let connection = send(&gateway, "connecting", "GET /x", "\r\n");
    std::thread::sleep(millis(300));
    drop(connection);
    is_gone(&gateway, "connecting", 499);
}

#[test]
fn who_leaves_within_an_answer_keeps_its_status() {
    let (origin, other) = (origin(), origin());
    let gateway = setup().to(&origin).fill("other", other.address()).start();
    for route in ["api", "hedged"] {
        let mut connection = send(&gateway, route, &format!("GET /{route}/begins"), "\r\n");
        assert_eq!(connection.bytes(15).unwrap(), b"HTTP/1.1 200 OK");
        connection.abort();
        is_gone(&gateway, route, 200);
        let labels = [("routeId", route), ("status", "200")];
        gateway.wait_for_metric("gateway_requests_by_route_total", &labels, 1.0);
    }
    let client = Http2::connect(gateway.listen());
    let request = asking("GET", "/api/begins").header("x-trace-id", "http2");
    let asked = client.begin(request.body(()).unwrap(), false);
    eventually(seconds(5), "it was asked", || {
        origin.count() + other.count() == 3
    });
    std::thread::sleep(millis(200));
    asked.reset();
    is_gone(&gateway, "http2", 200);
}

#[test]
fn a_stream_that_breaks_the_rules_is_no_client_that_left() {
    let (origin, other) = (origin(), origin());
    let gateway = setup().to(&origin).fill("other", other.address()).start();
    let client = Http2::connect(gateway.listen());
    let request = asking("POST", "/api/x")
        .header("x-trace-id", "short")
        .header("content-length", "30");
    let mut asked = client.begin(request.body(()).unwrap(), true);
    asked.body.send_data("abc".into(), true).unwrap();
    assert!(asked.wait().is_err());
    let line = gateway.access_line("short");
    assert_eq!(line["reason"], "bad_request", "{line}");
}
