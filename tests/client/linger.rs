//! A refusal reaches its client whatever that still sends.

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Connection, Gateway, Origin, Setup, eventually, millis, seconds};

/// Refuses for every usual reason; `more` are keys of `[server.client]`.
fn refusing(more: &str) -> Setup {
    Gateway::with(&format!(
        "[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\n\
         [[listener]]\nname = \"local\"\naddress = \"unix:{{dir}}/public.sock\"\n\
         [server.client]\n{more}\n\
         [auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"0123456789abcdef0123456789abcdef\"\n\
         [limit.none]\nkey = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"1/m\"\nburst = 1\n\
         [upstream.api]\nendpoints = [{{ address = \"{{origin}}\" }}]\n\
         [[route]]\nid = \"open\"\npath = \"/open\"\nupstream = \"api\"\n\
         [[route]]\nid = \"get\"\npath = \"/get\"\nmethods = [\"GET\"]\nupstream = \"api\"\n\
         [[route]]\nid = \"closed\"\npath = \"/closed\"\nauth = [\"app\"]\nupstream = \"api\"\n\
         [[route]]\nid = \"limited\"\npath = \"/limited\"\nlimits = [\"none\"]\nmax_body = \"1GiB\"\nupstream = \"api\"\n"
    ))
}

fn head(target: &str, length: usize) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
}

/// Sends all of a body before it looks for an answer, as most programs do.
#[track_caller]
fn sends_first(connection: &mut Connection, target: &str, pieces: usize, pause: Duration) -> u16 {
    let piece = vec![b'x'; 64 << 10];
    connection
        .write(head(target, pieces * piece.len()))
        .unwrap();
    for n in 0..pieces {
        if let Err(error) = connection.write(&piece) {
            panic!("{target}: {error} after {n} pieces");
        }
        std::thread::sleep(pause);
    }
    connection.response("POST").expect(target).status
}

#[test]
fn a_client_that_sends_everything_first_gets_its_refusal() {
    let origin = Origin::start();
    let gateway = refusing("").to(&origin).start();
    gateway.client().get("/limited").send().expect(200);
    for (target, status) in [
        ("/closed", 401),
        ("/nowhere", 404),
        ("/get", 405),
        ("/open", 413),
        ("/limited", 429),
        (&format!("/{}", "x".repeat(9_000)), 414),
    ] {
        let mut connection = gateway.client().connect();
        assert_eq!(
            sends_first(&mut connection, target, 96, Duration::ZERO),
            status
        );
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_client_on_a_slow_link_gets_it_too() {
    let origin = Origin::start();
    let gateway = refusing("").to(&origin).start();
    std::thread::scope(|scope| {
        for target in ["/closed", "/open"] {
            let mut connection = gateway.client().connect();
            // 10 Mbit/s, for three seconds.
            scope.spawn(move || sends_first(&mut connection, target, 60, millis(50)));
        }
        let mut connection = gateway.client().connect();
        scope.spawn(move || sends_first(&mut connection, "/closed", 3, millis(2_000)));
    });
}

#[test]
fn chunks_are_followed_as_well() {
    let origin = Origin::start();
    let gateway = refusing("").to(&origin).start();
    let mut connection = gateway.client().connect();
    connection
        .write("POST /closed HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [
        b"10000\r\n".to_vec(),
        vec![b'x'; 0x1_0000],
        b"\r\n".to_vec(),
    ]
    .concat();
    for _ in 0..40 {
        connection.write(&chunk).unwrap();
        std::thread::sleep(millis(30));
    }
    connection.write("0\r\n\r\n").unwrap();
    connection
        .response("POST")
        .unwrap()
        .refused(401, "token_missing");
    assert!(connection.closes_within(seconds(3)));
}

#[test]
fn a_program_of_another_make_gets_it() {
    let origin = Origin::start();
    let gateway = refusing("").to(&origin).start();
    let script = "import http.client, sys, time\n\
        def slowly():\n    for _ in range(40):\n        yield b'x' * 65536\n        time.sleep(0.04)\n\
        for body in (b'x' * 8_000_000, slowly()):\n    \
            connection = http.client.HTTPConnection(sys.argv[1], timeout=15)\n    \
            connection.request('POST', '/closed', body)\n    \
            print(connection.getresponse().status)\n";
    let ran = Command::new("python3")
        .args(["-c", script, &gateway.listen().to_string()])
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    assert_eq!(out, "401\n401\n", "{err}");
}

#[test]
fn so_does_a_client_on_a_unix_socket() {
    let origin = Origin::start();
    let gateway = refusing("").to(&origin).start();
    let path = gateway.dir().join("public.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(seconds(10))).unwrap();
    stream
        .write_all(head("/closed", 40 << 16).as_bytes())
        .unwrap();
    for _ in 0..40 {
        stream.write_all(&[b'x'; 1 << 16]).unwrap();
        std::thread::sleep(millis(30));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[test]
fn an_upstreams_early_answer_reaches_its_client_too() {
    let origin = Origin::answering(|_| crate::harness::Answer::text("so be it"));
    let early = crate::harness::Answer::raw("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
    drop(origin);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(early);
    let upstream = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut read = [0; 1024];
        let _ = socket.read(&mut read);
        let _ = socket
            .write_all(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        let _ = socket.shutdown(std::net::Shutdown::Write);
        while socket.read(&mut read).is_ok_and(|read| read > 0) {}
    });
    let gateway = Gateway::with(&format!(
        "[upstream.api]\nendpoints = [{{ address = \"{address}\" }}]\n\
         [[route]]\npath = \"/**\"\nmax_body = \"1GiB\"\nupstream = \"api\"\n"
    ))
    .start();
    let mut connection = gateway.client().connect();
    assert_eq!(sends_first(&mut connection, "/x", 40, millis(40)), 403);
    drop(gateway);
    upstream.join().unwrap();
}

#[test]
fn a_connection_whose_refused_request_has_ended_goes_on() {
    let origin = Origin::start();
    let gateway = refusing("").to(&origin).start();
    let mut connection = gateway.client().connect();
    for length in [0, 10, 16 << 10, 60_000] {
        let answer = connection.post("/closed").body("x".repeat(length)).send();
        assert_ne!(answer.header("connection"), Some("close"), "{length}");
        answer.refused(401, "token_missing");
    }
    // What follows the body is the next request, and no part of it.
    let body = "x".repeat(20_000);
    let pipelined = format!(
        "{}{body}GET /open HTTP/1.1\r\nHost: a\r\n\r\n",
        head("/closed", body.len())
    );
    connection.write(pipelined).unwrap();
    connection
        .response("POST")
        .unwrap()
        .refused(401, "token_missing");
    assert_eq!(connection.response("GET").unwrap().seen().target, "/open");
}

/// How many connections are open.
fn open(gateway: &Gateway) -> f64 {
    gateway.metric("gateway_connections_active", &[("listener", "public")])
}

/// A connection whose client was refused within its body and has read that.
fn refused(gateway: &Gateway) -> Connection {
    let mut connection = gateway.client().connect();
    connection.write(head("/closed", 1 << 30)).unwrap();
    connection
        .response("POST")
        .unwrap()
        .refused(401, "token_missing");
    connection
}

#[test]
fn who_sends_no_more_is_let_go_after_five_seconds() {
    let origin = Origin::start();
    let gateway = refusing("").to(&origin).start();
    let connection = refused(&gateway);
    let begun = Instant::now();
    gateway.wait_for_metric("gateway_connections_active", &[("listener", "public")], 0.0);
    let took = begun.elapsed();
    assert!((millis(4_000)..seconds(9)).contains(&took), "{took:?}");
    drop(connection);
}

#[test]
fn who_sends_too_slowly_is_let_go() {
    let origin = Origin::start();
    let gateway = refusing("min_rate = \"100KiB/s\"").to(&origin).start();
    let mut connection = refused(&gateway);
    let begun = Instant::now();
    while connection.write([b'x'; 100]).is_ok() && begun.elapsed() < seconds(20) {
        std::thread::sleep(millis(100));
    }
    let took = begun.elapsed();
    assert!((millis(4_000)..seconds(12)).contains(&took), "{took:?}");
}

#[test]
fn no_more_is_read_than_linger_body_says() {
    let origin = Origin::start();
    let gateway = refusing("linger_body = \"300KiB\"").to(&origin).start();
    let mut connection = refused(&gateway);
    let mut sent = 0;
    let begun = Instant::now();
    while connection.write([b'x'; 10_000]).is_ok() {
        sent += 10_000;
        assert!(begun.elapsed() < seconds(15), "all was read");
        std::thread::sleep(millis(20));
    }
    assert!((200_000..700_000).contains(&sent), "{sent}");
}

#[test]
fn at_most_a_tenth_of_all_connections_linger() {
    let origin = Origin::start();
    let gateway = refusing("max_connections = 30").to(&origin).start();
    let mut connections: Vec<Connection> = (0..8).map(|_| refused(&gateway)).collect();
    let begun = Instant::now();
    // All send on; three are waited for, the others a second at most.
    while begun.elapsed() < seconds(3) {
        for connection in &mut connections {
            let _ = connection.write([b'x'; 1000]);
        }
        std::thread::sleep(millis(100));
    }
    eventually(seconds(2), "the others are gone", || {
        for connection in &mut connections {
            let _ = connection.write([b'x'; 1000]);
        }
        open(&gateway) <= 3.0
    });
    assert_eq!(open(&gateway), 3.0);
}
