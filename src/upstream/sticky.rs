//! A client stays with its endpoint: the signed cookie that says so.
//!
//! The cookie names the endpoint by a tag, which only the secret turns into an address, so that it tells nothing of the
//! network behind the gateway; the same secret in several gateways, or after a restart, gives the same tags. What is forged,
//! cut short, of another upstream or past its time is no cookie.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::{SameSite, Sticky};
use crate::primitives::UpstreamName;
use crate::primitives::address::Address;
use crate::primitives::secret::Secret;

/// Reads and writes the cookie of one upstream.
pub struct StickyCookie {
    key: hmac::Key,
    upstream: UpstreamName,
    settings: Sticky,
    /// Attributes that are the same for all.
    attributes: String,
}

/// What a good cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stickiness {
    /// The endpoint's tag.
    pub tag: u64,
    /// More than half of its time has passed: it is written anew.
    pub renew: bool,
}

const TAG: usize = 8;
const UNTIL: usize = 8;
const MAC: usize = 16;

impl StickyCookie {
    pub(super) fn new(settings: &Sticky, upstream: &UpstreamName, secret: &Secret) -> Self {
        let mut attributes = format!("; Path={}", settings.path);
        if let Some(domain) = &settings.domain {
            attributes.push_str("; Domain=");
            attributes.push_str(domain);
        }
        if !settings.ttl.is_zero() {
            attributes.push_str(&format!("; Max-Age={}", settings.ttl.as_secs().max(1)));
        }
        if settings.http_only {
            attributes.push_str("; HttpOnly");
        }
        attributes.push_str(match settings.same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        });
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose()),
            upstream: upstream.clone(),
            settings: settings.clone(),
            attributes,
        }
    }

    /// Name of the cookie.
    pub fn name(&self) -> &str {
        &self.settings.cookie
    }

    /// The tag of an endpoint.
    pub fn tag(&self, address: &Address) -> u64 {
        let mac = self.sign(b"endpoint", address.to_string().as_bytes());
        let mut tag = [0; TAG];
        tag.copy_from_slice(&mac.as_ref()[..TAG]);
        u64::from_be_bytes(tag)
    }

    /// Reads a cookie's value at `now`, seconds since 1970.
    pub fn read(&self, value: &str, now: u64) -> Option<Stickiness> {
        let mut bytes = [0; TAG + UNTIL + MAC];
        // The text of so many bytes and no other: the decoder would not tell one that is longer from a forged one sooner.
        if value.len() != (bytes.len() * 4).div_ceil(3) {
            return None;
        }
        URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        let (said, mac) = bytes.split_at(TAG + UNTIL);
        let expected = self.sign(b"cookie", said);
        verify_slices_are_equal(mac, &expected.as_ref()[..MAC]).ok()?;
        let (tag, until) = said.split_at(TAG);
        let until = u64::from_be_bytes(until.try_into().ok()?);
        let left = until.checked_sub(now).filter(|left| *left > 0);
        let ttl = self.settings.ttl.as_secs();
        let renew = match (until, left) {
            (0, _) => ttl != 0,
            (_, None) => return None,
            (_, Some(left)) => left < ttl.div_ceil(2) || ttl == 0,
        };
        Some(Stickiness {
            tag: u64::from_be_bytes(tag.try_into().ok()?),
            renew,
        })
    }

    /// The field that gives a client its cookie.
    pub fn write(&self, tag: u64, now: u64, tls: bool) -> String {
        let ttl = match self.settings.ttl {
            ttl if ttl.is_zero() => 0,
            ttl => now + ttl.as_secs().max(1),
        };
        let mut bytes = [0; TAG + UNTIL + MAC];
        bytes[..TAG].copy_from_slice(&tag.to_be_bytes());
        bytes[TAG..TAG + UNTIL].copy_from_slice(&ttl.to_be_bytes());
        let mac = self.sign(b"cookie", &bytes[..TAG + UNTIL]);
        bytes[TAG + UNTIL..].copy_from_slice(&mac.as_ref()[..MAC]);
        let secure =
            self.settings.same_site == SameSite::None || self.settings.secure.unwrap_or(tls);
        format!(
            "{}={}{}{}",
            self.settings.cookie,
            URL_SAFE_NO_PAD.encode(bytes),
            self.attributes,
            if secure { "; Secure" } else { "" }
        )
    }

    /// Of this upstream: a cookie of another one with the same secret is none.
    fn sign(&self, kind: &[u8], text: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [kind, self.upstream.as_str().as_bytes()] {
            context.update(part);
            context.update(&[0]);
        }
        context.update(text);
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::primitives::secret::SecretSource;

    fn cookie(secret: &str, upstream: &str, ttl: u64) -> StickyCookie {
        let settings = Sticky {
            cookie: "stay".into(),
            secret: SecretSource::parse(secret),
            ttl: Duration::from_secs(ttl),
            path: "/".into(),
            domain: None,
            secure: None,
            http_only: true,
            same_site: SameSite::Lax,
        };
        StickyCookie::new(
            &settings,
            &UpstreamName::new(upstream),
            &Secret::new(secret),
        )
    }

    fn value(written: &str) -> String {
        let (pair, _) = written.split_once(';').expect("attributes");
        pair.split_once('=').expect("a value").1.to_owned()
    }

    #[test]
    fn a_cookie_says_what_was_written_until_it_ends() {
        let cookie = cookie("a secret", "u", 100);
        let written = cookie.write(7, 1000, true);
        assert!(written.ends_with("; Path=/; Max-Age=100; HttpOnly; SameSite=Lax; Secure"));
        let value = value(&written);
        let read = |now| cookie.read(&value, now);
        assert_eq!(
            read(1010),
            Some(Stickiness {
                tag: 7,
                renew: false
            })
        );
        assert_eq!(
            read(1060),
            Some(Stickiness {
                tag: 7,
                renew: true
            })
        );
        assert_eq!(read(1100), None);
    }

    #[test]
    fn a_cookie_without_a_term_holds() {
        let cookie = cookie("a secret", "u", 0);
        let written = cookie.write(7, 1000, false);
        assert!(!written.contains("Max-Age") && !written.contains("Secure"));
        let read = cookie.read(&value(&written), u64::MAX);
        assert_eq!(
            read,
            Some(Stickiness {
                tag: 7,
                renew: false
            })
        );
    }

    #[test]
    fn what_was_not_signed_here_is_no_cookie() {
        let mine = cookie("a secret", "u", 0);
        let good = value(&mine.write(7, 1000, false));
        for other in [cookie("another", "u", 0), cookie("a secret", "v", 0)] {
            assert_eq!(other.read(&good, 1000), None);
            let address = Address::Inet(([127, 0, 0, 1], 80).into());
            assert_ne!(other.tag(&address), mine.tag(&address));
        }
        for place in 0..good.len() {
            let mut forged = good.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).expect("text");
            assert_eq!(mine.read(&forged, 1000), None, "{place}");
        }
        for broken in ["", "A", &good[1..], &format!("{good}A"), "127.0.0.1:80"] {
            assert_eq!(mine.read(broken, 1000), None, "{broken}");
        }
    }
}
