//! What a route asks of a request besides its path.

use http::{HeaderMap, Method, header};

use super::preflight;
use crate::config::{Route, Scheme};
use crate::primitives::query;

/// A request as the route table sees it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Method.
    pub method: &'a Method,
    /// Effective host, lower case, without port.
    pub host: &'a str,
    /// Normalised path.
    pub path: &'a str,
    /// How the client reached the gateway, or the proxy in front that it trusts.
    pub scheme: Scheme,
    /// Query without `?`.
    pub query: Option<&'a str>,
    /// Header fields.
    pub headers: &'a HeaderMap,
}

/// The first predicate that a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    Host,
    Scheme,
    Header(usize),
    Query(usize),
    Cookie(usize),
    /// All but the method holds.
    Method,
}

/// Asks everything of `route` but its path; the method last, so that a 405 is known to hang on it alone.
pub(super) fn ask(route: &Route, asked: &Asked<'_>) -> Result<(), Failed> {
    ask_place(route, asked)?;
    for (index, (name, wanted)) in route.matching.headers.iter().enumerate() {
        let mut values = asked
            .headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        if !values.any(|value| wanted.matches(value)) {
            return Err(Failed::Header(index));
        }
    }
    ask_query(route, asked)?;
    for (index, (name, wanted)) in route.matching.cookies.iter().enumerate() {
        let headers = asked
            .headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        if !headers
            .filter_map(|header| query::cookie(header, name))
            .any(|value| wanted.matches(value))
        {
            return Err(Failed::Cookie(index));
        }
    }
    if admits(&route.matching.methods, asked.method) || preflight::is_for(route, asked) {
        Ok(())
    } else {
        Err(Failed::Method)
    }
}

/// Whether everything holds but what is asked of the method, of headers and of cookies.
pub(super) fn holds_beside_fields(route: &Route, asked: &Asked<'_>) -> bool {
    ask_place(route, asked).is_ok() && ask_query(route, asked).is_ok()
}

fn ask_place(route: &Route, asked: &Asked<'_>) -> Result<(), Failed> {
    if !route.matching.hosts.is_empty()
        && !route
            .matching
            .hosts
            .iter()
            .any(|host| host.matches(asked.host))
    {
        return Err(Failed::Host);
    }
    if route
        .matching
        .scheme
        .is_some_and(|scheme| scheme != asked.scheme)
    {
        return Err(Failed::Scheme);
    }
    Ok(())
}

fn ask_query(route: &Route, asked: &Asked<'_>) -> Result<(), Failed> {
    for (index, (name, wanted)) in route.matching.query.iter().enumerate() {
        let value = asked.query.and_then(|query| query::first(query, name));
        if !value.is_some_and(|value| wanted.matches(&value)) {
            return Err(Failed::Query(index));
        }
    }
    Ok(())
}

/// No list admits any method; `GET` admits `HEAD` (RFC 9110 §9.3.2).
pub(super) fn admits(methods: &[Method], method: &Method) -> bool {
    methods.is_empty()
        || methods.contains(method)
        || (*method == Method::HEAD && methods.contains(&Method::GET))
}

impl Failed {
    /// The predicate in words, for `explain`.
    pub(super) fn describe(self, route: &Route) -> String {
        match self {
            Self::Host => {
                let hosts: Vec<String> = route
                    .matching
                    .hosts
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                format!("the host is none of {}", hosts.join(", "))
            }
            Self::Scheme => {
                let scheme = route.matching.scheme.map_or("any", Scheme::as_str);
                format!("the request did not come over {scheme}")
            }
            Self::Header(index) => {
                let (name, wanted) = &route.matching.headers[index];
                format!(
                    "the header {name} is not {wanted:?}",
                    wanted = wanted.to_string()
                )
            }
            Self::Query(index) => {
                let (name, wanted) = &route.matching.query[index];
                format!(
                    "the query parameter {name} is not {wanted:?}",
                    wanted = wanted.to_string()
                )
            }
            Self::Cookie(index) => {
                let (name, wanted) = &route.matching.cookies[index];
                format!(
                    "the cookie {name} is not {wanted:?}",
                    wanted = wanted.to_string()
                )
            }
            Self::Method => {
                let methods: Vec<&str> =
                    route.matching.methods.iter().map(Method::as_str).collect();
                format!("the method is none of {}", methods.join(", "))
            }
        }
    }
}
