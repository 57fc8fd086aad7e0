//! Certificates as files hold them: read without passing over any, and who signed whom.

use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::X509Certificate;

use super::pem;

/// What is said of a chain that most clients cannot follow from its first certificate.
pub const UNSIGNED: &str = "none of the further certificates in the file signed the first one; clients that do not know \
                            who did cannot verify it";

/// The certificates of a PEM file, in its order; at least one.
pub fn read(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    pem::check_certificates(text)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| format!("no PEM certificate: {error}"))?;
    if found.is_empty() {
        return Err("holds no certificate".to_owned());
    }
    Ok(found)
}

/// Whether some certificate of `chain` signed the first one. A single one needs nobody beside it: whoever trusts its
/// authority, or itself, can verify it.
pub fn is_signed_within(chain: &[CertificateDer<'_>]) -> bool {
    let [first, further @ ..] = chain else {
        return true;
    };
    let Some(leaf) = parse(first) else {
        return further.is_empty();
    };
    let signed =
        |other: &CertificateDer<'_>| parse(other).is_some_and(|issuer| signed_by(&leaf, &issuer));
    further.is_empty() || further.iter().any(signed)
}

fn parse<'c>(certificate: &'c CertificateDer<'_>) -> Option<X509Certificate<'c>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed)
}

/// Whether `issuer` is who `leaf` names, and the signature is that of its key.
fn signed_by(leaf: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    if leaf.issuer().as_raw() != issuer.subject().as_raw() {
        return false;
    }
    let key = &issuer.public_key().subject_public_key.data;
    let message = leaf.tbs_certificate.as_ref();
    let signature = &leaf.signature_value.data;
    // A key and a signature fit one of them at most.
    let known = aws_lc_rs::default_provider().signature_verification_algorithms;
    known
        .all
        .iter()
        .any(|one| one.verify_signature(key, message, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn authority(name: &str) -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("certificate");
        (certificate.der().clone(), Issuer::new(params, key))
    }

    #[test]
    fn a_chain_is_whole_when_one_of_it_signed_the_first() {
        let (ours, issuer) = authority("one");
        let (other, _) = authority("two");
        let (renewed, _) = authority("one");
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec!["a.example".to_owned()]).expect("params");
        let leaf = params
            .signed_by(&key, &issuer)
            .expect("certificate")
            .der()
            .clone();
        let whole = |chain: &[&CertificateDer<'static>]| {
            let chain: Vec<_> = chain.iter().copied().cloned().collect();
            is_signed_within(&chain)
        };
        assert!(whole(&[&leaf]) && whole(&[&ours]));
        assert!(whole(&[&leaf, &ours]) && whole(&[&leaf, &other, &ours]));
        assert!(!whole(&[&leaf, &other]));
        assert!(
            !whole(&[&leaf, &renewed]),
            "of the same name, and yet another key"
        );
        assert!(!whole(&[&leaf, &leaf]));
    }
}
