//! TLS towards the upstream: names, authorities, client certificates.

use serde_json::Value;

use super::before;
use crate::harness::{Gateway, Nginx, Peer, Setup, TlsOrigin, eventually, seconds};

const NAME: &str = "users.internal";

const SERVER: &str = "listen {address} ssl; ssl_certificate {dir}/server.pem; ssl_certificate_key {dir}/server.key;\n\
    location / { return 200 \"sni=$ssl_server_name verified=$ssl_client_verify target=$request_uri\"; }\n";

fn pem<'c>(certificates: &'c Value, name: &str) -> &'c str {
    certificates[name].as_str().unwrap()
}

fn nginx(certificates: &Value, more: &str) -> Nginx {
    let files = [
        ("server.pem", pem(certificates, "server")),
        ("server.key", pem(certificates, "server_key")),
        ("ca.pem", pem(certificates, "ca")),
    ];
    Nginx::with(&format!("{SERVER}{more}"), &files)
}

/// A gateway in front of it; `tls` is the inline table.
fn gateway(nginx: &Nginx, tls: &str, certificates: &Value) -> Setup {
    let endpoint = format!("{{ address = \"{}\" }}", nginx.address());
    before(&endpoint, &format!("tls = {{ {tls} }}"))
        .file("ca.pem", pem(certificates, "ca"))
        .file("client.pem", pem(certificates, "client"))
        .file("client.key", pem(certificates, "client_key"))
}

fn text(gateway: &Gateway) -> String {
    gateway.client().get("/x?y").send().expect(200).text()
}

#[test]
fn verifies_the_upstream_by_name_and_authority() {
    let (ours, other) = (Peer::certificates(NAME), Peer::certificates(NAME));
    let nginx = nginx(&ours, "");
    let good = gateway(
        &nginx,
        "sni = \"users.internal\", ca = \"{dir}/ca.pem\"",
        &ours,
    )
    .start();
    assert_eq!(text(&good), "sni=users.internal verified=NONE target=/x?y");
    let wrong_name = gateway(
        &nginx,
        "sni = \"orders.internal\", ca = \"{dir}/ca.pem\"",
        &ours,
    )
    .start();
    wrong_name
        .client()
        .get("/")
        .send()
        .refused(502, "upstream_connect");
    let wrong_authority = gateway(
        &nginx,
        "sni = \"users.internal\", ca = \"{dir}/ca.pem\"",
        &other,
    )
    .start();
    wrong_authority
        .client()
        .get("/")
        .send()
        .refused(502, "upstream_connect");
    let no_authority = gateway(&nginx, "sni = \"users.internal\"", &ours).start();
    no_authority
        .client()
        .get("/")
        .send()
        .refused(502, "upstream_connect");
}

#[test]
fn shows_its_client_certificate_where_asked() {
    let certificates = Peer::certificates(NAME);
    let nginx = nginx(
        &certificates,
        "ssl_client_certificate {dir}/ca.pem; ssl_verify_client on;",
    );
    let tls = "sni = \"users.internal\", ca = \"{dir}/ca.pem\"";
    let with = gateway(
        &nginx,
        &format!("{tls}, cert = \"{{dir}}/client.pem\", key = \"{{dir}}/client.key\""),
        &certificates,
    )
    .start();
    assert_eq!(
        text(&with),
        "sni=users.internal verified=SUCCESS target=/x?y"
    );
    let without = gateway(&nginx, tls, &certificates).start();
    let response = without.client().get("/").send();
    assert_eq!(
        response.status, 400,
        "nginx says that a certificate is missing: {response:?}"
    );
}

#[test]
fn a_plain_upstream_behind_tls_keys_is_refused() {
    let certificates = Peer::certificates(NAME);
    let nginx = Nginx::named("plain");
    let gateway = gateway(
        &nginx,
        "sni = \"users.internal\", ca = \"{dir}/ca.pem\"",
        &certificates,
    )
    .start();
    gateway
        .client()
        .get("/")
        .send()
        .refused(502, "upstream_connect");
}

#[test]
fn files_that_are_not_there_stop_the_start() {
    let certificates = Peer::certificates(NAME);
    let nginx = nginx(&certificates, "");
    let ran = gateway(
        &nginx,
        "sni = \"users.internal\", ca = \"{dir}/nothing.pem\"",
        &certificates,
    )
    .fails_to_start();
    ran.expect(1).says("nothing.pem");
}

#[test]
fn a_key_exchange_that_outlives_quantum_computers_is_offered_first() {
    use rustls::NamedGroup;
    let ours = Peer::certificates(NAME);
    let identity = (pem(&ours, "server"), pem(&ours, "server_key"));
    for group in [NamedGroup::X25519MLKEM768, NamedGroup::X25519] {
        let origin = TlsOrigin::start(identity, group);
        let endpoint = format!("{{ address = \"{}\" }}", origin.address());
        let tls = "tls = { sni = \"users.internal.\", ca = \"{dir}/ca.pem\" }";
        let health = "health = { path = \"/\", interval = \"100ms\" }";
        let gateway = before(&endpoint, &format!("{tls}\n{health}"));
        let gateway = gateway.file("ca.pem", pem(&ours, "ca")).start();
        assert_eq!(text(&gateway), format!("{group:?}"));
        // Requests and checks alike.
        eventually(seconds(10), "a check", || origin.offered().len() > 1);
        for offered in origin.offered() {
            assert_eq!(offered[0], NamedGroup::X25519MLKEM768, "{offered:?}");
            assert!(offered.contains(&NamedGroup::X25519), "{offered:?}");
        }
    }
}

#[test]
fn nothing_in_the_files_of_an_upstream_is_passed_over() {
    let (ours, other) = (Peer::certificates(NAME), Peer::certificates(NAME));
    let joined = |certificate: &str| format!("{}{}", certificate.trim_end(), pem(&other, "ca"));
    let tls = "tls = { sni = \"users.internal\", ca = \"{dir}/ca.pem\", cert = \"{dir}/client.pem\", key = \"{dir}/client.key\" }";
    let setup = || {
        before("{ address = \"127.0.0.1:9\" }", tls)
            .file("ca.pem", pem(&ours, "ca"))
            .file("client.pem", pem(&ours, "client"))
            .file("client.key", pem(&ours, "client_key"))
    };
    for (file, content) in [
        ("ca.pem", joined(pem(&ours, "ca"))),
        ("client.pem", joined(pem(&ours, "client"))),
        (
            "client.key",
            format!("{}{}", pem(&ours, "client_key"), pem(&other, "client_key")),
        ),
    ] {
        let ran = setup().file(file, &content).fails_to_start().expect(1);
        ran.says(&format!("{file}: line "));
    }
    let chain = format!("{}{}", pem(&ours, "client"), pem(&other, "ca"));
    let gateway = setup().file("client.pem", &chain).start();
    gateway
        .run_cli(&["check"], &[])
        .expect(0)
        .says("warning: ")
        .says("client.pem");
}
