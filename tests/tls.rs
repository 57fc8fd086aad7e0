//! TLS towards clients, asked by curl and openssl.

use std::net::SocketAddr;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Gateway, Peer, Setup, reserve};

const NAME: &str = "api.example.com";

fn pem<'c>(certificates: &'c Value, name: &str) -> &'c str {
    certificates[name].as_str().unwrap()
}

/// A gateway with a second listener that speaks TLS; `tls` is what its table holds.
fn with(address: SocketAddr, tls: &str) -> Setup {
    before("127.0.0.1:9", address, tls)
}

/// The same in front of an upstream.
fn before(upstream: &str, address: SocketAddr, tls: &str) -> Setup {
    let toml = format!(
        "[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\n\
         [[listener]]\nname = \"secure\"\naddress = \"{address}\"\n[listener.tls]\n{tls}\n\
         [upstream.api]\nendpoints = [{{ address = \"{upstream}\" }}]\n\
         [[route]]\nid = \"fixed\"\npath = \"/fixed\"\nrespond = {{ text = \"fine\" }}\n\
         [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n"
    );
    Gateway::with(&toml)
}

fn pair(setup: Setup, name: &str, certificates: &Value) -> Setup {
    setup
        .file(&format!("{name}.pem"), pem(certificates, "server"))
        .file(&format!("{name}.key"), pem(certificates, "server_key"))
        .file(&format!("{name}-ca.pem"), pem(certificates, "ca"))
}

fn listed(names: &[&str]) -> String {
    let pairs = names
        .iter()
        .map(|name| format!("{{ cert = \"{{dir}}/{name}.pem\", key = \"{{dir}}/{name}.key\" }}"));
    format!("certificates = [{}]", pairs.collect::<Vec<_>>().join(", "))
}

/// Asks for `host`, trusting the authority in `ca` of the gateway's folder.
fn curl(gateway: &Gateway, address: SocketAddr, host: &str, ca: &str, more: &[&str]) -> Output {
    let port = address.port();
    Command::new("curl")
        .args(["-sS", "--max-time", "10", "--noproxy", "*", "--cacert"])
        .arg(gateway.dir().join(ca))
        .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
        .args(more)
        .arg(format!("https://{host}:{port}/fixed"))
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn each_name_gets_its_certificate_and_an_unknown_one_the_first() {
    let address = reserve();
    let (first, wild) = (
        Peer::certificates(NAME),
        Peer::certificates("*.shop.example.com"),
    );
    let setup = with(address, &listed(&["first", "wild"]));
    let gateway = pair(pair(setup, "first", &first), "wild", &wild).start();
    for (host, ca, good) in [
        (NAME, "first-ca.pem", true),
        ("API.example.com", "first-ca.pem", true),
        ("a.shop.example.com", "wild-ca.pem", true),
        ("a.shop.example.com", "first-ca.pem", false),
        ("a.b.shop.example.com", "wild-ca.pem", false),
        ("other.example.com", "first-ca.pem", false),
    ] {
        let asked = curl(&gateway, address, host, ca, &[]);
        assert_eq!(asked.status.success(), good, "{host}: {}", text(&asked));
        assert!(!good || text(&asked) == "fine", "{host}: {}", text(&asked));
    }
    // The certificate shown to an unknown name is the first: its authority is trusted, only the name is not its own.
    let asked = curl(
        &gateway,
        address,
        "other.example.com",
        "first-ca.pem",
        &["-k"],
    );
    assert_eq!(text(&asked), "fine");
    let days = (gateway.metric(
        "gateway_tls_cert_not_after_seconds",
        &[("listener", "secure"), ("name", NAME)],
    ) - crate::harness::unix_now() as f64)
        / 86_400.0;
    assert!((29.0..31.0).contains(&days), "{days}");
}

#[test]
fn upstreams_learn_that_it_was_https_and_bodies_of_any_size_pass() {
    let address = reserve();
    let ours = Peer::certificates(NAME);
    let origin = crate::harness::Origin::start();
    let upstream = origin.address().to_string();
    let setup = before(&upstream, address, &listed(&["ours"]));
    let gateway = pair(setup, "ours", &ours).start();
    let body = gateway.dir().join("body");
    std::fs::write(&body, vec![b'x'; 300_000]).unwrap();
    let data = format!("@{}", body.display());
    let port = address.port();
    let asked = Command::new("curl")
        .args(["-sS", "--max-time", "10", "--noproxy", "*", "--cacert"])
        .arg(gateway.dir().join("ours-ca.pem"))
        .args(["--resolve", &format!("{NAME}:{port}:127.0.0.1")])
        .args(["--data-binary", &data, "-H", "Expect:"])
        .args([
            format!("https://{NAME}:{port}/a"),
            format!("https://{NAME}:{port}/b"),
        ])
        .output()
        .unwrap();
    assert!(asked.status.success(), "{}", text(&asked));
    let seen = origin.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert_eq!(seen.values("x-forwarded-proto"), ["https"]);
        assert_eq!(seen.body.len(), 300_000);
    }
}

#[test]
fn versions_older_than_the_oldest_are_refused() {
    let address = reserve();
    let ours = Peer::certificates(NAME);
    let tls = format!("{}\nmin_version = \"1.3\"", listed(&["ours"]));
    let gateway = pair(with(address, &tls), "ours", &ours).start();
    let ask = |version| {
        curl(
            &gateway,
            address,
            NAME,
            "ours-ca.pem",
            &["--tls-max", version],
        )
    };
    assert!(!ask("1.2").status.success());
    assert_eq!(text(&ask("1.3")), "fine");
}

#[test]
fn clients_without_the_right_certificate_are_turned_away() {
    let address = reserve();
    let (ours, other) = (Peer::certificates(NAME), Peer::certificates(NAME));
    let tls = format!("{}\nclient_ca = \"{{dir}}/ours-ca.pem\"", listed(&["ours"]));
    let mut setup = pair(with(address, &tls), "ours", &ours);
    for (name, certificates) in [("good", &ours), ("bad", &other)] {
        setup = setup
            .file(&format!("{name}-client.pem"), pem(certificates, "client"))
            .file(
                &format!("{name}-client.key"),
                pem(certificates, "client_key"),
            );
    }
    let gateway = setup.start();
    let path = |name: &str| gateway.dir().join(name).display().to_string();
    let shown = |who: &str| {
        let (cert, key) = (
            path(&format!("{who}-client.pem")),
            path(&format!("{who}-client.key")),
        );
        curl(
            &gateway,
            address,
            NAME,
            "ours-ca.pem",
            &["--cert", &cert, "--key", &key],
        )
    };
    assert_eq!(text(&shown("good")), "fine");
    assert!(!shown("bad").status.success());
    assert!(
        !curl(&gateway, address, NAME, "ours-ca.pem", &[])
            .status
            .success()
    );
}

#[test]
fn sessions_are_resumed_over_workers_and_reloads() {
    let address = reserve();
    let ours = Peer::certificates(NAME);
    let gateway = pair(with(address, &listed(&["ours"])), "ours", &ours).start();
    let session = gateway.dir().join("session").display().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let connect = |more: &[&str]| {
            let output = Command::new("sh")
                .arg("-c")
                .arg(format!(
                    "(printf 'GET /fixed HTTP/1.1\\r\\nHost: {NAME}\\r\\nConnection: close\\r\\n\\r\\n'; sleep 1) | \
                     openssl s_client -connect {address} -servername {NAME} {version} {}",
                    more.join(" ")
                ))
                .output()
                .unwrap();
            text(&output)
        };
        let first = connect(&["-sess_out", &session]);
        assert!(first.contains("\nNew, "), "{first}");
        gateway.reload_ok();
        let second = connect(&["-sess_in", &session]);
        assert!(second.contains("\nReused, "), "{version}: {second}");
    }
}

#[test]
fn a_reload_takes_a_new_certificate_and_leaves_a_bad_one() {
    let address = reserve();
    let (old, new) = (Peer::certificates(NAME), Peer::certificates(NAME));
    let gateway = pair(with(address, &listed(&["ours"])), "ours", &old)
        .file("new-ca.pem", pem(&new, "ca"))
        .start();
    let asks = |ca: &str| curl(&gateway, address, NAME, ca, &[]).status.success();
    assert!(asks("ours-ca.pem") && !asks("new-ca.pem"));
    gateway.write("ours.pem", pem(&new, "server"));
    let expired = Peer::certificates_for(NAME, -2);
    for (cert, key, why) in [
        (
            pem(&new, "server"),
            pem(&old, "server_key"),
            "is not the key of the certificate",
        ),
        ("garbage", pem(&old, "server_key"), "holds no certificate"),
        (pem(&new, "server"), "garbage", "no private key"),
        (
            pem(&expired, "server"),
            pem(&expired, "server_key"),
            "expired 2 days ago",
        ),
    ] {
        gateway.write("ours.pem", cert);
        gateway.write("ours.key", key);
        let last = gateway.reload();
        let error = last["error"].as_str().unwrap_or_default();
        assert!(
            error.contains(why) && error.contains("tollgate.toml:"),
            "{last}"
        );
        assert!(asks("ours-ca.pem"), "the old certificate stays: {why}");
        gateway.run_cli(&["check"], &[]).expect(1).says(why);
    }
    gateway.write("ours.pem", pem(&new, "server"));
    gateway.write("ours.key", pem(&new, "server_key"));
    gateway.reload_ok();
    assert!(asks("new-ca.pem") && !asks("ours-ca.pem"));
}

#[test]
fn an_expired_certificate_does_not_keep_the_gateway_from_starting() {
    let address = reserve();
    let ours = Peer::certificates_for(NAME, -2);
    let gateway = pair(with(address, &listed(&["ours"])), "ours", &ours).start();
    let asked = curl(&gateway, address, NAME, "ours-ca.pem", &["-k"]);
    assert_eq!(text(&asked), "fine");
    gateway.wait_for_log(|line| {
        let message = line["msg"].as_str().unwrap_or_default();
        message.contains("expired 2 days ago")
    });
}

#[test]
fn what_is_no_tls_costs_only_its_own_connection() {
    let address = reserve();
    let ours = Peer::certificates(NAME);
    let gateway = pair(with(address, &listed(&["ours"])), "ours", &ours).start();
    let plain = crate::harness::Client::to(address);
    assert!(plain.get("/fixed").try_send().is_err());
    let _ = plain.raw([0x16, 3, 1, 0xff, 0xff, 1]);
    let asked = curl(&gateway, address, NAME, "ours-ca.pem", &[]);
    assert_eq!(text(&asked), "fine");
}
