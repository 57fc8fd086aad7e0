//! Header changes of a route: remove, then set, then add.
//!
//! The order lets one rule set replace what it removes: `remove` clears the way, `set` leaves exactly one value, `add`
//! puts a further one beside it. What frames the message cannot be named in a rule; the configuration refuses it.

use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::config::{HeaderField, HeaderRules, Problem};
use crate::filter::{ResponseFilter, UpstreamRequestFilter};
use crate::primitives::secret::ReadSecret;

/// Applies `[route.request]` or `[route.response]`.
pub struct HeaderFilter {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl HeaderFilter {
    /// A filter for `rules`; `None` when they change nothing. A value that cannot be read goes to `problems`.
    pub fn new(
        rules: &HeaderRules,
        read: ReadSecret<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        (!rules.is_empty()).then(|| Self {
            set: read_fields(&rules.set, read, problems),
            add: read_fields(&rules.add, read, problems),
            remove: rules.remove.clone(),
        })
    }

    fn names(&self, name: &HeaderName) -> bool {
        let mut written = self.set.iter().chain(&self.add);
        self.remove.contains(name) || written.any(|(written, _)| written == name)
    }
}

/// Headers with their values read. One that cannot be read goes to `problems`.
pub fn read_fields(
    fields: &[HeaderField],
    read: ReadSecret<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<(HeaderName, HeaderValue)> {
    let pair = |field: &HeaderField| match field.value(read) {
        Ok(value) => Some((field.name.clone(), value)),
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    fields.iter().filter_map(pair).collect()
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
        apply!(self, head);
    }

    fn decides(&self, name: &HeaderName) -> bool {
        self.names(name)
    }
}

impl ResponseFilter for HeaderFilter {
    fn apply(&self, _origin: Option<&HeaderValue>, head: &mut ResponseHeader) {
        apply!(self, head);
    }

    fn decides(&self, name: &HeaderName) -> bool {
        self.names(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    }

    fn filter() -> HeaderFilter {
        HeaderFilter {
            set: vec![pair("x-env", "prod"), pair("x-both", "set")],
            add: vec![pair("x-both", "added"), pair("x-more", "added")],
            remove: vec![
                HeaderName::from_static("x-debug"),
                HeaderName::from_static("x-both"),
            ],
        }
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
        let read = |_: &_| Err("nothing is read".to_owned());
        assert!(HeaderFilter::new(&HeaderRules::default(), &read, &mut Vec::new()).is_none());
    }
}
