//! Signed requests of any bytes, see `src/fuzzing.rs`: the first line is method and target, the others are header fields.
//! None of them was signed with a secret that anybody knows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::http::RequestHeader;

use crate::auth::{AuthFacts, Authenticator, build};
use crate::config::{App, AppKey, Auth, SignatureAuth, SignatureScheme};
use crate::filter::{FilterContext, Moment, RequestView, Scheme, Verdict};
use crate::primitives::secret::{Secret, SecretSource};
use crate::primitives::{AuthName, RouteName};

/// The wall clock, seconds.
const NOW: u64 = 1_700_000_000;

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

/// The request that these bytes are, if they are one.
fn request(bytes: &[u8]) -> Option<(RequestHeader, &str)> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let line = std::str::from_utf8(lines.next()?).ok()?;
    let (method, target) = line.split_once(' ')?;
    if !method.bytes().all(|byte| byte.is_ascii_uppercase()) || method.is_empty() {
        return None;
    }
    if !target.starts_with('/') || target.parse::<http::Uri>().is_err() {
        return None;
    }
    let mut head = RequestHeader::build(method, target.as_bytes(), None).ok()?;
    for line in lines {
        let text = std::str::from_utf8(line).ok();
        if let Some((name, value)) = text.and_then(|line| line.split_once(':')) {
            let _ = head.append_header(name.to_owned(), value.trim());
        }
    }
    Some((head, target))
}

/// What each scheme says; `None` where the bytes make no request at all.
pub(super) fn told(bytes: &[u8]) -> Option<Vec<&'static str>> {
    let (head, target) = request(bytes)?;
    let route = RouteName::new("r");
    let told = authenticators().into_iter().map(|scheme| {
        let request = RequestView {
            host: "api.example.com",
            authority: "api.example.com",
            scheme: Scheme::Https,
            client_ip: IpAddr::from([192, 0, 2, 1]),
            ..RequestView::bare(&head, target, &route)
        };
        let moment = Moment {
            now: 1,
            unix_time: NOW,
        };
        let mut context = FilterContext::new(request, moment);
        match scheme.check(&mut context) {
            Verdict::NeedBody => word(&scheme.check_body(&mut context, b"body")),
            verdict => word(&verdict),
        }
    });
    Some(told.collect())
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Refuse(refusal) => refusal.reason.code(),
        _ => "passed",
    }
}

/// Nothing passes.
pub fn signature(bytes: &[u8]) {
    if let Some(told) = told(bytes) {
        assert!(!told.contains(&"passed"), "{told:?}");
    }
}
