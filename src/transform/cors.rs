//! Cross-origin requests (Fetch standard §3.2): preflights are answered here, and answers say which scripts may read
//! them.
//!
//! These headers tell a browser what it may show to a script; they keep nobody out. A request from an origin that is
//! not allowed is therefore served like any other and only lacks the headers, and a preflight that is not granted is
//! answered without them, which is how a browser is told no. On a route with rules the rules alone speak: what an
//! upstream says about origins is removed.
//!
//! An origin may be written with `*.` before its domain; what the `*` stands for is a name under it, never nothing.
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
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;

use crate::config::Cors;
use crate::filter::{FilterContext, Reply, RequestFilter, ResponseFilter, Verdict};

/// A page of the public internet asks for something of a private network.
static REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");

/// The rules of `[route.cors]`.
pub struct CorsFilter {
    origins: Origins,
    methods: Vec<Method>,
    any_method: bool,
    credentials: bool,
    private_network: bool,
    expose: Option<HeaderValue>,
    /// The answer to a preflight that is not granted.
    denied: Arc<Reply>,
}

enum Origins {
    /// Every origin gets the same answer.
    Any(Grant),
    /// Listed origins, each with its own answer. There are few, so they are simply compared.
    Listed(Vec<Grant>, Vec<Under>),
}

/// Every origin under a domain.
struct Under {
    /// Up to and with `://`.
    scheme: String,
    /// From the dot before the domain.
    domain: String,
    /// The preflight's answer, but for the origin.
    preflight: Arc<Reply>,
}

/// What was found for an origin.
enum Granted<'g> {
    /// The answer is prepared.
    Listed(&'g Grant),
    /// The answer names the origin that asks.
    Under(&'g Under),
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
            preflight: preflight(cors, Some(&origin)),
            origin,
        };
        let origins = match &cors.origins {
            None => Origins::Any(grant(HeaderValue::from_static("*"))),
            Some(list) => {
                // Browsers send origins in lower case and compare the answer byte for byte.
                let lower = list.iter().map(|origin| origin.to_ascii_lowercase());
                let (wild, exact): (Vec<_>, Vec<_>) =
                    lower.partition(|origin| origin.contains("://*."));
                let values = exact.into_iter();
                let values = values.filter_map(|origin| HeaderValue::try_from(origin).ok());
                let wild = wild.iter().filter_map(|origin| Under::of(origin, cors));
                Origins::Listed(values.map(grant).collect(), wild.collect())
            }
        };
        Self {
            origins,
            methods: cors.methods.clone(),
            any_method: cors.methods.iter().any(|method| method.as_str() == "*"),
            private_network: cors.private_network,
            credentials: credentials(cors),
            expose: list(cors.expose.iter().map(HeaderName::as_str)),
            denied: Arc::new(no_content(vary(cors).into_iter().collect())),
        }
    }

    fn grant(&self, origin: &HeaderValue) -> Option<Granted<'_>> {
        match &self.origins {
            Origins::Any(grant) => Some(Granted::Listed(grant)),
            Origins::Listed(list, wild) => {
                let same = |grant: &&Grant| {
                    let known = grant.origin.as_bytes();
                    known.eq_ignore_ascii_case(origin.as_bytes())
                };
                let listed = list.iter().find(same).map(Granted::Listed);
                let under = || wild.iter().find(|under| under.holds(origin));
                listed.or_else(|| under().map(Granted::Under))
            }
        }
    }

    /// The answer to a preflight that is granted.
    fn preflight(
        &self,
        granted: &Granted<'_>,
        headers: &HeaderMap,
        origin: &HeaderValue,
    ) -> Arc<Reply> {
        let prepared = match granted {
            Granted::Listed(grant) => &grant.preflight,
            Granted::Under(under) => &under.preflight,
        };
        let mut more = Vec::new();
        if let Granted::Under(_) = granted {
            more.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
        }
        let asked = headers.get(&REQUEST_PRIVATE_NETWORK);
        if self.private_network && asked.is_some_and(|value| value == "true") {
            let name = HeaderName::from_static("access-control-allow-private-network");
            more.push((name, HeaderValue::from_static("true")));
        }
        if more.is_empty() {
            return Arc::clone(prepared);
        }
        more.extend_from_slice(&prepared.headers);
        Arc::new(no_content(more))
    }

    fn allows(&self, method: &HeaderValue) -> bool {
        let mut methods = self.methods.iter();
        self.any_method || methods.any(|allowed| allowed.as_str().as_bytes() == method.as_bytes())
    }
}

impl RequestFilter for CorsFilter {
    fn name(&self) -> &str {
        "cors"
    }

    /// A preflight is `OPTIONS` with an origin and the method it asks for; anything else goes on.
    fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
        let headers = &context.request.head.headers;
        let (Some(origin), Some(method)) = (
            headers.get(ORIGIN),
            headers.get(ACCESS_CONTROL_REQUEST_METHOD),
        ) else {
            return Verdict::Continue;
        };
        if context.request.head.method != Method::OPTIONS {
            return Verdict::Continue;
        }
        let granted = self.grant(origin).filter(|_| self.allows(method));
        let reply = granted.map(|granted| self.preflight(&granted, headers, origin));
        Verdict::Answer(reply.unwrap_or_else(|| Arc::clone(&self.denied)))
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
            Origins::Any(grant) => Some(&grant.origin),
            Origins::Listed(..) => {
                vary_on_origin(head);
                origin.and_then(|origin| match self.grant(origin)? {
                    Granted::Listed(grant) => Some(&grant.origin),
                    Granted::Under(_) => Some(origin),
                })
            }
        };
        let Some(allowed) = grant else {
            return;
        };
        // Names and values are valid; a head too full for another header keeps what it has.
        head.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, allowed)
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

    fn decides(&self, name: &HeaderName) -> bool {
        name.as_str().starts_with("access-control-")
    }
}

impl Under {
    /// Reads `https://*.example.com`, in lower case.
    fn of(origin: &str, cors: &Cors) -> Option<Self> {
        let (scheme, domain) = origin.split_once('*')?;
        Some(Self {
            scheme: scheme.to_owned(),
            domain: domain.to_owned(),
            preflight: preflight(cors, None),
        })
    }

    /// Whether `origin` is a name under the domain: `https://a.example.com`, not `https://example.com`, and not
    /// `https://evil.test#.example.com`.
    fn holds(&self, origin: &HeaderValue) -> bool {
        let Ok(text) = origin.to_str() else {
            return false;
        };
        let text = text.to_ascii_lowercase();
        let name = text.strip_prefix(&*self.scheme);
        let name = name.and_then(|rest| rest.strip_suffix(&*self.domain));
        name.is_some_and(|name| {
            let of_host =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            !name.is_empty() && name.bytes().all(of_host)
        })
    }
}

fn preflight(cors: &Cors, origin: Option<&HeaderValue>) -> Arc<Reply> {
    let credentials = credentials(cors).then(|| HeaderValue::from_static("true"));
    let max_age = cors.max_age.map(|age| HeaderValue::from(age.as_secs()));
    let headers = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, origin.cloned()),
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
