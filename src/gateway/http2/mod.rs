//! HTTP/2 towards the client. The codec is the `h2` crate's, which reads frames strictly and bounds what floods of them
//! can cost; what a stream asks for is judged like a message of HTTP/1, served by the same code, and held to the same
//! time limits.

pub(super) mod answer;
mod blocks;
pub(super) mod connection;
pub(super) mod fields;
pub(super) mod head;
mod traffic;
pub(super) mod wire;

/// What a client begins with that knows the server to speak HTTP/2 (RFC 9113 §3.4), as far as it looks like a head of
/// HTTP/1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Whether a head is the beginning of HTTP/2.
pub(super) fn is_preface(head: &[u8]) -> bool {
    head == PREFACE
}

/// The stream of a request that a codec accepted, for tests.
#[cfg(test)]
pub(in crate::gateway) fn wire(
    incoming: h2::RecvStream,
    respond: h2::server::SendResponse<bytes::Bytes>,
) -> wire::Http2Wire {
    let traffic = std::sync::Arc::new(traffic::Traffic::default());
    wire::Http2Wire::new(incoming, respond, traffic.enter())
}
