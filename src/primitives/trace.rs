//! Request identity: `X-Trace-ID` and W3C `traceparent`.

use std::fmt;

use rand::RngCore;

/// Longest identifier taken from a client.
const LONGEST: usize = 64;

/// A request's identifier: 1 to 64 of `A-Za-z0-9._-`. Kept in place, so it costs no allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId {
    length: u8,
    bytes: [u8; LONGEST],
}

impl TraceId {
    /// A new random identifier: 32 hex digits, usable as a W3C trace id.
    pub fn random(numbers: &mut impl RngCore) -> Self {
        let mut bytes = [0; LONGEST];
        let (high, low) = (numbers.next_u64(), numbers.next_u64().max(1));
        write_hex(&mut bytes[..16], &high.to_be_bytes());
        write_hex(&mut bytes[16..32], &low.to_be_bytes());
        Self { length: 32, bytes }
    }

    /// Takes a client's identifier when it is well formed.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let well_formed = (1..=LONGEST).contains(&text.len())
            && text
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        well_formed.then(|| {
            let mut bytes = [0; LONGEST];
            bytes[..text.len()].copy_from_slice(text);
            Self {
                length: text.len() as u8,
                bytes,
            }
        })
    }

    /// The identifier as bytes, all of them ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Length of a version-00 `traceparent`.
const TRACEPARENT: usize = 55;

/// The parts of a `traceparent` we carry on (W3C Trace Context §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: [u8; 32],
    flags: [u8; 2],
}

impl TraceParent {
    /// Starts the trace that a new random identifier names.
    pub fn of_random(id: &TraceId) -> Self {
        let mut trace_id = [0; 32];
        trace_id.copy_from_slice(&id.bytes[..32]);
        Self {
            trace_id,
            flags: *b"00",
        }
    }

    /// Starts a trace for a request that came without one. Uses `id` when that is a W3C trace id.
    pub fn start(id: &TraceId) -> Self {
        let text = id.as_bytes();
        let mut trace_id = [0; 32];
        if text.len() == 32 && is_lower_hex(text) && text.iter().any(|b| *b != b'0') {
            trace_id.copy_from_slice(text);
        } else {
            write_hex(&mut trace_id, &nonzero::<16>());
        }
        Self {
            trace_id,
            flags: *b"00",
        }
    }

    /// Reads a client's header; `None` when it is not valid. Higher versions are read as far as version 00 goes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let shaped =
            text.len() >= TRACEPARENT && text[2] == b'-' && text[35] == b'-' && text[52] == b'-';
        if !shaped || !is_lower_hex(&text[..2]) || &text[..2] == b"ff" {
            return None;
        }
        let exact = text.len() == TRACEPARENT || (&text[..2] != b"00" && text[TRACEPARENT] == b'-');
        let (id, span, flags) = (&text[3..35], &text[36..52], &text[53..55]);
        let valid = exact
            && [id, span, flags].into_iter().all(is_lower_hex)
            && id.iter().any(|b| *b != b'0')
            && span.iter().any(|b| *b != b'0');
        valid.then(|| {
            let mut parent = Self {
                trace_id: [0; 32],
                flags: [flags[0], flags[1]],
            };
            parent.trace_id.copy_from_slice(id);
            parent
        })
    }

    /// The trace id as a request identifier.
    pub fn trace_id(&self) -> TraceId {
        let mut bytes = [0; LONGEST];
        bytes[..32].copy_from_slice(&self.trace_id);
        TraceId { length: 32, bytes }
    }

    /// The header for the upstream: same trace, this span.
    pub fn child(&self, span: u64) -> [u8; TRACEPARENT] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        out[3..35].copy_from_slice(&self.trace_id);
        write_hex(&mut out[36..52], &span.max(1).to_be_bytes());
        out[53..].copy_from_slice(&self.flags);
        out
    }
}

fn is_lower_hex(text: &[u8]) -> bool {
    text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn write_hex(out: &mut [u8], bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
}

/// Random bytes that are not all zero, which both identifiers forbid.
fn nonzero<const N: usize>() -> [u8; N] {
    let mut bytes: [u8; N] = std::array::from_fn(|_| 0);
    rand::fill(&mut bytes[..]);
    if bytes.iter().all(|b| *b == 0) {
        bytes[N - 1] = 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn keeps_a_well_formed_identifier_and_no_other() {
        assert_eq!(
            TraceId::parse(b"a.B_9-")
                .map(|id| id.to_string())
                .as_deref(),
            Some("a.B_9-")
        );
        for bad in [&b""[..], b"a b", b"a\nb", &[b'a'; 65], "\u{e9}".as_bytes()] {
            assert!(TraceId::parse(bad).is_none());
        }
        assert_eq!(TraceId::random(&mut rand::rng()).as_str().len(), 32);
    }

    #[test]
    fn carries_a_trace_on_with_a_new_span() {
        let parent = TraceParent::parse(VALID).expect("valid");
        assert_eq!(
            parent.trace_id().as_str(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        let child = parent.child(0x0123_4567_89ab_cdef);
        assert_eq!(&child[..36], &VALID[..36]);
        assert_ne!(&child[36..52], &VALID[36..52]);
        assert_eq!(&child[52..], &VALID[52..]);
        assert!(TraceParent::parse(&child).is_some());
    }

    #[test]
    fn ignores_a_malformed_parent() {
        for bad in [
            &b"00-00000000000000000000000000000000-00f067aa0ba902b7-01"[..],
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            b"garbage",
        ] {
            assert!(TraceParent::parse(bad).is_none());
        }
    }
}
