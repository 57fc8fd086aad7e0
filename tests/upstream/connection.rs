//! How the gateway talks to an endpoint.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{before, endpoint, to};
use crate::harness::{Answer, Folder, Origin, eventually, millis, seconds};

#[test]
fn the_clients_host_goes_on_unless_configured() {
    let origin = Origin::start();
    let gateway = before(&to(&origin), "").start();
    let seen = gateway
        .client()
        .get("/")
        .host("shop.example.com")
        .send()
        .seen();
    assert_eq!(seen.values("host"), ["shop.example.com"]);
    let gateway = before(&to(&origin), "host = \"users.internal\"").start();
    let seen = gateway
        .client()
        .get("/")
        .host("shop.example.com")
        .send()
        .seen();
    assert_eq!(seen.values("host"), ["users.internal"]);
    assert_eq!(seen.values("x-forwarded-host"), ["shop.example.com"]);
}

#[test]
fn upstream_connections_are_used_again() {
    let origin = Origin::start();
    let gateway = before(&to(&origin), "").start();
    for _ in 0..30 {
        gateway.client().get("/").send().expect(200);
    }
    // One per worker thread at most, however many clients there were.
    assert!(
        origin.connections() <= 4,
        "{} connections for 30 requests",
        origin.connections()
    );
}

#[test]
fn idle_upstream_connections_are_closed_in_time() {
    let origin = Origin::start();
    let gateway = before(&to(&origin), "idle_timeout = \"500ms\"").start();
    gateway.client().get("/").send().expect(200);
    assert_eq!(origin.open(), 1);
    eventually(seconds(5), "the idle connection is closed", || {
        origin.open() == 0
    });
    gateway.client().get("/").send().expect(200);
}

#[test]
fn an_upstream_that_says_close_is_not_asked_again() {
    let origin = Origin::answering(|_| {
        Answer::text("bye")
            .header("Connection", "close")
            .then_close()
    });
    let gateway = before(&to(&origin), "").start();
    let mut connection = gateway.client().connect();
    for n in 1..=5 {
        assert_eq!(connection.get("/").send().expect(200).text(), "bye");
        assert_eq!(origin.connections(), n);
    }
}

#[test]
fn a_host_name_is_resolved() {
    let origin = Origin::start();
    let endpoint = format!("{{ address = \"localhost:{}\" }}", origin.address().port());
    let gateway = before(&endpoint, "").start();
    for _ in 0..10 {
        gateway.client().get("/").send().expect(200);
    }
    assert_eq!(origin.count(), 10);
}

#[test]
fn a_host_name_that_does_not_resolve_leaves_no_endpoint() {
    let endpoint = "{ address = \"no-such-host.invalid:80\" }";
    let gateway = before(endpoint, "").start();
    let response = gateway.client().get("/").send();
    assert!(
        matches!(
            (response.status, response.code().as_deref()),
            (503, Some("no_endpoint")) | (502, Some("upstream_connect"))
        ),
        "{response:?}"
    );
    let shown = || gateway.admin_get("/api/v1/upstreams").expect(200).text();
    eventually(seconds(15), "the reason is shown", || {
        shown().contains("\"discovery_error\": \"no-such-host.invalid cannot be resolved: ")
    });
    let status = gateway.run_cli(&["status"], &[]).expect(0);
    status.says("no endpoint is known: no-such-host.invalid cannot be resolved: ");
}

#[test]
fn the_origin_sees_plain_framing_of_our_own() {
    let origin = Origin::start();
    let gateway = before(&to(&origin), "").start();
    let client = gateway.client();
    let seen = client.post("/").chunked(&["one ", "two"]).send().seen();
    assert_eq!(seen.body, b"one two");
    assert_eq!(
        seen.values("transfer-encoding").len() + seen.values("content-length").len(),
        1,
        "{:?}",
        seen.headers
    );
    let seen = client.post("/").body("three").send().seen();
    assert_eq!(
        (
            seen.values("content-length"),
            seen.values("transfer-encoding")
        ),
        (vec!["5"], vec![])
    );
    let seen = client.get("/").send().seen();
    assert!(
        seen.values("content-length").is_empty() && seen.values("transfer-encoding").is_empty(),
        "{:?}",
        seen.headers
    );
    assert_eq!(seen.version, "HTTP/1.1");
}

#[test]
fn an_http_1_0_client_is_served() {
    let origin = Origin::answering(|_| Answer::chunked(&["a", "b"]));
    let gateway = before(&to(&origin), "").start();
    let response = gateway.client().get("/").http_1_0().send().expect(200);
    assert_eq!(response.text(), "ab");
    assert_eq!(response.header("transfer-encoding"), None, "{response:?}");
    assert_eq!(origin.last().version, "HTTP/1.1");
}

#[test]
fn a_large_upload_streams_through() {
    let origin = Origin::start();
    // The last line of the configuration belongs to its route.
    let gateway = before(&to(&origin), "")
        .append("max_body = \"8MiB\"\n")
        .start();
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 253) as u8).collect();
    gateway.client().post("/").body(&body).send().expect(200);
    assert!(origin.last().body == body);
}

#[test]
fn slow_and_fast_requests_do_not_wait_for_each_other() {
    let origin = Origin::answering(|seen| match seen.target.as_str() {
        "/slow" => Answer::text("slow").after(millis(1500)),
        _ => Answer::text("fast"),
    });
    let gateway = before(&to(&origin), "").start();
    let mut slow: Vec<_> = (0..8)
        .map(|_| gateway.client().get("/slow").begin())
        .collect();
    let start = std::time::Instant::now();
    for _ in 0..20 {
        gateway.client().get("/fast").send().expect(200);
    }
    assert!(start.elapsed() < millis(1200), "{:?}", start.elapsed());
    slow.iter_mut()
        .for_each(|c| drop(c.response("GET").unwrap().expect(200)));
}

#[test]
fn an_endpoint_s_name_may_end_in_a_dot() {
    let origin = Origin::start();
    let port = origin.address().port();
    let endpoint = format!("{{ address = \"localhost.:{port}\" }}");
    let check = "health = { path = \"/check\", interval = \"100ms\" }";
    let gateway = before(&endpoint, check).start();
    eventually(seconds(10), "the name is known", || {
        gateway.client().get("/x").send().status == 200
    });
    let checks = || {
        origin
            .seen()
            .into_iter()
            .filter(|seen| seen.target == "/check")
    };
    eventually(seconds(10), "a check", || checks().next().is_some());
    let host = format!("localhost:{port}");
    assert!(checks().all(|seen| seen.values("host") == [&*host]));
    let listed = gateway.admin_get("/api/v1/upstreams").expect(200).text();
    assert!(listed.contains(&format!("localhost.:{port}")), "{listed}");
    for (name, good) in [
        ("a.example.", true),
        ("a.", true),
        ("a..", false),
        (".", false),
        (".a.", false),
        ("127.0.0.1.", false),
        ("1.", false),
    ] {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:8080\"\n[upstream.u]\nendpoints = [{{ address = \"{name}:80\" }}]\n\
             [[route]]\npath = \"/\"\nupstream = \"u\"\nhosts = [\"A.example.\"]\n"
        );
        let ran = Folder::with(&text).check();
        assert_eq!(ran.code, i32::from(!good), "{name}: {ran:?}");
    }
}

/// An origin that gives this head to each request; the second number counts its connections.
fn saying(head: &'static str) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                // A request without a body comes in one piece.
                while matches!(socket.read(&mut piece), Ok(1..)) {
                    let _ = socket.write_all(head.as_bytes());
                }
            });
        }
    });
    (address, count)
}

#[test]
fn a_connection_is_not_kept_where_a_body_may_follow_that_none_may_have() {
    for (head, status, connections) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, 1),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            204,
            1,
        ),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            204,
            3,
        ),
        (
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            204,
            3,
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            304,
            1,
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
            304,
            3,
        ),
    ] {
        let (address, count) = saying(head);
        let gateway = before(&endpoint(address, ""), "")
            .append("[server]\nthreads = 1\n")
            .start();
        for _ in 0..3 {
            gateway.client().get("/").send().expect(status);
        }
        assert_eq!(count.load(Ordering::SeqCst), connections, "{head:?}");
    }
}
