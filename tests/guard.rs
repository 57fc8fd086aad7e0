//! What a request costs must not grow unseen.
//!
//! A thousand requests go through the real binary with everything on (token, limit, metrics, trace headers, log to a file)
//! under callgrind, which counts instructions and calls exactly. More than five in a hundred over the recorded figures is
//! a failure. Where the growth is meant: `TOLLGATE_GUARD=record cargo test --test guard`, and say why in the commit.
//!
//! Instructions depend on the compiler, so they are compared only where it is the one of the record; allocations always.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SECRET: &str = "a secret of the guard, long enough for HS256";
const REQUESTS: u64 = 1000;
const WARM_UP: u64 = 100;
/// What may be over the record.
const SLACK: f64 = 1.05;

/// Cost of one request.
#[derive(Debug)]
struct Cost {
    instructions: f64,
    allocations: f64,
}

/// Ends the program with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_request_costs_no_more_than_recorded() {
    let directory = tempfile::tempdir().expect("a directory");
    let cost = measure(directory.path());
    let compiler = compiler();
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guard.record");
    if std::env::var_os("TOLLGATE_GUARD").is_some_and(|wanted| wanted == "record") {
        let text = format!(
            "compiler = {compiler:?}\ninstructions = {:.0}\nallocations = {:.1}\n",
            cost.instructions, cost.allocations
        );
        std::fs::write(&record, text).expect("the record");
        return;
    }
    let known: toml::Table = std::fs::read_to_string(&record)
        .expect("the record")
        .parse()
        .expect("TOML");
    let figure = |name: &str| {
        let value = &known[name];
        value
            .as_float()
            .or(value.as_integer().map(|n| n as f64))
            .expect("a number")
    };
    let mut grown = String::new();
    if cost.allocations > figure("allocations") * SLACK {
        let _ = write!(
            grown,
            "{:.1} allocations, recorded {:.1}; ",
            cost.allocations,
            figure("allocations")
        );
    }
    let same_compiler = known["compiler"].as_str() == Some(&compiler);
    if same_compiler && cost.instructions > figure("instructions") * SLACK {
        let _ = write!(
            grown,
            "{:.0} instructions, recorded {:.0}; ",
            cost.instructions,
            figure("instructions")
        );
    }
    assert!(
        grown.is_empty(),
        "a request costs {grown}if that is meant: TOLLGATE_GUARD=record cargo test --test guard"
    );
    // A record far above what is true guards nothing.
    assert!(
        cost.allocations > figure("allocations") / 1.25,
        "{cost:?}: the record is out of date"
    );
}

fn compiler() -> String {
    let told = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()))
        .arg("--version")
        .output()
        .expect("rustc");
    String::from_utf8_lossy(&told.stdout).trim().to_owned()
}

fn measure(directory: &Path) -> Cost {
    let origin = origin();
    let listen = free_port();
    let config = directory.join("tollgate.toml");
    let place = directory.display();
    let text = format!(
        r#"
        [server]
        threads = 1
        runtime_dir = "{place}/run"
        [[listener]]
        address = "{listen}"
        [log]
        access = "{place}/access.log"
        file = "{place}/messages.log"
        [auth.app]
        type = "jwt"
        algorithms = ["HS256"]
        secret = "{SECRET}"
        forward_claims = {{ sub = "X-User-Id" }}
        [limit.per_ip]
        key = "client_ip"
        algorithm = "estimator"
        rate = "1000000000/s"
        [upstream.origin]
        endpoints = [{{ address = "{origin}" }}]
        [[route]]
        path = "/**"
        upstream = "origin"
        auth = ["app"]
        limits = ["per_ip"]
        "#
    );
    std::fs::write(&config, text).expect("the configuration");
    let counted = directory.join("callgrind.out");
    let program = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", counted.display()))
        .arg(env!("CARGO_BIN_EXE_tollgate"))
        .arg("-c")
        .arg(&config)
        .arg("run")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("valgrind, which `make test` installs");
    let program = Running(program);
    let mut client = connect(listen);
    let request = request();
    ask(&mut client, &request, WARM_UP);
    control(&program, "-z");
    ask(&mut client, &request, REQUESTS);
    control(&program, "-d");
    drop(program);
    cost(&dumped(&counted))
}

/// Answers every request on every connection, until the test ends.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut connection = connection;
                let mut seen = Vec::new();
                let mut piece = [0; 4096];
                while let Ok(read @ 1..) = connection.read(&mut piece) {
                    seen.extend_from_slice(&piece[..read]);
                    while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                        seen.drain(..end + 4);
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: 128\r\n\r\n{}",
                            "x".repeat(128)
                        );
                        if connection.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

fn free_port() -> SocketAddr {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a port");
    probe.local_addr().expect("its address")
}

fn connect(address: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                let patience = Some(Duration::from_secs(60));
                stream.set_read_timeout(patience).expect("a time limit");
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "no gateway: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn request() -> String {
    let minted = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args([
            "token",
            "--secret",
            SECRET,
            "--claim",
            "sub=someone",
            "--expires",
            "1d",
        ])
        .output()
        .expect("a token");
    let token = String::from_utf8_lossy(&minted.stdout).trim().to_owned();
    format!(
        "GET /orders/7 HTTP/1.1\r\nHost: gateway.test\r\nUser-Agent: guard\r\nAccept: */*\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
}

fn ask(client: &mut TcpStream, request: &str, times: u64) {
    for _ in 0..times {
        client.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while !answer.windows(4).any(|four| four == b"\r\n\r\n")
            || answer.len() < 128
            || !answer.ends_with(&[b'x'; 128])
        {
            let read = client.read(&mut piece).expect("an answer");
            assert!(read > 0, "closed: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&piece[..read]);
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
}

/// Zeroes (`-z`) or dumps (`-d`) the counters.
fn control(program: &Running, what: &str) {
    let done = Command::new("callgrind_control")
        .arg(what)
        .arg(program.0.id().to_string())
        .output()
        .expect("callgrind_control");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// The dump that was asked for: the first one is numbered 1.
fn dumped(counted: &Path) -> String {
    let file = PathBuf::from(format!("{}.1", counted.display()));
    std::fs::read_to_string(&file).expect("callgrind's dump")
}

/// Reads the dump (https://valgrind.org/docs/manual/cl-format.html): what the connections' task cost, calls included, and
/// how often memory was asked for. Whatever else the process did meanwhile does not count.
fn cost(dump: &str) -> Cost {
    let mut names: HashMap<String, String> = HashMap::new();
    let mut name_of = |text: &str| {
        let (id, name) = text.split_once(' ').unwrap_or((text, ""));
        if !name.is_empty() {
            names.insert(id.to_owned(), name.to_owned());
        }
        names.get(id).cloned().unwrap_or_default()
    };
    let serves = |name: &str| name.starts_with("tollgate::gateway::connection::serve::{{closure}}");
    let (mut caller, mut callee, mut calls) = (String::new(), String::new(), None);
    let (mut instructions, mut allocations) = (0, 0);
    for line in dump.lines() {
        if let Some(text) = line.strip_prefix("fn=") {
            caller = name_of(text);
        } else if let Some(text) = line.strip_prefix("cfn=") {
            callee = name_of(text);
        } else if let Some(text) = line.strip_prefix("calls=") {
            calls = text
                .split(' ')
                .next()
                .and_then(|count| count.parse::<u64>().ok());
        } else if let Some(count) = calls.take() {
            let inclusive: u64 = line
                .split(' ')
                .nth(1)
                .and_then(|cost| cost.parse().ok())
                .unwrap_or(0);
            if serves(&callee) && !serves(&caller) {
                instructions += inclusive;
            }
            let asks = [
                "mi_malloc_aligned",
                "mi_zalloc_aligned",
                "mi_realloc_aligned",
            ];
            if asks.contains(&callee.as_str()) {
                allocations += count;
            }
        }
    }
    assert!(
        instructions > 0 && allocations > 0,
        "the dump names no task of a connection"
    );
    Cost {
        instructions: instructions as f64 / REQUESTS as f64,
        allocations: allocations as f64 / REQUESTS as f64,
    }
}
