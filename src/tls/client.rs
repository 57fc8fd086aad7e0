//! The certificate that a client showed: who it is for, and its fingerprint.

use std::fmt::Write;

use http::HeaderValue;
use rustls_pki_types::CertificateDer;
use x509_parser::der_parser::asn1_rs::Any;
use x509_parser::prelude::X509Certificate;
use x509_parser::x509::X509Name;

use crate::filter::ClientCertificate;

/// Longest subject that is passed on. A longer one is left out: cut off it would name somebody else.
const LONGEST_SUBJECT: usize = 2048;

/// What is known of a client by the certificate it showed. That it holds was verified by the handshake.
pub fn client_certificate(shown: &CertificateDer<'_>) -> Option<ClientCertificate> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, shown);
    let mut fingerprint = String::with_capacity(64);
    for byte in digest.as_ref() {
        let _ = write!(fingerprint, "{byte:02x}");
    }
    let (_, parsed): (_, X509Certificate<'_>) = x509_parser::parse_x509_certificate(shown).ok()?;
    let subject = subject(parsed.subject());
    let subject = subject.filter(|subject| (1..=LONGEST_SUBJECT).contains(&subject.len()));
    Some(ClientCertificate {
        subject: subject.and_then(|subject| HeaderValue::from_str(&subject).ok()),
        fingerprint: HeaderValue::from_str(&fingerprint).ok()?,
    })
}

/// The name as RFC 4514 writes it: the last part first, all that has a meaning escaped, and beyond ASCII every byte. So
/// no part of a name can look like another part.
fn subject(name: &X509Name<'_>) -> Option<String> {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (index, part) in parts.iter().rev().enumerate() {
        if index > 0 {
            text.push(',');
        }
        for (index, attribute) in part.iter().enumerate() {
            if index > 0 {
                text.push('+');
            }
            let oid = attribute.attr_type().to_id_string();
            let value = attribute.attr_value();
            match (short_name(&oid), attribute.as_str()) {
                (Some(name), Ok(value)) => {
                    let _ = write!(text, "{name}=");
                    escape(value, &mut text);
                }
                (name, _) => {
                    let _ = write!(text, "{}=#", name.unwrap_or(&oid));
                    encoded(value, &mut text);
                }
            }
        }
    }
    Some(text)
}

/// Names of RFC 4514 §3, and the one that certificates carry besides.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

fn escape(value: &str, out: &mut String) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                out.push('\\');
                out.push(byte.into());
            }
            // As a digit pair: a header that ends with a space loses it on the way, whatever stands before it.
            b' ' if at == last => out.push_str("\\20"),
            b' ' if at == 0 => out.push_str("\\ "),
            b'#' if at == 0 => out.push_str("\\#"),
            b' '..=b'~' => out.push(byte.into()),
            _ => {
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
}

/// Tag, length and value in hexadecimal digits: for what is no text, or has no short name.
fn encoded(value: &Any<'_>, out: &mut String) {
    let bytes = value.data;
    let _ = match bytes.len() {
        length @ 0..=127 => write!(out, "{:02x}{length:02x}", value.tag().0),
        length @ 128..=255 => write!(out, "{:02x}81{length:02x}", value.tag().0),
        // Longer than any subject that is passed on.
        length => write!(out, "{:02x}84{length:08x}", value.tag().0),
    };
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn shown(parts: &[(DnType, &str)]) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("certificate");
        client_certificate(certificate.der()).expect("readable")
    }

    fn subject_of(parts: &[(DnType, &str)]) -> String {
        let subject = shown(parts).subject;
        subject.map_or_else(String::new, |text| text.to_str().expect("ASCII").to_owned())
    }

    #[test]
    fn a_subject_is_written_last_part_first() {
        use DnType::{CommonName, CountryName, OrganizationName};
        let parts = [
            (CountryName, "DE"),
            (OrganizationName, "Example"),
            (CommonName, "device 7"),
        ];
        assert_eq!(subject_of(&parts), "CN=device 7,O=Example,C=DE");
        let other = DnType::CustomDnType(vec![2, 5, 4, 5]);
        assert_eq!(subject_of(&[(other, "17")]), "2.5.4.5=#0c023137");
    }

    #[test]
    fn no_part_can_pass_for_another() {
        use DnType::CommonName;
        for (value, written) in [
            ("a,O=admin", "CN=a\\,O=admin"),
            ("a+O=b", "CN=a\\+O=b"),
            ("a\\,b", "CN=a\\\\\\,b"),
            ("#a ", "CN=\\#a\\20"),
            (" a", "CN=\\ a"),
            ("a\r\nX: y", "CN=a\\0D\\0AX: y"),
            ("caf\u{e9}", "CN=caf\\C3\\A9"),
        ] {
            assert_eq!(subject_of(&[(CommonName, value)]), written);
        }
        assert!(shown(&[(CommonName, &"x".repeat(3000))]).subject.is_none());
        assert!(shown(&[]).subject.is_none());
    }

    #[test]
    fn a_fingerprint_is_64_digits_of_its_own() {
        let (a, b) = (shown(&[]), shown(&[]));
        let text = a.fingerprint.to_str().expect("ASCII");
        assert!(text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(a.fingerprint, b.fingerprint);
    }
}
