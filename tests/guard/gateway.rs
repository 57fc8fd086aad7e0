//! The gateway under callgrind.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::callgrind::Cost;
use super::origins::Origins;

const SECRET: &str = "a secret of the guard, long enough for HS256";
/// What is asked before anything is counted, so that buffers and tables have grown.
const WARM_UP: u64 = 100;

/// A gateway whose work is counted.
pub(crate) struct Counted {
    program: Running,
    output: PathBuf,
    dumps: usize,
    /// Where it speaks HTTP/1 without TLS.
    pub(crate) listen: SocketAddr,
    /// Where it speaks HTTP/2 over TLS.
    pub(crate) secure: SocketAddr,
}

impl Counted {
    /// One in front of `origins`, with further tables in its configuration.
    pub(crate) fn start(directory: &Path, origins: &Origins, more: &str) -> Self {
        let (listen, secure) = (free_port(), free_port());
        let place = directory.display().to_string();
        let identity = origins.identity();
        std::fs::write(directory.join("server.pem"), &identity.cert).expect("a certificate");
        std::fs::write(directory.join("server.key"), &identity.key).expect("a key");
        let config = directory.join("tollgate.toml");
        let text = configuration(&place, (listen, secure), origins, more);
        std::fs::write(&config, text).expect("the configuration");
        let output = directory.join("callgrind.out");
        let program = Command::new("valgrind")
            .arg("--tool=callgrind")
            .arg(format!("--callgrind-out-file={}", output.display()))
            .arg(env!("CARGO_BIN_EXE_tollgate"))
            .arg("-c")
            .arg(&config)
            .arg("run")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("valgrind, which `make test` installs");
        Self {
            program: Running(program),
            output,
            dumps: 0,
            listen,
            secure,
        }
    }

    /// What one request costs that `ask` makes, as the mean of so many: the work of these tasks.
    pub(crate) fn cost(&mut self, requests: u64, tasks: &[&str], ask: impl Fn()) -> Cost {
        (0..WARM_UP).for_each(|_| ask());
        self.control("-z");
        (0..requests).for_each(|_| ask());
        self.control("-d");
        self.dumps += 1;
        let file = PathBuf::from(format!("{}.{}", self.output.display(), self.dumps));
        let dump = std::fs::read_to_string(&file).expect("callgrind's dump");
        Cost::of(&dump, tasks, requests)
    }

    /// Zeroes (`-z`) or dumps (`-d`) the counters.
    fn control(&self, what: &str) {
        let done = Command::new("callgrind_control")
            .arg(what)
            .arg(self.program.0.id().to_string())
            .output()
            .expect("callgrind_control");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

/// Ends the program with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn configuration(
    place: &str,
    (listen, secure): (SocketAddr, SocketAddr),
    origins: &Origins,
    more: &str,
) -> String {
    let mut text = format!(
        r#"
        [server]
        threads = 1
        runtime_dir = "{place}/run"
        [[listener]]
        address = "{listen}"
        [[listener]]
        address = "{secure}"
        tls = {{ certificates = [{{ cert = "{place}/server.pem", key = "{place}/server.key" }}] }}
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
        endpoints = [{{ address = "{}" }}]
        [upstream.secure]
        endpoints = [{{ address = "{}" }}]
        tls = {{ sni = "localhost", ca = "{place}/server.pem" }}
        [upstream.streams]
        endpoints = [{{ address = "{}" }}]
        http_version = "2"
        {more}
        "#,
        origins.plain, origins.secure, origins.streams
    );
    for (path, upstream) in [
        ("/tls/**", "secure"),
        ("/http2/**", "streams"),
        ("/**", "origin"),
    ] {
        text += &format!(
            "[[route]]\npath = \"{path}\"\nupstream = \"{upstream}\"\nauth = [\"app\"]\nlimits = [\"per_ip\"]\n"
        );
    }
    text
}

fn free_port() -> SocketAddr {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a port");
    probe.local_addr().expect("its address")
}

/// A token that the gateway takes.
pub(crate) fn token() -> String {
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
    String::from_utf8_lossy(&minted.stdout).trim().to_owned()
}
