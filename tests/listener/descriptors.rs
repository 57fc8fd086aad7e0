//! More clients than the process may open files for.

use crate::harness::{
    Answer, Client, Connection, Gateway, Http2, Origin, Ran, asking, eventually, millis, seconds,
    under,
};

const SHORT: &str = r#"
[server]
threads = 2
[server.client]
max_connections_per_ip = 10000
[upstream.o]
endpoints = [{ address = "{origin}" }, { address = "{second}" }]
[[route]]
path = "/here"
respond = { text = "fine" }
[[route]]
path = "/**"
upstream = "o"
"#;

fn turned_away(gateway: &Gateway) -> f64 {
    let labels = [("listener", "public"), ("reason", "descriptors")];
    gateway.metric("gateway_connections_refused_total", &labels)
}

/// As many connections as ask for it, those the gateway closes at once included.
fn flood(client: &Client, size: usize) -> Vec<Connection> {
    (0..size)
        .filter_map(|_| client.try_connect().ok())
        .collect()
}

#[test]
fn connections_are_kept_below_the_files_that_may_be_open() {
    let [origin, second] = [(), ()].map(|()| {
        Origin::answering(|seen| match seen.target.as_str() {
            "/slow" => Answer::silence(),
            _ => Answer::text("fine"),
        })
    });
    let gateway = Gateway::with(SHORT)
        .to(&origin)
        .fill("second", second.address())
        .open_files(300)
        .start();
    gateway.wait_for_log(|line| {
        let said = line["msg"].as_str().unwrap_or_default();
        said.starts_with("at most 111 connections are taken, not the 100000")
    });
    let mut old = gateway.client().connect();
    old.get("/here").send().expect(200);
    let mut held = flood(&gateway.client(), 300);
    eventually(seconds(5), "the rest is turned away", || {
        turned_away(&gateway) >= 190.0
    });
    // What is left is for everything else: the upstream is reached, the admin side answers.
    old.get("/x").send().expect(200);
    held.retain_mut(|connection| connection.get("/here").try_send().is_ok());
    assert_eq!(held.len(), 110);
    // Each may need another connection to an upstream, all at once.
    for connection in &mut held {
        let asked = "GET /slow HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
        connection.write(asked).unwrap();
    }
    eventually(seconds(10), "all of them are forwarded", || {
        origin.count_of(|seen| seen.target == "/slow")
            + second.count_of(|seen| seen.target == "/slow")
            == 110
    });
    old.get("/x").send().expect(200);
    drop(held);
    eventually(seconds(5), "served again", || {
        let answer = gateway.client().get("/x").try_send();
        answer.is_ok_and(|answer| answer.status == 200)
    });
    old.get("/here").send().expect(200);
}

#[test]
fn running_out_of_descriptors_ends_no_accepting_and_spins_no_loop() {
    let [origin, second] = [(), ()].map(|()| {
        Origin::answering(|seen| match seen.target.as_str() {
            "/slow" => Answer::silence(),
            _ => Answer::text("fine"),
        })
    });
    let both = "[[listener]]\nname = \"public\"\naddress = \"{listen}\"\nhttp2 = true\n";
    let gateway = Gateway::with(&format!("{both}{SHORT}"))
        .to(&origin)
        .fill("second", second.address())
        .open_files(150)
        .start();
    let mut old = gateway.client().connect();
    old.get("/here").send().expect(200);
    let before = gateway.fds();
    // Each takes a descriptor towards the upstream, which is more than there are: streams share a connection here.
    let clients = [(), ()].map(|()| Http2::connect(gateway.listen()));
    let asked = (0..150).map(|number| {
        let request = asking("GET", "/slow").body(()).unwrap();
        clients[number % 2].begin(request, false)
    });
    let asked: Vec<_> = asked.collect();
    let mut held = Vec::new();
    eventually(seconds(5), "some are turned away", || {
        // Nothing can be asked over a new connection now, and the old one is served as ever.
        old.get("/here").send().expect(200);
        gateway.fds() >= 149
    });
    held.extend(flood(&gateway.client(), 50));
    let used = gateway.cpu();
    for _ in 0..10 {
        std::thread::sleep(millis(50));
        old.get("/here").send().expect(200);
    }
    let used = gateway.cpu() - used;
    assert!(used < millis(250), "{used:?} of processor time in 500 ms");
    // Endpoints are not to blame for it, and none is put aside.
    eventually(seconds(5), "an upstream cannot be reached", || {
        let answer = old.get("/x").send();
        answer.code().as_deref() == Some("overloaded")
    });
    drop((held, asked));
    drop(clients);
    eventually(seconds(10), "served again", || {
        let answer = gateway.client().get("/x").try_send();
        answer.is_ok_and(|answer| answer.status == 200)
    });
    eventually(seconds(10), "the descriptors are back", || {
        gateway.fds() <= before + 4
    });
    gateway.wait_for_metric("gateway_endpoint_healthy", &[("upstream", "o")], 2.0);
    assert!(!gateway.stdout().contains("endpoint put aside"));
    assert!(turned_away(&gateway) > 0.0);
    gateway.wait_for_log(|line| {
        let said = line["msg"].as_str().unwrap_or_default();
        said.starts_with("no descriptor left for a connection")
    });
    old.get("/here").send().expect(200);
}

/// Counted before anything is started: one line and no panic, and `check` says it too.
#[test]
fn too_few_descriptors_for_the_workers_are_found_before_the_start() {
    let (origin, second) = (Origin::start(), Origin::start());
    let text = SHORT.replace("threads = 2", "threads = 64");
    let wanted = "this process may open 256 files, and 64 workers with 1 listeners each need 514";
    let setup = || {
        Gateway::with(&text)
            .to(&origin)
            .fill("second", second.address())
    };
    let ran = setup().open_files(256).fails_to_start();
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    let ran = ran.expect(1).says(wanted);
    assert!(!ran.all().contains("panic"), "{ran:?}");
    // So many are enough, whatever was counted.
    let gateway = setup().open_files(514).start();
    gateway.client().get("/x").send().expect(200);
    let mut check = under("prlimit", "--nofile=256:256");
    check.args(["check", "-c"]).arg(gateway.config());
    Ran::of(&mut check).expect(1).says(wanted);
}
