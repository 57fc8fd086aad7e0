//! Connections end so that no request is lost.

use std::time::Instant;

use nix::sys::signal::Signal;

use super::{gateway, with};
use crate::harness::{Answer, Fate, Frames, Http2, Origin, asking, eventually, millis, seconds};

#[test]
fn sigterm_finishes_streams_and_says_goaway() {
    let origin = Origin::answering(|_| Answer::text("whole").after(seconds(1)));
    let gateway = gateway(&origin);
    let client = Http2::connect(gateway.listen());
    let running: Vec<_> = (0..10)
        .map(|_| client.begin(asking("GET", "/slow").body(()).unwrap(), false))
        .collect();
    let mut idle = Frames::open(gateway.listen());
    eventually(seconds(5), "they arrived", || origin.count() == 10);
    let start = Instant::now();
    gateway.signal(Signal::SIGTERM);
    for asked in running {
        assert_eq!(asked.wait().expect("an answer").expect(200).text(), "whole");
    }
    assert_eq!(
        idle.fate(),
        Fate::Connection(Some(0)),
        "GOAWAY without an error"
    );
    assert!(client.wait_closed(seconds(3)));
    assert!(gateway.wait_exit(seconds(5)).success());
    assert!(start.elapsed() < seconds(6));
}

#[test]
fn a_request_sent_before_its_client_heard_of_the_end_is_served() {
    let gateway = gateway(&Origin::start());
    let mut frames = Frames::open(gateway.listen());
    frames.get(1, "/fixed");
    assert_eq!(frames.fate(), Fate::Answer(1));
    // Idle for longer than a connection may linger.
    std::thread::sleep(millis(1300));
    gateway.signal(Signal::SIGTERM);
    assert_eq!(frames.fate(), Fate::Connection(Some(0)), "GOAWAY");
    // As if it had been under way when that came.
    frames.get(3, "/fixed");
    loop {
        match frames.fate() {
            Fate::Answer(3) => break,
            Fate::Connection(Some(0)) => {}
            fate => panic!("{fate:?}"),
        }
    }
    assert!(gateway.wait_exit(seconds(5)).success());
}

#[test]
fn a_reload_touches_no_stream() {
    let origin = Origin::answering(|_| Answer::trickle(10, millis(50)));
    let gateway = gateway(&origin);
    let client = Http2::connect(gateway.listen());
    let running: Vec<_> = (0..10)
        .map(|_| client.begin(asking("GET", "/slow").body(()).unwrap(), false))
        .collect();
    for _ in 0..3 {
        gateway.reload_ok();
    }
    for asked in running {
        asked.wait().expect("an answer").expect(200);
    }
    client.get("/fixed").expect(200);
    assert!(!client.is_closed());
}

#[test]
fn an_idle_connection_is_ended() {
    let gateway = with(
        "[server.client]\nkeepalive_timeout = \"400ms\"",
        &Origin::start(),
    );
    let mut never = Frames::open(gateway.listen());
    let mut once = Frames::open(gateway.listen());
    once.get(1, "/fixed");
    assert_eq!(once.fate(), Fate::Answer(1));
    for frames in [&mut never, &mut once] {
        assert_eq!(frames.fate(), Fate::Connection(Some(0)));
    }
    eventually(seconds(5), "they are gone", || {
        gateway.metric("gateway_connections_active", &[("listener", "public")]) == 0.0
    });
}

#[test]
fn a_connection_ends_after_so_many_requests_and_none_is_lost() {
    let gateway = with("[server.client]\nkeepalive_requests = 5", &Origin::start());
    let client = Http2::connect(gateway.listen());
    for _ in 0..5 {
        client.get("/fixed").expect(200);
    }
    assert!(client.wait_closed(seconds(5)));
    Http2::connect(gateway.listen()).get("/fixed").expect(200);
}

#[test]
fn a_slow_beginning_is_ended() {
    let gateway = with(
        "[server.client]\nheader_timeout = \"300ms\"",
        &Origin::start(),
    );
    let mut frames = Frames::silent(gateway.listen());
    frames.raw(b"PRI * HTTP/2.0\r\n\r\n");
    assert_eq!(frames.fate(), Fate::Connection(None));
}

#[test]
fn idle_connections_are_cheap() {
    let gateway = gateway(&Origin::start());
    let open = || {
        let mut frames = Frames::open(gateway.listen());
        frames.get(1, "/fixed");
        assert_eq!(frames.fate(), Fate::Answer(1));
        frames
    };
    drop(open());
    let before = gateway.rss();
    let connections: Vec<_> = (0..500).map(|_| open()).collect();
    // Of the buffers that the codec makes for each, 28 KiB, most are never touched.
    let each = (gateway.rss() - before) / connections.len() as u64;
    assert!(each < 30, "{each} KiB for each connection");
}
