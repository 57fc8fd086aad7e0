//! The `X-Ca-*` scheme of Alibaba Cloud's API gateway, in a strict profile: key, time stamp and nonce are required and
//! signed, only HMAC-SHA256, and no header that counts may be repeated.
//!
//! Two details differ between clients, so a signature holds when it fits one of the variants: the names of the signed
//! headers as they were listed or in lower case, and a parameter without value as `k` or as `k=`.
//!
//! What the scheme itself leaves open stays open: parameters are signed decoded and joined, of a repeated one only the
//! first value, and the host only when the client lists it. RFC 9421 covers all of that; prefer it for new clients.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::InvalidHeaderValue;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode;
use pingora::http::RequestHeader;

use super::CA_HEADER;
use super::app::AppKey;
use super::awaited::{BodyClaim, Stamp};
use super::body;
use super::head::{Single, is_nonce, path_and_query, single, single_text};

const KEY: &str = "x-ca-key";
const TIMESTAMP: &str = "x-ca-timestamp";
const NONCE: &str = "x-ca-nonce";
const LISTED: &str = "x-ca-signature-headers";
const METHOD: &str = "x-ca-signature-method";
const SHA256: &str = "x-ca-content-sha256";
const MD5: &str = "content-md5";

/// Headers that stand in the string by themselves or cannot sign themselves: a client may list them in vain.
const NEVER_LISTED: [&str; 6] = [CA_HEADER, LISTED, "accept", MD5, "content-type", "date"];
/// What every signature must cover.
const REQUIRED: [&str; 3] = [KEY, TIMESTAMP, NONCE];
/// Most listed names: a client signs a dozen, and each is compared with all.
const MOST_LISTED: usize = 64;
/// Digits of a time stamp in milliseconds, from 2001 to 2286.
const STAMP_DIGITS: usize = 13;

/// What is signed of a request.
#[derive(Clone, Copy)]
pub struct Message<'m> {
    /// Method as sent.
    pub method: &'m str,
    /// Request target as sent.
    pub target: &'m str,
    /// All headers as sent.
    pub headers: &'m HeaderMap,
    /// The body; it counts when it is a form.
    pub body: &'m [u8],
}

/// How a client spells what the vendor's documents leave open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variant {
    lower_case: bool,
    equals: bool,
}

/// The usual one first: it is what newer clients send, and what [`sign`] makes.
const VARIANTS: [Variant; 4] = [
    variant(true, false),
    variant(false, false),
    variant(true, true),
    variant(false, true),
];

const fn variant(lower_case: bool, equals: bool) -> Variant {
    Variant { lower_case, equals }
}

/// Signs a request: the headers to add to it. `message.headers` must be all that will be sent.
pub fn sign(
    message: &Message<'_>,
    key: &str,
    secret: &[u8],
    timestamp_ms: u64,
    nonce: &str,
) -> Result<Vec<(&'static str, String)>, InvalidHeaderValue> {
    let mut added = vec![
        (KEY, key.to_owned()),
        (TIMESTAMP, timestamp_ms.to_string()),
        (NONCE, nonce.to_owned()),
        (LISTED, REQUIRED.join(",")),
    ];
    let vouched = message.headers.contains_key(MD5);
    if !message.body.is_empty() && !vouched && !is_form(message.headers) {
        added.push((MD5, body::md5(message.body)));
    }
    let mut headers = message.headers.clone();
    for (name, value) in &added {
        headers.insert(*name, HeaderValue::from_str(value)?);
    }
    let message = Message {
        headers: &headers,
        ..*message
    };
    let text = signed_text(&message, &REQUIRED);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &text);
    added.push((CA_HEADER, STANDARD.encode(tag)));
    Ok(added)
}

/// The text that [`sign`] and a verifier compute the signature over, when the client lists the headers `listed`.
pub fn signed_text(message: &Message<'_>, listed: &[&str]) -> Vec<u8> {
    string_to_sign(message, listed, VARIANTS[0])
}

/// What a head claims.
pub(super) struct Proof<'h> {
    method: &'h str,
    target: &'h str,
    headers: &'h HeaderMap,
    app: &'h str,
    stamp_ms: u64,
    nonce: &'h str,
    listed: Vec<&'h str>,
    signature: Vec<u8>,
}

/// Reads the claim of a head; `None` when it is incomplete, malformed or ambiguous.
pub(super) fn read<'h>(head: &'h RequestHeader, target: &'h str) -> Option<Proof<'h>> {
    let headers = &head.headers;
    let text = |name| single_text(headers, name);
    let signature = STANDARD.decode(text(CA_HEADER)?).ok()?;
    match single(headers, METHOD) {
        Single::Absent | Single::Value(b"HmacSHA256") => {}
        _ => return None,
    }
    Some(Proof {
        method: head.method.as_str(),
        target,
        headers,
        app: text(KEY)?,
        stamp_ms: stamp(text(TIMESTAMP)?)?,
        nonce: text(NONCE).filter(|nonce| is_nonce(nonce, b""))?,
        listed: listed(headers)?,
        signature,
    })
}

fn stamp(text: &str) -> Option<u64> {
    let digits = text.len() == STAMP_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The listed names as spelled. Each once, each standing for at most one header, the required ones among them; the
/// headers that are signed unlisted must be single too.
fn listed(headers: &HeaderMap) -> Option<Vec<&str>> {
    let names: Vec<&str> = single_text(headers, LISTED)?
        .split(',')
        .map(str::trim)
        .collect();
    let lists = |name: &str| names.iter().any(|listed| listed.eq_ignore_ascii_case(name));
    let is_header = |name: &&str| HeaderName::from_bytes(name.as_bytes()).is_ok();
    let once = |name: &&str| {
        let spellings = names.iter().filter(|n| n.eq_ignore_ascii_case(name));
        spellings.count() == 1
    };
    let implied = NEVER_LISTED.iter().chain([&SHA256]);
    let sound = names.len() <= MOST_LISTED
        && names.iter().all(|name| is_header(name) && once(name))
        && REQUIRED.iter().all(|name| lists(name))
        && (names.iter().chain(implied)).all(|name| single(headers, name) != Single::Repeated);
    sound.then_some(names)
}

impl super::Proof for Proof<'_> {
    fn app(&self) -> &str {
        self.app
    }

    fn nonce(&self) -> &str {
        self.nonce
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            first_ms: self.stamp_ms,
            last_ms: self.stamp_ms,
            expires: None,
        }
    }

    fn signs_body(&self) -> bool {
        is_form(self.headers)
    }

    fn body_claim(&self) -> BodyClaim {
        let md5 = value(self.headers, MD5);
        let sha256 = value(self.headers, SHA256);
        let signs_sha256 = || self.listed.iter().any(|n| n.eq_ignore_ascii_case(SHA256));
        let vouched =
            is_form(self.headers) || !md5.is_empty() || (!sha256.is_empty() && signs_sha256());
        BodyClaim {
            md5: (!md5.is_empty()).then(|| md5.into()),
            // One that is empty or repeated is a digest of nothing.
            sha256: (self.headers.contains_key(SHA256)).then(|| sha256.into()),
            content_digest: None,
            vouched,
        }
    }

    fn holds(&self, key: &AppKey, body: &[u8]) -> bool {
        let message = Message {
            method: self.method,
            target: self.target,
            headers: self.headers,
            body,
        };
        let plain = |name: &&str| !name.bytes().any(|byte| byte.is_ascii_uppercase());
        let one_case = self.listed.iter().all(plain);
        // All that may differ, whatever fits: the time taken must not tell which did.
        VARIANTS
            .iter()
            .filter(|variant| variant.lower_case || !one_case)
            .fold(false, |found, variant| {
                let text = string_to_sign(&message, &self.listed, *variant);
                key.verifies(&text, &self.signature) | found
            })
    }

    fn loose_parameters(&self, body: &[u8]) -> bool {
        loose(self.target, self.headers, body)
    }
}

/// The seven parts of what is signed; see the vendor's documents.
fn string_to_sign(message: &Message<'_>, listed: &[&str], variant: Variant) -> Vec<u8> {
    let mut text = Vec::with_capacity(512);
    line(&mut text, message.method.as_bytes());
    for name in ["accept", MD5, "content-type", "date"] {
        line(&mut text, value(message.headers, name));
    }
    for (name, value) in signed_headers(message.headers, listed, variant) {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        line(&mut text, value);
    }
    resource(&mut text, message, variant);
    text
}

fn line(text: &mut Vec<u8>, part: &[u8]) {
    text.extend_from_slice(part);
    text.push(b'\n');
}

/// The signed headers in the order of their bytes, which differs between spellings.
fn signed_headers<'h>(
    headers: &'h HeaderMap,
    listed: &[&str],
    variant: Variant,
) -> BTreeMap<String, &'h [u8]> {
    listed
        .iter()
        .filter(|name| !NEVER_LISTED.iter().any(|n| n.eq_ignore_ascii_case(name)))
        .map(|name| {
            let spelled = if variant.lower_case {
                name.to_ascii_lowercase()
            } else {
                (*name).to_owned()
            };
            (spelled, value(headers, name))
        })
        .collect()
}

/// Path as sent, and the decoded parameters of query and form in the order of their names.
fn resource(text: &mut Vec<u8>, message: &Message<'_>, variant: Variant) {
    let (path, query) = path_and_query(message.target);
    let form = if is_form(message.headers) {
        message.body
    } else {
        &[]
    };
    let mut parameters = BTreeMap::new();
    for (name, value) in pairs(query.unwrap_or_default().as_bytes()).chain(pairs(form)) {
        parameters.entry(name).or_insert(value);
    }
    text.extend_from_slice(path.as_bytes());
    for (i, (name, value)) in parameters.iter().enumerate() {
        text.push(if i == 0 { b'?' } else { b'&' });
        text.extend_from_slice(name);
        if !value.is_empty() || variant.equals {
            text.push(b'=');
            text.extend_from_slice(value);
        }
    }
}

/// Whether a name stands twice, of which only the first value is signed, or a value holds what separates parameters,
/// so that one signed value could come apart into two.
fn loose(target: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let (_, query) = path_and_query(target);
    let form = if is_form(headers) { body } else { &[] };
    let mut names = std::collections::HashSet::new();
    let separates = |byte: &u8| matches!(byte, b'&' | b'=') || byte.is_ascii_control();
    pairs(query.unwrap_or_default().as_bytes())
        .chain(pairs(form))
        .any(|(name, value)| value.iter().chain(&name).any(separates) || !names.insert(name))
}

/// The parameters of a query or form, decoded to bytes: two that differ must not come out alike.
fn pairs(text: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    text.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let mut half = || decode(halves.next().unwrap_or_default());
            (half(), half())
        })
}

fn decode(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    percent_decode(&spaced).collect()
}

fn value<'h>(headers: &'h HeaderMap, name: &str) -> &'h [u8] {
    match single(headers, name) {
        Single::Value(value) => value,
        Single::Absent | Single::Repeated => b"",
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = value(headers, "content-type");
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii()
        .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    fn text(message: &Message<'_>, listed: &[&str], variant: Variant) -> String {
        String::from_utf8(string_to_sign(message, listed, variant)).unwrap()
    }

    fn tag(text: &str, secret: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        STANDARD.encode(hmac::sign(&key, text.as_bytes()))
    }

    fn get<'m>(target: &'m str, headers: &'m HeaderMap) -> Message<'m> {
        Message {
            method: "GET",
            target,
            headers,
            body: b"",
        }
    }

    #[test]
    fn signs_the_vectors_of_the_vendor() {
        let a1 = headers(&[("accept", "application/json")]);
        let got = text(&get("/Third/Tools/checkSign", &a1), &[], VARIANTS[0]);
        assert_eq!(got, "GET\napplication/json\n\n\n\n/Third/Tools/checkSign");
        assert_eq!(
            tag(&got, b"appSecret"),
            "ZpJhkHdtjLTJiR6CJWHL8ikLtPB2z6CoztG21wG3PT4="
        );

        let a2 = headers(&[
            ("accept", "application/json"),
            ("content-type", "application/json"),
            ("x-ca-key", "appKey"),
            ("x-ca-timestamp", "1646365291734"),
            ("x-ca-nonce", "787dd0c2-7bd8-41cd-9c19-62c05ea524a2"),
        ]);
        let listed = ["x-ca-key", "x-ca-nonce", "x-ca-timestamp"];
        let got = text(&get("/Third/Tools/checkSign", &a2), &listed, VARIANTS[0]);
        assert_eq!(
            tag(&got, b"appSecret"),
            "EdJSFAMOWyXZOpXhevZnjuS0ZafnwnCqaSk5hz+tXo8="
        );

        let a3 = headers(&[
            ("accept", "application/json"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("x-ca-key", "appKey"),
            ("x-ca-timestamp", "1646646682418"),
            ("x-ca-nonce", "ca5a6753-b76c-4fff-a9d9-e5bb643e8cdf"),
        ]);
        let message = Message {
            method: "POST",
            target: "/Third/User/getNyAccessToken",
            headers: &a3,
            body: b"nickname=nickname&room_id=6893&uuid=uuid&photo=photo",
        };
        let got = text(&message, &listed, VARIANTS[0]);
        assert!(got.ends_with("?nickname=nickname&photo=photo&room_id=6893&uuid=uuid"));
        assert_eq!(
            tag(&got, b"appSecret"),
            "gmf9xq0hc95Hmt+7G+OocS009ka3v1v0rvfshKzYc3w="
        );
    }

    const JSON: &[u8] = br#"{"hello":"world"}"#;
    const TARGET: &str = "/v1/orders?flag&b=x%20y&a=1";

    #[test]
    fn signs_our_vector_for_json_decoding_and_empty_values() {
        let sent = headers(&[
            ("accept", "application/json"),
            ("content-type", "application/json; charset=UTF-8"),
        ]);
        let message = Message {
            method: "POST",
            target: TARGET,
            headers: &sent,
            body: JSON,
        };
        let nonce = "5b6e3c0e-0001-4000-8000-000000000001";
        let added = sign(
            &message,
            "test-key",
            b"test-secret",
            1_700_000_000_000,
            nonce,
        )
        .unwrap();
        let value = |name| {
            let found = added.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value(MD5), Some("+8JLzHoXlHWPwTJ/z+va9g=="));
        assert_eq!(
            value(CA_HEADER),
            Some("ocud1O6c9gXHt+z+0lATujoKqF+ixdEKWgIedTorIxA=")
        );
    }

    #[test]
    fn variants_differ_in_names_and_empty_values() {
        let sent = headers(&[("x-b", "2"), ("x-a", "1")]);
        let message = get("/p?k&a=1", &sent);
        let listed = ["x-b", "X-a", "Accept"];
        assert_eq!(
            text(&message, &listed, variant(true, false)),
            "GET\n\n\n\n\nx-a:1\nx-b:2\n/p?a=1&k"
        );
        assert_eq!(
            text(&message, &listed, variant(false, true)),
            "GET\n\n\n\n\nX-a:1\nx-b:2\n/p?a=1&k="
        );
    }

    #[test]
    fn bytes_that_differ_never_sign_alike() {
        let none = HeaderMap::new();
        let signed = |target| string_to_sign(&get(target, &none), &[], VARIANTS[0]);
        for (one, other) in [
            ("/p?a=%ff", "/p?a=%fe"),
            ("/p?a=1", "/p?a=2"),
            ("/p%2fq", "/p/q"),
            ("/p//q", "/p/q"),
            ("/p?a=b", "/p?b=a"),
        ] {
            assert_ne!(signed(one), signed(other), "{one} {other}");
        }
        for (one, other) in [("/p?a=x+y", "/p?a=x%20y"), ("/p?a=1&b=2", "/p?b=2&a=1")] {
            assert_eq!(signed(one), signed(other), "{one} {other}");
        }
    }

    #[test]
    fn a_time_stamp_is_thirteen_digits() {
        assert_eq!(stamp("1700000000000"), Some(1_700_000_000_000));
        for bad in [
            "",
            "1700000000",
            "-170000000000",
            "+170000000000",
            "17000000000000",
            "1700000000.00",
            "170000000000x",
            "99999999999999999999999",
        ] {
            assert_eq!(stamp(bad), None, "{bad}");
        }
    }
}
