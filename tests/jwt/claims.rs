//! Claims a route requires and claims it forwards.

use serde_json::{Value, json};

use super::{SECRET, token};
use crate::harness::{Gateway, Origin};

fn requiring(require: &str) -> Gateway {
    Gateway::with(&format!(
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n[[route]]\nid = \"r\"\npath = \"/**\"\n\
         auth = [\"app\"]\nrequire = {require}\nrespond = {{ status = 200, text = \"in\" }}\n"
    ))
    .start()
}

#[track_caller]
fn table(require: &str, cases: &[(Value, bool)]) {
    let gateway = requiring(require);
    for (claims, admitted) in cases {
        let response = gateway.client().get("/").bearer(token(claims)).send();
        match admitted {
            true => drop(response.expect(200)),
            false => drop(response.refused(403, "claims_denied")),
        }
    }
}

#[test]
fn any_of_the_values_satisfies_a_requirement() {
    table(
        "{ role = [\"admin\", \"editor\"] }",
        &[
            (json!({ "role": "admin" }), true),
            (json!({ "role": "editor" }), true),
            (json!({ "role": "reader" }), false),
            (json!({ "role": "ADMIN" }), false),
            (json!({ "role": "admin " }), false),
            (json!({ "role": null }), false),
            (json!({}), false),
        ],
    );
}

#[test]
fn an_array_claim_satisfies_with_any_element() {
    table(
        "{ roles = [\"admin\", \"editor\"] }",
        &[
            (json!({ "roles": ["reader", "editor"] }), true),
            (json!({ "roles": ["reader"] }), false),
            (json!({ "roles": [] }), false),
            (json!({ "roles": { "admin": true } }), false),
        ],
    );
}

#[test]
fn every_requirement_must_hold() {
    table(
        "{ role = [\"admin\"], region = [\"eu\", \"us\"] }",
        &[
            (json!({ "role": "admin", "region": "eu" }), true),
            (json!({ "role": "admin", "region": "cn" }), false),
            (json!({ "role": "admin" }), false),
            (json!({ "region": "eu" }), false),
        ],
    );
}

#[test]
fn a_dotted_name_reaches_into_nested_claims() {
    table(
        "{ \"realm_access.roles\" = [\"admin\"] }",
        &[
            (
                json!({ "realm_access": { "roles": ["user", "admin"] } }),
                true,
            ),
            (json!({ "realm_access": { "roles": "admin" } }), true),
            (json!({ "realm_access": { "roles": ["user"] } }), false),
            (json!({ "realm_access": {} }), false),
            (json!({ "realm_access": "roles" }), false),
            (json!({ "roles": ["admin"] }), false),
        ],
    );
}

#[test]
fn who_is_not_known_is_asked_for_a_token_first() {
    requiring("{ role = [\"admin\"] }")
        .client()
        .get("/")
        .send()
        .refused(401, "token_missing");
}

#[test]
fn forwarded_claims_become_headers() {
    let origin = Origin::start();
    let gateway = Gateway::with(&format!(
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n\
         forward_claims = {{ sub = \"X-User-Id\", tier = \"X-Tier\", \"org.id\" = \"X-Org\" }}\n[upstream.api]\n\
         endpoints = [{{ address = \"{{origin}}\" }}]\n[[route]]\nid = \"r\"\npath = \"/**\"\nauth = [\"app\"]\nupstream = \"api\"\n"
    ))
    .to(&origin)
    .start();
    let token = token(&json!({ "sub": "user-7", "tier": 3, "org": { "id": "o-1" } }));
    let seen = gateway.client().get("/").bearer(token).send().seen();
    assert_eq!(seen.values("x-user-id"), ["user-7"]);
    assert_eq!(seen.values("x-tier"), ["3"]);
    assert_eq!(seen.values("x-org"), ["o-1"]);
}
