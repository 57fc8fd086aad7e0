//! Nonces, through the front door of the room: two signed requests at once.

use std::sync::Arc;

use super::request::{Request, START, UNIX, configuration};
use crate::auth::signature::ca;
use crate::auth::{self, AuthFacts, Authenticator};
use crate::filter::Verdict;
use crate::primitives::secret::Secret;
use crate::threads::spawn;

const SECRET: &[u8] = b"a secret that is long enough for both";

fn authenticator(rule: &str) -> Arc<dyn Authenticator> {
    let text = format!(
        "[auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\n{rule}\n\
         [auth.partner.apps.app]\nsecret = \"env:UNUSED\"\n"
    );
    let config = configuration(&text);
    let auth = config.auths.values().next().unwrap();
    let read = |_: &_| Ok(Secret::new(SECRET.to_vec()));
    auth::build(auth, &read, &AuthFacts::new(0)).unwrap_or_else(|error| panic!("{error}"))
}

fn signed(nonce: &str) -> Request {
    let mut request = Request::new();
    let message = ca::Message {
        method: "GET",
        target: "/",
        headers: &request.head.headers,
        body: b"",
    };
    let added = ca::sign(&message, "app", SECRET, UNIX * 1000, nonce).unwrap();
    for (name, value) in added {
        request.head.append_header(name, value).unwrap();
    }
    request
}

/// What two requests at once are told: `continue`, or the code of the refusal.
fn told(authenticator: &Arc<dyn Authenticator>, nonces: [&str; 2]) -> [&'static str; 2] {
    let ask = |nonce| {
        let (authenticator, request) = (Arc::clone(authenticator), signed(nonce));
        move || match authenticator.check(&mut request.context(1, START)) {
            Verdict::Continue => "continue",
            Verdict::Refuse(refusal) => refusal.reason.code(),
            other => panic!("{other:?}"),
        }
    };
    let other = spawn(ask(nonces[1]));
    let mut told = [ask(nonces[0])(), other.join().unwrap()];
    told.sort_unstable();
    told
}

/// Broken by hand: `NonceStore::try_claim` lets go of its lock between looking for a nonce and keeping it.
pub fn one_passes() {
    let authenticator = authenticator("");
    assert_eq!(
        told(&authenticator, ["n", "n"]),
        ["continue", "sig_replayed"]
    );
}

/// Broken by hand: `take` reads and then adds, in two steps.
pub fn capacity() {
    let authenticator = authenticator("nonce_capacity = 1");
    assert_eq!(
        told(&authenticator, ["n", "m"]),
        ["continue", "rate_limited"]
    );
}
