//! Which parts of the road a request made inside the process takes, and how it is told apart.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tollgate::gateway::internal::{Internal, Parts};

use super::gateway::{Asked, Inside};
use super::harness::{Answer, Metrics, Origin};

fn place() -> (Inside, Origin) {
    let origin = Origin::answering(|_| Answer::text("fine"));
    let toml = format!(
        r#"
        [upstream.plain]
        endpoints = [{{ address = "{}" }}]
        [auth.app]
        type = "jwt"
        algorithms = ["HS256"]
        secret = "a secret of this test, long enough for HS256"
        [limit.once]
        key = "route"
        algorithm = "quota"
        quota = 1
        window = "day"
        [[route]]
        id = "private"
        path = "/private"
        auth = ["app"]
        upstream = "plain"
        [[route]]
        id = "counted"
        path = "/counted"
        limits = ["once"]
        deny_ips = ["192.0.2.0/24"]
        upstream = "plain"
        [[route]]
        id = "small"
        path = "/small"
        max_body = "1KiB"
        json_depth = 3
        upstream = "plain"
        "#,
        origin.address()
    );
    (Inside::start(&toml), origin)
}

fn status(gateway: &Inside, asked: &Asked, parts: Parts) -> u16 {
    let answer = gateway.ask(gateway.request(asked, parts)).unwrap();
    answer.head.status().as_u16()
}

#[test]
fn it_is_asked_who_it_is_unless_that_was_asked_before() {
    let (gateway, _origin) = place();
    let private = Asked::new("GET", "/private");
    assert_eq!(status(&gateway, &private, Parts::ALL), 401);
    assert_eq!(status(&gateway, &private, Parts::ACCESS), 401);
    assert_eq!(status(&gateway, &private, Parts::NONE), 200);
}

#[test]
fn it_is_counted_by_limits_unless_the_one_that_made_it_was() {
    let (gateway, _origin) = place();
    let counted = Asked::new("GET", "/counted");
    for _ in 0..3 {
        assert_eq!(status(&gateway, &counted, Parts::ACCESS), 200);
        assert_eq!(status(&gateway, &counted, Parts::NONE), 200);
    }
    assert_eq!(status(&gateway, &counted, Parts::ALL), 200);
    assert_eq!(status(&gateway, &counted, Parts::ALL), 429);
    assert_eq!(status(&gateway, &counted, Parts::ACCESS), 200);
}

#[test]
fn what_a_request_may_look_like_holds_whoever_makes_it() {
    let (gateway, origin) = place();
    let long = Asked::new("POST", "/small").body(2000);
    assert_eq!(status(&gateway, &long, Parts::NONE), 413);
    assert_eq!(
        status(&gateway, &Asked::new("GET", "/small%00"), Parts::NONE),
        400
    );
    let mut deep = Asked::new("POST", "/small").field("content-type", "application/json");
    deep.body = b"[[[[]]]]".to_vec();
    assert_eq!(status(&gateway, &deep, Parts::NONE), 400);
    let twice = Asked::new("GET", "/small").field("host", "other.test");
    assert_eq!(status(&gateway, &twice, Parts::NONE), 400);
    assert_eq!(origin.count(), 0);
    let hop = Asked::new("GET", "/small")
        .field("connection", "x-hop")
        .field("x-hop", "1")
        .field("te", "trailers")
        .field("expect", "100-continue");
    assert_eq!(status(&gateway, &hop, Parts::NONE), 200);
    let seen = origin.last();
    for name in ["x-hop", "te", "expect"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

#[test]
fn an_empty_body_is_said_where_one_is_expected() {
    let (gateway, origin) = place();
    let length = |asked: &Asked| {
        assert_eq!(status(&gateway, asked, Parts::NONE), 200);
        origin.last().header("content-length").map(str::to_owned)
    };
    let zero = Some("0".to_owned());
    for method in ["POST", "PUT", "PATCH"] {
        assert_eq!(length(&Asked::new(method, "/small")), zero, "{method}");
    }
    for method in ["GET", "DELETE"] {
        assert_eq!(length(&Asked::new(method, "/small")), None, "{method}");
    }
    let wrong = Asked::new("GET", "/small").field("content-length", "5");
    assert_eq!(length(&wrong), zero);
}

/// Behind a trusted proxy too, whose word its own head is not.
#[test]
fn what_its_head_says_of_others_is_not_believed() {
    let origin = Origin::answering(|_| Answer::text("fine"));
    let gateway = Inside::start(&format!(
        r#"
        [server]
        trusted_proxies = ["127.0.0.0/8"]
        [upstream.plain]
        endpoints = [{{ address = "{}" }}]
        [[route]]
        id = "secure"
        path = "/secure"
        scheme = "https"
        upstream = "plain"
        [[route]]
        id = "plain"
        path = "/plain"
        upstream = "plain"
        "#,
        origin.address()
    ));
    let claiming = |target: &str| {
        Asked::new("GET", target)
            .field("x-forwarded-for", "203.0.113.9")
            .field("x-forwarded-proto", "https")
            .field("x-forwarded-host", "other.test")
            .field("x-real-ip", "203.0.113.9")
            .field("x-http-method-override", "DELETE")
    };
    assert_eq!(status(&gateway, &claiming("/secure"), Parts::ALL), 404);
    assert_eq!(status(&gateway, &claiming("/plain"), Parts::ALL), 200);
    let seen = origin.last();
    for (name, value) in [
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("gateway.test")),
        ("x-real-ip", None),
        ("x-http-method-override", None),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
}

#[test]
fn one_that_is_dropped_has_a_client_that_left() {
    let (gateway, origin) = place();
    let request = gateway.request(&Asked::new("GET", "/small"), Parts::ALL);
    let lane = Arc::clone(&gateway.lane);
    let dropping = async move {
        let mut answer = request.send(&lane).unwrap();
        let waits = poll_fn(|cx| Poll::Ready(answer.poll_head(cx).is_pending())).await;
        assert!(waits, "an answer takes its time");
    };
    let runtime = &gateway.runtime;
    runtime.block_on(runtime.spawn(dropping)).unwrap();
    let line = gateway.lines().remove(0);
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&499.into(), &"client_gone".into())
    );
    assert_eq!(origin.count(), 0);
}

#[test]
fn it_is_told_apart_in_log_and_metrics() {
    let (gateway, _origin) = place();
    let asked = Asked::new("POST", "/small").body(10);
    for kind in Internal::ALL {
        let mut request = gateway.request(&asked, Parts::ALL);
        request.kind = kind;
        gateway.ask(request).unwrap();
    }
    let mut unfit = gateway.request(&Asked::new("GET", "/small"), Parts::ALL);
    unfit.head.headers.remove("host");
    assert_eq!(gateway.ask(unfit).unwrap().head.status(), 400);
    let metrics = Metrics::parse(&gateway.counts());
    for (kind, count) in [("batch", 2.0), ("aggregate", 1.0), ("refresh", 1.0)] {
        let made = metrics.sum("gateway_internal_requests_total", &[("kind", kind)]);
        assert_eq!(made, count, "{kind}");
    }
    let lines = gateway.lines();
    let marked = |name: &str| {
        lines
            .iter()
            .filter(|line| line[name] == line["trace_id"])
            .count()
    };
    assert_eq!(
        (lines.len(), marked("batch"), marked("aggregate")),
        (3, 2, 1)
    );
    assert!(lines.iter().all(|line| line.get("refresh").is_none()));
}
