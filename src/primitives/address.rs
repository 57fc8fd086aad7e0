//! Where something listens: an IP address with a port, or a Unix socket.

use std::ffi::OsStr;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Whether a host, lower case and without port, is an IP address and no name: IPv6 in brackets, perhaps with a zone.
pub fn is_ip_literal(host: &str) -> bool {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(inside) => {
            let address = inside.split('%').next().unwrap_or_default();
            address.parse::<Ipv6Addr>().is_ok()
        }
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Address {
    /// An IP address and port.
    Inet(#[serde(with = "text")] SocketAddr),
    /// The path of a Unix socket, absolute.
    Unix(Arc<Path>),
}

/// Bytes of the longest path a Unix socket can have (`sun_path`, with its closing zero).
const LONGEST_PATH: usize = 107;

impl Address {
    /// Reads `unix:/path`; `None` when the text begins otherwise.
    pub fn unix(text: &str) -> Option<Result<Self, String>> {
        let path = text.strip_prefix("unix:")?;
        let wrong = |why: &str| Some(Err(format!("{text:?}: {why}")));
        if !path.starts_with('/') {
            return wrong("the path of a Unix socket must begin with a slash");
        }
        if path.ends_with('/') || path.contains('\0') {
            return wrong("is no path of a socket");
        }
        if path.len() > LONGEST_PATH {
            return wrong("the path of a Unix socket has at most 107 bytes");
        }
        Some(Ok(Self::Unix(Arc::from(Path::new(OsStr::new(path))))))
    }

    /// The IP address and port, if it has one.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// IP addresses are written as text in every format: the short form that serde has for them leaves out the zone of a
/// link-local one.
mod text {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(address: &SocketAddr, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(address)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paths_of_sockets() {
        let read = |text: &str| Address::unix(text).map(|read| read.map(|a| a.to_string()));
        assert_eq!(read("127.0.0.1:80"), None);
        assert_eq!(read("unix:/run/a"), Some(Ok("unix:/run/a".into())));
        for wrong in ["unix:", "unix:run/a", "unix:/run/", "unix:/a\0b"] {
            assert!(read(wrong).is_some_and(|read| read.is_err()), "{wrong}");
        }
        let path = |length: usize| format!("unix:/{}", "x".repeat(length - 1));
        assert!(read(&path(107)).is_some_and(|read| read.is_ok()));
        assert!(read(&path(108)).is_some_and(|read| read.is_err()));
    }
}
