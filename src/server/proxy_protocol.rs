//! The PROXY header of a connection: read before anything else, and not a byte more.

use std::io;
use std::net::IpAddr;

use thiserror::Error;

use super::stream::Stream;
use crate::primitives::proxy_header::{self, LONGEST, Malformed};

/// Why a connection has no usable header.
#[derive(Debug, Error)]
pub(super) enum NoHeader {
    /// The header is missing or broken.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The connection ended before it did.
    #[error("the connection ended before the PROXY header did")]
    Ended,
    /// The connection failed.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// Bytes looked at first: more than most headers have.
const USUAL: usize = 256;

/// Reads the header and says which client it announces; `None`: the connection's own address stands. What follows, HTTP
/// or TLS, stays in the socket. The caller bounds the time.
pub(super) async fn announced(stream: &Stream) -> Result<Option<IpAddr>, NoHeader> {
    let mut header: Vec<u8> = Vec::with_capacity(USUAL);
    loop {
        let taken = header.len();
        header.resize((taken + USUAL).min(LONGEST), 0);
        let peeked = stream.peek(&mut header[taken..]).await?;
        if peeked == 0 {
            return Err(NoHeader::Ended);
        }
        header.truncate(taken + peeked);
        let length = proxy_header::length(&header)?;
        // Until the end is known all that came belongs to the header.
        header.truncate(length.unwrap_or(header.len()));
        let mut at = taken;
        while at < header.len() {
            match stream.take(&mut header[at..]).await? {
                0 => return Err(NoHeader::Ended),
                more => at += more,
            }
        }
        if length.is_some() {
            return Ok(proxy_header::client(&header)?);
        }
    }
}
