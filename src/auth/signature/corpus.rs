//! Signed requests of the corpus, see [`crate::primitives::corpus`]: the first line is method and target, the others are
//! header fields. None of them was signed with a secret that anybody knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use proptest::prelude::*;

use crate::auth::testing::{Call, reason};
use crate::auth::{AuthFacts, Authenticator, build};
use crate::config::{App, AppKey, Auth, SignatureAuth, SignatureScheme};
use crate::filter::Verdict;
use crate::primitives::AuthName;
use crate::primitives::corpus::{changed, entries};
use crate::primitives::secret::{Secret, SecretSource};

fn literal(source: &SecretSource) -> Result<Secret, String> {
    match source {
        SecretSource::Literal(secret) => Ok(secret.clone()),
        other => Err(format!("cannot read {other}")),
    }
}

fn authenticators() -> Vec<Arc<dyn Authenticator>> {
    let schemes = [SignatureScheme::Ca, SignatureScheme::Rfc9421];
    let made = schemes.map(|scheme| {
        let secret = SecretSource::parse("a secret that no file of the corpus knows");
        let app = App {
            key: AppKey::Secrets(vec![secret]),
            tier: None,
            ips: None,
        };
        let auth = Auth::Signature(SignatureAuth {
            name: AuthName::new("partner"),
            scheme,
            skew: Duration::from_secs(300),
            nonce_capacity: 1000,
            require_body_digest: true,
            strict_params: false,
            apps: BTreeMap::from([("app-1001".to_owned(), app)]),
        });
        build(&auth, &literal, &AuthFacts::new(0)).expect("built")
    });
    made.into()
}

/// What each scheme says; `None` where the bytes make no request at all.
fn told(bytes: &[u8], schemes: &[Arc<dyn Authenticator>]) -> Option<Vec<&'static str>> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let line = std::str::from_utf8(lines.next()?).ok()?;
    let (method, target) = line.split_once(' ')?;
    if !method.bytes().all(|byte| byte.is_ascii_uppercase()) || method.is_empty() {
        return None;
    }
    if !target.starts_with('/') || target.parse::<http::Uri>().is_err() {
        return None;
    }
    let mut call = Call::new(method, target);
    for line in lines {
        let Some((name, value)) = std::str::from_utf8(line)
            .ok()
            .and_then(|l| l.split_once(':'))
        else {
            continue;
        };
        let value = value.trim();
        if name.parse::<http::HeaderName>().is_ok() && HeaderValue::from_str(value).is_ok() {
            call = call.header(name, value);
        }
    }
    let told = schemes.iter().map(|scheme| {
        let mut exchange = call.exchange();
        match scheme.check(&mut exchange) {
            Verdict::NeedBody => reason(&scheme.check_body(&mut exchange, b"body")),
            verdict => reason(&verdict),
        }
    });
    Some(told.collect())
}

#[test]
fn nothing_of_the_corpus_passes() {
    let schemes = authenticators();
    for (name, bytes) in entries("signature") {
        let told = told(&bytes, &schemes).expect("a request");
        let refused = |reason: &&str| reason.starts_with("sig_") || *reason == "body_digest";
        assert!(told.iter().all(refused), "{name}: {told:?}");
    }
}

proptest! {
    #[test]
    fn no_change_of_it_does(bytes in changed("signature")) {
        let schemes = authenticators();
        if let Some(told) = told(&bytes, &schemes) {
            prop_assert!(!told.contains(&"continue"), "{:?}", told);
        }
    }
}
