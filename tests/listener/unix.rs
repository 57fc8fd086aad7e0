//! Listeners on Unix sockets.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::harness::{Gateway, Origin, Seen, Setup, seconds};

const LOCAL: &str = r#"
[server]
threads = 3
[[listener]]
name = "local"
address = "unix:{dir}/public.sock"
{more}
[[listener]]
name = "public"
address = "{listen}"
[upstream.o]
endpoints = [{ address = "{origin}" }]
[[route]]
path = "/**"
upstream = "o"
"#;

fn with(more: &str, origin: &Origin) -> Setup {
    Gateway::with(LOCAL).fill("more", more).to(origin)
}

fn socket(gateway: &Gateway) -> PathBuf {
    gateway.dir().join("public.sock")
}

/// What the upstream saw of a request that comes over the socket after these bytes.
fn ask(socket: &Path, first: &str) -> std::io::Result<Seen> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(seconds(5)))?;
    write!(
        stream,
        "{first}GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(std::io::ErrorKind::UnexpectedEof)?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(Seen::from_echo(&serde_json::from_str(body).unwrap()))
}

#[test]
fn clients_are_served_on_it_by_every_worker() {
    let origin = Origin::start();
    let gateway = with("mode = \"0640\"", &origin).start();
    let path = socket(&gateway);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    for _ in 0..30 {
        let seen = ask(&path, "").unwrap();
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    }
    gateway.client().get("/x").send().expect(200);
    gateway.wait_for_metric("gateway_connections_active", &[("listener", "local")], 0.0);
    gateway.signal(Signal::SIGTERM);
    assert!(gateway.wait_exit(seconds(5)).success());
    assert!(!path.exists(), "its file is removed at the stop");
}

#[test]
fn a_proxy_header_on_it_is_believed() {
    let origin = Origin::start();
    let gateway = with("proxy_protocol = true", &origin).start();
    let path = socket(&gateway);
    let seen = ask(&path, "PROXY TCP4 203.0.113.7 10.0.0.1 1 1\r\n").unwrap();
    assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.7"));
    assert!(ask(&path, "").is_err());
    gateway.wait_for_metric(
        "gateway_connections_refused_total",
        &[("listener", "local"), ("reason", "proxy_header")],
        1.0,
    );
}

#[test]
fn what_a_dead_process_left_is_replaced_and_nothing_else() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let on_path = || {
        let text = LOCAL.replace("{dir}/public.sock", path.to_str().unwrap());
        Gateway::with(&text).fill("more", "").to(&origin)
    };
    // Closing a listener leaves its file.
    drop(UnixListener::bind(&path).unwrap());
    let gateway = on_path().start();
    ask(&path, "").unwrap();
    on_path()
        .fails_to_start()
        .expect(1)
        .says("the address is in use by another process");
    ask(&path, "").unwrap();
    // Who was killed removes nothing, and keeps nobody from starting.
    gateway.signal(Signal::SIGKILL);
    gateway.wait_exit(seconds(5));
    assert!(path.exists());
    let gateway = on_path().start();
    ask(&path, "").unwrap();
    // A file that somebody else put there meanwhile is theirs.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    gateway.signal(Signal::SIGTERM);
    gateway.wait_exit(seconds(5));
    on_path().fails_to_start().expect(1).says("it is no socket");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_reload_says_that_its_path_and_mode_need_an_upgrade() {
    let origin = Origin::start();
    let gateway = with("mode = \"0660\"", &origin).start();
    let text = LOCAL.replace("{more}", "mode = \"0600\"");
    gateway.rewrite(&text);
    let last = gateway.reload();
    assert_eq!(last["needs_upgrade"][0], "listener", "{last}");
    ask(&socket(&gateway), "").unwrap();
}
