//! How deep JSON in a request may nest. Parsers of upstreams that recurse have a stack; whoever sends a megabyte of `[` looks
//! for its end. The body is looked at on its way, piece by piece: nothing of it is kept, and it is not parsed.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::filter::{
    FilterContext, Reason, Refusal, RequestBodyHook, RequestFilter, RequestView, Verdict,
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
fn says_json(request: &RequestView<'_>) -> bool {
    let Some(kind) = request.header(CONTENT_TYPE.as_str()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let ends_with = |suffix: &str| {
        let at = kind.len().checked_sub(suffix.len());
        at.and_then(|at| kind.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    ends_with("/json") || ends_with("+json")
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
