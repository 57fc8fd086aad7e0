//! Signed requests: the text that is signed, and the whole verification up to the nonce, which a dry run looks up and
//! does not spend.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use http::HeaderMap;
use pingora::http::RequestHeader;
use tollgate::auth::signature::{ca, rfc9421};
use tollgate::auth::{self, AuthFacts, Authenticator};
use tollgate::filter::{Scheme, Verdict};
use tollgate::primitives::RouteName;
use tollgate::primitives::secret::Secret;

use super::request::{NOW, configuration, context, head};

const TARGET: &str = "/v1/orders?status=open&page=2&size=50&sort=-created&customer=c%2042";
const SECRET: &[u8] = b"a secret that is long enough for both";
const LISTED: [&str; 3] = ["x-ca-key", "x-ca-timestamp", "x-ca-nonce"];

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("signature");
    let (ca_head, rfc_head) = (signed_by_ca(), signed_by_rfc9421());
    let message = ca::Message {
        method: "GET",
        target: TARGET,
        headers: &ca_head.headers,
        body: b"",
    };
    group.bench_function("ca, text to sign", |bencher| {
        bencher.iter(|| ca::signed_text(black_box(&message), &LISTED));
    });
    let message = rfc_message(&rfc_head.headers);
    let covered = ["@method", "@authority", "@path", "@query"];
    let parameters =
        b"(\"@method\" \"@authority\" \"@path\" \"@query\");created=1800000000;keyid=\"app\"";
    group.bench_function("rfc9421, text to sign", |bencher| {
        bencher.iter(|| rfc9421::signature_base(black_box(&message), &covered, parameters));
    });
    let route = RouteName::new("r");
    for (name, head) in [("ca", &ca_head), ("rfc9421", &rfc_head)] {
        let authenticator = authenticator(name);
        group.bench_function(format!("{name}, verify"), |bencher| {
            bencher.iter(|| {
                let mut context = context(head, TARGET, &route, 1, 1_000_000_000);
                context.dry_run = true;
                let verdict = authenticator.check(black_box(&mut context));
                assert!(matches!(verdict, Verdict::Continue));
            });
        });
    }
    group.finish();
}

fn authenticator(scheme: &str) -> Arc<dyn Authenticator> {
    let text = format!(
        "[auth.partner]\ntype = \"signature\"\nscheme = \"{scheme}\"\n\
         [auth.partner.apps.app]\nsecret = \"env:UNUSED\"\n"
    );
    let config = configuration(&text);
    let auth = config.auths.values().next().expect("one [auth]");
    let read = |_: &_| Ok(Secret::new(SECRET.to_vec()));
    auth::build(auth, &read, &AuthFacts::new(0)).unwrap_or_else(|error| panic!("{error}"))
}

fn plain() -> RequestHeader {
    head(
        TARGET,
        &[
            ("host", "api.example.com"),
            ("accept", "application/json"),
            ("user-agent", "orders/4.2"),
        ],
    )
}

fn with(mut head: RequestHeader, fields: Vec<(&'static str, String)>) -> RequestHeader {
    for (name, value) in fields {
        head.append_header(name, value).expect("field");
    }
    head
}

fn signed_by_ca() -> RequestHeader {
    let head = plain();
    let message = ca::Message {
        method: "GET",
        target: TARGET,
        headers: &head.headers,
        body: b"",
    };
    let nonce = "5b6e3c0e-0001-4000-8000-000000000001";
    let added = ca::sign(&message, "app", SECRET, NOW * 1000, nonce).expect("a signature");
    with(head, added)
}

fn rfc_message(headers: &HeaderMap) -> rfc9421::Message<'_> {
    rfc9421::Message {
        method: "GET",
        scheme: Scheme::Http,
        authority: "api.example.com",
        target: TARGET,
        headers,
    }
}

fn signed_by_rfc9421() -> RequestHeader {
    let head = plain();
    let message = rfc_message(&head.headers);
    let added = rfc9421::sign(&message, b"", "app", SECRET, NOW, "n-1").expect("a signature");
    with(head, added)
}
