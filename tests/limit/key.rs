//! What a limit counts by, and what happens where that is missing.

use serde_json::{Value, json};

use crate::harness::{Client, Gateway, Peer, unix_now};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn by(key: &str, more: &str) -> Gateway {
    Gateway::with(&format!(
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n\
         [limit.two]\nkey = \"{key}\"\nalgorithm = \"token_bucket\"\nrate = \"1/m\"\nburst = 2\n{more}\n\
         [[route]]\nid = \"open\"\npath = \"/open\"\nlimits = [\"two\"]\nrespond = {{ status = 200 }}\n\
         [[route]]\nid = \"other\"\npath = \"/other\"\nlimits = [\"two\"]\nrespond = {{ status = 200 }}\n\
         [[route]]\nid = \"closed\"\npath = \"/closed\"\nauth = [\"app\"]\nlimits = [\"two\"]\nrespond = {{ status = 200 }}\n"
    ))
    .start()
}

fn token(claims: &Value) -> String {
    let mut all = json!({ "exp": unix_now() + 60 });
    all.as_object_mut()
        .unwrap()
        .extend(claims.as_object().unwrap().clone());
    Peer::token("HS256", SECRET, &all)
}

#[test]
fn by_client_address() {
    let gateway = by("client_ip", "");
    let (one, two) = (gateway.client(), gateway.client().from(2));
    for client in [&one, &two] {
        client.get("/open").send().expect(200);
        // One limit, wherever it is used.
        client.get("/other").send().expect(200);
        client.get("/open").send().refused(429, "rate_limited");
    }
}

#[test]
fn by_consumer() {
    let gateway = by("consumer", "");
    let client = gateway.client();
    for sub in ["one", "two"] {
        for _ in 0..2 {
            // Another token of the same consumer is the same consumer.
            client
                .get("/closed")
                .bearer(token(&json!({ "sub": sub, "n": unix_now() })))
                .send()
                .expect(200);
        }
        client
            .get("/closed")
            .bearer(token(&json!({ "sub": sub })))
            .send()
            .refused(429, "rate_limited");
    }
    // Who is refused at the door spends nobody's allowance.
    for _ in 0..5 {
        client
            .get("/closed")
            .bearer("nonsense")
            .send()
            .refused(401, "token_invalid");
    }
    client
        .get("/closed")
        .bearer(token(&json!({ "sub": "three" })))
        .send()
        .expect(200);
}

#[test]
fn by_claim() {
    let gateway = by("claim:org", "");
    let client = gateway.client();
    for n in 0..3 {
        let response = client
            .get("/closed")
            .bearer(token(&json!({ "sub": format!("u{n}"), "org": "acme" })))
            .send();
        assert_eq!(response.status, if n < 2 { 200 } else { 429 });
    }
    client
        .get("/closed")
        .bearer(token(&json!({ "sub": "u0", "org": "other" })))
        .send()
        .expect(200);
}

#[test]
fn by_header() {
    let gateway = by("header:X-Tenant", "");
    let client = gateway.client();
    let status = |tenant: &str| client.get("/open").header("X-Tenant", tenant).send().status;
    assert_eq!(
        [status("a"), status("a"), status("a"), status("b")],
        [200, 200, 429, 200]
    );
}

#[test]
fn by_route() {
    let gateway = by("route", "");
    let client = gateway.client();
    for path in ["/open", "/other"] {
        client.get(path).send().expect(200);
        client.clone().from(2).get(path).send().expect(200);
        client
            .clone()
            .from(3)
            .get(path)
            .send()
            .refused(429, "rate_limited");
    }
}

#[test]
fn a_missing_key_is_refused_unless_said_otherwise() {
    for more in ["", "on_missing_key = \"deny\""] {
        let gateway = by("header:X-Tenant", more);
        let response = gateway.client().get("/open").send();
        assert_eq!(response.status, 429, "{response:?}");
        gateway
            .client()
            .get("/open")
            .header("X-Tenant", "a")
            .send()
            .expect(200);
    }
}

#[test]
fn a_missing_key_may_fall_back_to_the_address() {
    let gateway = by("header:X-Tenant", "on_missing_key = \"client_ip\"");
    let client = gateway.client();
    let status = || client.get("/open").send().status;
    assert_eq!([status(), status(), status()], [200, 200, 429]);
    client.clone().from(2).get("/open").send().expect(200);
    client
        .get("/open")
        .header("X-Tenant", "a")
        .send()
        .expect(200);
}

#[test]
fn a_missing_key_may_skip_the_limit() {
    let gateway = by("header:X-Tenant", "on_missing_key = \"skip\"");
    for _ in 0..6 {
        gateway.client().get("/open").send().expect(200);
    }
}

#[test]
fn a_header_cannot_pose_as_an_address() {
    let gateway = by("header:X-Tenant", "on_missing_key = \"client_ip\"");
    let client = gateway.client();
    for _ in 0..2 {
        client
            .get("/open")
            .header("X-Tenant", "127.0.0.1")
            .send()
            .expect(200);
    }
    client
        .get("/open")
        .header("X-Tenant", "127.0.0.1")
        .send()
        .refused(429, "rate_limited");
    client.get("/open").send().expect(200);
}

#[test]
fn an_address_is_the_one_that_is_believed() {
    let gateway = by("client_ip", "");
    let client = gateway.client();
    let from = |client: &Client, address: &str| {
        client
            .get("/open")
            .header("X-Forwarded-For", address)
            .send()
            .status
    };
    // A stranger's claim makes nobody else of them.
    let statuses = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|a| from(&client, a));
    assert_eq!(statuses, [200, 200, 429]);

    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let trusting = text.replace(
        "[server]\n",
        "[server]\ntrusted_proxies = [\"127.0.0.2/32\"]\n",
    );
    gateway.rewrite(&trusting);
    gateway.reload_ok();
    let proxy = gateway.client().from(2);
    let statuses = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"].map(|a| from(&proxy, a));
    assert_eq!(statuses, [200, 200, 429, 200]);
}
