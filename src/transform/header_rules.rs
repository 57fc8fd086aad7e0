//! Header changes of a route: remove, then set, then add.
//!
//! The order lets one rule set replace what it removes: `remove` clears the way, `set` leaves exactly one value, `add`
//! puts a further one beside it. What frames the message cannot be named in a rule; the configuration refuses it.

use http::HeaderValue;
use pingora::http::{RequestHeader, ResponseHeader};

use crate::config::HeaderRules;
use crate::filter::{ResponseFilter, UpstreamRequestFilter};

/// Applies `[route.request]` or `[route.response]`.
pub struct HeaderFilter(HeaderRules);

impl HeaderFilter {
    /// A filter for `rules`; `None` when they change nothing.
    pub fn new(rules: &HeaderRules) -> Option<Self> {
        (!rules.is_empty()).then(|| Self(rules.clone()))
    }
}

/// Applies the rules to either kind of head. Names and values are valid already, so the only failure left is a head
/// with more headers than fit; such a head keeps what it has.
macro_rules! apply {
    ($rules:expr, $head:expr) => {
        for name in &$rules.remove {
            $head.remove_header(name);
        }
        for (name, value) in &$rules.set {
            $head.insert_header(name, value).ok();
        }
        for (name, value) in &$rules.add {
            $head.append_header(name, value).ok();
        }
    };
}

impl UpstreamRequestFilter for HeaderFilter {
    fn apply(&self, head: &mut RequestHeader) {
        apply!(self.0, head);
    }
}

impl ResponseFilter for HeaderFilter {
    fn apply(&self, _origin: Option<&HeaderValue>, head: &mut ResponseHeader) {
        apply!(self.0, head);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn pair(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    }

    fn filter() -> HeaderFilter {
        let rules = HeaderRules {
            set: vec![pair("x-env", "prod"), pair("x-both", "set")],
            add: vec![pair("x-both", "added"), pair("x-more", "added")],
            remove: vec![
                HeaderName::from_static("x-debug"),
                HeaderName::from_static("x-both"),
            ],
        };
        HeaderFilter::new(&rules).unwrap()
    }

    fn values<'h>(headers: &'h http::HeaderMap, name: &str) -> Vec<&'h str> {
        let values = headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn removes_then_sets_then_adds_on_requests() {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in [
            ("X-Debug", "1"),
            ("x-debug", "2"),
            ("X-Env", "a"),
            ("X-Env", "b"),
            ("X-Both", "old"),
            ("X-More", "old"),
            ("X-Kept", "kept"),
        ] {
            head.append_header(name, value).unwrap();
        }
        UpstreamRequestFilter::apply(&filter(), &mut head);
        assert!(values(&head.headers, "x-debug").is_empty());
        assert_eq!(values(&head.headers, "x-env"), ["prod"]);
        assert_eq!(values(&head.headers, "x-both"), ["set", "added"]);
        assert_eq!(values(&head.headers, "x-more"), ["old", "added"]);
        assert_eq!(values(&head.headers, "x-kept"), ["kept"]);
        let mut wire = Vec::new();
        head.header_to_h1_wire(&mut wire);
        let wire = String::from_utf8(wire).unwrap().to_ascii_lowercase();
        assert!(!wire.contains("x-debug") && wire.contains("x-both: added"));
    }

    #[test]
    fn changes_responses_the_same_way() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.append_header("X-Debug", "1").unwrap();
        head.append_header("X-Both", "old").unwrap();
        ResponseFilter::apply(&filter(), None, &mut head);
        assert!(values(&head.headers, "x-debug").is_empty());
        assert_eq!(values(&head.headers, "x-both"), ["set", "added"]);
    }

    #[test]
    fn no_rules_make_no_filter() {
        assert!(HeaderFilter::new(&HeaderRules::default()).is_none());
    }
}
