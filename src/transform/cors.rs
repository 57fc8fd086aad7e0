//! Cross-origin requests (Fetch standard §3.2): preflights are answered here, and answers say which scripts may read
//! them.
//!
//! These headers tell a browser what it may show to a script; they keep nobody out. A request from an origin that is
//! not allowed is therefore served like any other and only lacks the headers, and a preflight that is not granted is
//! answered without them, which is how a browser is told no. On a route with rules the rules alone speak: what an
//! upstream says about origins is removed.
//!
//! Answers that depend on the origin say so in `Vary`, also to requests without one: a cache must not show an answer
//! made for one origin to another.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;

use crate::config::Cors;
use crate::filter::{Exchange, Reply, RequestFilter, ResponseFilter, Verdict};

/// The rules of `[route.cors]`.
pub struct CorsFilter {
    origins: Origins,
    methods: Vec<Method>,
    credentials: bool,
    expose: Option<HeaderValue>,
    /// The answer to a preflight that is not granted.
    denied: Arc<Reply>,
}

enum Origins {
    /// Every origin gets the same answer.
    Any(Grant),
    /// These, each with its own answer. There are few, so they are simply compared.
    Listed(Vec<Grant>),
}

/// What an allowed origin is told.
struct Grant {
    origin: HeaderValue,
    preflight: Arc<Reply>,
}

impl CorsFilter {
    /// Prepares every answer there can be.
    pub fn new(cors: &Cors) -> Self {
        let grant = |origin: HeaderValue| Grant {
            preflight: preflight(cors, &origin),
            origin,
        };
        let origins = match &cors.origins {
            None => Origins::Any(grant(HeaderValue::from_static("*"))),
            Some(list) => {
                // Browsers send origins in lower case and compare the answer byte for byte.
                let values = list.iter().map(|origin| origin.to_ascii_lowercase());
                let values = values.filter_map(|origin| HeaderValue::try_from(origin).ok());
                Origins::Listed(values.map(grant).collect())
            }
        };
        Self {
            origins,
            methods: cors.methods.clone(),
            credentials: credentials(cors),
            expose: list(cors.expose.iter().map(HeaderName::as_str)),
            denied: Arc::new(no_content(vary(cors).into_iter().collect())),
        }
    }

    fn grant(&self, origin: &HeaderValue) -> Option<&Grant> {
        match &self.origins {
            Origins::Any(grant) => Some(grant),
            Origins::Listed(list) => list.iter().find(|grant| {
                grant
                    .origin
                    .as_bytes()
                    .eq_ignore_ascii_case(origin.as_bytes())
            }),
        }
    }

    fn allows(&self, method: &HeaderValue) -> bool {
        let mut methods = self.methods.iter();
        methods.any(|allowed| allowed.as_str().as_bytes() == method.as_bytes())
    }
}

impl RequestFilter for CorsFilter {
    fn name(&self) -> &str {
        "cors"
    }

    /// A preflight is `OPTIONS` with an origin and the method it asks for; anything else goes on.
    fn check(&self, exchange: &mut Exchange<'_>) -> Verdict {
        let headers = &exchange.head.headers;
        let (Some(origin), Some(method)) = (
            headers.get(ORIGIN),
            headers.get(ACCESS_CONTROL_REQUEST_METHOD),
        ) else {
            return Verdict::Continue;
        };
        if exchange.head.method != Method::OPTIONS {
            return Verdict::Continue;
        }
        let granted = self.grant(origin).filter(|_| self.allows(method));
        let reply = granted.map_or(&self.denied, |grant| &grant.preflight);
        Verdict::Answer(Arc::clone(reply))
    }
}

impl ResponseFilter for CorsFilter {
    fn apply(&self, origin: Option<&HeaderValue>, head: &mut ResponseHeader) {
        for name in [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_EXPOSE_HEADERS,
        ] {
            head.remove_header(&name);
        }
        let grant = match &self.origins {
            // Also without an origin: the answer may be cached and shown to a request that has one.
            Origins::Any(grant) => Some(grant),
            Origins::Listed(_) => {
                vary_on_origin(head);
                origin.and_then(|origin| self.grant(origin))
            }
        };
        let Some(grant) = grant else {
            return;
        };
        // Names and values are valid; a head too full for another header keeps what it has.
        head.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, &grant.origin)
            .ok();
        if self.credentials {
            head.insert_header(
                ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            )
            .ok();
        }
        if let Some(expose) = &self.expose {
            head.insert_header(ACCESS_CONTROL_EXPOSE_HEADERS, expose)
                .ok();
        }
    }
}

fn preflight(cors: &Cors, origin: &HeaderValue) -> Arc<Reply> {
    let credentials = credentials(cors).then(|| HeaderValue::from_static("true"));
    let max_age = cors.max_age.map(|age| HeaderValue::from(age.as_secs()));
    let headers = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, Some(origin.clone())),
        (
            ACCESS_CONTROL_ALLOW_METHODS,
            list(cors.methods.iter().map(Method::as_str)),
        ),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            list(cors.headers.iter().map(HeaderName::as_str)),
        ),
        (ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials),
        (ACCESS_CONTROL_MAX_AGE, max_age),
    ];
    let headers = headers
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    Arc::new(no_content(headers.chain(vary(cors)).collect()))
}

fn no_content(headers: Vec<(HeaderName, HeaderValue)>) -> Reply {
    Reply {
        redirect: None,
        status: StatusCode::NO_CONTENT,
        headers,
        body: Bytes::new(),
    }
}

/// Credentials go to named origins only; browsers accept nothing else, and the configuration refuses it.
fn credentials(cors: &Cors) -> bool {
    cors.credentials && cors.origins.is_some()
}

fn vary(cors: &Cors) -> Option<(HeaderName, HeaderValue)> {
    cors.origins
        .as_ref()
        .map(|_| (VARY, HeaderValue::from_static("Origin")))
}

/// Adds `Vary: Origin` unless it is said already.
fn vary_on_origin(head: &mut ResponseHeader) {
    let said = head.headers.get_all(VARY).iter().any(|value| {
        let names = value.as_bytes().split(|byte| *byte == b',');
        names
            .map(<[u8]>::trim_ascii)
            .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"))
    });
    if !said {
        head.append_header(VARY, HeaderValue::from_static("Origin"))
            .ok();
    }
}

/// Names with commas between them; `None` for none.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> Option<HeaderValue> {
    let text = names.collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(text)
        .ok()
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
