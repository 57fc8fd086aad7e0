//! Who sent a request, as far as the gateway believes it, and what it tells the upstream about that.

use serde_json::json;

use crate::harness::{Gateway, Http2, Origin, Peer, Seen, asking, unix_now};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

const ROUTES: &str = r#"
[auth.app]
type = "jwt"
algorithms = ["HS256"]
secret = "0123456789abcdef0123456789abcdef"
forward_claims = { sub = "X-User-Id", role = "X-User-Role" }
[upstream.api]
endpoints = [{ address = "{origin}" }]
[[route]]
id = "open"
path = "/open/**"
upstream = "api"
[[route]]
id = "closed"
path = "/closed/**"
auth = ["app"]
upstream = "api"
"#;

fn with_proxies(proxies: &str) -> String {
    format!("[server]\ntrusted_proxies = {proxies}\n{ROUTES}")
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

/// `(trace id, span id)` of the one `traceparent` an origin saw.
fn traceparent(seen: &Seen) -> (String, String) {
    let values = seen.values("traceparent");
    let parts: Vec<&str> = values.first().unwrap_or(&"").split('-').collect();
    let [version, trace, span, flags] = parts[..] else {
        panic!("traceparent {values:?}")
    };
    assert!(
        values.len() == 1
            && version == "00"
            && is_hex(trace, 32)
            && is_hex(span, 16)
            && is_hex(flags, 2),
        "{values:?}"
    );
    (trace.to_owned(), span.to_owned())
}

#[test]
fn forwarded_headers_of_a_stranger_are_replaced() {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    let client = gateway.client().from(9);
    let seen = client
        .get("/open/x")
        .host("shop.test")
        .header("X-Forwarded-For", "203.0.113.7")
        .header("X-Forwarded-For", "203.0.113.8")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "evil.test")
        .header("X-Real-IP", "203.0.113.7")
        .header("Forwarded", "for=203.0.113.7")
        .header("X_Forwarded_For", "203.0.113.7")
        .header("X-Trace-ID", "stranger")
        .send()
        .seen();
    assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.9"]);
    assert_eq!(seen.values("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.values("x-forwarded-host"), ["shop.test"]);
    let spoofed = seen
        .headers
        .iter()
        .filter(|(_, v)| v.contains("203.0.113.7"))
        .collect::<Vec<_>>();
    assert!(spoofed.is_empty(), "{spoofed:?}");
    assert_eq!(gateway.access_line("stranger")["client_ip"], "127.0.0.9");
}

#[test]
fn behind_a_trusted_proxy_the_client_is_the_last_stranger() {
    let origin = Origin::start();
    let gateway = Gateway::with(&with_proxies("[\"127.0.0.0/8\", \"10.0.0.0/8\"]"))
        .to(&origin)
        .start();
    for (n, (sent, client_ip)) in [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 10.0.0.2", "203.0.113.7"),
        // What stands left of a stranger is that stranger's own claim.
        ("198.51.100.1, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("2001:db8::1, 10.0.0.2", "2001:db8::1"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
    ]
    .into_iter()
    .enumerate()
    {
        let trace = format!("trusted-{n}");
        let request = gateway.client();
        let request = request
            .get("/open/x")
            .header("X-Forwarded-For", sent)
            .header("X-Trace-ID", &trace);
        let seen = request
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", "shop.test")
            .send()
            .seen();
        assert_eq!(
            gateway.access_line(&trace)["client_ip"],
            client_ip,
            "{sent}"
        );
        let forwarded = seen.values("x-forwarded-for").join(", ");
        assert_eq!(forwarded, format!("{sent}, 127.0.0.1"));
        assert_eq!(seen.values("x-forwarded-proto"), ["https"]);
        assert_eq!(seen.values("x-forwarded-host"), ["shop.test"]);
    }
}

#[test]
fn the_chain_ends_where_it_cannot_be_read() {
    let origin = Origin::start();
    let gateway = Gateway::with(&with_proxies("[\"127.0.0.0/8\"]"))
        .to(&origin)
        .start();
    for (n, sent) in ["", "unknown", "203.0.113.7, nonsense", ", ,"]
        .into_iter()
        .enumerate()
    {
        let trace = format!("broken-{n}");
        let client = gateway.client();
        client
            .get("/open/x")
            .header("X-Forwarded-For", sent)
            .header("X-Trace-ID", &trace)
            .send()
            .expect(200);
        assert_eq!(
            gateway.access_line(&trace)["client_ip"],
            "127.0.0.1",
            "{sent:?}"
        );
    }
}

#[test]
fn a_well_formed_trace_id_is_kept_and_any_other_replaced() {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    let longest = "x".repeat(64);
    for kept in ["a", "Trace-1_2.3", &longest] {
        let answer = gateway
            .client()
            .get("/open/x")
            .header("X-Trace-ID", kept)
            .send();
        assert_eq!(answer.header("x-trace-id"), Some(kept));
        assert_eq!(answer.seen().values("x-trace-id"), [kept]);
    }
    let too_long = "x".repeat(65);
    for replaced in ["", "with space", "semi;colon", "quote\"", &too_long] {
        let answer = gateway
            .client()
            .get("/open/x")
            .header("X-Trace-ID", replaced)
            .send();
        let fresh = answer
            .header("x-trace-id")
            .expect("an answer has one")
            .to_owned();
        assert!(
            fresh != replaced && !fresh.is_empty() && fresh.len() <= 64,
            "{replaced:?} became {fresh:?}"
        );
        assert_eq!(answer.seen().values("x-trace-id"), [fresh]);
    }
    let twice = gateway
        .client()
        .get("/open/x")
        .header("X-Trace-ID", "one")
        .header("X-Trace-ID", "two")
        .send();
    assert_eq!(twice.seen().values("x-trace-id").len(), 1);
}

#[test]
fn two_requests_never_share_a_fresh_trace_id() {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    let mut connection = gateway.client().connect();
    let mut ids: Vec<String> = (0..50)
        .map(|_| {
            connection
                .get("/open/x")
                .send()
                .header("x-trace-id")
                .unwrap()
                .to_owned()
        })
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[test]
fn a_valid_traceparent_goes_on_with_a_new_span() {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let answer = gateway
        .client()
        .get("/open/x")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .send();
    assert_eq!(answer.header("x-trace-id"), Some(trace));
    let seen = answer.seen();
    let (forwarded, span) = traceparent(&seen);
    assert_eq!(forwarded, trace);
    assert_ne!(span, "00f067aa0ba902b7");
    assert_eq!(seen.values("x-trace-id"), [trace]);
}

#[test]
fn x_trace_id_wins_over_traceparent_as_the_name_of_the_request() {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let client = gateway.client();
    let request = client
        .get("/open/x")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let answer = request.header("X-Trace-ID", "mine").send();
    assert_eq!(answer.header("x-trace-id"), Some("mine"));
    assert_eq!(traceparent(&answer.seen()).0, trace);
}

#[test]
fn a_broken_traceparent_is_replaced() {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    let zeros = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
    for broken in [
        "",
        "nonsense",
        "00-4bf92f35-00f067aa0ba902b7-01",
        &zeros,
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    ] {
        let seen = gateway
            .client()
            .get("/open/x")
            .header("traceparent", broken)
            .send()
            .seen();
        let (trace, _) = traceparent(&seen);
        assert!(
            !broken.contains(&trace) && trace.bytes().any(|b| b != b'0'),
            "{broken:?} became {trace}"
        );
    }
}

/// What a client may try to call itself.
const CLAIMED: [&str; 12] = [
    "X-User-Id",
    "x-user-id",
    "X_User_Id",
    "X-User_Id",
    "X-User-Role",
    "X-Consumer",
    "X_CONSUMER",
    "X-Consumer-Auth",
    "X_Consumer_Auth",
    "X-Consumer_Auth",
    "X-Consumer-Claim",
    "X_CONSUMER_CLAIM",
];

#[test]
fn a_clients_own_identity_headers_are_removed_on_public_routes_too() {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    let client = gateway.client();
    let request = CLAIMED.iter().fold(client.get("/open/x"), |request, name| {
        request.header(name, "canary")
    });
    let seen = request.header("X_Other_Name", "passes").send().seen();
    let kept: Vec<_> = seen.headers.iter().filter(|(_, v)| v == "canary").collect();
    assert!(kept.is_empty(), "{kept:?}");
    assert_eq!(
        seen.header("x_other_name"),
        Some("passes"),
        "other names with an underscore pass"
    );
}

#[test]
fn identity_comes_from_the_token_alone() {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    let token = Peer::token(
        "HS256",
        SECRET,
        &json!({ "sub": "user-7", "role": "editor", "exp": unix_now() + 60 }),
    );
    let client = gateway.client();
    let request = CLAIMED
        .iter()
        .fold(client.get("/closed/x"), |request, name| {
            request.header(name, "canary")
        });
    // Naming them hop-by-hop must not remove the gateway's own either.
    let seen = request
        .header("Connection", "X-User-Id, X-Consumer")
        .bearer(&token)
        .send()
        .seen();
    assert_eq!(seen.values("x-user-id"), ["user-7"]);
    assert_eq!(seen.values("x-user-role"), ["editor"]);
    assert_eq!(seen.values("x-consumer"), ["user-7"]);
    assert_eq!(seen.values("x-consumer-auth"), ["app"]);
    assert_eq!(seen.header("x-consumer-claim"), None);
    assert!(
        seen.headers.iter().all(|(_, v)| v != "canary"),
        "{:?}",
        seen.headers
    );
}

#[test]
fn a_claim_that_is_missing_forwards_no_header() {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    let token = Peer::token(
        "HS256",
        SECRET,
        &json!({ "sub": "user-7", "exp": unix_now() + 60 }),
    );
    let seen = gateway
        .client()
        .get("/closed/x")
        .header("X-User-Role", "admin")
        .bearer(token)
        .send()
        .seen();
    assert_eq!(seen.header("x-user-role"), None);
}

#[test]
fn a_claim_cannot_bring_in_a_header_line() {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    let claims = json!({ "sub": "user\r\nX-Injected: 1", "exp": unix_now() + 60 });
    let response = gateway
        .client()
        .get("/closed/x")
        .bearer(Peer::token("HS256", SECRET, &claims))
        .send();
    assert!(response.status < 500, "{response:?}");
    assert!(
        origin
            .seen()
            .iter()
            .all(|seen| seen.header("x-injected").is_none())
    );
}

/// What only a proxy has reason to say.
const OF_PROXIES: [&str; 15] = [
    "Forwarded",
    "X-Forwarded",
    "X-Forwarded-Prefix",
    "X-Forwarded-Port",
    "X-Forwarded-Server",
    "X-Forwarded-User",
    "X-Real-IP",
    "X-Original-URL",
    "X-Original-Host",
    "X-Rewrite-URL",
    "X-Rewrite-Path",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Shadow",
];

/// What an upstream saw of the canaries.
fn canaries(seen: &Seen) -> Vec<&str> {
    let kept = seen.headers.iter().filter(|(_, value)| value == "canary");
    kept.map(|(name, _)| name.as_str()).collect()
}

#[test]
fn what_only_a_proxy_says_is_removed_from_everybody_else() {
    let origin = Origin::start();
    let gateway = Gateway::with(&format!(
        "[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n{ROUTES}\
         [[route]]\nid = \"changed\"\npath = \"/changed\"\nupstream = \"api\"\n\
         request = {{ set = {{ X-Forwarded-Prefix = \"/ours\" }} }}\n"
    ))
    .to(&origin)
    .start();
    let twins = OF_PROXIES.map(|name| name.replace('-', "_"));
    let names: Vec<&str> = OF_PROXIES
        .into_iter()
        .chain(
            twins
                .iter()
                .map(String::as_str)
                .filter(|name| name.contains('_')),
        )
        .collect();
    for (target, upgrade) in [("/open/x", false), ("/open/x", true), ("/changed", false)] {
        let client = gateway.client();
        let mut request = names.iter().fold(client.get(target), |request, name| {
            request.header(name, "canary")
        });
        if upgrade {
            // What concerns the connection goes through the framework.
            request = request.header("TE", "trailers");
        }
        let seen = request.send().seen();
        assert!(canaries(&seen).is_empty(), "{:?}", canaries(&seen));
        let own = seen.values("x-forwarded-prefix");
        let expected: &[&str] = if target == "/changed" {
            &["/ours"]
        } else {
            &[]
        };
        assert_eq!(own, expected);
    }
    let client = Http2::connect(gateway.listen());
    let request = names
        .iter()
        .fold(asking("GET", "/open/x"), |request, name| {
            request.header(name.to_ascii_lowercase(), "canary")
        });
    let echo = client.send(request, None).expect(200);
    let seen = Seen::from_echo(&serde_json::from_slice(&echo.body).unwrap());
    assert!(canaries(&seen).is_empty(), "{:?}", canaries(&seen));
}

#[test]
fn a_trusted_proxy_may_say_it() {
    let origin = Origin::start();
    let gateway = Gateway::with(&with_proxies("[\"127.0.0.0/8\"]"))
        .to(&origin)
        .start();
    let client = gateway.client();
    let request = OF_PROXIES
        .iter()
        .fold(client.get("/open/x"), |request, name| {
            request.header(name, "canary")
        });
    // Not what it passed on unread.
    let seen = request.header("X_Forwarded_Prefix", "canary").send().seen();
    let mut kept: Vec<String> = canaries(&seen)
        .into_iter()
        .map(str::to_ascii_lowercase)
        .collect();
    kept.sort();
    let mut all = OF_PROXIES.map(str::to_ascii_lowercase).to_vec();
    all.sort();
    assert_eq!(kept, all);
}

#[test]
fn trailers_over_http_2_carry_nothing_on() {
    let origin = Origin::start();
    let gateway = Gateway::with(&format!(
        "[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n{ROUTES}"
    ))
    .to(&origin)
    .start();
    let client = Http2::connect(gateway.listen());
    let request = asking("POST", "/open/x").body(()).unwrap();
    let mut asked = client.begin(request, true);
    asked.body.send_data("abc".into(), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    for name in ["x-shadow", "x-forwarded-for", "x-user-id"] {
        trailers.insert(name, "canary".parse().unwrap());
    }
    asked.body.send_trailers(trailers).unwrap();
    asked.wait().expect("an answer").expect(200);
    assert!(!String::from_utf8_lossy(&origin.bytes()).contains("canary"));
}

#[test]
fn hop_by_hop_headers_stay_on_their_hop() {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    let client = gateway.client();
    let request = client
        .get("/open/x")
        .header("Connection", "close, X-Hop")
        .header("X-Hop", "1")
        .header("TE", "trailers");
    let seen = request
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Authorization", "Basic eA==")
        .send()
        .seen();
    for name in ["x-hop", "keep-alive", "te", "proxy-authorization"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

#[test]
fn trailers_carry_no_identity() {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    let raw = "POST /open/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-User-Id\r\n\r\n\
               3\r\nabc\r\n0\r\nX-User-Id: canary\r\nX-Forwarded-For: canary\r\n\r\n";
    gateway.client().raw(raw);
    assert!(!String::from_utf8_lossy(&origin.bytes()).contains("canary"));
}

#[test]
fn naming_our_headers_hop_by_hop_does_not_remove_them() {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    for name in [
        "Host",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Trace-ID",
        "traceparent",
    ] {
        let response = gateway
            .client()
            .get("/open/x")
            .header("Connection", name)
            .send();
        if response.status != 400 {
            assert!(response.seen().header(name).is_some(), "{name}");
        }
    }
}
