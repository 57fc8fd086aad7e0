//! Preflights and answers as a browser would read them.

use std::time::Duration;

use pingora::http::RequestHeader;

use super::*;
use crate::filter::{Moment, RequestView};
use crate::primitives::RouteName;

fn rules(origins: &[&str]) -> Cors {
    let any = origins.contains(&"*");
    Cors {
        origins: (!any).then(|| origins.iter().map(|&origin| origin.to_owned()).collect()),
        methods: vec![Method::GET, Method::PUT],
        headers: vec!["authorization".parse().unwrap(), "x-app".parse().unwrap()],
        expose: vec!["x-trace-id".parse().unwrap()],
        credentials: !any,
        private_network: false,
        max_age: Some(Duration::from_secs(600)),
    }
}

fn ask(filter: &CorsFilter, method: &str, headers: &[(&'static str, &str)]) -> Verdict {
    let mut head = RequestHeader::build(method, b"/", None).unwrap();
    for (name, value) in headers {
        head.append_header(*name, *value).unwrap();
    }
    let route = RouteName::new("r");
    let request = RequestView::bare(&head, "/", &route);
    let moment = Moment {
        now: 1,
        unix_time: 1,
    };
    filter.check(&mut FilterContext::new(request, moment))
}

/// The headers a preflight is answered with, as text.
fn preflight(filter: &CorsFilter, origin: &str, method: &str) -> Vec<String> {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", method),
    ];
    let Verdict::Answer(reply) = ask(filter, "OPTIONS", &headers) else {
        panic!("a preflight is answered");
    };
    assert_eq!(reply.status, 204);
    assert!(reply.body.is_empty());
    let headers = reply.headers.iter();
    headers
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect()
}

fn answered(filter: &CorsFilter, origin: Option<&'static str>, head: &mut ResponseHeader) {
    let origin = origin.map(HeaderValue::from_static);
    filter.apply(origin.as_ref(), head);
}

fn text<'h>(head: &'h ResponseHeader, name: &str) -> Vec<&'h str> {
    let values = head.headers.get_all(name).iter();
    values.map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn a_preflight_from_an_allowed_origin_is_granted() {
    let filter = CorsFilter::new(&rules(&["https://A.example", "https://b.example:8443"]));
    let granted = |origin: &str| {
        [
            &*format!("access-control-allow-origin: {origin}"),
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-headers: authorization, x-app",
            "access-control-allow-credentials: true",
            "access-control-max-age: 600",
            "vary: Origin",
        ]
        .map(str::to_owned)
    };
    assert_eq!(
        preflight(&filter, "https://a.example", "GET"),
        granted("https://a.example")
    );
    assert_eq!(
        preflight(&filter, "https://b.example:8443", "PUT"),
        granted("https://b.example:8443")
    );
    assert_eq!(
        preflight(&filter, "HTTPS://a.Example", "GET"),
        granted("https://a.example")
    );
}

#[test]
fn a_preflight_that_is_not_granted_is_answered_without_a_word_on_access() {
    let filter = CorsFilter::new(&rules(&["https://a.example"]));
    for (origin, method) in [
        ("https://evil.example", "GET"),
        ("https://a.example.evil.example", "GET"),
        ("https://a.example:444", "GET"),
        ("http://a.example", "GET"),
        ("null", "GET"),
        ("https://a.example", "DELETE"),
        ("https://a.example", "get"),
    ] {
        assert_eq!(
            preflight(&filter, origin, method),
            ["vary: Origin"],
            "{origin}"
        );
    }
}

#[test]
fn any_origin_is_granted_with_a_star() {
    let filter = CorsFilter::new(&rules(&["*"]));
    let headers = preflight(&filter, "null", "GET");
    assert_eq!(headers[0], "access-control-allow-origin: *");
    assert!(
        !headers
            .iter()
            .any(|line| line.starts_with("vary") || line.contains("credentials"))
    );
    let mut head = ResponseHeader::build(200, None).unwrap();
    answered(&filter, None, &mut head);
    assert_eq!(text(&head, "access-control-allow-origin"), ["*"]);
    assert!(text(&head, "vary").is_empty());
}

#[test]
fn what_is_no_preflight_goes_on() {
    let filter = CorsFilter::new(&rules(&["https://a.example"]));
    let origin = ("Origin", "https://a.example");
    let method = ("Access-Control-Request-Method", "GET");
    for (verb, headers) in [
        ("GET", vec![origin, method]),
        ("OPTIONS", vec![origin]),
        ("OPTIONS", vec![method]),
        ("GET", vec![("Origin", "https://evil.example")]),
    ] {
        let verdict = ask(&filter, verb, &headers);
        assert!(matches!(verdict, Verdict::Continue), "{verb} {headers:?}");
    }
}

#[test]
fn an_answer_names_the_origin_that_may_read_it() {
    let filter = CorsFilter::new(&rules(&["https://a.example", "https://b.example"]));
    let mut head = ResponseHeader::build(200, None).unwrap();
    answered(&filter, Some("https://b.example"), &mut head);
    assert_eq!(
        text(&head, "access-control-allow-origin"),
        ["https://b.example"]
    );
    assert_eq!(text(&head, "access-control-allow-credentials"), ["true"]);
    assert_eq!(text(&head, "access-control-expose-headers"), ["x-trace-id"]);
    assert_eq!(text(&head, "vary"), ["Origin"]);
}

#[test]
fn other_origins_learn_nothing_even_from_the_upstream() {
    let filter = CorsFilter::new(&rules(&["https://a.example"]));
    for origin in [None, Some("https://evil.example")] {
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.append_header("Access-Control-Allow-Origin", "*")
            .unwrap();
        head.append_header("Access-Control-Allow-Credentials", "true")
            .unwrap();
        answered(&filter, origin, &mut head);
        assert!(text(&head, "access-control-allow-origin").is_empty());
        assert!(text(&head, "access-control-allow-credentials").is_empty());
        assert_eq!(text(&head, "vary"), ["Origin"]);
    }
}

#[test]
fn vary_is_not_said_twice() {
    let filter = CorsFilter::new(&rules(&["https://a.example"]));
    for (had, has) in [
        ("accept-encoding, origin", 1),
        ("*", 1),
        ("Accept-Encoding", 2),
    ] {
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.append_header("Vary", had).unwrap();
        answered(&filter, Some("https://a.example"), &mut head);
        answered(&filter, Some("https://a.example"), &mut head);
        assert_eq!(text(&head, "vary").len(), has, "{had}");
    }
}

#[test]
fn a_star_before_a_domain_stands_for_names_under_it() {
    let filter = CorsFilter::new(&rules(&["https://*.a.example", "https://a.example:8443"]));
    for (origin, granted) in [
        ("https://b.a.example", true),
        ("https://C.b.A.example", true),
        ("https://a.example:8443", true),
        ("https://a.example", false),
        ("https://.a.example", false),
        ("http://b.a.example", false),
        ("https://b.a.example:8443", false),
        ("https://evil.test/.a.example", false),
        ("https://evil.test:1.a.example", false),
        ("https://ba.example", false),
        ("null", false),
    ] {
        let said = format!("access-control-allow-origin: {origin}");
        let headers = preflight(&filter, origin, "GET");
        assert_eq!(headers.contains(&said), granted, "{origin}: {headers:?}");
        assert!(headers.contains(&"vary: Origin".to_owned()), "{headers:?}");
        let mut head = ResponseHeader::build(200, None).unwrap();
        answered(&filter, Some(origin), &mut head);
        let allowed = text(&head, "access-control-allow-origin");
        assert_eq!(allowed == [origin], granted, "{origin}: {allowed:?}");
        assert_eq!(text(&head, "vary"), ["Origin"]);
    }
}

#[test]
fn any_method_is_granted_with_a_star() {
    let mut cors = rules(&["*"]);
    cors.methods = vec![Method::from_bytes(b"*").unwrap()];
    let headers = preflight(&CorsFilter::new(&cors), "https://a.example", "PURGE");
    assert!(
        headers.contains(&"access-control-allow-methods: *".to_owned()),
        "{headers:?}"
    );
}

#[test]
fn a_private_network_is_opened_only_where_it_is_said() {
    let asked = [
        ("Origin", "https://a.example"),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Private-Network", "true"),
    ];
    for open in [false, true] {
        let mut cors = rules(&["https://a.example"]);
        cors.private_network = open;
        let Verdict::Answer(reply) = ask(&CorsFilter::new(&cors), "OPTIONS", &asked) else {
            panic!("a preflight is answered");
        };
        let said = |name: &str| reply.headers.iter().any(|(known, _)| known == name);
        assert_eq!(said("access-control-allow-private-network"), open);
        assert!(said("access-control-allow-origin"));
    }
}
