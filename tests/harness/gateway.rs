//! The gateway as its operators run it: a process of its own, with a folder, ports and a log of its own.

use std::any::Any;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::binary::{Ran, tollgate, tollgate_at, under};
use super::client::{Client, Request, Response};
use super::exposition::Metrics;
use super::origin::Origin;
use super::ports;
use super::wait::{eventually, found_within, holds_within, millis, seconds};

/// The admin token of every gateway that does not bring its own.
pub(crate) const ADMIN_TOKEN: &str = "admin-token-for-tests";

const READY: Duration = seconds(10);

/// A gateway about to be started.
pub(crate) struct Setup {
    toml: String,
    fills: Vec<(String, String)>,
    env: Vec<(String, String)>,
    files: Vec<(String, String)>,
    fifo: Option<String>,
    open_files: Option<u32>,
    inherited: Vec<(String, OwnedFd)>,
    own_program: bool,
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Setup {
    /// Fills `{name}` with the address of the origin of that name.
    pub(crate) fn to(self, origin: &Origin) -> Self {
        let address = origin.address();
        let name = origin.name().to_owned();
        self.fill(&name, address)
    }

    /// Fills `{name}` with `value`.
    pub(crate) fn fill(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.fills.push((format!("{{{name}}}"), value.to_string()));
        self
    }

    /// Adds lines to the configuration.
    pub(crate) fn append(mut self, toml: &str) -> Self {
        self.toml.push_str(toml);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts another file into the gateway's folder.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Puts a named pipe into the gateway's folder that is open and that nobody reads.
    pub(crate) fn fifo(mut self, name: &str) -> Self {
        self.fifo = Some(name.to_owned());
        self
    }

    /// Lets it open so many files and no more.
    pub(crate) fn open_files(mut self, most: u32) -> Self {
        self.open_files = Some(most);
        self
    }

    /// Keeps this for as long as the gateway runs.
    pub(crate) fn keeps(mut self, what: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(what));
        self
    }

    /// Runs a copy of the program that lies in the gateway's folder, where it can be replaced.
    pub(crate) fn own_program(mut self) -> Self {
        self.own_program = true;
        self
    }

    /// Hands a descriptor over as a service manager does (`LISTEN_FDS`).
    pub(crate) fn inherits(mut self, name: &str, descriptor: impl Into<OwnedFd>) -> Self {
        self.inherited.push((name.to_owned(), descriptor.into()));
        self
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(self) -> Gateway {
        let gateway = self.launch();
        gateway.wait_until_ready();
        gateway
    }

    /// Starts what must not come up; waits for its end.
    #[track_caller]
    pub(crate) fn fails_to_start(self) -> Ran {
        let gateway = self.launch();
        let status = gateway.wait_exit(READY);
        let [stdout, stderr] = [gateway.stdout(), gateway.stderr()];
        Ran {
            code: status.code().unwrap_or(-1),
            stdout,
            stderr,
        }
    }

    /// Starts it without waiting for anything.
    pub(crate) fn launch(self) -> Gateway {
        let dir = tempfile::Builder::new().prefix("tg").tempdir().unwrap();
        let mut place = Place {
            dir: dir.path().to_owned(),
            listen: ports::reserve(),
            admin: None,
            fills: self.fills,
        };
        if !has_table(&self.toml, "[admin]") {
            place.admin = Some(ports::reserve());
        }
        for (name, text) in &self.files {
            place.write(name, &place.fill(text));
        }
        place.write("tollgate.toml", &place.complete(&self.toml));
        let pipe = self.fifo.map(|name| {
            let path = dir.path().join(name);
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            // Opened for both, so that neither end waits for the other.
            File::options().read(true).write(true).open(path).unwrap()
        });
        let mut command = match self.open_files {
            Some(most) => under("prlimit", &format!("--nofile={most}:{most}")),
            None => tollgate(),
        };
        if self.own_program {
            let program = dir.path().join("tollgate");
            put_program(&program);
            command = tollgate_at(&program);
        }
        command
            .args(["run", "-c"])
            .arg(dir.path().join("tollgate.toml"))
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .env("RUST_BACKTRACE", "1")
            .stdout(File::create(dir.path().join("stdout")).unwrap())
            .stderr(File::create(dir.path().join("stderr")).unwrap())
            .stdin(Stdio::null());
        if !self.inherited.is_empty() {
            let (names, descriptors): (Vec<_>, Vec<_>) = self.inherited.into_iter().unzip();
            command
                .env("LISTEN_FDS", descriptors.len().to_string())
                .env("LISTEN_FDNAMES", names.join(":"));
            let mapped = (3..).zip(descriptors);
            let mapped = mapped.map(|(child_fd, parent_fd)| FdMapping {
                parent_fd,
                child_fd,
            });
            command.fd_mappings(mapped.collect()).unwrap();
        }
        let child = Mutex::new(command.spawn().unwrap());
        Gateway {
            child,
            place,
            env: self.env,
            dir,
            _pipe: pipe,
            _kept: self.kept,
        }
    }
}

/// Where a gateway lives, and how its configuration says so.
struct Place {
    dir: PathBuf,
    listen: SocketAddr,
    admin: Option<SocketAddr>,
    fills: Vec<(String, String)>,
}

impl Place {
    fn fill(&self, text: &str) -> String {
        let mut text = text
            .replace("{listen}", &self.listen.to_string())
            .replace("{dir}", &self.dir.display().to_string())
            .replace(
                "{admin}",
                &self.admin.map(|a| a.to_string()).unwrap_or_default(),
            );
        for (name, value) in &self.fills {
            text = text.replace(name, value);
        }
        text
    }

    /// The test's own text with what it leaves out. Additions go to the end, so that line numbers stay true; only a
    /// `[server]` table of the test's gets its line in its place.
    fn complete(&self, toml: &str) -> String {
        let runtime_dir = format!("runtime_dir = \"{}/run\"\n", self.dir.display());
        let mut text = self.fill(toml);
        match text.lines().any(|line| line.trim() == "[server]") {
            true if text.contains("runtime_dir") => {}
            true => text = text.replacen("[server]\n", &format!("[server]\n{runtime_dir}"), 1),
            false => text.push_str(&format!("\n[server]\n{runtime_dir}")),
        }
        if !has_table(&text, "[[listener]]") {
            text.push_str(&format!(
                "\n[[listener]]\nname = \"public\"\naddress = \"{}\"\n",
                self.listen
            ));
        }
        if let Some(admin) = self.admin
            && !has_table(&text, "[admin]")
        {
            text.push_str(&format!(
                "\n[admin]\naddress = \"{admin}\"\ntoken = \"{ADMIN_TOKEN}\"\n"
            ));
        }
        text
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // In one step, so that a gateway told to look never finds half a file.
        let partial = path.with_extension("partial");
        fs::write(&partial, text).unwrap();
        fs::rename(partial, path).unwrap();
    }
}

/// Puts the program under test at `path`, in one step: the one that was built with the tests, or the one that
/// `TOLLGATE_TEST_PROGRAM` names.
fn put_program(path: &Path) {
    let partial = path.with_extension("partial");
    let _ = fs::remove_file(&partial);
    let program = std::env::var_os("TOLLGATE_TEST_PROGRAM")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_tollgate").into());
    if fs::hard_link(&program, &partial).is_err() {
        fs::copy(&program, &partial).unwrap();
    }
    fs::rename(partial, path).unwrap();
}

fn has_table(toml: &str, table: &str) -> bool {
    toml.lines().any(|line| line.trim() == table)
}

/// A running gateway.
pub(crate) struct Gateway {
    child: Mutex<Child>,
    place: Place,
    env: Vec<(String, String)>,
    dir: TempDir,
    _pipe: Option<File>,
    _kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Gateway {
    /// A gateway of this configuration. Listener, runtime directory and `[admin]` are added where it names none.
    pub(crate) fn with(toml: &str) -> Setup {
        Setup {
            toml: toml.to_owned(),
            fills: Vec::new(),
            env: Vec::new(),
            files: Vec::new(),
            fifo: None,
            open_files: None,
            inherited: Vec::new(),
            own_program: false,
            kept: Vec::new(),
        }
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        let mut ended = None;
        let ready = holds_within(READY, || {
            ended = self.child.lock().unwrap().try_wait().unwrap();
            ended.is_some() || self.is_ready()
        });
        assert!(
            ready && ended.is_none(),
            "the gateway is not ready ({ended:?})\n{}",
            self.tail()
        );
    }

    fn is_ready(&self) -> bool {
        match self.place.admin {
            Some(address) => Client::to_admin(address)
                .get("/readyz")
                .try_send()
                .is_ok_and(|r| r.status == 200),
            None => self
                .over_socket("GET", "/readyz", &[])
                .is_some_and(|(status, _)| status == 200),
        }
    }

    // ---- traffic -------------------------------------------------------------------------------

    pub(crate) fn listen(&self) -> SocketAddr {
        self.place.listen
    }

    pub(crate) fn client(&self) -> Client {
        Client::to(self.place.listen)
    }

    // ---- the admin side ------------------------------------------------------------------------

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.place
            .admin
            .expect("this gateway has a TCP admin listener of the harness")
    }

    pub(crate) fn admin(&self) -> Client {
        Client::to_admin(self.admin_address())
    }

    #[track_caller]
    pub(crate) fn admin_get(&self, path: &str) -> Response {
        self.admin().get(path).bearer(ADMIN_TOKEN).send()
    }

    #[track_caller]
    pub(crate) fn admin_post(&self, path: &str, body: &Value) -> Response {
        admin_json(self.admin().post(path), body).send()
    }

    /// Asks over the Unix socket, without a token. `None` while nobody listens there.
    pub(crate) fn over_socket(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Option<(u16, String)> {
        use std::io::{Read, Write};
        let mut stream = UnixStream::connect(self.dir.path().join("run/admin.sock")).ok()?;
        stream.set_read_timeout(Some(seconds(10))).ok()?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1)?.parse().ok()?;
        Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
    }

    #[track_caller]
    pub(crate) fn info(&self) -> Value {
        self.admin().get("/info").send().expect(200).json()
    }

    #[track_caller]
    pub(crate) fn metrics_text(&self) -> String {
        self.admin().get("/metrics").send().expect(200).text()
    }

    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::parse(&self.metrics_text())
    }

    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(name, labels)
    }

    /// Waits for a metric to reach `value` exactly; the aggregation may be a second behind.
    #[track_caller]
    pub(crate) fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut last = f64::NAN;
        let reached = holds_within(seconds(10), || {
            last = self.metric(name, labels);
            (last - value).abs() < 1e-9
        });
        assert!(
            reached,
            "{name} {labels:?} is {last}, not {value}\n{}",
            self.metrics_text()
        );
    }

    // ---- configuration and life ----------------------------------------------------------------

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("tollgate.toml")
    }

    /// Replaces the configuration file, with the same additions as at the start.
    pub(crate) fn rewrite(&self, toml: &str) {
        self.place
            .write("tollgate.toml", &self.place.complete(toml));
    }

    /// Replaces any file in the gateway's folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        self.place.write(name, &self.place.fill(text));
    }

    /// SIGHUP, and the wait until it was dealt with. Returns `last_reload`.
    #[track_caller]
    pub(crate) fn reload(&self) -> Value {
        let before = self.reloads_counted();
        self.signal(Signal::SIGHUP);
        eventually(seconds(10), "the reload is over", || {
            self.reloads_counted() > before
        });
        self.info()["last_reload"].clone()
    }

    fn reloads_counted(&self) -> u64 {
        self.metric("gateway_config_reloads_total", &[]) as u64
    }

    /// Reloads what must be accepted.
    #[track_caller]
    pub(crate) fn reload_ok(&self) {
        let last = self.reload();
        assert_eq!(last["result"], "ok", "{last}");
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.lock().unwrap().id() as i32
    }

    /// Puts a script in the place of the program, or the program back.
    pub(crate) fn replace_program(&self, script: Option<&str>) {
        let path = self.dir.path().join("tollgate");
        match script {
            None => put_program(&path),
            Some(script) => {
                let partial = path.with_extension("partial");
                let _ = fs::remove_file(&partial);
                fs::write(&partial, script).unwrap();
                fs::set_permissions(&partial, fs::Permissions::from_mode(0o755)).unwrap();
                fs::rename(partial, path).unwrap();
            }
        }
    }

    /// The process that the pid file names: another one than [`pid`](Self::pid) after an upgrade.
    pub(crate) fn serving_pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.dir.path().join("run/tollgate.pid")).ok()?;
        text.trim().parse().ok()
    }

    /// `tollgate upgrade`.
    pub(crate) fn upgrade(&self) -> Ran {
        self.run_cli(&["upgrade"], &[])
    }

    /// Ends the process, and starts it anew where it was.
    #[track_caller]
    pub(crate) fn restart(&self, signal: Signal) {
        self.signal(signal);
        self.wait_exit(seconds(10));
        self.start_again();
    }

    /// Starts what has ended.
    #[track_caller]
    pub(crate) fn start_again(&self) {
        let mut command = tollgate();
        let log = |name| {
            File::options()
                .append(true)
                .open(self.dir.path().join(name))
        };
        command
            .args(["run", "-c"])
            .arg(self.config())
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdout(log("stdout").unwrap())
            .stderr(log("stderr").unwrap());
        *self.child.lock().unwrap() = command.spawn().unwrap();
        self.wait_until_ready();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    #[track_caller]
    pub(crate) fn wait_exit(&self, deadline: Duration) -> ExitStatus {
        found_within(deadline, "the process ended", || {
            self.child.lock().unwrap().try_wait().unwrap()
        })
    }

    /// `tollgate VERB… -c its file ARGS…`, in the same surroundings.
    pub(crate) fn command(&self, verb: &[&str], args: &[&str]) -> Command {
        let mut command = tollgate();
        command
            .args(verb)
            .arg("-c")
            .arg(self.config())
            .args(args)
            .envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    pub(crate) fn run_cli(&self, verb: &[&str], args: &[&str]) -> Ran {
        Ran::of(&mut self.command(verb, args))
    }

    // ---- what it leaves behind -----------------------------------------------------------------

    pub(crate) fn stdout(&self) -> String {
        read(&self.dir.path().join("stdout"))
    }

    pub(crate) fn stderr(&self) -> String {
        read(&self.dir.path().join("stderr"))
    }

    /// The JSON lines of the log so far.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        json_lines(&self.stdout())
    }

    /// The first log line that satisfies `wanted`, once it is there.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        found_within(seconds(10), "the log line is there", || {
            self.log_lines().into_iter().find(&wanted)
        })
    }

    /// The access line of the request with this `X-Trace-ID`.
    #[track_caller]
    pub(crate) fn access_line(&self, trace_id: &str) -> Value {
        self.wait_for_log(|line| line["msg"] == "request" && line["trace_id"] == trace_id)
    }

    /// Open descriptors.
    pub(crate) fn fds(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .map(Iterator::count)
            .unwrap_or(0)
    }

    /// Resident memory, in KiB.
    pub(crate) fn rss(&self) -> u64 {
        self.status_number("VmRSS:")
    }

    pub(crate) fn threads(&self) -> u64 {
        self.status_number("Threads:")
    }

    /// Processor time used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = read(Path::new(&format!("/proc/{}/stat", self.pid())));
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let ticks: u64 = fields[11..13]
            .iter()
            .map(|n| n.parse::<u64>().unwrap())
            .sum();
        // A tick is a hundredth of a second on every Linux there is.
        millis(ticks * 10)
    }

    fn status_number(&self, field: &str) -> u64 {
        let status = read(Path::new(&format!("/proc/{}/status", self.pid())));
        let line = status
            .lines()
            .find(|l| l.starts_with(field))
            .expect("the process lives");
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn tail(&self) -> String {
        let last = |text: String| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        format!(
            "--- stdout\n{}\n--- stderr\n{}\n---",
            last(self.stdout()),
            last(self.stderr())
        )
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\n{}", read(&self.config()), self.tail());
        }
        let (serving, config) = (self.serving_pid(), self.config());
        let child = self
            .child
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let pid = Pid::from_raw(child.id() as i32);
        if let Some(successor) = serving.filter(|successor| *successor != pid.as_raw()) {
            end_successor(successor, &config);
        }
        if let Ok(None) = child.try_wait() {
            let _ = kill(pid, Signal::SIGTERM);
            let end = Instant::now() + millis(300);
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Ends the process that took over, if it still is what it was.
fn end_successor(pid: i32, config: &Path) {
    let runs_it = || {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&config.display().to_string())
    };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if runs_it() {
            let _ = kill(Pid::from_raw(pid), signal);
            holds_within(millis(300), || !runs_it());
        }
    }
}

/// `body` as an authorised admin request.
pub(crate) fn admin_json<'a>(request: Request<'a>, body: &Value) -> Request<'a> {
    request
        .bearer(ADMIN_TOKEN)
        .header("Content-Type", "application/json")
        .body(body.to_string())
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Waits until connections to `address` are refused.
#[track_caller]
pub(crate) fn wait_until_deaf(address: SocketAddr, deadline: Duration) {
    eventually(deadline, "the listener is closed", || {
        Client::to(address).try_connect().is_err()
    });
}
