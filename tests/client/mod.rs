//! What a client may do, and how long.

mod framing;
mod half_close;
mod left;
mod linger;
mod pace;
mod size;
mod time;

use crate::harness::{Gateway, Origin, always, eventually, millis, seconds};

/// A gateway with these `[server.client]` keys before an echoing origin.
fn strict(origin: &Origin, client: &str) -> Gateway {
    let text = format!(
        "[server.client]\n{client}\n[upstream.api]\nendpoints = [{{ address = \"{{origin}}\" }}]\n\
         [[route]]\nid = \"static\"\npath = \"/static\"\nrespond = {{ status = 200, text = \"static\" }}\n\
         [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n"
    );
    Gateway::with(&text).to(origin).start()
}

#[test]
fn many_requests_pass_on_one_connection() {
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    let mut connection = gateway.client().connect();
    for n in 0..100 {
        assert_eq!(
            connection.get(&format!("/{n}")).send().seen().target,
            format!("/{n}")
        );
        connection.post("/x").body("abc").send().expect(200);
        connection.request("HEAD", "/x").send().expect(200);
        connection.get("/static").send().expect(200);
        connection
            .post("/static")
            .body("a body nobody asked for")
            .send()
            .expect(200);
        connection
            .post("/static")
            .chunked(&["in", "pieces"])
            .send()
            .expect(200);
    }
    eventually(seconds(5), "one connection", || {
        gateway.metric("gateway_connections_active", &[]) == 1.0
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    let mut connection = gateway.client().connect();
    let one = |n: usize| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n");
    connection
        .write((0..5).map(one).collect::<String>())
        .unwrap();
    for n in 0..5 {
        assert_eq!(
            connection.response("GET").unwrap().seen().target,
            format!("/{n}")
        );
    }
}

#[test]
fn a_connection_ends_after_keepalive_requests() {
    let origin = Origin::start();
    let gateway = strict(&origin, "keepalive_requests = 3");
    let mut connection = gateway.client().connect();
    for last in [false, false, true] {
        let response = connection.get("/x").send().expect(200);
        let says_close = response
            .header("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"));
        assert_eq!(says_close, last, "{response:?}");
    }
    assert!(connection.closes_within(seconds(2)));
}

#[test]
fn close_is_honoured() {
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    let mut connection = gateway.client().connect();
    connection
        .get("/x")
        .header("Connection", "close")
        .send()
        .expect(200);
    assert!(connection.closes_within(seconds(2)));
}

#[test]
fn an_answer_that_promises_keep_alive_keeps_the_connection() {
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    origin.kill();
    for target in ["/static", "/x", "/a%00", "/x?y"] {
        let mut connection = gateway.client().connect();
        let response = connection.get(target).send();
        let says_close = response
            .header("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"));
        match says_close {
            true => assert!(
                connection.closes_within(seconds(3)),
                "{target}: {response:?}"
            ),
            false => drop(
                connection
                    .get("/static")
                    .try_send()
                    .unwrap_or_else(|error| panic!("{error} after {response:?}")),
            ),
        }
    }
}

#[test]
fn connections_of_one_address_are_bounded_and_others_are_served() {
    let origin = Origin::start();
    let gateway = strict(&origin, "max_connections_per_ip = 4");
    let mut held: Vec<_> = (0..4).map(|_| gateway.client().connect()).collect();
    held.iter_mut()
        .for_each(|c| drop(c.get("/x").send().expect(200)));
    let fifth = gateway.client().get("/x").try_send();
    assert!(
        fifth.as_ref().map_or(true, |r| r.status == 503),
        "{fifth:?}"
    );
    gateway.client().from(2).get("/x").send().expect(200);
    held.iter_mut()
        .for_each(|c| drop(c.get("/x").send().expect(200)));
    held.pop();
    eventually(seconds(3), "the place is free", || {
        gateway
            .client()
            .get("/x")
            .try_send()
            .is_ok_and(|r| r.status == 200)
    });
}

#[test]
fn connections_in_all_are_bounded() {
    let origin = Origin::start();
    let gateway = strict(&origin, "max_connections = 4");
    let mut held: Vec<_> = (0..4)
        .map(|n| gateway.client().from(n + 2).connect())
        .collect();
    held.iter_mut()
        .for_each(|c| drop(c.get("/x").send().expect(200)));
    let fifth = gateway.client().from(9).get("/x").try_send();
    assert!(
        fifth.as_ref().map_or(true, |r| r.status == 503),
        "{fifth:?}"
    );
    // Probes still work: the bound is one of the public side.
    gateway.admin().get("/readyz").send().expect(200);
    drop(held);
    eventually(seconds(3), "places are free", || {
        gateway
            .client()
            .get("/x")
            .try_send()
            .is_ok_and(|r| r.status == 200)
    });
}

#[test]
fn a_flood_of_connections_leaves_nothing_behind() {
    let origin = Origin::start();
    let gateway = strict(&origin, "max_connections_per_ip = 50");
    gateway.client().get("/static").send().expect(200);
    let before = gateway.fds();
    for _ in 0..20 {
        let flood: Vec<_> = (0..80).map(|_| gateway.client().try_connect()).collect();
        drop(flood);
    }
    eventually(seconds(5), "served again", || {
        gateway
            .client()
            .get("/static")
            .try_send()
            .is_ok_and(|r| r.status == 200)
    });
    eventually(seconds(5), "the descriptors are back", || {
        gateway.fds() <= before + 2
    });
    gateway.wait_for_metric("gateway_connections_active", &[("listener", "public")], 0.0);
}

#[test]
fn an_idle_connection_is_left_alone_until_its_time() {
    let origin = Origin::start();
    let gateway = strict(&origin, "keepalive_timeout = \"1500ms\"");
    let mut connection = gateway.client().connect();
    connection.get("/x").send().expect(200);
    always(millis(1000), "still open", || connection.is_open());
    assert!(connection.closes_within(seconds(3)));
    let mut silent = gateway.client().connect();
    always(millis(1000), "still open", || silent.is_open());
    assert!(
        silent.closes_within(seconds(3)),
        "before the first byte as well"
    );
}
