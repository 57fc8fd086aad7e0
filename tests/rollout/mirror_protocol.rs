//! Copies for upstreams that speak TLS or HTTP/2: the same copies as for any other.

use crate::harness::{Gateway, Nginx, Origin, Peer, Setup, eventually, seconds};

const NAME: &str = "shadow.internal";

/// nginx that speaks as told and hands on to `origin` what it got, and how.
fn shadow(listen: &str, origin: &Origin) -> (Nginx, String) {
    let certificates = Peer::certificates(NAME);
    let pem = |name: &str| certificates[name].as_str().unwrap().to_owned();
    let tls = if listen.contains("ssl") {
        "ssl_certificate {dir}/server.pem; ssl_certificate_key {dir}/server.key;"
    } else {
        ""
    };
    let server = format!(
        "listen {{address}} {listen}; {tls} location / {{ proxy_pass http://{}; proxy_set_header Host $host; \
         proxy_set_header X-Protocol $server_protocol; proxy_set_header X-Scheme $scheme; }}",
        origin.address()
    );
    let files = [
        ("server.pem", &*pem("server")),
        ("server.key", &*pem("server_key")),
    ];
    (Nginx::with(&server, &files), pem("ca"))
}

fn gateway(main: &Origin, nginx: &Nginx, ca: &str, keys: &str) -> Setup {
    Gateway::with(&format!(
        "[upstream.main]\nendpoints = [{{ address = \"{{main}}\" }}]\n\
         [upstream.shadow]\nendpoints = [{{ address = \"{}\" }}]\n{keys}\n\
         [[route]]\nid = \"r\"\npath = \"/**\"\nupstream = \"main\"\n\
         mirror = {{ upstream = \"shadow\", methods = [\"GET\", \"POST\"] }}\n",
        nginx.address()
    ))
    .to(main)
    .file("ca.pem", ca)
}

/// Sends three kinds of requests and holds their copies against what is expected.
#[track_caller]
fn copies_arrive(listen: &str, keys: &str, protocol: &str, scheme: &str) {
    let (main, behind) = (Origin::named("main"), Origin::named("behind"));
    let (nginx, ca) = shadow(listen, &behind);
    let gateway = gateway(&main, &nginx, &ca, keys).start();
    let client = gateway.client();
    let get = client.get("/a/b?c=d").header("Connection", "close");
    get.header("X-Mine", "1").send().expect(200);
    client.post("/sized").body("sized").send().expect(200);
    let pieces = client.post("/chunked").header("Keep-Alive", "300");
    pieces.chunked(&["chun", "ked"]).send().expect(200);
    eventually(seconds(5), "the copies came", || behind.count() == 3);
    let answered = [("upstream", "shadow"), ("outcome", "answered")];
    gateway.wait_for_metric("gateway_mirror_requests_total", &answered, 3.0);
    let seen = behind.seen();
    for (target, body) in [
        ("/a/b?c=d", ""),
        ("/sized", "sized"),
        ("/chunked", "chunked"),
    ] {
        let copy = seen.iter().find(|copy| copy.target == target);
        let copy = copy.unwrap_or_else(|| panic!("no {target} in {seen:?}"));
        assert_eq!(copy.body, body.as_bytes(), "{target}");
        let spoken = (copy.header("X-Protocol"), copy.header("X-Scheme"));
        assert_eq!(spoken, (Some(protocol), Some(scheme)), "{target}");
        let said = (copy.header("X-Shadow"), copy.header("Host"));
        assert_eq!(said, (Some("true"), Some("gateway.test")), "{target}");
        assert_eq!(
            copy.header("X-Mine"),
            (target == "/a/b?c=d").then_some("1"),
            "{target}"
        );
    }
}

const TLS: &str = "tls = { sni = \"shadow.internal\", ca = \"{dir}/ca.pem\" }";

#[test]
fn over_tls() {
    copies_arrive("ssl", TLS, "HTTP/1.1", "https");
}

#[test]
fn over_http_2_by_prior_knowledge() {
    copies_arrive("http2", "http_version = \"2\"", "HTTP/2.0", "http");
}

#[test]
fn over_http_2_and_tls() {
    let keys = format!("http_version = \"2\"\n{TLS}");
    copies_arrive("ssl http2", &keys, "HTTP/2.0", "https");
}

#[test]
fn a_shadow_that_cannot_be_talked_to_gets_nothing_and_nobody_notices() {
    let (main, behind) = (Origin::named("main"), Origin::named("behind"));
    let (nginx, ca) = shadow("ssl", &behind);
    let (_, other) = shadow("ssl", &behind);
    // It does not speak HTTP/2, and its certificate is not of that authority.
    for (ca, keys) in [
        (ca, format!("http_version = \"2\"\n{TLS}")),
        (other, TLS.to_owned()),
    ] {
        let gateway = gateway(&main, &nginx, &ca, &keys).start();
        gateway.client().get("/").send().expect(200);
        let failed = [("upstream", "shadow"), ("outcome", "failed")];
        gateway.wait_for_metric("gateway_mirror_requests_total", &failed, 1.0);
    }
    assert_eq!(behind.count(), 0);
}
