//! Few long connections: `cargo bench --bench micro -- uneven` measures the worst case of workers that share nothing.
//!
//! A gateway with two workers verifies a token for each request and remembers none, so that it, and not the client, has
//! the work. Four connections ask all the time, first two on each worker, then all four on one, as the kernel's hash
//! may place them; beside them a modest client asks every few milliseconds, on the worker that has most. A connection's
//! worker is known by whose CPU time grows; one on the wrong worker is opened again, from another port. No connection is
//! closed for its number of requests here, which by default ends such a case.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SPAN: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
/// Between two requests of the modest client.
const PAUSE: Duration = Duration::from_millis(5);
const ANSWER: usize = 1024;

/// Places of the four busy connections by worker.
const PLACES: [(&str, [usize; 4]); 2] =
    [("two and two", [0, 0, 1, 1]), ("all on one", [0, 0, 0, 0])];

pub(crate) fn table() -> std::io::Result<()> {
    measure().map_err(std::io::Error::other)
}

fn measure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (gateway, address) = Gateway::start(folder.path().to_owned())?;
    let request = gateway.request()?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "| Four busy connections | Requests/s | p50 ms | p99 ms | Modest client p50 ms | p99 ms | Workers busy |\n|---|---|---|---|---|---|---|"
    )?;
    for _ in 0..ROUNDS {
        for (name, places) in PLACES {
            let busy: Vec<TcpStream> = (places.iter())
                .map(|worker| gateway.connect_to(*worker, address, &request))
                .collect::<Result<_>>()?;
            let modest = gateway.connect_to(0, address, &request)?;
            let before = gateway.worker_times()?;
            let (all, few) = load(busy, modest, &request)?;
            let after = gateway.worker_times()?;
            let share = |worker: usize| {
                (after[worker] - before[worker]) as f64 / SPAN.as_nanos() as f64 * 100.0
            };
            writeln!(
                out,
                "| {name} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} %, {:.0} % |",
                all.len() as f64 / SPAN.as_secs_f64(),
                quantile(&all, 0.5),
                quantile(&all, 0.99),
                quantile(&few, 0.5),
                quantile(&few, 0.99),
                share(0),
                share(1)
            )?;
        }
    }
    Ok(())
}

/// Latencies in order: those of the busy connections, and those of the modest client.
fn load(
    busy: Vec<TcpStream>,
    mut modest: TcpStream,
    request: &[u8],
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let stop = AtomicBool::new(false);
    let stop = &stop;
    let (mut all, mut few) = std::thread::scope(|scope| {
        let busy: Vec<_> = (busy.into_iter())
            .map(|mut connection| {
                scope.spawn(move || {
                    let mut took = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        took.push(ask(&mut connection, request)?);
                    }
                    Result::Ok(took)
                })
            })
            .collect();
        let modest = scope.spawn(move || {
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                took.push(ask(&mut modest, request)?);
                std::thread::sleep(PAUSE);
            }
            Result::Ok(took)
        });
        std::thread::sleep(SPAN);
        stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for connection in busy {
            all.extend(connection.join().map_err(|_| "a client panicked")??);
        }
        Result::Ok((all, modest.join().map_err(|_| "a client panicked")??))
    })?;
    all.sort_unstable();
    few.sort_unstable();
    Ok((all, few))
}

fn quantile(sorted: &[Duration], q: f64) -> f64 {
    let at = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
    sorted
        .get(at)
        .map_or(0.0, |took| took.as_secs_f64() * 1000.0)
}

/// One request and its whole answer.
fn ask(connection: &mut TcpStream, request: &[u8]) -> Result<Duration> {
    let begun = Instant::now();
    connection.write_all(request)?;
    let (mut answer, mut filled) = ([0; ANSWER], 0);
    loop {
        filled += match connection.read(&mut answer[filled..])? {
            0 => return Err("the gateway closed a connection".into()),
            read => read,
        };
        if answer[..filled].ends_with(b"\r\n\r\n") {
            break;
        }
    }
    if !answer.starts_with(b"HTTP/1.1 204") {
        return Err(String::from_utf8_lossy(&answer[..filled]).into());
    }
    Ok(begun.elapsed())
}

/// The program, ended with this value.
struct Gateway {
    child: Child,
    folder: PathBuf,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    fn start(folder: PathBuf) -> Result<(Self, SocketAddr)> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let key = rcgen::KeyPair::generate()?;
        std::fs::write(folder.join("private.pem"), key.serialize_pem())?;
        std::fs::write(folder.join("public.pem"), key.public_key_pem())?;
        let place = folder.display();
        let text = format!(
            r#"
            [server]
            threads = 2
            runtime_dir = "{place}/run"
            [server.client]
            keepalive_requests = 1000000000
            [[listener]]
            address = "{address}"
            [log]
            access = "off"
            file = "{place}/messages.log"
            [auth.app]
            type = "jwt"
            algorithms = ["ES256"]
            public_key = "file:{place}/public.pem"
            cache = 0
            [[route]]
            path = "/**"
            auth = ["app"]
            respond = {{ status = 204 }}
            "#
        );
        std::fs::write(folder.join("tollgate.toml"), text)?;
        let child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .arg("-c")
            .arg(folder.join("tollgate.toml"))
            .stdout(Stdio::null())
            .spawn()?;
        let gateway = Self { child, folder };
        // It binds each address once to see whether it is free: what connects then is turned away.
        let deadline = Instant::now() + Duration::from_secs(10);
        let answers = || -> Result<bool> {
            let mut connection = TcpStream::connect(address)?;
            connection.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
            let mut answer = [0; ANSWER];
            let read = connection.read(&mut answer)?;
            Ok(answer[..read].starts_with(b"HTTP/1.1 401"))
        };
        while !answers().unwrap_or(false) {
            if Instant::now() > deadline {
                return Err("the gateway does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok((gateway, address))
    }

    fn request(&self) -> Result<Vec<u8>> {
        let key = self.folder.join("private.pem");
        let token = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["token", "--alg", "ES256", "--claim", "sub=u1", "--key"])
            .arg(key)
            .output()?;
        let token = String::from_utf8(token.stdout)?;
        let token = token.trim();
        Ok(format!("GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n").into())
    }

    /// A connection that this worker serves.
    fn connect_to(&self, worker: usize, address: SocketAddr, request: &[u8]) -> Result<TcpStream> {
        for _ in 0..100 {
            let mut connection = TcpStream::connect(address)?;
            connection.set_nodelay(true)?;
            let before = self.worker_times()?;
            for _ in 0..20 {
                ask(&mut connection, request)?;
            }
            let after = self.worker_times()?;
            let grown = |worker: usize| after[worker] - before[worker];
            if grown(worker) > grown(1 - worker) {
                return Ok(connection);
            }
        }
        Err("no connection reached the worker".into())
    }

    /// CPU time of both workers' threads, nanoseconds.
    fn worker_times(&self) -> Result<[u64; 2]> {
        let mut times = [0; 2];
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let task = task?.path();
            let name = std::fs::read_to_string(task.join("comm"))?;
            let Some(worker) = name.trim().strip_prefix("worker ") else {
                continue;
            };
            let text = std::fs::read_to_string(task.join("schedstat"))?;
            let time = text.split(' ').next().unwrap_or_default().parse()?;
            if let Some(kept) = times.get_mut(worker.parse::<usize>()?) {
                *kept = time;
            }
        }
        Ok(times)
    }
}
