//! `tollgate demo`: a gateway and three sample origins in one process, with lines to try.

use std::fs::DirBuilder;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value, json};

use super::args::{Scheme, Sign};
use super::mint;
use crate::server;

const JWT_SECRET: &str = "demo-secret-demo-secret-demo-secret";
const APP_SECRET: &str = "demo-app-secret";

/// Starts origins and gateway; ends with the gateway.
pub(super) fn run() -> anyhow::Result<()> {
    crate::auth::install_crypto();
    let origins = [origin("a")?, origin("b")?, origin("c")?];
    let (public, admin) = (free_port(8080)?, free_port(9900)?);
    let directory = scratch()?;
    let file = directory.join("tollgate.toml");
    std::fs::write(&file, configuration(&directory, public, admin, &origins))?;
    let shown = (public, admin, origins);
    let path = file.clone();
    std::thread::spawn(move || {
        if wait_until_ready(shown.1)
            && let Ok(text) = instructions(&path, shown.0, shown.1, &shown.2)
        {
            eprintln!("{text}");
        }
    });
    let served = server::run(&file);
    let _ = std::fs::remove_dir_all(&directory);
    served
}

fn scratch() -> anyhow::Result<PathBuf> {
    // Nobody can have made it before, and nobody else looks in: there are secrets in it.
    let name = format!("tollgate-demo-{:032x}", rand::random::<u128>());
    let directory = std::env::temp_dir().join(name);
    let created = DirBuilder::new().mode(0o700).create(&directory);
    created.with_context(|| directory.display().to_string())?;
    Ok(directory)
}

/// `wanted`, or any other port when that is taken.
fn free_port(wanted: u16) -> anyhow::Result<u16> {
    let bound = TcpListener::bind(("127.0.0.1", wanted))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
    Ok(bound.local_addr()?.port())
}

fn configuration(directory: &Path, public: u16, admin: u16, origins: &[SocketAddr; 3]) -> String {
    let [a, b, c] = origins;
    format!(
        r#"[server]
runtime_dir = "{directory}/run"
[[listener]]
name = "public"
address = "127.0.0.1:{public}"
[admin]
address = "127.0.0.1:{admin}"
token = "demo"
[log]
file = "stderr"

[upstream.sample]
endpoints = [
  {{ address = "{a}", weight = 3 }},
  {{ address = "{b}" }},
  {{ address = "{c}", backup = true }},
]
health = {{ path = "/healthz", interval = "1s" }}

[auth.app]
type = "jwt"
algorithms = ["HS256"]
secret = "{JWT_SECRET}"
forward_claims = {{ sub = "X-User-Id" }}
[auth.partner]
type = "signature"
scheme = "ca"
[auth.partner.apps]
"app-1" = {{ secret = "{APP_SECRET}" }}

[limit.few]
key = "client_ip"
algorithm = "token_bucket"
rate = "1/s"
burst = 3

[[route]]
id = "hello"
path = "/hello/**"
upstream = "sample"
[[route]]
id = "users"
path = "/users/{{id}}"
upstream = "sample"
auth = ["app"]
[[route]]
id = "partner"
path = "/partner/**"
upstream = "sample"
auth = ["partner"]
strip_prefix = 1
[[route]]
id = "few"
path = "/few"
upstream = "sample"
limits = ["few"]
[[route]]
id = "static"
path = "/static"
respond = {{ json = {{ status = "ok" }} }}
"#,
        directory = directory.display()
    )
}

fn instructions(
    file: &Path,
    public: u16,
    admin: u16,
    origins: &[SocketAddr; 3],
) -> anyhow::Result<String> {
    let base = format!("http://127.0.0.1:{public}");
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    let claims: Map<String, Value> = [("sub".to_owned(), json!("alice"))].into_iter().collect();
    let token = mint::mint(Algorithm::HS256, &key, claims, Duration::from_secs(3600))?;
    let sign = Sign {
        scheme: Scheme::Ca,
        key: "app-1".into(),
        secret: APP_SECRET.into(),
        method: "POST".into(),
        url: format!("{base}/partner/orders?id=7"),
        body: Some(r#"{"item":"book"}"#.into()),
        fields: Vec::new(),
        headers: false,
    };
    let signed = mint::curl_line(&sign, &mint::signed_fields(&sign, Duration::ZERO)?);
    let program = std::env::args().next().unwrap_or_else(|| "tollgate".into());
    let drain = |endpoint: &SocketAddr, action: &str| {
        format!(
            "curl -sS -X POST -H 'Authorization: Bearer demo' \
             http://127.0.0.1:{admin}/api/v1/upstreams/sample/endpoints/{endpoint}/{action}"
        )
    };
    let [a, b, _] = origins;
    Ok(format!(
        "\ntollgate {version} is listening on {base}, admin on http://127.0.0.1:{admin}\n\
         configuration: {file}\n\n\
         three requests of four go to origin a, one to b:\n  curl -sS {base}/hello/world\n\n\
         with a token, and without:\n  curl -sS -H 'Authorization: Bearer {token}' {base}/users/7\n  \
         curl -sS -i {base}/users/7\n\n\
         signed (good for once, within five minutes; run it twice to see a replay refused):\n  {signed}\n\
         another one:\n  {program} sign --scheme ca --key app-1 --secret {APP_SECRET} GET {base}/partner/x | sh\n\n\
         three pass at once, then one a second:\n  \
         for i in 1 2 3 4 5; do curl -sS -o /dev/null -w '%{{http_code}}\\n' {base}/few; done\n\n\
         take both primaries out and the backup, c, answers; bring them back with enable:\n  {drain_a}\n  {drain_b}\n  \
         curl -sS {base}/hello/backup\n  {enable_a}\n\n\
         what it would do, and why:\n  {program} explain -c {file} GET {base}/users/7\n\n\
         metrics:\n  curl -sS http://127.0.0.1:{admin}/metrics | grep gateway_requests_by_route\n\n\
         Ctrl-C stops it.\n",
        version = server::VERSION,
        file = file.display(),
        drain_a = drain(a, "drain"),
        drain_b = drain(b, "drain"),
        enable_a = drain(a, "enable"),
    ))
}

fn wait_until_ready(admin: u16) -> bool {
    (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(25));
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", admin)) else {
            return false;
        };
        let mut answer = String::new();
        let asked = stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        asked.is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
    })
}

/// A sample origin: says which one it is and what it was asked.
fn origin(name: &'static str) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = answer_all(&stream, name);
            });
        }
    });
    Ok(address)
}

fn answer_all(stream: &TcpStream, name: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut out = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut asked = line.split_whitespace();
        let (method, path) = (
            asked.next().unwrap_or_default().to_owned(),
            asked.next().unwrap_or_default().to_owned(),
        );
        let (mut length, mut chunked, mut seen) = (0, false, Map::new());
        loop {
            let mut field = String::new();
            reader.read_line(&mut field)?;
            let Some((key, value)) = field.trim_end().split_once(':') else {
                break;
            };
            let (key, value) = (key.to_ascii_lowercase(), value.trim());
            match key.as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "transfer-encoding" => chunked = true,
                _ if key.starts_with("x-") => {
                    seen.insert(key, value.into());
                }
                _ => {}
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        let body = json!({ "origin": name, "method": method, "path": path, "headers": seen })
            .to_string()
            + "\n";
        let close = if chunked { "Connection: close\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{close}Content-Length: {}\r\n\r\n",
            body.len()
        );
        out.write_all(head.as_bytes())?;
        if method != "HEAD" {
            out.write_all(body.as_bytes())?;
        }
        if chunked {
            return Ok(());
        }
    }
}
