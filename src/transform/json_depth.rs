//! How deep JSON in a request may nest. Parsers of upstreams that recurse have a stack; whoever sends a megabyte of `[` looks
//! for its end. The body is looked at on its way, piece by piece: nothing of it is kept, and it is not parsed.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::filter::{
    FilterContext, Part, Reason, Refusal, RequestBodyHook, RequestFilter, RequestView, Verdict,
};

/// Refuses JSON that nests too deep.
pub struct JsonDepthFilter {
    most: u32,
}

impl JsonDepthFilter {
    /// A filter that lets arrays and objects nest `most` levels deep.
    pub fn new(most: u32) -> Self {
        Self { most }
    }
}

impl RequestFilter for JsonDepthFilter {
    fn name(&self) -> &str {
        "json_depth"
    }

    fn part(&self) -> Part {
        Part::Form
    }

    fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
        if !says_json(&context.request) {
            return Verdict::Continue;
        }
        if context.request.head.headers.contains_key(CONTENT_ENCODING) {
            return Verdict::Refuse(Refusal::new(
                Reason::BadRequest,
                "the body is encoded, and how deep it nests cannot be seen",
            ));
        }
        context.body_hooks.push(Box::new(Depth::new(self.most)));
        Verdict::Continue
    }
}

/// Whether a request says that its body is JSON: `application/json`, or any type whose suffix says so (RFC 6839 §3.1).
/// An upstream may read any of several types, and does not mind what is no text in their parameters: one that says so is
/// enough.
fn says_json(request: &RequestView<'_>) -> bool {
    let fields = request.head.headers.get_all(CONTENT_TYPE).iter();
    let mut kinds = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    kinds.any(is_json)
}

/// Whether a media type, perhaps with parameters, is one of JSON.
fn is_json(kind: &[u8]) -> bool {
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii();
    let ends_with = |suffix: &[u8]| {
        let at = essence.len().checked_sub(suffix.len());
        at.and_then(|at| essence.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    ends_with(b"/json") || ends_with(b"+json")
}

/// Where in a JSON text the last piece ended.
struct Depth {
    most: u32,
    now: u32,
    in_string: bool,
    /// The last byte was a backslash in a string.
    escaped: bool,
}

impl Depth {
    fn new(most: u32) -> Self {
        Self {
            most,
            now: 0,
            in_string: false,
            escaped: false,
        }
    }

    /// Takes the next byte; says whether the text is still as flat as it must be.
    fn take(&mut self, byte: u8) -> bool {
        if self.in_string {
            let ends = byte == b'"' && !self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            self.in_string = !ends;
            return true;
        }
        match byte {
            b'"' => self.in_string = true,
            b'[' | b'{' => self.now += 1,
            b']' | b'}' => self.now = self.now.saturating_sub(1),
            _ => {}
        }
        self.now <= self.most
    }
}

impl RequestBodyHook for Depth {
    fn on_body(&mut self, piece: &[u8], _end: bool) -> Result<(), Refusal> {
        // JSON is UTF-8 (RFC 8259 §8.1), which has a NUL nowhere in it. What has one is UTF-16 or UTF-32, whose quotes and
        // brackets stand elsewhere than they seem to.
        if memchr::memchr(0, piece).is_some() {
            let sentence = "the body holds a NUL, which JSON never does";
            return Err(Refusal::new(Reason::BadRequest, sentence));
        }
        if piece.iter().all(|byte| self.take(*byte)) {
            return Ok(());
        }
        let sentence = format!("the body nests deeper than {} levels", self.most);
        Err(Refusal::new(Reason::BadRequest, sentence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(most: u32, text: &[u8], size: usize) -> bool {
        let mut depth = Depth::new(most);
        let mut pieces = text.chunks(size);
        pieces.all(|piece| depth.on_body(piece, false).is_ok())
    }

    #[test]
    fn counts_what_is_open_wherever_pieces_end() {
        let text = br#"{"a":[{"b":"]}[[\"{{"},"\\",[1,2]],"c":{}}"#;
        for size in 1..=text.len() {
            assert!(fits(3, text, size), "{size}");
            assert!(!fits(2, text, size), "{size}");
        }
        assert!(fits(1, b"[],[],[]", 3), "beside each other is not within");
        assert!(fits(1, b"]]]][", 1), "what was never opened lends no depth");
        assert!(!fits(1, b"]]]][[", 1));
    }

    #[test]
    fn what_is_no_utf8_is_refused_before_it_is_misread() {
        let nested = format!("[\"\u{2201}\",{}", "[".repeat(400));
        let little: Vec<u8> = nested.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = nested.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for size in [1, 3, 1000] {
            assert!(!fits(3, &little, size), "{size}");
            assert!(!fits(3, &big, size), "{size}");
        }
        assert!(fits(1, "[\"\u{2201}\"]".as_bytes(), 2));
    }

    #[test]
    fn one_type_that_says_json_is_enough() {
        let says = |kinds: &[&[u8]]| {
            let mut head = pingora::http::RequestHeader::build("POST", b"/", None).unwrap();
            for kind in kinds {
                let value = http::HeaderValue::from_bytes(kind).unwrap();
                head.append_header("content-type", value).unwrap();
            }
            let route = crate::primitives::RouteName::new("r");
            says_json(&RequestView::bare(&head, "/", &route))
        };
        assert!(says(&[b"text/plain", b"application/json"]));
        assert!(says(&[b"application/json", b"text/plain"]));
        assert!(says(&[b"text/plain, application/json"]));
        assert!(says(&[b"application/json; x=\xe9"]));
        assert!(!says(&[b"text/plain; x=\xe9", b"text/html"]));
        assert!(!says(&[]));
    }

    #[test]
    fn who_says_json_in_any_way_is_looked_at() {
        for (kind, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/json", true),
            ("text/plain", false),
            ("json", false),
            ("application/jsonp", false),
        ] {
            let mut head = pingora::http::RequestHeader::build("POST", b"/", None).unwrap();
            head.append_header("content-type", kind).unwrap();
            let route = crate::primitives::RouteName::new("r");
            let request = RequestView::bare(&head, "/", &route);
            assert_eq!(says_json(&request), expected, "{kind}");
        }
    }
}
