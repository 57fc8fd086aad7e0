//! A caller is who authenticated him and as what, and no two look alike upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::{SECRET, token};
use crate::harness::{
    Answer, Client, Gateway, Http2, Origin, Peer, Response, Seen, Signed, asking,
};

const OTHER: &str = "fedcba9876543210fedcba9876543210";

/// Two issuers and an application, who all may name somebody alike.
fn authenticators() -> String {
    format!(
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n\
         forward_claims = {{ role = \"X-Role\", name = \"X-Name\" }}\n\
         [auth.other]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{OTHER}\"\nfrom = [\"header:X-Other\"]\n\
         [auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\n[auth.partner.apps]\n\"app-1\" = {{ secret = \"s\" }}\n\
         [upstream.api]\nendpoints = [{{ address = \"{{origin}}\" }}]\nretry = {{ attempts = 0 }}\n"
    )
}

fn gateway(origin: &Origin, more: &str) -> Gateway {
    let text = authenticators();
    Gateway::with(&format!(
        "[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n{text}{more}\n\
         [[route]]\nid = \"r\"\npath = \"/**\"\nauth = [\"app\", \"other\", \"partner\"]\nupstream = \"api\"\n"
    ))
    .to(origin)
    .start()
}

/// Everybody who is called `app-1`, each with the authenticator, and the claim where that is not `sub`.
const NAMESAKES: [(&str, Option<&str>); 5] = [
    ("app", None),
    ("app", Some("client_id")),
    ("app", Some("azp")),
    ("other", None),
    ("partner", None),
];

fn ask(client: &Client, who: (&str, Option<&str>), target: &str) -> Response {
    let request = client.get(target);
    match who {
        ("partner", _) => {
            let headers = Signed::ca("app-1", "s", "GET", target).headers();
            request.headers(&headers)
        }
        ("other", _) => request.header("X-Other", token_of(OTHER, "sub")),
        (_, claim) => request.bearer(token_of(SECRET, claim.unwrap_or("sub"))),
    }
    .send()
}

fn token_of(secret: &str, claim: &str) -> String {
    let mut claims = json!({ "exp": crate::harness::unix_now() + 60, "tenant": "t" });
    claims[claim] = "app-1".into();
    Peer::token("HS256", secret, &claims)
}

#[test]
fn limits_and_quotas_of_namesakes_are_apart() {
    for kind in [
        "algorithm = \"token_bucket\"\nrate = \"1/h\"\nburst = 1",
        "algorithm = \"quota\"\nquota = 1\nwindow = \"month\"",
    ] {
        let origin = Origin::start();
        let gateway = gateway(&origin, "");
        let text = std::fs::read_to_string(gateway.config()).unwrap();
        let limit = format!("[limit.each]\nkey = \"consumer\"\n{kind}\n");
        let route = "upstream = \"api\"\nlimits = [\"each\"]\n";
        gateway.rewrite(&format!(
            "{limit}{}",
            text.replace("upstream = \"api\"\n", route)
        ));
        gateway.reload_ok();
        let client = gateway.client();
        for who in NAMESAKES {
            ask(&client, who, "/").expect(200);
        }
        for who in NAMESAKES {
            ask(&client, who, "/").refused(429, "rate_limited");
        }
    }
}

#[test]
fn a_claim_is_counted_for_the_issuer_that_makes_it() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "");
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let limit = "[limit.each]\nkey = \"claim:tenant\"\nalgorithm = \"token_bucket\"\nrate = \"1/h\"\nburst = 1\n";
    let route = "upstream = \"api\"\nlimits = [\"each\"]\n";
    gateway.rewrite(&format!(
        "{limit}{}",
        text.replace("upstream = \"api\"\n", route)
    ));
    gateway.reload_ok();
    let client = gateway.client();
    ask(&client, ("app", None), "/").expect(200);
    ask(&client, ("other", None), "/").expect(200);
    ask(&client, ("app", None), "/").refused(429, "rate_limited");
    // A claim is its text, whatever type it has.
    let of = |tenant: Value| {
        let token = token(&json!({ "tenant": tenant }));
        client.get("/").bearer(token).send()
    };
    of(json!(7)).expect(200);
    of(json!("7")).refused(429, "rate_limited");
}

#[test]
fn an_answer_kept_for_one_is_not_given_to_a_namesake() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let origin = Origin::answering(move |seen: &Seen| match failing.load(Ordering::SeqCst) {
        true => Answer::status(503),
        false => {
            let who = ["X-Consumer", "X-Consumer-Auth", "X-Consumer-Claim"];
            let said = who.map(|name| seen.header(name).unwrap_or("-").to_owned());
            Answer::text(said.join(" "))
        }
    });
    let gateway = gateway(&origin, "");
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let route =
        "upstream = \"api\"\nfallback = { on = [\"503\"], last_good = { per = \"consumer\" } }\n";
    gateway.rewrite(&text.replace("upstream = \"api\"\n", route));
    gateway.reload_ok();
    let client = gateway.client();
    let (first, others) = NAMESAKES.split_first().unwrap();
    let expected = "app-1 app -";
    assert_eq!(ask(&client, *first, "/me").expect(200).text(), expected);
    fails.store(true, Ordering::SeqCst);
    assert_eq!(ask(&client, *first, "/me").expect(200).text(), expected);
    for who in others {
        ask(&client, *who, "/me").expect(503);
    }
    fails.store(false, Ordering::SeqCst);
    for who in others {
        let expected = format!("app-1 {} {}", who.0, who.1.unwrap_or("-"));
        assert_eq!(ask(&client, *who, "/me").expect(200).text(), expected);
    }
}

#[test]
fn a_side_belongs_to_the_caller_and_not_to_the_name() {
    let (old, next) = (Origin::named("old"), Origin::named("next"));
    let gateway = Gateway::with(&format!(
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n\
         [auth.other]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{OTHER}\"\nfrom = [\"header:X-Other\"]\n\
         [upstream.old]\nendpoints = [{{ address = \"{}\" }}]\n[upstream.next]\nendpoints = [{{ address = \"{}\" }}]\n\
         [[route]]\nid = \"r\"\npath = \"/**\"\nauth = [\"app\", \"other\"]\n\
         split = [{{ upstream = \"old\", weight = 50 }}, {{ upstream = \"next\", weight = 50 }}]\n\
         rollout = {{ by = \"consumer\" }}\n",
        old.address(),
        next.address()
    ))
    .start();
    let client = gateway.client();
    let side = |auth: &str, user: usize| {
        let claims =
            json!({ "sub": format!("user-{user}"), "exp": crate::harness::unix_now() + 60 });
        let before = next.count();
        let request = client.get("/");
        match auth {
            "app" => request.bearer(Peer::token("HS256", SECRET, &claims)),
            _ => request.header("X-Other", Peer::token("HS256", OTHER, &claims)),
        }
        .send()
        .expect(200);
        next.count() > before
    };
    let apart = (0..30).filter(|user| side("app", *user) != side("other", *user));
    assert!((5..=25).contains(&apart.count()), "as chance has it");
    assert!((0..10).all(|user| side("app", user) == side("app", user)));
}

#[test]
fn who_authenticated_the_caller_is_told_upstream_over_http2_and_in_the_log() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "");
    let client = Http2::connect(gateway.listen());
    let request = asking("GET", "/x")
        .header("authorization", format!("Bearer {}", token(&json!({}))))
        .header("x-consumer-auth", "partner")
        .header("x_consumer_auth", "partner")
        .header("x-consumer-claim", "azp")
        .header("x-trace-id", "callers-1");
    client.send(request, None).expect(200);
    let seen = origin.last();
    assert_eq!(seen.values("x-consumer-auth"), ["app"]);
    assert!(seen.headers.iter().all(|(_, value)| value != "partner"));
    assert_eq!(seen.header("x-consumer-claim"), None);
    let line = gateway.access_line("callers-1");
    assert_eq!(line["consumer_auth"], "app", "{line}");
}

/// What an origin reads of a token with these claims, or the refusal's cause.
fn read(gateway: &Gateway, origin: &Origin, claims: &Value) -> Result<[Option<String>; 3], String> {
    let trace = format!("identity-{}", origin.count() + gateway.log_lines().len());
    let bearer = token(claims);
    let request = gateway.client();
    let response = request
        .get("/x")
        .bearer(bearer)
        .header("X-Trace-ID", &trace)
        .send();
    if response.status == 200 {
        let seen = origin.last();
        return Ok(
            ["x-consumer", "x-role", "x-name"].map(|name| seen.header(name).map(str::to_owned))
        );
    }
    response.refused(401, "token_invalid");
    let line = gateway.access_line(&trace);
    Err(line["cause"].as_str().expect("a cause").to_owned())
}

#[test]
fn identities_that_differ_never_become_the_same_header() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "");
    let read = |claims: Value| read(&gateway, &origin, &claims).expect("sayable");
    for (one, other) in [
        (json!({ "sub": "aé" }), json!({ "sub": "a%C3%A9" })),
        (json!({ "sub": "alice " }), json!({ "sub": "alice" })),
        (json!({ "sub": " alice" }), json!({ "sub": "alice" })),
        (json!({ "sub": "alice" }), json!({ "sub": "Alice" })),
        (
            json!({ "role": "admin,editor" }),
            json!({ "role": ["admin", "editor"] }),
        ),
        (
            json!({ "role": ["admin,editor"] }),
            json!({ "role": ["admin", "editor"] }),
        ),
        (
            json!({ "role": ["admin ", "x"] }),
            json!({ "role": ["admin", "x"] }),
        ),
        (json!({ "role": "50%25" }), json!({ "role": "50%" })),
        (json!({ "name": "é,b" }), json!({ "name": ["é", "b"] })),
    ] {
        assert_ne!(read(one.clone()), read(other.clone()), "{one} and {other}");
    }
    let [consumer, role, name] =
        read(json!({ "sub": "auth0|7 a@b.c", "role": ["a", "b,c"], "name": "José" }));
    assert_eq!(consumer.as_deref(), Some("auth0|7 a@b.c"));
    assert_eq!(role.as_deref(), Some("a,b%2Cc"));
    assert_eq!(name.as_deref(), Some("Jos%C3%A9"));
    // These are one, everywhere.
    assert_eq!(read(json!({ "sub": 7 })), read(json!({ "sub": "7" })));
    assert_eq!(read(json!({ "role": ["a"] })), read(json!({ "role": "a" })));
}

#[test]
fn an_identity_that_cannot_be_said_is_refused() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "");
    for claims in [
        json!({ "sub": "a\nb" }),
        json!({ "sub": "a\u{7f}" }),
        json!({ "sub": ["a"] }),
        json!({ "sub": { "id": 1 }, "client_id": "b" }),
        json!({ "sub": true }),
        json!({ "sub": 7.5 }),
        json!({ "role": { "admin": true } }),
        json!({ "role": ["a", ["b"]] }),
        json!({ "role": ["", "admin"] }),
        json!({ "role": "admin\r\nX-Role: root" }),
        json!({ "name": 1e300 }),
    ] {
        let cause = read(&gateway, &origin, &claims).expect_err("not sayable");
        assert!(!cause.is_empty());
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_claim_is_not_written_to_a_header_of_ours() {
    for header in [
        "X-Consumer-Auth",
        "x_consumer",
        "X_Forwarded_For",
        "X-Client-Cert-Subject",
    ] {
        let text = authenticators().replace("\"X-Role\"", &format!("\"{header}\""));
        let ran = crate::harness::Folder::with(&format!(
            "[[listener]]\naddress = \"127.0.0.1:8080\"\n{}",
            text.replace("{origin}", "127.0.0.1:9001")
        ))
        .check()
        .expect(1);
        ran.says("has a meaning of its own");
    }
}
