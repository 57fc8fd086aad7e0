//! Short digests of keys and text.

use aws_lc_rs::digest;

/// The first 16 bytes of SHA-256 over the parts, each behind its length: whatever they hold, no two lists are alike.
pub fn key128(parts: &[&[u8]]) -> u128 {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    first_half(context)
}

/// The first 16 bytes of SHA-256 over names that hold no zero byte, each followed by one. For what processes of several
/// versions have to agree upon, which always was made so; anything else is for [`key128`].
pub fn names128(names: &[&str]) -> u128 {
    let mut context = digest::Context::new(&digest::SHA256);
    for name in names {
        context.update(name.as_bytes());
        context.update(&[0]);
    }
    first_half(context)
}

fn first_half(context: digest::Context) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&context.finish().as_ref()[..16]);
    u128::from_be_bytes(first)
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zero_bytes_move_no_boundary() {
        let lists: [&[&[u8]]; 7] = [
            &[b"a", b"b"],
            &[b"a\0b"],
            &[b"a\0", b"b"],
            &[b"a", b"\0b"],
            &[b"a", b"b", b""],
            &[b"", b"a", b"b"],
            &[b"\0\0\0\0\0\0\0\x01a", b"b"],
        ];
        let keys: std::collections::HashSet<u128> = lists.map(key128).into();
        assert_eq!(keys.len(), lists.len());
    }

    #[test]
    fn names_are_digested_as_they_always_were() {
        // sha256 of "app-1\0n-1\0".
        let expected =
            u128::from_be_bytes(sha256(b"app-1\0n-1\0")[..16].try_into().expect("16 bytes"));
        assert_eq!(names128(&["app-1", "n-1"]), expected);
    }

    proptest! {
        #[test]
        fn lists_that_differ_have_keys_that_differ(
            one in prop::collection::vec(prop::collection::vec(0..3_u8, 0..4), 0..4),
            other in prop::collection::vec(prop::collection::vec(0..3_u8, 0..4), 0..4),
        ) {
            let key = |list: &[Vec<u8>]| {
                key128(&list.iter().map(Vec::as_slice).collect::<Vec<_>>())
            };
            prop_assert_eq!(one == other, key(&one) == key(&other));
        }
    }
}
