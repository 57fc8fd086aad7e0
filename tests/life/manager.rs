//! What a service manager hears, and the sockets it hands over.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::HELLO;
use crate::harness::{Client, Gateway, eventually, listen, millis, reserve, seconds};

/// A service manager's ear.
pub(super) struct Manager {
    dir: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    pub(super) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(millis(20))).unwrap();
        Self { dir, socket }
    }

    pub(super) fn address(&self) -> String {
        self.dir.path().join("notify").display().to_string()
    }

    pub(super) fn heard(&self) -> Option<String> {
        let mut words = [0; 4096];
        let length = self.socket.recv(&mut words).ok()?;
        Some(String::from_utf8_lossy(&words[..length]).into_owned())
    }

    /// The next words that begin so, and everything heard before.
    #[track_caller]
    pub(super) fn hears(&self, beginning: &str) -> (String, Vec<String>) {
        let mut before = Vec::new();
        let end = Instant::now() + seconds(10);
        while Instant::now() < end {
            match self.heard() {
                Some(words) if words.starts_with(beginning) => return (words, before),
                Some(words) => before.push(words),
                None => {}
            }
        }
        panic!("{beginning:?} was not heard, only {before:?}");
    }

    /// Forgets what was said so far.
    fn catch_up(&self) {
        while self.heard().is_some() {}
    }

    /// How many words begin so within `span`.
    fn counts(&self, beginning: &str, span: Duration) -> usize {
        let end = Instant::now() + span;
        let mut count = 0;
        while Instant::now() < end {
            count += usize::from(
                self.heard()
                    .is_some_and(|words| words.starts_with(beginning)),
            );
        }
        count
    }
}

const TWO: &str = "[upstream.api]\nendpoints = [{ address = \"{one}\" }, { address = \"{two}\" }]\n\
    health = { interval = \"200ms\", fall = 1, rise = 1 }\n\
    [[route]]\npath = \"/api/**\"\nupstream = \"api\"\n";

#[test]
fn it_hears_of_start_status_reload_and_stop() {
    let manager = Manager::new();
    let (one, two) = (listen(reserve()), reserve());
    let gateway = Gateway::with(TWO)
        .fill("one", one.local_addr().unwrap())
        .fill("two", two)
        .env("NOTIFY_SOCKET", &manager.address())
        .start();
    let (_, before) = manager.hears("READY=1");
    assert!(before.is_empty(), "{before:?}");
    let (status, _) = manager.hears("STATUS=1 routes, 1 upstreams, 1 of 2 endpoints up");
    assert!(status.contains(&format!("api {two} down")), "{status}");
    let _two = listen(two);
    manager.hears("STATUS=1 routes, 1 upstreams, 2 of 2 endpoints up");
    assert_eq!(manager.counts("STATUS", seconds(2)), 0, "only what changed");

    gateway.reload_ok();
    let (reloading, _) = manager.hears("RELOADING=1\nMONOTONIC_USEC=");
    assert!(
        reloading
            .split('=')
            .next_back()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
    manager.hears("READY=1");
    gateway.rewrite("[[[");
    assert_eq!(gateway.reload()["result"], "error");
    manager.hears("RELOADING=1");
    manager.hears("READY=1");

    gateway.signal(Signal::SIGTERM);
    manager.hears("STOPPING=1");
    assert!(gateway.wait_exit(seconds(5)).success());
    assert_eq!(manager.counts("READY", millis(50)), 0);
}

#[test]
fn it_is_told_in_an_abstract_socket_too() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let name = format!("tollgate-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(seconds(10))).unwrap();
    let _gateway = Gateway::with(HELLO)
        .env("NOTIFY_SOCKET", &format!("@{name}"))
        .start();
    let mut words = [0; 100];
    let length = socket.recv(&mut words).unwrap();
    assert_eq!(&words[..length], b"READY=1");
}

#[test]
fn a_manager_that_is_gone_is_no_obstacle() {
    let gateway = Gateway::with(HELLO)
        .env("NOTIFY_SOCKET", "/nowhere/notify")
        .env("WATCHDOG_USEC", "100000")
        .start();
    gateway.client().get("/hello").send().expect(200);
    gateway.reload_ok();
}

#[test]
fn a_worker_that_is_stuck_stops_the_watchdog() {
    let manager = Manager::new();
    let gateway = Gateway::with(&format!("[server]\nthreads = 2\n{HELLO}"))
        .env("NOTIFY_SOCKET", &manager.address())
        .env("WATCHDOG_USEC", "2000000")
        .start();
    manager.hears("WATCHDOG=1");
    assert!(manager.counts("WATCHDOG", seconds(2)) >= 2);

    let stuck = Stuck::new(thread(gateway.pid(), "worker 1"));
    gateway.wait_for_log(|line| {
        line["msg"]
            .as_str()
            .is_some_and(|m| m.contains("no progress"))
    });
    manager.catch_up();
    assert_eq!(manager.counts("WATCHDOG", seconds(2)), 0);
    drop(stuck);
    manager.hears("WATCHDOG=1");
    gateway.client().get("/hello").send().expect(200);
}

#[test]
fn a_watchdog_meant_for_another_process_is_left_alone() {
    let manager = Manager::new();
    let _gateway = Gateway::with(HELLO)
        .env("NOTIFY_SOCKET", &manager.address())
        .env("WATCHDOG_USEC", "200000")
        .env("WATCHDOG_PID", "1")
        .start();
    manager.hears("READY=1");
    assert_eq!(manager.counts("WATCHDOG", seconds(1)), 0);
}

/// A thread that is held in its tracks, while the rest of its process goes on.
struct Stuck(Pid);

impl Stuck {
    fn new(thread: i32) -> Self {
        let thread = Pid::from_raw(thread);
        ptrace::attach(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        Self(thread)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

/// The thread of the process `pid` that goes by `name`.
#[track_caller]
fn thread(pid: i32, name: &str) -> i32 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut names = Vec::new();
    for task in tasks.map(Result::unwrap) {
        let comm = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if comm.trim() == name {
            return task.file_name().to_str().unwrap().parse().unwrap();
        }
        names.push(comm);
    }
    panic!("no thread {name:?} among {names:?}");
}

// ---- inherited sockets -------------------------------------------------------------------------

fn bound() -> (TcpListener, SocketAddr) {
    let socket = listen(reserve());
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn listener(name: &str, address: SocketAddr) -> String {
    format!("[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\n")
}

#[test]
fn sockets_of_the_manager_are_served_by_every_worker_and_the_rest_is_bound() {
    let (inherited, one) = bound();
    let two = reserve();
    // Who connects before the start waits and is served.
    let mut early = Client::to(one).connect();
    let text = format!(
        "[server]\nthreads = 2\n{HELLO}{}{}",
        listener("one", one),
        listener("two", two)
    );
    let gateway = Gateway::with(&text)
        .inherits("tollgate.socket", inherited.try_clone().unwrap())
        .start();
    early.get("/hello").send().expect(200);
    for address in [one, two] {
        for _ in 0..20 {
            Client::to(address).get("/hello").send().expect(200);
        }
    }
    gateway.signal(Signal::SIGTERM);
    assert!(gateway.wait_exit(seconds(5)).success());
    // The manager's own descriptor keeps the socket: nobody is refused between two starts.
    drop(Client::to(one).connect());
}

#[test]
fn a_socket_named_after_a_listener_serves_it_wherever_it_is_bound() {
    let (inherited, address) = bound();
    let text = format!("{HELLO}{}", listener("public", reserve()));
    let gateway = Gateway::with(&text).inherits("public", inherited).start();
    Client::to(address).get("/hello").send().expect(200);
    gateway.wait_for_log(|line| {
        line["level"] == "warn"
            && line["msg"]
                .as_str()
                .is_some_and(|m| m.contains("inherited"))
    });
}

#[test]
fn the_admin_listener_can_be_inherited() {
    let (inherited, address) = bound();
    let text = format!("{HELLO}[admin]\naddress = \"{address}\"\n");
    let _gateway = Gateway::with(&text).inherits("", inherited).start();
    eventually(seconds(10), "it answers", || {
        let answer = Client::to_admin(address).get("/readyz").try_send();
        answer.is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn a_socket_that_belongs_to_no_listener_ends_the_start() {
    let (inherited, address) = bound();
    Gateway::with(HELLO)
        .inherits("web", inherited)
        .fails_to_start()
        .expect(1)
        .says(&address.to_string())
        .says("\"web\"");
}

#[test]
fn sockets_meant_for_another_process_are_left_alone() {
    let gateway = Gateway::with(HELLO)
        .env("LISTEN_FDS", "1")
        .env("LISTEN_PID", "1")
        .start();
    gateway.client().get("/hello").send().expect(200);
}

#[test]
fn a_descriptor_that_is_no_listening_socket_ends_the_start() {
    let file = std::fs::File::open("/dev/null").unwrap();
    Gateway::with(HELLO)
        .inherits("web", file)
        .fails_to_start()
        .expect(1)
        .says("LISTEN_FDS");
}

#[test]
fn a_socket_that_does_not_listen_ends_the_start() {
    let address = reserve();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    Gateway::with(&format!("{HELLO}{}", listener("one", address)))
        .inherits("one", socket)
        .fails_to_start()
        .expect(1)
        .says("does not listen");
}

// ---- readiness ---------------------------------------------------------------------------------

#[test]
fn every_listener_is_connected_to_and_no_client_is_seen() {
    let gateway = Gateway::with(HELLO).start();
    gateway.wait_for_log(|line| {
        line["msg"]
            .as_str()
            .is_some_and(|m| m.contains("every listener answers"))
    });
    let verbose = gateway
        .admin()
        .get("/readyz?verbose")
        .send()
        .expect(200)
        .json();
    assert_eq!(verbose["checks"][1]["name"], "listeners");
    assert_eq!(verbose["checks"][1]["ok"], true);
    let open = gateway.metric("gateway_connections_active", &[("listener", "public")]);
    assert_eq!(open, 0.0);
    let lines = gateway.log_lines();
    assert!(
        lines.iter().all(|line| line["msg"] != "request"),
        "{lines:?}"
    );
}

#[test]
fn it_is_not_ready_while_a_listener_does_not_answer() {
    let port = reserve().port();
    // Bound in a network of its own, where no connection comes from.
    let elsewhere = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).ok()?;
        Some(TcpListener::bind(("0.0.0.0", port)).unwrap())
    });
    let Some(socket) = elsewhere.join().unwrap() else {
        return; // Only root may have another network.
    };
    let manager = Manager::new();
    let gateway = Gateway::with(&format!(
        "{HELLO}[[listener]]\nname = \"deaf\"\naddress = \"0.0.0.0:{port}\"\n"
    ))
    .inherits("", socket)
    .env("NOTIFY_SOCKET", &manager.address())
    .launch();
    gateway.wait_for_log(|line| {
        line["level"] == "error" && line["msg"].as_str().is_some_and(|m| m.contains("deaf"))
    });
    let answer = gateway
        .admin()
        .get("/readyz?verbose")
        .send()
        .expect(503)
        .json();
    assert_eq!(answer["reason"], "starting");
    assert_eq!(answer["checks"][1]["ok"], false, "{answer}");
    gateway.admin().get("/livez").send().expect(200);
    gateway
        .run_cli(&["status"], &[])
        .expect(0)
        .says("not ready (starting)");
    assert_eq!(manager.counts("READY", millis(200)), 0);
}
