//! A certificate with its key, read and found to belong together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::Shown;
use crate::config::CertificateFiles;
use crate::primitives::{certificates, pem};

/// A certificate with its key.
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// Names in it, lower case; a wildcard as written.
    pub(super) names: Vec<String>,
    /// Where it was read.
    file: PathBuf,
    /// Some other certificate of the file signed it, or there is no other.
    pub(super) whole: bool,
    not_after: i64,
}

impl Certificate {
    /// Reads the pair. An error names the file and what is wrong with it.
    pub(super) fn read(
        files: &CertificateFiles,
        provider: &CryptoProvider,
        read: &dyn Fn(&Path) -> Result<Vec<u8>, String>,
    ) -> Result<Self, (PathBuf, String)> {
        let of_cert = |what: String| (files.cert.clone(), what);
        let of_key = |what: String| (files.key.clone(), what);
        let text = read(&files.cert).map_err(of_cert)?;
        let chain = certificates::read(&text).map_err(of_cert)?;
        let (names, not_after) = facts(&chain[0]).map_err(of_cert)?;
        let whole = certificates::is_signed_within(&chain);
        let text = read(&files.key).map_err(of_key)?;
        pem::check_private_key(&text).map_err(of_key)?;
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|error| of_key(format!("no private key: {error}")))?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => of_key(format!(
                "is not the key of the certificate in {}",
                files.cert.display()
            )),
            error => of_key(format!("cannot be used: {error}")),
        })?;
        Ok(Self {
            key: Arc::new(key),
            names,
            file: files.cert.clone(),
            whole,
            not_after,
        })
    }

    /// For how long it is over; `None` while it is not.
    pub(super) fn expired_for(&self, now: Duration) -> Option<Duration> {
        let end = Duration::from_secs(u64::try_from(self.not_after).unwrap_or(0));
        now.checked_sub(end)
    }

    /// What an operator wants to know.
    pub(super) fn shown(&self) -> Shown {
        let file = || self.file.display().to_string();
        Shown {
            name: self.names.first().cloned().unwrap_or_else(file),
            not_after: self.not_after,
        }
    }
}

/// DNS names and addresses it is for (RFC 6125: the subject's common name is not one), and when it ends.
fn facts(leaf: &CertificateDer<'_>) -> Result<(Vec<String>, i64), String> {
    let (_, parsed): (_, X509Certificate<'_>) = x509_parser::parse_x509_certificate(leaf)
        .map_err(|error| format!("no X.509 certificate: {error}"))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|error| format!("its names cannot be read: {error}"))?;
    let names = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
    Ok((names.collect(), parsed.validity().not_after.timestamp()))
}
