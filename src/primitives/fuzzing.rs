//! Paths and PROXY headers of any bytes, see `src/fuzzing.rs`.

use super::{path, proxy_header};

/// The normal form, if these bytes are a path that has one.
pub(crate) fn normal(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    path::normalize(text).ok().map(|path| path.into_owned())
}

/// How long the PROXY header is that these bytes begin with.
pub(crate) fn announced(bytes: &[u8]) -> Option<usize> {
    let length = proxy_header::length(bytes).ok()??;
    proxy_header::client(&bytes[..length]).ok().map(|_| length)
}

/// A normal path is plain, and stays as it is.
pub fn path(bytes: &[u8]) {
    let Some(once) = normal(bytes) else { return };
    assert!(once.starts_with('/') && !once.contains("//"), "{once:?}");
    let plain = |byte| (0x21..0x7f).contains(&byte);
    assert!(once.bytes().all(plain), "{once:?}");
    let climbs = |segment| segment == "." || segment == "..";
    assert!(!once.split('/').any(climbs), "{once:?}");
    assert_eq!(normal(once.as_bytes()), Some(once));
}

/// A PROXY header ends where it ends, however its bytes come.
pub fn proxy_header(bytes: &[u8]) {
    let Some(length) = announced(bytes) else {
        return;
    };
    assert!(length <= proxy_header::LONGEST, "{length}");
    for cut in 0..length {
        assert_eq!(proxy_header::length(&bytes[..cut]), Ok(None), "{cut}");
    }
}
