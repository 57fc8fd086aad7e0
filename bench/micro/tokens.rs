//! Knowing a token again, alone and among a million; and what a token costs that is not known.

use std::cell::OnceCell;
use std::hint::black_box;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::Criterion;
use pingora::http::RequestHeader;
use tollgate::auth::{self, AuthFacts, AuthFilter};
use tollgate::filter::{RequestFilter, Verdict};
use tollgate::primitives::RouteName;
use tollgate::primitives::secret::Secret;

use super::request::{MILLION, NOW, configuration, context, far_apart, head};
use super::together::together;

const SECRET: &[u8] = b"a secret that is long enough for HS256";

/// Of a million known tokens, how many are asked for; far more than any cache of a processor holds.
const ASKED: u32 = 20_000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tokens");
    let route = RouteName::new("r");
    let ask = |filter: &AuthFilter, head: &RequestHeader| {
        let mut context = context(head, "/", &route, 1, 1);
        let verdict = filter.check(black_box(&mut context));
        assert!(matches!(verdict, Verdict::Continue));
    };
    let (one, filter) = (request(0), remembering(1000));
    group.bench_function("known", |bencher| bencher.iter(|| ask(&filter, &one)));
    for (name, threads) in [("1 thread, one token", 1), ("2 threads, one token", 2)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| together(threads, times, |_, _| ask(&filter, &one)));
        });
    }
    let forgetful = remembering(0);
    group.bench_function("HS256, not known", |bencher| {
        bencher.iter(|| ask(&forgetful, &one));
    });
    let known = OnceCell::new();
    let mut i = 0;
    group.bench_function("known among a million", |bencher| {
        let (filter, heads) = known.get_or_init(|| {
            let filter = remembering(MILLION);
            let mut heads = Vec::new();
            for number in 0..MILLION {
                let head = request(number);
                ask(&filter, &head);
                if number % (MILLION / ASKED) == 0 {
                    heads.push(head);
                }
            }
            (filter, heads)
        });
        bencher.iter(|| {
            i += 1;
            let next = far_apart(i, u64::from(ASKED)) as usize;
            ask(filter, &heads[next]);
        });
    });
    group.finish();
}

/// A filter that remembers `most` verified tokens.
pub(crate) fn remembering(most: u32) -> AuthFilter {
    let text = format!(
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"env:UNUSED\"\n\
         forward_claims = {{ sub = \"X-User-Id\" }}\ncache = {most}\n"
    );
    let config = configuration(&text);
    let auth = config.auths.values().next().expect("one [auth]");
    let read = |_: &_| Ok(Secret::new(SECRET.to_vec()));
    let authenticator =
        auth::build(auth, &read, &AuthFacts::new(0)).unwrap_or_else(|error| panic!("{error}"));
    AuthFilter::new(vec![Arc::clone(&authenticator)])
}

/// A request with token number `number`: the claims a sign-in service writes, 250 bytes in all.
pub(crate) fn request(number: u32) -> RequestHeader {
    let head_of_token = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = format!(
        r#"{{"sub":"user-{number}","iss":"https://id.example.com","role":"member","iat":{NOW},"exp":{}}}"#,
        NOW + 3600
    );
    let signed = format!("{head_of_token}.{}", URL_SAFE_NO_PAD.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let tag = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    head("/", &[("authorization", &format!("Bearer {signed}.{tag}"))])
}
