//! RFC 9421 HTTP Message Signatures with RFC 9530 `Content-Digest`, in a strict profile.
//!
//! One signature per request. It must cover method, authority, path, query and, with a body, the digest; and carry
//! `created`, `keyid` and `nonce`. Components and flags we do not know are refused: a signature over something we
//! cannot compute says nothing. The signature parameters are signed as they were sent, so they are taken from the
//! header byte for byte.

use std::fmt::Write;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::InvalidHeaderValue;
use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, InnerList, KeyRef, List, ListEntry, Parser};

use super::RFC9421_HEADER;
use super::app::AppKey;
use super::awaited::{BodyClaim, Stamp};
use super::body;
use super::head::{Single, is_nonce, path_and_query, single, trim};
use crate::filter::{RequestView, Scheme};

const DIGEST: &str = "content-digest";
/// What every signature must cover.
const REQUIRED: [&str; 4] = ["@method", "@authority", "@path", "@query"];
/// Most components: a signature has a dozen, and each is looked up.
const MOST_COMPONENTS: usize = 64;

/// What is signed of a request.
#[derive(Clone, Copy)]
pub struct Message<'m> {
    /// Method as sent.
    pub method: &'m str,
    /// How it is sent.
    pub scheme: Scheme,
    /// Host and port as sent.
    pub authority: &'m str,
    /// Request target as sent.
    pub target: &'m str,
    /// All headers as sent.
    pub headers: &'m HeaderMap,
}

/// Signs a request with a shared secret: the headers to add to it. `created` is in seconds since 1970.
pub fn sign(
    message: &Message<'_>,
    body: &[u8],
    key: &str,
    secret: &[u8],
    created: u64,
    nonce: &str,
) -> Result<Vec<(&'static str, String)>, InvalidHeaderValue> {
    let mut added = Vec::new();
    let mut covered = REQUIRED.to_vec();
    let mut headers = message.headers.clone();
    if !body.is_empty() {
        let digest = body::content_digest(body);
        headers.insert(DIGEST, HeaderValue::from_str(&digest)?);
        covered.push(DIGEST);
        added.push((DIGEST, digest));
    }
    let message = Message {
        headers: &headers,
        ..*message
    };
    let list: Vec<String> = covered.iter().map(|name| format!("\"{name}\"")).collect();
    let parameters = format!(
        "({});created={created};keyid={};alg=\"hmac-sha256\";nonce={}",
        list.join(" "),
        quoted(key),
        quoted(nonce),
    );
    HeaderValue::from_str(&parameters)?;
    let base = signature_base(&message, &covered, parameters.as_bytes()).unwrap_or_default();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &base);
    added.push((RFC9421_HEADER, format!("sig1={parameters}")));
    added.push(("signature", format!("sig1=:{}:", STANDARD.encode(tag))));
    Ok(added)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What a head claims.
pub(super) struct Proof<'h> {
    message: Message<'h>,
    covered: Vec<String>,
    /// The inner list with its parameters, as sent.
    parameters: &'h [u8],
    app: String,
    nonce: String,
    algorithm: Option<String>,
    created: u64,
    expires: Option<u64>,
    signature: Vec<u8>,
}

/// Reads the claim of a head; `None` when it is incomplete, malformed or ambiguous.
pub(super) fn read<'h>(request: &RequestView<'h>) -> Option<Proof<'h>> {
    let message = Message {
        method: request.head.method.as_str(),
        scheme: request.scheme,
        authority: request.authority,
        target: request.raw_target,
        headers: &request.head.headers,
    };
    let proof = read_message(message)?;
    let complete = REQUIRED
        .iter()
        .all(|name| proof.covered.iter().any(|covered| covered == name));
    complete.then_some(proof)
}

/// The claim without our profile's demands on what it covers.
fn read_message(message: Message<'_>) -> Option<Proof<'_>> {
    let (label, parameters) = only_input(message.headers)?;
    let list = inner_list(parameters)?;
    let text = |name: &str| Some(list.params.get(name)?.as_string()?.as_str().to_owned());
    let time = |name: &str| u64::try_from(list.params.get(name)?.as_integer()?).ok();
    let absent = |name: &str| !list.params.contains_key(name);
    let algorithm = text("alg");
    let expires = time("expires");
    if (algorithm.is_none() && !absent("alg")) || (expires.is_none() && !absent("expires")) {
        return None;
    }
    Some(Proof {
        message,
        covered: covered(&list)?,
        parameters,
        app: text("keyid")?,
        // Clients like Base64 for nonces.
        nonce: text("nonce").filter(|nonce| is_nonce(nonce, b"/="))?,
        algorithm,
        created: time("created")?,
        expires,
        signature: only_signature(message.headers, label)?,
    })
}

/// Label and parameters of the only signature.
fn only_input(headers: &HeaderMap) -> Option<(&KeyRef, &[u8])> {
    let Single::Value(field) = single(headers, RFC9421_HEADER) else {
        return None;
    };
    let end = field.iter().position(|byte| *byte == b'=')?;
    let label = KeyRef::from_bytes(&field[..end]).ok()?;
    Some((label, trim(&field[end + 1..])))
}

/// `text` as one inner list: a second signature behind it does not parse as part of a list.
fn inner_list(text: &[u8]) -> Option<InnerList> {
    let mut entries: List = Parser::new(text).parse().ok()?;
    match (entries.pop(), entries.is_empty()) {
        (Some(ListEntry::InnerList(list)), true) => Some(list),
        _ => None,
    }
}

/// The names of the covered components: each once, each known, none with flags.
fn covered(list: &InnerList) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::with_capacity(list.items.len());
    if list.items.len() > MOST_COMPONENTS {
        return None;
    }
    for item in &list.items {
        let name = match &item.bare_item {
            BareItem::String(name) if item.params.is_empty() => name.as_str(),
            _ => return None,
        };
        if names.iter().any(|known| known == name) {
            return None;
        }
        names.push(name.to_owned());
    }
    Some(names)
}

fn only_signature(headers: &HeaderMap, label: &KeyRef) -> Option<Vec<u8>> {
    let Single::Value(field) = single(headers, "signature") else {
        return None;
    };
    let entries: Dictionary = Parser::new(field).parse().ok()?;
    match (entries.len(), entries.get(label)) {
        (1, Some(ListEntry::Item(item))) => Some(item.bare_item.as_byte_sequence()?.to_vec()),
        _ => None,
    }
}

impl super::Proof for Proof<'_> {
    fn app(&self) -> &str {
        &self.app
    }

    fn nonce(&self) -> &str {
        &self.nonce
    }

    fn stamp(&self) -> Stamp {
        // The whole second is meant: a request signed in the second of our start is not from before it.
        let first_ms = self.created.saturating_mul(1000);
        Stamp {
            first_ms,
            last_ms: first_ms.saturating_add(999),
            expires: self.expires,
        }
    }

    fn signs_body(&self) -> bool {
        false
    }

    fn body_claim(&self) -> BodyClaim {
        let content_digest = joined(self.message.headers, DIGEST);
        let signed = || self.covered.iter().any(|name| name == DIGEST);
        BodyClaim {
            vouched: content_digest.is_some() && signed(),
            content_digest: content_digest.map(Vec::into_boxed_slice),
            ..BodyClaim::default()
        }
    }

    fn holds(&self, key: &AppKey, _body: &[u8]) -> bool {
        let agrees = self
            .algorithm
            .as_ref()
            .is_none_or(|named| named == key.algorithm());
        let covered: Vec<&str> = self.covered.iter().map(String::as_str).collect();
        let base = signature_base(&self.message, &covered, self.parameters);
        let holds = key.verifies(base.as_deref().unwrap_or_default(), &self.signature);
        agrees && base.is_some() && holds
    }
}

/// What is signed; `None` when a component is unknown or not in the message.
pub fn signature_base(
    message: &Message<'_>,
    covered: &[&str],
    parameters: &[u8],
) -> Option<Vec<u8>> {
    let mut base = Vec::with_capacity(512);
    for name in covered {
        base.extend_from_slice(format!("\"{name}\": ").as_bytes());
        base.extend_from_slice(&component(message, name)?);
        base.push(b'\n');
    }
    base.extend_from_slice(b"\"@signature-params\": ");
    base.extend_from_slice(parameters);
    Some(base)
}

fn component(message: &Message<'_>, name: &str) -> Option<Vec<u8>> {
    if !name.starts_with('@') {
        HeaderName::from_lowercase(name.as_bytes()).ok()?;
        return joined(message.headers, name);
    }
    let (path, query) = path_and_query(message.target);
    let text = match name {
        "@method" => message.method.to_owned(),
        "@authority" => authority(message),
        "@scheme" => message.scheme.as_str().to_owned(),
        "@request-target" => message.target.to_owned(),
        "@path" => path.to_owned(),
        "@query" => format!("?{}", query.unwrap_or_default()),
        "@target-uri" => {
            let mut uri = format!("{}://{}{path}", message.scheme.as_str(), authority(message));
            if let Some(query) = query {
                let _ = write!(uri, "?{query}");
            }
            uri
        }
        _ => return None,
    };
    Some(text.into_bytes())
}

/// Host and port in lower case, without the port that the scheme implies.
fn authority(message: &Message<'_>) -> String {
    let implied = match message.scheme {
        Scheme::Http => "80",
        Scheme::Https => "443",
    };
    let authority = message.authority.to_ascii_lowercase();
    match authority.rsplit_once(':') {
        Some((host, port)) if port == implied && (!host.contains(':') || host.ends_with(']')) => {
            host.to_owned()
        }
        _ => authority,
    }
}

/// All values of a field, trimmed and joined; `None` when there is none.
fn joined(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    let values: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .map(|value| trim(value.as_bytes()))
        .collect();
    (!values.is_empty()).then(|| values.join(&b", "[..]))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::super::Proof as _;
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    /// The request of RFC 9421 appendix B.2.
    const SENT: [(&str, &str); 3] = [
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        ("content-length", "18"),
    ];

    fn message(headers: &HeaderMap) -> Message<'_> {
        Message {
            method: "POST",
            scheme: Scheme::Https,
            authority: "example.com",
            target: "/foo?param=Value&Pet=dog",
            headers,
        }
    }

    #[test]
    fn verifies_b_2_5() {
        let covered = ["date", "@authority", "content-type"];
        let parameters = br#"("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#;
        let sent = headers(&SENT);
        let base = signature_base(&message(&sent), &covered, parameters).unwrap();
        let secret = STANDARD
            .decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
            .unwrap();
        let key = AppKey::Secrets(vec![hmac::Key::new(hmac::HMAC_SHA256, &secret)]);
        let signature = STANDARD
            .decode("pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=")
            .unwrap();
        assert!(key.verifies(&base, &signature));
        let other = signature_base(&message(&sent), &covered[1..], parameters).unwrap();
        assert!(!key.verifies(&other, &signature));
    }

    #[test]
    fn verifies_b_2_6() {
        let covered = [
            "date",
            "@method",
            "@path",
            "@authority",
            "content-type",
            "content-length",
        ];
        let parameters = br#"("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#;
        let sent = headers(&SENT);
        let base = signature_base(&message(&sent), &covered, parameters).unwrap();
        let point = URL_SAFE_NO_PAD
            .decode("JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs")
            .unwrap();
        let key = AppKey::Public {
            algorithm: "ed25519",
            key: ParsedPublicKey::new(&ED25519, point).unwrap(),
        };
        let signature = STANDARD
            .decode("wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==")
            .unwrap();
        assert!(key.verifies(&base, &signature));
        assert!(!key.verifies(&base[1..], &signature));
    }

    #[test]
    fn signs_the_gateway_profile() {
        let none = HeaderMap::new();
        let message = Message {
            method: "POST",
            scheme: Scheme::Https,
            authority: "api.example.com",
            target: "/v1/orders?a=1&b=x%20y",
            headers: &none,
        };
        let added = sign(
            &message,
            br#"{"hello":"world"}"#,
            "test-key",
            b"test-secret",
            1_700_000_000,
            "5b6e3c0e00014000",
        )
        .unwrap();
        assert_eq!(
            added,
            [
                (
                    "content-digest",
                    "sha-256=:k6I5cakU5erL8KjSUVTNownDwccvu5kU1Hxg88toFYg=:".to_owned()
                ),
                (
                    "signature-input",
                    concat!(
                        r#"sig1=("@method" "@authority" "@path" "@query" "content-digest");"#,
                        r#"created=1700000000;keyid="test-key";alg="hmac-sha256";nonce="5b6e3c0e00014000""#
                    )
                    .to_owned()
                ),
                (
                    "signature",
                    "sig1=:/ppJl0QNrlDa0JpiIQii1H4eygKpLCxCc1giv+/Co18=:".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn computes_every_component() {
        let sent = headers(&[("x-list", " a "), ("x-list", "b"), ("x-empty", "")]);
        let message = Message {
            authority: "API.Example.com:443",
            target: "/a%2Fb?q=1",
            ..message(&sent)
        };
        let value = |name: &str| component(&message, name).map(|v| String::from_utf8(v).unwrap());
        for (name, expected) in [
            ("@method", Some("POST")),
            ("@authority", Some("api.example.com")),
            ("@scheme", Some("https")),
            ("@target-uri", Some("https://api.example.com/a%2Fb?q=1")),
            ("@request-target", Some("/a%2Fb?q=1")),
            ("@path", Some("/a%2Fb")),
            ("@query", Some("?q=1")),
            ("x-list", Some("a, b")),
            ("x-empty", Some("")),
            ("x-none", None),
            ("X-List", None),
            ("@status", None),
            ("@query-param", None),
            ("@signature-params", None),
        ] {
            assert_eq!(value(name).as_deref(), expected, "{name}");
        }
        let bare = Message {
            target: "/",
            ..message
        };
        assert_eq!(component(&bare, "@query").unwrap(), b"?");
        for (given, expected) in [
            ("h:80", "h:80"),
            ("[::1]:443", "[::1]"),
            ("[::443]", "[::443]"),
            ("h", "h"),
        ] {
            let message = Message {
                authority: given,
                ..message
            };
            assert_eq!(authority(&message), expected);
        }
    }

    #[test]
    fn reads_one_plain_signature_and_nothing_else() {
        const GOOD: &str = r#"s=("@path" "x-list");created=1;keyid="k";nonce="n""#;
        let parse = |input: &str, signature: &str| {
            let mut sent = headers(&[("x-list", "a")]);
            sent.insert("signature-input", HeaderValue::from_str(input).unwrap());
            sent.insert("signature", HeaderValue::from_str(signature).unwrap());
            read_message(message(&sent)).is_some()
        };
        assert!(parse(GOOD, "s=:AAAA:"));
        assert!(parse(
            &format!("{GOOD};alg=\"a\";expires=5;tag=\"t\""),
            "s=:AAAA:"
        ));
        for bad in [
            "",
            "s",
            r#"s=();keyid="k";nonce="n""#,
            r#"s=();created=1;nonce="n""#,
            r#"s=();created=1;keyid="k""#,
            r#"s=();created=-1;keyid="k";nonce="n""#,
            r#"s=();created="1";keyid="k";nonce="n""#,
            r#"s=();created=1.5;keyid="k";nonce="n""#,
            r#"s=();created=1;keyid=k;nonce="n""#,
            r#"s=();created=1;keyid="k";nonce="""#,
            r#"s=();created=1;keyid="k";nonce="a b""#,
            r#"s=();created=1;keyid="k";nonce="n";alg=hmac"#,
            r#"s=();created=1;keyid="k";nonce="n";expires="9""#,
            r#"s=("@path" "@path");created=1;keyid="k";nonce="n""#,
            r#"s=("@path";req);created=1;keyid="k";nonce="n""#,
            r#"s=("x-list";sf);created=1;keyid="k";nonce="n""#,
            r#"s=(path);created=1;keyid="k";nonce="n""#,
            r#"s="@path";created=1;keyid="k";nonce="n""#,
            r#"s=();created=1;keyid="k";nonce="n", t=();created=1;keyid="k";nonce="n""#,
            r#"s=();created=1;keyid="k";nonce="n", s=();created=1;keyid="k";nonce="n""#,
            r#"S=();created=1;keyid="k";nonce="n""#,
        ] {
            assert!(!parse(bad, "s=:AAAA:"), "{bad}");
        }
        for bad in ["", "t=:AAAA:", "s=:AAAA:, t=:AAAA:", "s=AAAA", "s=(:AAAA:)"] {
            assert!(!parse(GOOD, bad), "{bad}");
        }
    }

    #[test]
    fn a_digest_must_fit_and_where_required_be_signed() {
        let proof = |covered: &str, digest: Option<&'static str>| {
            let mut sent = HeaderMap::new();
            let input = format!(r#"s=({covered});created=1;keyid="k";nonce="n""#);
            sent.insert("signature-input", HeaderValue::from_str(&input).unwrap());
            sent.insert("signature", HeaderValue::from_static("s=:AAAA:"));
            if let Some(digest) = digest {
                sent.insert(DIGEST, HeaderValue::from_static(digest));
            }
            sent
        };
        let fits = |sent: &HeaderMap, body: &[u8], required| {
            read_message(message(sent))
                .unwrap()
                .body_claim()
                .fits(body, required)
        };
        const DIGEST_OF_X: &str = "sha-256=:LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=:";
        let signed = proof("\"content-digest\"", Some(DIGEST_OF_X));
        let unsigned = proof("", Some(DIGEST_OF_X));
        let none = proof("", None);
        assert!(fits(&signed, b"x", true));
        assert!(!fits(&signed, b"y", false));
        assert!(!fits(&unsigned, b"x", true));
        assert!(fits(&unsigned, b"x", false));
        assert!(!fits(&unsigned, b"y", false));
        assert!(!fits(&none, b"x", true));
        assert!(fits(&none, b"x", false));
        assert!(fits(&none, b"", true));
        assert!(!fits(&signed, b"", true), "a digest of another body");
    }
}
