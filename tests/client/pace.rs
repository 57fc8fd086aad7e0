//! Who moves on, but hardly: a piece now and then beats every limit between two pieces.

use std::io::Read;
use std::time::{Duration, Instant};

use super::strict;
use crate::harness::{
    Answer, Client, Connection, Gateway, Http2, Origin, Outcome, asking, millis, seconds,
};

/// Sends a byte, or a chunk of one, every 200 ms for `span` or until the gateway has had enough; says how long that was.
fn drip(connection: &mut Connection, piece: &[u8], span: Duration) -> Duration {
    let start = Instant::now();
    let stream = connection.writer();
    connection.patience(millis(200));
    // Something came, or the end, as soon as this is no error.
    while start.elapsed() < span && stream.peek(&mut [0]).is_err() {
        connection.write(piece).unwrap();
    }
    start.elapsed()
}

const DRIPPING: [(&str, &[u8]); 2] = [
    ("Content-Length: 1000", b"x"),
    ("Transfer-Encoding: chunked", b"1\r\nx\r\n"),
];

fn begin(client: &Client, framing: &str) -> Connection {
    let mut connection = client.connect();
    connection
        .write(format!("POST /x HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"))
        .unwrap();
    connection
}

#[test]
fn a_body_that_drips_is_cut_as_one_that_stops() {
    let origin = Origin::start();
    let gateway = strict(&origin, "body_timeout = \"1s\"");
    for (framing, piece) in DRIPPING {
        let mut connection = begin(&gateway.client(), framing);
        let took = drip(&mut connection, piece, seconds(10));
        assert!((millis(800)..seconds(3)).contains(&took), "{took:?}");
        connection.patience(seconds(2));
        match connection.outcome("POST") {
            Outcome::Answered(answer) => drop(answer.refused(408, "request_timeout")),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn it_is_not_where_no_rate_is_demanded() {
    let origin = Origin::start();
    let gateway = strict(&origin, "body_timeout = \"1s\"\nmin_rate = \"0\"");
    for (framing, piece) in DRIPPING {
        let mut connection = begin(&gateway.client(), framing);
        drip(&mut connection, piece, seconds(3));
        assert!(connection.is_open());
    }
}

#[test]
fn a_body_above_the_rate_is_welcome_with_its_pauses() {
    let origin = Origin::start();
    let gateway = strict(&origin, "body_timeout = \"1s\"");
    let mut connection = begin(&gateway.client(), "Content-Length: 1600");
    // 400 bytes a second, and more often silent than not.
    for _ in 0..8 {
        std::thread::sleep(millis(500));
        connection.write([b'x'; 200]).unwrap();
    }
    assert_eq!(
        connection.response("POST").unwrap().seen().body,
        [b'x'; 1600]
    );
}

/// Reads at most ten megabytes a second; says how much came.
fn sip(connection: &Connection) -> usize {
    let stream = connection.writer();
    let mut piece = vec![0; 100_000];
    let mut read = 0;
    while let Ok(length @ 1..) = (&*stream).read(&mut piece) {
        read += length;
        std::thread::sleep(millis(10));
    }
    read
}

const LARGE: usize = 40_000_000;

fn sipped(rate: &str) -> usize {
    let origin = Origin::answering(|_| Answer::text(vec![b'x'; LARGE]));
    let limits = format!("write_timeout = \"1500ms\"\nmin_rate = \"{rate}\"");
    let gateway = strict(&origin, &limits);
    let mut connection = gateway.client().connect();
    connection
        .write("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    sip(&connection)
}

#[test]
fn who_reads_too_slowly_is_let_go() {
    assert!(sipped("100MB/s") < LARGE);
}

#[test]
fn who_reads_slowly_is_served() {
    assert!(sipped("240B/s") > LARGE);
}

// ---- over HTTP/2, for each stream --------------------------------------------------------------

fn strict_http2(origin: &Origin, client: &str) -> Gateway {
    let text = format!(
        "[server.client]\n{client}\n\
         [[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n\
         [upstream.api]\nendpoints = [{{ address = \"{{origin}}\" }}]\n\
         [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n"
    );
    Gateway::with(&text).to(origin).start()
}

#[test]
fn a_stream_whose_body_drips_is_cut_and_no_other() {
    let origin = Origin::start();
    let gateway = strict_http2(&origin, "body_timeout = \"1s\"");
    let client = Http2::connect(gateway.listen());
    let mut dripping = client.begin(asking("POST", "/x").body(()).unwrap(), true);
    let start = Instant::now();
    while start.elapsed() < seconds(2) {
        let _ = dripping.body.send_data("x".into(), false);
        client.get("/other").expect(200);
        std::thread::sleep(millis(200));
    }
    assert!(!client.is_closed() && dripping.is_over());
    dripping
        .wait()
        .expect("an answer")
        .refused(408, "request_timeout");
}

/// Opens its window by one byte every 100 ms; says whether all of fifty bytes came.
fn takes_all(rate: &str) -> bool {
    let origin = Origin::answering(|_| Answer::text([b'x'; 50]));
    let limits = format!("write_timeout = \"1s\"\nmin_rate = \"{rate}\"");
    let gateway = strict_http2(&origin, &limits);
    let client = Http2::with(
        gateway.listen(),
        h2::client::Builder::new().initial_window_size(1),
    );
    let asked = client.begin(asking("GET", "/x").body(()).unwrap(), false);
    let answered = asked.wait_slowly(millis(100));
    answered.reset.is_none() && answered.body.len() == 50
}

#[test]
fn a_stream_that_is_taken_byte_by_byte_is_cut() {
    assert!(!takes_all("240B/s"));
}

#[test]
fn it_is_not_without_a_rate() {
    assert!(takes_all("0"));
}

// ---- nothing to say is no slowness -------------------------------------------------------------

const SHORT: &str = "body_timeout = \"1s\"\nwrite_timeout = \"1s\"";

#[test]
fn an_answer_with_little_to_send_is_none_that_is_read_slowly() {
    let origin = Origin::answering(|_| Answer::trickle(4, millis(900)));
    let gateway = strict_http2(&origin, SHORT);
    let (over_1, over_2) = std::thread::scope(|scope| {
        let over_2 = scope.spawn(|| Http2::connect(gateway.listen()).get("/x").expect(200).body);
        let over_1 = gateway.client().get("/x").send().expect(200).body.bytes;
        (over_1, over_2.join().unwrap())
    });
    assert_eq!((over_1.len(), over_2.len()), (40, 40));
}

#[test]
fn a_tunnel_may_be_silent_and_may_drip() {
    let origin = Origin::answering(|_| Answer::switch_and_echo(""));
    let gateway = strict(&origin, SHORT);
    let mut tunnel = gateway.client().connect();
    tunnel
        .write("GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    tunnel.response("GET").unwrap().expect(101);
    std::thread::sleep(millis(2500));
    for _ in 0..8 {
        tunnel.write("x").unwrap();
        assert_eq!(tunnel.bytes(1).unwrap(), b"x");
        std::thread::sleep(millis(300));
    }
}
