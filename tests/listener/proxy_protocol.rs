//! The PROXY protocol, spoken by hand and by HAProxy.

use std::io::Write;

use serde_json::Value;

use crate::harness::{
    Client, Gateway, HaProxy, Origin, Outcome, Peer, TlsClient, eventually, millis, reserve,
    seconds,
};

/// Believed from 127.0.0.2 alone. {origin} shows the address it was told.
const PROXIED: &str = r#"
[server]
trusted_proxies = ["127.0.0.2"]
[server.client]
header_timeout = "1s"
max_connections_per_ip = 3
[[listener]]
name = "public"
address = "{listen}"
proxy_protocol = true
[upstream.o]
endpoints = [{ address = "{origin}" }]
[limit.each]
key = "client_ip"
algorithm = "token_bucket"
rate = "1/h"
burst = 1
[[route]]
path = "/**"
upstream = "o"
[[route]]
path = "/once"
limits = ["each"]
upstream = "o"
[[route]]
path = "/closed"
deny_ips = ["203.0.113.0/24"]
upstream = "o"
"#;

fn started(origin: &Origin) -> Gateway {
    Gateway::with(PROXIED).to(origin).start()
}

fn balancer(gateway: &Gateway) -> Client {
    gateway.client().from(2)
}

fn line(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 10.0.0.1 4711 80\r\n").into_bytes()
}

/// Version 2: command, family, what follows.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend((rest.len() as u16).to_be_bytes());
    header.extend(rest);
    header
}

fn v4(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[10, 0, 0, 1, 0x12, 0x67, 0, 80]].concat();
    binary(0x21, 0x11, &addresses)
}

/// Who the upstream was told is asking, when a connection begins with `header`.
fn forwarded(client: &Client, header: &[u8]) -> String {
    let mut connection = client.connect();
    connection.write(header).unwrap();
    let seen = connection.get("/x").send().seen();
    seen.header("x-forwarded-for")
        .unwrap_or_default()
        .to_owned()
}

fn refused(gateway: &Gateway, reason: &str) -> f64 {
    let labels = [("listener", "public"), ("reason", reason)];
    gateway.metric("gateway_connections_refused_total", &labels)
}

#[test]
fn the_announced_address_is_the_client_s_in_both_versions() {
    let origin = Origin::start();
    let gateway = started(&origin);
    let balancer = balancer(&gateway);
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 20]].concat();
    let fields = [&v4([198, 51, 100, 9])[16..], &[0xea, 0, 3, 1, b'v', b'p']].concat();
    for (header, told) in [
        (line("203.0.113.7"), "203.0.113.7"),
        (
            b"PROXY TCP6 2001:db8::7 ::1 1 1\r\n".to_vec(),
            "2001:db8::7",
        ),
        (v4([198, 51, 100, 9]), "198.51.100.9"),
        (binary(0x21, 0x21, &v6), "2001:db8::7"),
        (binary(0x21, 0x11, &fields), "198.51.100.9"),
    ] {
        assert_eq!(forwarded(&balancer, &header), told);
    }
    let logged = gateway.wait_for_log(|line| line["client_ip"] == "203.0.113.7");
    assert_eq!(logged["status"], 200);
    assert_eq!(refused(&gateway, "proxy_header"), 0.0);
}

#[test]
fn connections_of_the_balancer_s_own_keep_its_address() {
    let origin = Origin::start();
    let gateway = started(&origin);
    let balancer = balancer(&gateway);
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 1.2.3.4 1.2.3.4 1 1\r\n".to_vec(),
        binary(0x20, 0x00, &[]),
        binary(0x20, 0x11, &v4([203, 0, 113, 7])[16..]),
        binary(0x21, 0x00, &[]),
        binary(0x21, 0x31, &[b'/'; 216]),
    ] {
        assert_eq!(forwarded(&balancer, &header), "127.0.0.2");
    }
}

#[test]
fn limits_and_rules_are_about_the_announced_address() {
    let origin = Origin::start();
    let gateway = started(&origin);
    let balancer = balancer(&gateway);
    let ask = |ip: &str, target: &str| {
        let mut connection = balancer.connect();
        connection.write(line(ip)).unwrap();
        connection.get(target).send()
    };
    ask("198.51.100.1", "/once").expect(200);
    ask("198.51.100.1", "/once").refused(429, "rate_limited");
    ask("198.51.100.2", "/once").expect(200);
    ask("203.0.113.7", "/closed").refused(403, "ip_denied");
    ask("198.51.100.7", "/closed").expect(200);
    // So is the cap of connections, and the balancer has none.
    let held = |ip: &str| {
        let mut connection = balancer.connect();
        connection.write(line(ip)).unwrap();
        connection.get("/x").try_send().map(|_| connection)
    };
    let first: Vec<_> = (0..3).map(|_| held("198.51.100.3").unwrap()).collect();
    assert!(held("198.51.100.3").is_err());
    let second: Vec<_> = (0..3).map(|_| held("198.51.100.4").unwrap()).collect();
    assert_eq!(refused(&gateway, "max_connections_per_ip"), 1.0);
    drop((first, second));
    eventually(seconds(3), "the places are free", || {
        held("198.51.100.3").is_ok()
    });
}

#[test]
fn a_connection_that_lacks_or_breaks_it_is_closed_unanswered() {
    let origin = Origin::start();
    let gateway = started(&origin);
    let balancer = balancer(&gateway);
    let broken = v4([203, 0, 113, 7]);
    let mut long = binary(0x21, 0x11, &[0; 4081]);
    long.truncate(200);
    for bytes in [
        b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 10.0.0.1 1 1\n".to_vec(),
        [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(),
        [&broken[..12], &[0x31], &broken[13..]].concat(),
        [&broken[..13], &[0x51], &broken[14..]].concat(),
        long,
    ] {
        let outcome = balancer.raw(&bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(matches!(outcome, Outcome::Closed), "{text:?}: {outcome:?}");
    }
    gateway.wait_for_metric(
        "gateway_connections_refused_total",
        &[("listener", "public"), ("reason", "proxy_header")],
        7.0,
    );
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(forwarded(&balancer, &line("203.0.113.7")), "203.0.113.7");
    gateway.wait_for_metric("gateway_connections_active", &[("listener", "public")], 0.0);
}

#[test]
fn nobody_else_may_announce_a_client() {
    let origin = Origin::start();
    let gateway = started(&origin);
    for bytes in [
        line("203.0.113.7"),
        b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
    ] {
        let outcome = gateway.client().from(3).raw(bytes);
        assert!(matches!(outcome, Outcome::Closed), "{outcome:?}");
    }
    assert_eq!(refused(&gateway, "proxy_untrusted"), 2.0);
    // Where it is off, a header is no request.
    let plain = Gateway::with(
        "[server]\ntrusted_proxies = [\"127.0.0.2\"]\n[[route]]\npath = \"/\"\nrespond = { text = \"fine\" }\n",
    )
    .start();
    let bytes = [&line("203.0.113.7")[..], b"Host: a\r\n\r\n"].concat();
    assert_eq!(plain.client().from(2).raw(bytes).status(), 400);
}

#[test]
fn it_is_read_to_its_last_byte_and_no_further() {
    let origin = Origin::start();
    let gateway = started(&origin);
    let balancer = balancer(&gateway);
    let request = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    for header in [line("203.0.113.7"), v4([203, 0, 113, 7])] {
        let whole = [&header[..], request].concat();
        // All at once, and in two pieces cut everywhere.
        for cut in (0..header.len() + 3).step_by(3) {
            let mut connection = balancer.connect();
            connection.write(&whole[..cut]).unwrap();
            if cut > 0 && cut % 6 == 0 {
                std::thread::sleep(millis(3));
            }
            connection.write(&whole[cut..]).unwrap();
            let seen = connection.response("GET").unwrap().seen();
            assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.7"));
            assert_eq!(seen.target, "/x");
        }
    }
}

#[test]
fn a_slow_one_costs_its_connection_within_the_header_timeout() {
    let origin = Origin::start();
    let gateway = started(&origin);
    let balancer = balancer(&gateway);
    let mut silent = balancer.connect();
    let begun = std::time::Instant::now();
    // A trickle does not prolong it.
    let mut slow = balancer.connect();
    let header = line("203.0.113.7");
    let writer = slow.writer();
    let mut closed = false;
    for byte in &header {
        closed |= (&*writer).write_all(&[*byte]).is_err();
        if closed || begun.elapsed() > seconds(3) {
            break;
        }
        std::thread::sleep(millis(100));
    }
    assert!(slow.closes_within(seconds(2)));
    assert!(begun.elapsed() < seconds(3), "{:?}", begun.elapsed());
    assert!(silent.closes_within(millis(500)));
    gateway.wait_for_metric(
        "gateway_connections_refused_total",
        &[("listener", "public"), ("reason", "proxy_timeout")],
        2.0,
    );
}

#[test]
fn tls_follows_it() {
    let origin = Origin::start();
    let address = reserve();
    let certificates = Peer::certificates("api.example.com");
    let pem = |name: &str| certificates[name].as_str().unwrap().to_owned();
    let toml = format!(
        "{PROXIED}\n[[listener]]\nname = \"secure\"\naddress = \"{address}\"\nproxy_protocol = true\n\
         tls = {{ certificates = [{{ cert = \"{{dir}}/a.pem\", key = \"{{dir}}/a.key\" }}] }}\n"
    );
    let gateway = Gateway::with(&toml)
        .to(&origin)
        .file("a.pem", &pem("server"))
        .file("a.key", &pem("server_key"))
        .start();
    let balancer = Client::to(address).from(2);
    for header in [line("203.0.113.7"), v4([203, 0, 113, 7])] {
        let client = TlsClient::new("api.example.com", &pem("ca"), None).after(&header);
        let answer = client.get(&balancer, "api.example.com", "/x").unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let echo: Value = serde_json::from_str(body).unwrap();
        let seen = crate::harness::Seen::from_echo(&echo);
        assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.7"));
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    }
    let without = TlsClient::new("api.example.com", &pem("ca"), None);
    assert!(without.get(&balancer, "api.example.com", "/x").is_err());
    gateway.wait_for_metric(
        "gateway_connections_refused_total",
        &[("listener", "secure"), ("reason", "proxy_header")],
        1.0,
    );
}

#[test]
fn haproxy_s_header_is_understood() {
    let origin = Origin::start();
    let text = PROXIED.replace("127.0.0.2", "127.0.0.1");
    let gateway = Gateway::with(&text).to(&origin).start();
    for options in [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority check inter 50ms",
    ] {
        let haproxy = HaProxy::before(gateway.listen(), options);
        let client = Client::to(haproxy.address()).from(9);
        let seen = client.get("/x").send().seen();
        assert_eq!(
            seen.header("x-forwarded-for"),
            Some("127.0.0.9"),
            "{options}"
        );
        if options.contains("check") {
            // Its checks bring LOCAL headers; one that failed would take the gateway out.
            std::thread::sleep(millis(300));
            client.get("/x").send().expect(200);
        }
    }
    // haproxy's start-up is waited for by connections that send nothing.
    assert_eq!(refused(&gateway, "proxy_untrusted"), 0.0);
}

#[test]
fn a_reload_switches_it_on_and_off() {
    let origin = Origin::start();
    let gateway = started(&origin);
    let balancer = balancer(&gateway);
    let off = PROXIED.replace("proxy_protocol = true", "proxy_protocol = false");
    gateway.rewrite(&off);
    gateway.reload_ok();
    balancer.get("/x").send().expect(200);
    gateway.rewrite(PROXIED);
    gateway.reload_ok();
    assert!(balancer.get("/x").try_send().is_err());
    assert_eq!(forwarded(&balancer, &line("203.0.113.7")), "203.0.113.7");
}
