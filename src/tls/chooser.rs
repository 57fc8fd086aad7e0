//! Which certificate a client is shown: the one for the name it asks for, else the first.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// Certificates by name. Several for one name differ in their kind of key.
pub(super) struct Chooser {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

impl Chooser {
    /// The first of `certificates` is the default, with all others that are for the same first name.
    pub(super) fn new(certificates: Vec<Certificate>) -> Self {
        let mut chooser = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            default: Vec::new(),
        };
        let first = certificates
            .first()
            .and_then(|first| first.names.first().cloned());
        for (index, certificate) in certificates.into_iter().enumerate() {
            if index == 0 || (first.is_some() && certificate.names.first() == first.as_ref()) {
                chooser.default.push(Arc::clone(&certificate.key));
            }
            for name in certificate.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut chooser.wildcard, rest.to_owned()),
                    None => (&mut chooser.exact, name),
                };
                map.entry(name)
                    .or_default()
                    .push(Arc::clone(&certificate.key));
            }
        }
        chooser
    }

    /// Certificates for `name`, lower case. A wildcard stands for one label (RFC 6125 §6.4.3).
    fn find(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let named = name.and_then(|name| {
            let parent = || name.split_once('.').map(|(_, parent)| parent);
            self.exact
                .get(name)
                .or_else(|| parent().and_then(|parent| self.wildcard.get(parent)))
        });
        named.map_or(&self.default, Vec::as_slice)
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let known = self.find(name.as_deref());
        let schemes = hello.signature_schemes();
        // ECDSA costs a tenth of RSA, so it goes first where the client knows both.
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let cheap = |key: &&Arc<CertifiedKey>| {
            usable(key) && key.key.algorithm() != rustls::SignatureAlgorithm::RSA
        };
        known
            .iter()
            .find(cheap)
            .or_else(|| known.iter().find(usable))
            .cloned()
    }
}

impl fmt::Debug for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.exact.keys().chain(self.wildcard.keys());
        f.debug_set().entries(names).finish()
    }
}
