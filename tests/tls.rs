//! TLS towards clients, asked by curl and openssl.

use std::net::SocketAddr;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{
    Client, Folder, Gateway, Origin, Peer, Seen, Setup, TlsClient, eventually, reserve, seconds,
};

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
    let origin = Origin::start();
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

/// A listener that asks for certificates beside one that does not, and routes that want to know them.
const CERTIFIED: &str = r#"
[[listener]]
name = "public"
address = "{listen}"
[[listener]]
name = "secure"
address = "{secure}"
[listener.tls]
certificates = [{ cert = "{dir}/ours.pem", key = "{dir}/ours.key" }]
client_ca = "{dir}/ours-ca.pem"
[[listener]]
name = "open"
address = "{open}"
[listener.tls]
certificates = [{ cert = "{dir}/ours.pem", key = "{dir}/ours.key" }]
[limit.each]
key = "client_cert:fingerprint"
algorithm = "token_bucket"
rate = "1/h"
burst = 1
[upstream.api]
endpoints = [{ address = "{origin}" }]
[[route]]
path = "/**"
upstream = "api"
[[route]]
path = "/device"
upstream = "api"
require = { "client_cert:subject" = ["CN=gateway"] }
[[route]]
path = "/once"
limits = ["each"]
upstream = "api"
"#;

struct Certified {
    gateway: Gateway,
    certificates: Value,
    secure: SocketAddr,
    open: SocketAddr,
    _origin: Origin,
}

impl Certified {
    fn start() -> Self {
        let (secure, open) = (reserve(), reserve());
        let (certificates, origin) = (Peer::certificates(NAME), Origin::start());
        let setup = Gateway::with(CERTIFIED)
            .fill("secure", secure)
            .fill("open", open)
            .to(&origin);
        Self {
            gateway: pair(setup, "ours", &certificates).start(),
            certificates,
            secure,
            open,
            _origin: origin,
        }
    }

    /// A client that shows `who`, `client` or `server`: one authority signed both.
    fn showing(&self, who: &str) -> TlsClient {
        let pem = |name: &str| pem(&self.certificates, name);
        let key = format!("{who}_key");
        TlsClient::new(NAME, pem("ca"), Some((pem(who), pem(&key))))
    }

    /// Status and body of the answer to `target`, asked for `host` with more header lines.
    fn ask(&self, client: &TlsClient, host: &str, target: &str, more: &str) -> (u16, String) {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n");
        let answer = client.ask(&Client::to(self.secure), &request).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }
}

fn fingerprint(pem: &str) -> String {
    let mut openssl = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut openssl.stdin.take().unwrap(), pem.as_bytes()).unwrap();
    let output = openssl.wait_with_output().unwrap();
    let text = text(&output).replace(':', "").to_lowercase();
    text.trim().split_once('=').unwrap().1.to_owned()
}

#[test]
fn upstreams_learn_the_client_s_certificate_from_the_gateway_alone() {
    let it = Certified::start();
    let lies = "X-Client-Cert-Subject: CN=root\r\nx-client-cert-fingerprint: 00\r\n\
                X_Client_Cert_Subject: CN=root\r\n";
    let seen = |body: &str| Seen::from_echo(&serde_json::from_str(body).unwrap());
    let client = it.showing("client");
    // The second time the session is resumed, which must not lose who it is.
    for _ in 0..2 {
        let (status, body) = it.ask(&client, NAME, "/x", lies);
        assert_eq!(status, 200, "{body}");
        let seen = seen(&body);
        assert_eq!(seen.values("x-client-cert-subject"), ["CN=gateway"]);
        let shown = fingerprint(pem(&it.certificates, "client"));
        assert_eq!(seen.values("x-client-cert-fingerprint"), [shown]);
        assert_eq!(seen.header("x_client_cert_subject"), None);
    }
    let plain = it
        .gateway
        .client()
        .get("/x")
        .header("X-Client-Cert-Subject", "CN=root")
        .header("X-Client-Cert-Fingerprint", "00")
        .send()
        .seen();
    let names = ["x-client-cert-subject", "x-client-cert-fingerprint"];
    assert!(names.iter().all(|name| plain.header(name).is_none()));
}

#[test]
fn routes_can_ask_for_a_certificate_and_limits_count_by_it() {
    let it = Certified::start();
    let (client, other) = (it.showing("client"), it.showing("server"));
    assert_eq!(it.ask(&client, NAME, "/device", "").0, 200);
    let (status, body) = it.ask(&other, NAME, "/device", "");
    assert!(status == 403 && body.contains("claims_denied"), "{body}");
    let plain = it.gateway.client();
    plain.get("/device").send().refused(403, "claims_denied");
    plain
        .get("/device")
        .header("X-Client-Cert-Subject", "CN=gateway")
        .send()
        .refused(403, "claims_denied");
    for (client, status) in [(&client, 200), (&client, 429), (&other, 200), (&other, 429)] {
        assert_eq!(it.ask(client, NAME, "/once", "").0, status);
    }
    plain.get("/once").send().refused(429, "rate_limited");
}

#[test]
fn a_certificate_shown_for_one_host_opens_no_other() {
    let it = Certified::start();
    let client = it.showing("client");
    for host in ["other.example.com", "example.com:443", "127.0.0.1"] {
        let (status, body) = it.ask(&client, host, "/x", "");
        assert!(
            status == 421 && body.contains("misdirected_request"),
            "{host}: {status} {body}"
        );
    }
    for host in [
        NAME,
        "API.example.com",
        "api.example.com:8443",
        "api.example.com.",
    ] {
        assert_eq!(it.ask(&client, host, "/x", "").0, 200, "{host}");
    }
    it.gateway.wait_for_metric(
        "gateway_refused_total",
        &[("reason", "misdirected_request")],
        3.0,
    );
    // Where no certificate is asked for, none opens anything.
    let open = TlsClient::new(NAME, pem(&it.certificates, "ca"), None);
    let answer = open.get(&Client::to(it.open), "other.example.com", "/x");
    assert!(answer.unwrap().starts_with("HTTP/1.1 200 "));
}

/// `conf/examples/https-only.toml` at free ports, in front of `origin`.
fn https_only(secure: SocketAddr, origin: &Origin) -> Setup {
    let text = include_str!("../conf/examples/https-only.toml")
        .replace("0.0.0.0:80\"", "{listen}\"")
        .replace("0.0.0.0:443", "{secure}")
        .replace("/etc/tollgate/tls/api", "{dir}/ours")
        .replace("127.0.0.1:3001", "{origin}")
        .replace("127.0.0.1:9900", "{admin}");
    let text = text.replace("[admin]\naddress = \"{admin}\"\n", "");
    Gateway::with(&text).fill("secure", secure).to(origin)
}

#[test]
fn plain_requests_are_redirected_and_browsers_told_to_remember() {
    let (secure, origin) = (reserve(), Origin::start());
    let ours = Peer::certificates(NAME);
    let gateway = pair(https_only(secure, &origin), "ours", &ours).start();
    let plain = gateway.client().host("API.example.com:8080");
    for (target, location) in [
        (
            "/orders/7?a=b&c=%20d",
            "https://api.example.com/orders/7?a=b&c=%20d",
        ),
        ("/", "https://api.example.com/"),
        ("//evil.example/%2e%2e//x", "https://api.example.com/x"),
        ("/a?", "https://api.example.com/a?"),
    ] {
        let answer = plain.get(target).send().expect(308);
        assert_eq!(answer.header("location"), Some(location));
    }
    let posted = plain.post("/orders/7").body("x").send().expect(308);
    assert_eq!(
        posted.header("location"),
        Some("https://api.example.com/orders/7")
    );
    // HTTP/1.0 without a host says nowhere to lead to.
    let nowhere = gateway.client().raw("GET /x HTTP/1.0\r\n\r\n");
    assert_eq!(nowhere.status(), 400);
    assert_eq!(origin.count(), 0);
    let client = TlsClient::new(NAME, pem(&ours, "ca"), None);
    let get = |target| client.get(&Client::to(secure), NAME, target).unwrap();
    let answer = get("/orders/7").to_lowercase();
    assert!(
        answer.starts_with("http/1.1 200 ")
            && answer.contains("strict-transport-security: max-age=31536000; includesubdomains"),
        "{answer}"
    );
    assert!(get("/other").starts_with("HTTP/1.1 404 "));
    let explained = |url: &str| gateway.run_cli(&["explain"], &["GET", url]).expect(0);
    explained("http://api.example.com/orders/7?x").says("https://api.example.com/orders/7?x");
    explained("https://api.example.com/orders/7").says("orders takes it");
}

#[test]
fn behind_a_balancer_that_ends_tls_its_word_decides() {
    let (secure, origin) = (reserve(), Origin::start());
    let ours = Peer::certificates(NAME);
    let setup = https_only(secure, &origin).append("[server]\ntrusted_proxies = [\"127.0.0.2\"]\n");
    let gateway = pair(setup, "ours", &ours).start();
    let ask = |from, proto| {
        let client = gateway.client().from(from);
        let request = client.get("/orders/7").header("X-Forwarded-Proto", proto);
        request.send().status
    };
    assert_eq!(ask(2, "https"), 200);
    assert_eq!(ask(2, "http"), 308);
    assert_eq!(ask(3, "https"), 308);
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
        assert_eq!(gateway.metric("gateway_tls_cert_rejected", &[]), 1.0);
        gateway.run_cli(&["check"], &[]).expect(1).says(why);
    }
    gateway.write("ours.pem", pem(&new, "server"));
    gateway.write("ours.key", pem(&new, "server_key"));
    gateway.reload_ok();
    assert_eq!(gateway.metric("gateway_tls_cert_rejected", &[]), 0.0);
    let days = gateway.info()["certificates"][0]["days_left"].as_i64();
    assert!(
        days.is_some_and(|days| (29..=30).contains(&days)),
        "{days:?}"
    );
    gateway
        .run_cli(&["status"], &[])
        .expect(0)
        .says(&format!("certificate {NAME} on secure: "));
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
    let plain = Client::to(address);
    assert!(plain.get("/fixed").try_send().is_err());
    let _ = plain.raw([0x16, 3, 1, 0xff, 0xff, 1]);
    let asked = curl(&gateway, address, NAME, "ours-ca.pem", &[]);
    assert_eq!(text(&asked), "fine");
}

#[test]
fn a_refusal_reaches_a_client_that_sends_all_of_its_body_first() {
    let address = reserve();
    let certificates = Peer::certificates(NAME);
    let gateway = pair(with(address, &listed(&["a"])), "a", &certificates).start();
    let client = TlsClient::new(NAME, pem(&certificates, "ca"), None);
    let body = "x".repeat(8 << 20);
    let request = format!(
        "POST /fixed HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = client.ask(&Client::to(address), &request).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    drop(gateway);
}
#[test]
fn a_key_exchange_that_outlives_quantum_computers_is_spoken_and_every_other_still() {
    use rustls::NamedGroup;
    let address = reserve();
    let ours = Peer::certificates(NAME);
    let gateway = pair(with(address, &listed(&["ours"])), "ours", &ours).start();
    for group in [
        NamedGroup::X25519MLKEM768,
        NamedGroup::X25519,
        NamedGroup::secp256r1,
    ] {
        let client = TlsClient::wanting(group, NAME, pem(&ours, "ca"));
        let answer = client.get(&Client::to(address), NAME, "/fixed").unwrap();
        assert!(answer.ends_with("fine"), "{group:?}: {answer}");
    }
    drop(gateway);
}

/// A listener whose certificate file is `chain`, and what `check` says of it.
fn checked(chain: &str, key: &str) -> crate::harness::Ran {
    let text = "[[listener]]\naddress = \"127.0.0.1:8443\"\n\
                tls = { certificates = [{ cert = \"{dir}/a.pem\", key = \"{dir}/a.key\" }] }\n\
                [[route]]\npath = \"/\"\nrespond = { status = 204 }\n";
    let folder = Folder::with("").write("tollgate.toml", text);
    folder.write("a.pem", chain).write("a.key", key).check()
}

#[test]
fn nothing_in_a_certificate_file_is_passed_over() {
    let ours = Peer::certificates(NAME);
    let (leaf, ca, key) = (
        pem(&ours, "server"),
        pem(&ours, "ca"),
        pem(&ours, "server_key"),
    );
    checked(&format!("{leaf}{ca}"), key)
        .expect(0)
        .never_says("warning");
    checked(leaf, key).expect(0).never_says("warning");
    checked(&format!("{key}subject: x\n{leaf}\n{ca}"), key)
        .expect(0)
        .never_says("warning");
    let joined = format!("{}{ca}", leaf.trim_end());
    checked(&joined, key)
        .expect(1)
        .says("a.pem: line ")
        .says("lines of their own");
    let indented = format!("{leaf} {ca}");
    checked(&indented, key).expect(1).says("lines of their own");
    let maimed = format!("{leaf}{}", ca.replacen("-----BEGIN", "----BEGIN", 1));
    checked(&maimed, key).expect(1).says("a.pem: line ");
    let trusted = ca.replace(" CERTIFICATE-", " TRUSTED CERTIFICATE-");
    checked(&format!("{leaf}{trusted}"), key)
        .expect(1)
        .says("TRUSTED CERTIFICATE");
    let cut = ca.split("-----END").next().unwrap();
    checked(&format!("{leaf}{cut}"), key)
        .expect(1)
        .says("has no end");
    checked(leaf, &format!("{key}{}", pem(&ours, "client_key")))
        .expect(1)
        .says("a second private key");
}

#[test]
fn a_chain_that_leads_nowhere_gets_a_warning_and_is_served() {
    let (ours, other) = (Peer::certificates(NAME), Peer::certificates(NAME));
    let chain = format!("{}{}", pem(&ours, "server"), pem(&other, "ca"));
    let ran = checked(&chain, pem(&ours, "server_key")).expect(0);
    assert!(
        ran.stderr.contains("warning: ") && ran.stderr.contains("a.pem"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("ok"), "{ran:?}");
    let address = reserve();
    let gateway = pair(with(address, &listed(&["ours"])), "ours", &ours);
    let gateway = gateway.file("ours.pem", &chain).start();
    let warned = |text: &str| {
        let lines = gateway.log_lines();
        let mut lines = lines.iter().filter(|line| line["level"] == "warn");
        lines.any(|line| line["msg"].as_str().is_some_and(|msg| msg.contains(text)))
    };
    eventually(seconds(5), "a warning", || warned("signed the first one"));
    let client = TlsClient::new(NAME, pem(&ours, "ca"), None);
    let answer = client.get(&Client::to(address), NAME, "/fixed").unwrap();
    assert!(answer.ends_with("fine"), "{answer}");
}

#[test]
fn an_authority_that_would_be_passed_over_is_a_problem() {
    let (ours, other) = (Peer::certificates(NAME), Peer::certificates(NAME));
    let joined = format!("{}{}", pem(&ours, "ca").trim_end(), pem(&other, "ca"));
    let tls = format!("{}\nclient_ca = \"{{dir}}/both.pem\"", listed(&["ours"]));
    let setup = pair(with(reserve(), &tls), "ours", &ours).file("both.pem", &joined);
    setup.fails_to_start().expect(1).says("both.pem: line ");
}
