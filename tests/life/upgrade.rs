//! Replacing the binary: nothing is forgotten, and what fails leaves everything as it was. That no request is lost is in
//! `loss.rs`.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::HELLO;
use super::manager::Manager;
use crate::harness::{
    Client, Gateway, Origin, Signed, eventually, holds_within, listen, millis, reserve, seconds,
};

const SECRET: &str = "app-1001-secret";

#[track_caller]
fn upgraded(gateway: &Gateway) {
    let before = gateway.serving_pid();
    gateway.upgrade().expect(0).says("upgraded");
    let pid = gateway.serving_pid();
    assert_ne!(pid, before);
    // Who asks after that asks the new process.
    assert_eq!(gateway.info()["pid"].as_i64(), pid.map(i64::from));
    let (_, info) = gateway.over_socket("GET", "/info", b"").unwrap();
    assert!(
        info.contains(&format!("\"pid\": {}", pid.unwrap())),
        "{info}"
    );
}

#[test]
fn a_signal_does_it_and_the_manager_hears_of_the_new_process() {
    let manager = Manager::new();
    let gateway = Gateway::with(HELLO)
        .own_program()
        .env("NOTIFY_SOCKET", &manager.address())
        .start();
    manager.hears("READY=1");
    gateway.signal(Signal::SIGUSR2);
    let (words, _) = manager.hears("MAINPID=");
    assert!(gateway.wait_exit(seconds(10)).success());
    let pid = gateway.serving_pid().unwrap();
    assert_eq!(words, format!("MAINPID={pid}\nREADY=1"));
    gateway.client().get("/hello").send().expect(200);
    // The old process says nothing of an end: the service goes on.
    let quiet = holds_within(millis(300), || {
        manager.heard().is_some_and(|w| w.contains("STOPPING"))
    });
    assert!(!quiet);
}

#[test]
fn what_a_reload_cannot_change_is_changed() {
    let (one, two) = (reserve(), reserve());
    let text = |more: &str, threads: u8| {
        format!("[server]\nthreads = {threads}\n{HELLO}[[listener]]\naddress = \"{one}\"\n{more}")
    };
    let more = format!("[[listener]]\naddress = \"{two}\"\n");
    let gateway = Gateway::with(&text(&more, 1)).own_program().start();
    for (more, threads) in [(more.as_str(), 3), ("", 2), (more.as_str(), 1)] {
        gateway.rewrite(&text(more, threads));
        upgraded(&gateway);
        for _ in 0..20 {
            Client::to(one).get("/hello").send().expect(200);
        }
        let second = || Client::to(two).try_connect();
        match more {
            "" => eventually(seconds(5), "the listener is gone", || second().is_err()),
            _ => drop(Client::to(two).get("/hello").send().expect(200)),
        }
    }
}

#[test]
fn a_unix_socket_is_passed_on_with_its_file() {
    let text = format!("{HELLO}[[listener]]\naddress = \"unix:{{dir}}/public.sock\"\n");
    let gateway = Gateway::with(&text).own_program().start();
    let path = gateway.dir().join("public.sock");
    let ask = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream
            .write_all(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    };
    ask();
    for _ in 0..3 {
        upgraded(&gateway);
        ask();
    }
    // What was handed over is not removed by who handed it over, but by the last one.
    gateway.wait_exit(seconds(20));
    ask();
    kill(
        Pid::from_raw(gateway.serving_pid().unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    eventually(seconds(10), "the file is gone", || !path.exists());
}

#[test]
fn forty_listeners_are_no_limit() {
    let addresses: Vec<_> = (0..40).map(|_| reserve()).collect();
    let listeners = addresses.iter();
    let listeners: String = listeners
        .map(|address| format!("[[listener]]\naddress = \"{address}\"\n"))
        .collect();
    let gateway = Gateway::with(&format!("{HELLO}{listeners}"))
        .own_program()
        .start();
    upgraded(&gateway);
    for address in addresses {
        Client::to(address).get("/hello").send().expect(200);
    }
}

// ---- nothing is forgotten ----------------------------------------------------------------------

const REMEMBERING: &str = "[auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\n\
    [auth.partner.apps]\n\"app-1001\" = { secret = \"app-1001-secret\" }\n\
    [limit.few]\nkey = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"6/h\"\nburst = 3\n\
    [upstream.api]\nendpoints = [{ address = \"{origin}\" }, { address = \"{other}\" }]\n\
    [[route]]\nid = \"signed\"\npath = \"/signed\"\nauth = [\"partner\"]\nupstream = \"api\"\n\
    [[route]]\nid = \"limited\"\npath = \"/limited\"\nlimits = [\"few\"]\nrespond = { status = 200 }\n";

fn remembering(origin: &Origin, other: &Origin) -> Gateway {
    Gateway::with(REMEMBERING)
        .to(origin)
        .fill("other", other.address())
        .own_program()
        .start()
}

fn signed(path: &str) -> Vec<(String, String)> {
    Signed::ca("app-1001", SECRET, "GET", path).headers()
}

fn spend(gateway: &Gateway, other: &Origin) -> Vec<(String, String)> {
    let headers = signed("/signed");
    gateway
        .client()
        .get("/signed")
        .headers(&headers)
        .send()
        .expect(200);
    for _ in 0..3 {
        gateway.client().get("/limited").send().expect(200);
    }
    gateway.client().get("/limited").send().expect(429);
    let drain = format!("/api/v1/upstreams/api/endpoints/{}/drain", other.address());
    gateway
        .admin_post(&drain, &serde_json::json!({}))
        .expect(200);
    headers
}

#[track_caller]
fn remembers(gateway: &Gateway, other: &Origin, headers: &[(String, String)]) {
    let client = gateway.client();
    client
        .get("/signed")
        .headers(headers)
        .send()
        .refused(401, "sig_replayed");
    client.get("/limited").send().refused(429, "rate_limited");
    client.from(2).get("/limited").send().expect(200);
    let upstreams = gateway.admin_get("/api/v1/upstreams").expect(200).text();
    assert_eq!(upstreams.matches("\"drained\"").count(), 1, "{upstreams}");
    let seen = other.count();
    for _ in 0..4 {
        let headers = signed("/signed");
        gateway
            .client()
            .get("/signed")
            .headers(&headers)
            .send()
            .expect(200);
    }
    assert_eq!(other.count(), seen, "it stays drained");
}

#[test]
fn nonces_limits_and_health_are_carried_by_an_upgrade() {
    let (origin, other) = (Origin::start(), Origin::named("other"));
    let gateway = remembering(&origin, &other);
    let headers = spend(&gateway, &other);
    upgraded(&gateway);
    remembers(&gateway, &other, &headers);
    upgraded(&gateway);
    gateway
        .client()
        .get("/signed")
        .headers(&headers)
        .send()
        .refused(401, "sig_replayed");
}

#[test]
fn they_are_carried_by_a_stop_and_a_start() {
    let (origin, other) = (Origin::start(), Origin::named("other"));
    let gateway = remembering(&origin, &other);
    let headers = spend(&gateway, &other);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // Signed before the end, and not used until after the start.
        let unused = signed("/signed");
        gateway.restart(signal);
        remembers(&gateway, &other, &headers);
        gateway
            .client()
            .get("/signed")
            .headers(&unused)
            .send()
            .expect(200);
        gateway.client().from(2).get("/limited").send();
    }
}

#[test]
fn after_a_crash_stamps_from_before_the_start_are_refused() {
    let (origin, other) = (Origin::start(), Origin::named("other"));
    let gateway = remembering(&origin, &other);
    let headers = spend(&gateway, &other);
    // What an earlier stop left must not be taken for what was known at the crash.
    gateway.restart(Signal::SIGTERM);
    let unused = signed("/signed");
    gateway.restart(Signal::SIGKILL);
    let client = gateway.client();
    for headers in [headers, unused] {
        client
            .get("/signed")
            .headers(&headers)
            .send()
            .refused(401, "sig_expired");
    }
    client.get("/limited").send().expect(200);
}

/// Stops, changes the file that was left, and starts again.
fn changed(gateway: &Gateway, change: impl FnOnce(&mut Vec<u8>)) {
    gateway.signal(Signal::SIGTERM);
    gateway.wait_exit(seconds(5));
    let file = gateway.dir().join("run/carried");
    let mut bytes = fs::read(&file).unwrap();
    change(&mut bytes);
    fs::write(&file, bytes).unwrap();
    gateway.start_again();
}

#[test]
fn a_file_that_is_none_is_as_good_as_no_file() {
    let (origin, other) = (Origin::start(), Origin::named("other"));
    let gateway = remembering(&origin, &other);
    let headers = spend(&gateway, &other);
    changed(&gateway, |bytes| {
        let middle = bytes.len() / 2;
        // Neither its first nor its last bytes.
        bytes.copy_within(middle..middle + 8, 0);
        bytes.truncate(middle);
    });
    let client = gateway.client();
    let signed = client.get("/signed").headers(&headers).send();
    signed.refused(401, "sig_expired");
    client.get("/limited").send().expect(200);
}

/// Levels that operators had set, and among the rest sections of rooms that know nothing of them here.
#[test]
fn what_0_1_0_left_is_taken_over() {
    let left = include_bytes!("../fixtures/carried/0.1.0.carried");
    let route = |name: &str| {
        format!("[[route]]\nid = \"{name}\"\npath = \"/{name}\"\nrespond = {{ status = 200 }}\n")
    };
    let gateway = Gateway::with(&[route("a"), route("b")].concat())
        .own_program()
        .start();
    changed(&gateway, |bytes| *bytes = left.to_vec());
    let client = gateway.client();
    client.get("/b").send().refused(503, "route_off");
    // This one was set for a while that is over.
    client.get("/a").send().expect(200);
    // And it is handed on as it would be today.
    upgraded(&gateway);
    gateway.client().get("/b").send().refused(503, "route_off");
}

#[test]
fn damaged_nonces_cost_the_nonces_alone() {
    let (origin, other) = (Origin::start(), Origin::named("other"));
    let gateway = remembering(&origin, &other);
    let headers = spend(&gateway, &other);
    changed(&gateway, |bytes| {
        // The section begins with its list, in which a name follows its length.
        let name = b"\x01\x07partner";
        let nonces = bytes.windows(name.len()).position(|some| some == name);
        bytes[nonces.unwrap() + 3] ^= 1;
    });
    let client = gateway.client();
    let signed = client.get("/signed").headers(&headers).send();
    signed.refused(401, "sig_expired");
    let limited = client.get("/limited").send();
    limited.refused(429, "rate_limited");
    let said = |line: &serde_json::Value| {
        line.to_string()
            .contains("what was kept of nonces is not used")
    };
    assert!(gateway.log_lines().iter().any(said));
}

#[test]
fn no_nonce_passes_twice_while_two_processes_serve() {
    let (origin, other) = (Origin::start(), Origin::named("other"));
    let gateway = remembering(&origin, &other);
    let (stop, passed, sent) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // One connection that stays with the old process for as long as it can, and fresh ones.
                let mut kept = gateway.client().connect();
                while !stop.load(Ordering::Relaxed) {
                    let headers = signed("/signed");
                    let fresh = std::thread::scope(|both| {
                        let fresh = both.spawn(|| {
                            let request = gateway.client();
                            request.get("/signed").headers(&headers).send().status
                        });
                        let response = kept.get("/signed").headers(&headers).send();
                        let closed = response.header("connection") == Some("close");
                        let status = response.status;
                        if closed {
                            kept = gateway.client().connect();
                        }
                        [status, fresh.join().unwrap()]
                    });
                    let good = fresh.iter().filter(|status| **status == 200).count();
                    assert!(good <= 1, "a nonce passed twice");
                    sent.fetch_add(1, Ordering::Relaxed);
                    passed.fetch_add(good, Ordering::Relaxed);
                    std::thread::sleep(millis(2));
                }
            });
        }
        for _ in 0..5 {
            upgraded(&gateway);
        }
        stop.store(true, Ordering::Relaxed);
    });
    // And none was refused in vain.
    assert_eq!(passed.into_inner(), sent.into_inner());
}

#[test]
fn the_old_process_asks_the_new_one_about_nonces() {
    let (origin, other) = (Origin::start(), Origin::named("other"));
    let gateway = remembering(&origin, &other);
    let mut old = gateway.client().connect();
    old.get("/limited").send().expect(200);
    let mut second = gateway.client().connect();
    second.get("/limited").send().expect(200);
    upgraded(&gateway);
    let (used, new) = (signed("/signed"), signed("/signed"));
    gateway
        .client()
        .get("/signed")
        .headers(&used)
        .send()
        .expect(200);
    // These connections are the old process' still.
    let response = old.get("/signed").headers(&used).send();
    assert_eq!(response.header("connection"), Some("close"));
    response.refused(401, "sig_replayed");
    second.get("/signed").headers(&new).send().expect(200);
    gateway
        .client()
        .get("/signed")
        .headers(&new)
        .send()
        .refused(401, "sig_replayed");
}

/// Whether the one in between has connections of its own or none: it is there for as long as it is asked.
#[test]
fn a_process_that_was_replaced_itself_asks_on() {
    for busy in [true, false] {
        let (origin, other) = (Origin::start(), Origin::named("other"));
        let gateway = remembering(&origin, &other);
        let mut first = gateway.client().connect();
        first.get("/limited").send().expect(200);
        let mut more = gateway.client().connect();
        more.get("/limited").send().expect(200);
        upgraded(&gateway);
        let mut second = busy.then(|| {
            let mut second = gateway.client().connect();
            second
                .get("/signed")
                .headers(&signed("/signed"))
                .send()
                .expect(200);
            second
        });
        upgraded(&gateway);
        let (used, new) = (signed("/signed"), signed("/signed"));
        let ask =
            |headers: &[(String, String)]| gateway.client().get("/signed").headers(headers).send();
        ask(&used).expect(200);
        first
            .get("/signed")
            .headers(&used)
            .send()
            .refused(401, "sig_replayed");
        more.get("/signed").headers(&new).send().expect(200);
        ask(&new).refused(401, "sig_replayed");
        if let Some(second) = &mut second {
            second
                .get("/signed")
                .headers(&new)
                .send()
                .refused(401, "sig_replayed");
        }
    }
}

// ---- failures ----------------------------------------------------------------------------------

/// The upgrade fails and says why; the gateway serves as before, remembers what it knew, and can still be upgraded.
#[track_caller]
fn fails(gateway: &Gateway, why: &str) {
    let (pid, failed) = (
        gateway.pid(),
        gateway.metric("gateway_upgrades_total", &[("result", "error")]),
    );
    let mut kept = gateway.client().connect();
    kept.get("/hello").send().expect(200);
    let headers = signed("/signed");
    gateway.client().get("/signed").headers(&headers).send();
    gateway.upgrade().expect(1).says(why);
    assert_eq!(gateway.serving_pid(), Some(pid));
    let info = gateway.info();
    assert_eq!(info["pid"], pid);
    assert_eq!(info["ready"], true);
    assert!(
        info["last_upgrade"]["error"]
            .as_str()
            .unwrap()
            .contains(why),
        "{info}"
    );
    gateway
        .run_cli(&["status"], &[])
        .expect(0)
        .says("last upgrade failed")
        .says(why);
    gateway.wait_for_metric(
        "gateway_upgrades_total",
        &[("result", "error")],
        failed + 1.0,
    );
    gateway.wait_for_log(|line| {
        line["level"] == "error" && line["msg"].as_str().is_some_and(|m| m.contains(why))
    });
    kept.get("/hello").send().expect(200);
    for _ in 0..10 {
        gateway.client().get("/hello").send().expect(200);
    }
    let signed_again = gateway
        .client()
        .get("/signed")
        .headers(&signed("/signed"))
        .send();
    signed_again.expect(200);
    gateway
        .client()
        .get("/signed")
        .headers(&headers)
        .send()
        .refused(401, "sig_replayed");
    let left = |name| gateway.dir().join("run").join(name).exists();
    assert!(!left("admin.sock.next") && !left("admin.sock.aside"));
}

fn standing() -> Gateway {
    Gateway::with(&format!(
        "{HELLO}[auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\n\
         [auth.partner.apps]\n\"app-1001\" = {{ secret = \"{SECRET}\" }}\n\
         [[route]]\npath = \"/signed\"\nauth = [\"partner\"]\nrespond = {{ status = 200 }}\n"
    ))
    .own_program()
    .start()
}

/// A program that calls itself tollgate, takes the configuration for good, and runs so.
fn pretending(run: &str) -> String {
    format!("#!/bin/sh\ncase $1 in --version) echo tollgate 9.9.9;; check) ;; run) {run};; esac\n")
}

#[test]
fn a_wrong_binary_leaves_the_old_one_serving() {
    let gateway = standing();
    fs::remove_file(gateway.dir().join("tollgate")).unwrap();
    fails(&gateway, "No such file");
    gateway.replace_program(Some("not a program"));
    fails(&gateway, "--version");
    gateway.replace_program(Some("#!/bin/sh\necho haproxy 3.0\n"));
    fails(&gateway, "is no tollgate");
    gateway.replace_program(Some(
        "#!/bin/sh\n[ $1 = --version ] && echo tollgate 9.9.9 || { echo worse; exit 1; }\n",
    ));
    fails(&gateway, "worse");
    gateway.replace_program(Some(&pretending("exit 3")));
    fails(&gateway, "exit status: 3");
    gateway.replace_program(Some(&pretending("kill -9 $$")));
    fails(&gateway, "signal: 9");
    gateway.replace_program(None);
    upgraded(&gateway);
}

#[test]
fn a_wrong_configuration_leaves_the_old_one_serving() {
    let gateway = standing();
    let good = fs::read_to_string(gateway.config()).unwrap();
    fs::write(gateway.config(), good.replace("respond", "resspond")).unwrap();
    let ran = gateway.upgrade().expect(1);
    assert!(ran.all().contains("resspond"), "{ran:?}");
    // Right in itself, but not on this host: the address is somebody else's.
    let taken = listen(reserve());
    let address = taken.local_addr().unwrap();
    fs::write(
        gateway.config(),
        format!("{good}\n[[listener]]\naddress = \"{address}\"\n"),
    )
    .unwrap();
    fails(&gateway, &address.to_string());
    drop(taken);
    upgraded(&gateway);
}

/// A successor in Python that is killed, ends or falls silent at the given step.
fn python(step: &str) -> String {
    pretending(&format!(
        "exec python3 -c '
import os, socket, signal, time
channel = socket.socket(fileno=3 + int(os.environ[\"LISTEN_FDS\"]) - 1)
{step}
'"
    ))
}

const DIE: &str = "os.kill(os.getpid(), signal.SIGKILL)";

#[test]
fn a_successor_killed_at_any_step_leaves_the_old_one_serving() {
    let gateway = standing();
    let go = "channel.send(b\"R\"); heard = channel.makefile(\"rb\"); heard.read(1); \
              heard.read(int.from_bytes(heard.read(8), \"big\"))";
    for step in [
        DIE.to_owned(),
        format!("channel.send(b\"R\"); {DIE}"),
        format!("{go}; {DIE}"),
    ] {
        gateway.replace_program(Some(&python(&step)));
        fails(&gateway, "signal: 9");
    }
    gateway.replace_program(Some(&python(&format!("{go}; channel.send(b\"Fno room\")"))));
    fails(&gateway, "no room");
    gateway.replace_program(Some(&python("channel.send(b\"x\"); time.sleep(60)")));
    fails(&gateway, "another language");
    gateway.replace_program(Some(&python("channel.send(b\"S\"); time.sleep(60)")));
    fails(&gateway, "before it was told");
    gateway.replace_program(None);
    upgraded(&gateway);
}

#[test]
fn a_successor_that_does_not_serve_in_time_is_ended_and_nobody_was_refused() {
    let gateway = standing();
    let pid_file = gateway.dir().join("successor");
    gateway.replace_program(Some(&python(&format!(
        "open(\"{}\", \"w\").write(str(os.getpid())); channel.send(b\"R\"); channel.recv(9); time.sleep(60)",
        pid_file.display()
    ))));
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| gateway.upgrade());
        eventually(seconds(10), "it runs", || pid_file.exists());
        // Nobody accepts meanwhile: who comes waits, and is served in the end.
        let mut early = gateway.client().connect();
        let start = Instant::now();
        upgrade.join().unwrap().expect(1).says("does not serve");
        early.get("/hello").send().expect(200);
        assert!(start.elapsed() < seconds(15));
    });
    let successor = fs::read_to_string(pid_file).unwrap();
    assert!(!fs::exists(format!("/proc/{successor}")).unwrap());
}

#[test]
fn the_word_to_stop_ends_an_upgrade_under_way() {
    let gateway = standing();
    let pid_file = gateway.dir().join("successor");
    gateway.replace_program(Some(&python(&format!(
        "open(\"{}\", \"w\").write(str(os.getpid())); time.sleep(60)",
        pid_file.display()
    ))));
    gateway.signal(Signal::SIGUSR2);
    let successor = || {
        fs::read_to_string(&pid_file)
            .ok()
            .filter(|pid| !pid.is_empty())
    };
    eventually(seconds(10), "it runs", || successor().is_some());
    gateway.signal(Signal::SIGTERM);
    assert!(gateway.wait_exit(seconds(5)).success());
    let pid: i32 = successor().unwrap().parse().unwrap();
    assert!(
        kill(Pid::from_raw(pid), None).is_err(),
        "the successor is gone"
    );
}

#[test]
fn a_successor_whose_predecessor_is_killed_does_not_serve() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut gateway = Gateway::with(HELLO)
        .inherits("tollgate-upgrade", theirs)
        .launch();
    ours.set_read_timeout(Some(seconds(10))).unwrap();
    let mut word = [0];
    ours.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"R");
    // Ready, but it must not take a connection before it was told to.
    let mut early = gateway.client().connect();
    early.patience(millis(300));
    assert!(early.get("/hello").try_send().is_err());
    assert!(!gateway.dir().join("run/admin.sock").exists());
    assert!(!gateway.dir().join("run/tollgate.pid").exists());
    drop(ours);
    gateway.wait_exit(seconds(5));
    assert!(!gateway.dir().join("run/admin.sock").exists());
    gateway = Gateway::with(HELLO).start();
    gateway.client().get("/hello").send().expect(200);
}

#[test]
fn a_successor_that_was_handed_everything_serves_although_its_predecessor_is_killed() {
    let (headers, left, text) = {
        let gateway = standing();
        let headers = signed("/signed");
        gateway
            .client()
            .get("/signed")
            .headers(&headers)
            .send()
            .expect(200);
        gateway.signal(Signal::SIGTERM);
        gateway.wait_exit(seconds(5));
        let text = fs::read_to_string(gateway.config()).unwrap();
        let left = fs::read(gateway.dir().join("run/carried")).unwrap();
        let own = text[..text.find("[server]").unwrap()].to_owned();
        (headers, left, own)
    };
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let gateway = Gateway::with(&text)
        .inherits("tollgate-upgrade", theirs)
        .launch();
    ours.set_read_timeout(Some(seconds(10))).unwrap();
    ours.read_exact(&mut [0]).unwrap();
    ours.write_all(b"G").unwrap();
    ours.write_all(&(left.len() as u64).to_be_bytes()).unwrap();
    ours.write_all(&left).unwrap();
    drop(ours);
    eventually(seconds(10), "it serves", || {
        gateway.serving_pid() == Some(gateway.pid())
    });
    gateway
        .client()
        .get("/signed")
        .headers(&headers)
        .send()
        .refused(401, "sig_replayed");
    assert_eq!(gateway.over_socket("GET", "/readyz", b"").unwrap().0, 200);
}

#[test]
fn a_successor_that_is_told_rubbish_does_not_serve() {
    for words in [
        &b"x"[..],
        b"G\xff\xff\xff\xff\xff\xff\xff\xff",
        b"G\0\0\0\0\0\0\0\x04junk",
    ] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let gateway = Gateway::with(HELLO)
            .inherits("tollgate-upgrade", theirs)
            .launch();
        ours.write_all(words).unwrap();
        gateway.wait_exit(seconds(10));
        assert!(
            gateway
                .log_lines()
                .iter()
                .any(|line| line["level"] == "error")
        );
    }
}

#[test]
fn a_missing_runtime_directory_is_made_again_by_a_signal_and_named_by_the_command() {
    let gateway = standing();
    let run = gateway.dir().join("run");
    fs::remove_dir_all(&run).unwrap();
    gateway.upgrade().expect(1).says("admin.sock");
    gateway.client().get("/hello").send().expect(200);
    gateway.signal(Signal::SIGUSR2);
    assert!(gateway.wait_exit(seconds(15)).success());
    upgraded(&gateway);
    // What a killed process left behind is no obstacle.
    for left in ["admin.sock.next", "admin.sock.aside"] {
        drop(std::os::unix::net::UnixListener::bind(run.join(left)));
    }
    upgraded(&gateway);
    assert!(!run.join("admin.sock.next").exists() && !run.join("admin.sock.aside").exists());
}

#[test]
fn a_runtime_directory_of_another_gateway_is_not_taken_over() {
    let (gateway, other) = (standing(), Gateway::with(HELLO).start());
    let theirs = other.dir().join("run").display().to_string();
    let text = fs::read_to_string(gateway.config()).unwrap();
    let ours = gateway.dir().join("run").display().to_string();
    fs::write(gateway.config(), text.replace(&ours, &theirs)).unwrap();
    gateway.signal(Signal::SIGUSR2);
    gateway.wait_for_log(|line| {
        line["level"] == "error"
            && line["msg"]
                .as_str()
                .is_some_and(|m| m.contains("another gateway"))
    });
    gateway.client().get("/hello").send().expect(200);
    assert_eq!(other.over_socket("GET", "/readyz", b"").unwrap().0, 200);
    assert_eq!(other.serving_pid(), Some(other.pid()));
}
