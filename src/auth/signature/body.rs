//! Digests of bodies: `Content-MD5`, `X-Ca-Content-Sha256`, `Content-Digest`.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use sfv::{Dictionary, ListEntry, Parser};

use crate::primitives::digest::{hex, sha256};

/// What `Content-MD5` should say about `body`. MD5 is the vendor's choice; it is signed and guards against nobody who
/// can compute collisions, which is why `X-Ca-Content-Sha256` may stand in for it.
pub(super) fn md5(body: &[u8]) -> String {
    STANDARD.encode(Md5::digest(body))
}

/// Whether `text` is the MD5 of `body`.
pub(super) fn is_md5(text: &[u8], body: &[u8]) -> bool {
    text == md5(body).as_bytes()
}

/// Whether `text` is the SHA-256 of `body`, in hex of either case or Base64.
pub(super) fn is_sha256(text: &[u8], body: &[u8]) -> bool {
    let digest = sha256(body);
    text.eq_ignore_ascii_case(hex(&digest).as_bytes()) || text == STANDARD.encode(digest).as_bytes()
}

/// What `Content-Digest` should say about `body`.
pub(super) fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(sha256(body)))
}

/// Whether a `Content-Digest` fits `body`: at least one digest we know, and every such digest right (RFC 9530 §2).
pub(super) fn fits_content_digest(field: &[u8], body: &[u8]) -> bool {
    let Ok(entries) = Parser::new(field).parse::<Dictionary>() else {
        return false;
    };
    let mut known = 0;
    for (name, algorithm) in [("sha-256", &digest::SHA256), ("sha-512", &digest::SHA512)] {
        let Some(entry) = entries.get(name) else {
            continue;
        };
        known += 1;
        let claimed = match entry {
            ListEntry::Item(item) => item.bare_item.as_byte_sequence(),
            ListEntry::InnerList(_) => None,
        };
        if claimed != Some(digest::digest(algorithm, body).as_ref()) {
            return false;
        }
    }
    known > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"hello": "world"}"#;
    const SHA256: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    const SHA512: &str = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";

    #[test]
    fn knows_the_digests_of_rfc_9530() {
        assert_eq!(content_digest(BODY), SHA256);
        for good in [
            SHA256.to_owned(),
            SHA512.to_owned(),
            format!("{SHA256}, {SHA512}"),
            format!("md5=:AAAA:, {SHA256}"),
        ] {
            assert!(fits_content_digest(good.as_bytes(), BODY), "{good}");
            assert!(!fits_content_digest(good.as_bytes(), b"x"), "{good}");
        }
    }

    #[test]
    fn refuses_digests_that_say_nothing_or_contradict() {
        for bad in [
            "",
            "md5=:AAAA:",
            "sha-256",
            "sha-256=abc",
            "sha-256=(:AAAA:)",
            "sha-256=:AAAA:",
            "X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=",
        ] {
            assert!(!fits_content_digest(bad.as_bytes(), BODY), "{bad}");
        }
        let half = format!("{SHA256}, sha-512=:AAAA:");
        assert!(!fits_content_digest(half.as_bytes(), BODY));
    }

    #[test]
    fn takes_sha256_in_both_spellings() {
        let body = br#"{"hello":"world"}"#;
        let base64 = b"k6I5cakU5erL8KjSUVTNownDwccvu5kU1Hxg88toFYg=";
        assert!(is_sha256(base64, body));
        assert!(is_sha256(
            hex(&sha256(body)).to_uppercase().as_bytes(),
            body
        ));
        assert!(!is_sha256(base64, b"x"));
        assert!(is_md5(b"+8JLzHoXlHWPwTJ/z+va9g==", body));
        assert!(!is_md5(b"", body));
    }
}
