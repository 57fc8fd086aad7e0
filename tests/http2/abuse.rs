//! Floods and slow clients cost the attacker the connection, and others nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{gateway, with};
use crate::harness::{
    Answer, END_HEADERS, END_STREAM, Fate, Frames, Gateway, Http2, Origin, asking, block, frame,
    get, kind, seconds,
};

/// Most memory a flood may cost, in KiB.
const MOST: u64 = 24 << 10;
/// Longest a client beside it may wait.
const PATIENCE: Duration = seconds(2);

/// Floods the gateway while another client is served; says what became of the flood.
fn beside(gateway: &Gateway, flood: impl FnOnce(&mut Frames) -> Fate) -> Fate {
    let control = Http2::connect(gateway.listen());
    for _ in 0..20 {
        control.get("/fixed").expect(200);
    }
    let before = gateway.rss();
    let (stop, slowest) = (AtomicBool::new(false), AtomicU64::new(0));
    let fate = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                control.get("/fixed").expect(200);
                let took = u64::try_from(start.elapsed().as_millis()).unwrap();
                slowest.fetch_max(took, Ordering::Relaxed);
            }
        });
        let mut frames = Frames::open(gateway.listen());
        let fate = flood(&mut frames);
        stop.store(true, Ordering::Relaxed);
        fate
    });
    let grown = gateway.rss().saturating_sub(before);
    assert!(grown < MOST, "memory grew by {grown} KiB");
    let slowest = Duration::from_millis(slowest.into_inner());
    assert!(slowest < PATIENCE, "another client waited {slowest:?}");
    fate
}

/// Sends the same bytes until the other side takes no more, or so often.
fn pour(frames: &mut Frames, bytes: &[u8], times: usize) -> Fate {
    for _ in 0..times {
        if !frames.raw(bytes) {
            break;
        }
    }
    frames.fate_after_flood()
}

fn ended(fate: Fate) {
    assert!(matches!(fate, Fate::Connection(_)), "{fate:?}");
}

#[test]
fn a_flood_of_pings_ends_the_connection() {
    let gateway = gateway(&Origin::start());
    let pings = frame(kind::PING, 0, 0, &[7; 8]).repeat(500);
    ended(beside(&gateway, |frames| pour(frames, &pings, 400)));
}

#[test]
fn a_flood_of_settings_ends_the_connection() {
    let gateway = gateway(&Origin::start());
    let settings = frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]).repeat(500);
    ended(beside(&gateway, |frames| pour(frames, &settings, 400)));
}

#[test]
fn a_flood_of_priorities_and_windows_ends_the_connection() {
    let gateway = gateway(&Origin::start());
    let priorities = frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 7]).repeat(500);
    ended(beside(&gateway, |frames| pour(frames, &priorities, 400)));
    let windows = frame(kind::WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()).repeat(500);
    ended(beside(&gateway, |frames| pour(frames, &windows, 400)));
}

#[test]
fn a_flood_of_empty_data_ends_the_connection() {
    let gateway = gateway(&Origin::answering(|_| Answer::silence()));
    let empty = frame(kind::DATA, 0, 1, &[]).repeat(500);
    ended(beside(&gateway, |frames| {
        let mut fields = get("/upload");
        fields[0] = (":method", "POST");
        frames.head(1, END_HEADERS, &fields);
        pour(frames, &empty, 400)
    }));
}

#[test]
fn a_head_without_end_ends_the_connection() {
    let gateway = gateway(&Origin::start());
    let more = frame(
        kind::CONTINUATION,
        0,
        1,
        &block(&[("x-more", &"y".repeat(900))]),
    )
    .repeat(16);
    ended(beside(&gateway, |frames| {
        frames.send(kind::HEADERS, END_STREAM, 1, &block(&get("/x")));
        pour(frames, &more, 2000)
    }));
}

#[test]
fn a_head_that_swells_when_it_is_decoded_is_refused() {
    let gateway = gateway(&Origin::start());
    // One long field in the table, and thousands of references to it (CVE-2016-6581).
    let mut bomb = block(&get("/x"));
    bomb.push(0x40);
    bomb.extend([1, b'x', 127, 0x80 | 0x01, 0x1e]);
    bomb.extend(vec![b'y'; 4000 - 2]);
    bomb.extend(vec![0xbe; 9000]);
    let fate = beside(&gateway, |frames| {
        for stream in (1..200).step_by(2) {
            if !frames.send(kind::HEADERS, END_HEADERS | END_STREAM, stream, &bomb) {
                break;
            }
        }
        frames.fate()
    });
    assert_ne!(fate, Fate::Nothing);
}

#[test]
fn streams_given_up_at_once_end_the_connection_and_spare_the_upstream() {
    let origin = Origin::answering(|_| Answer::silence());
    let gateway = gateway(&origin);
    let fate = beside(&gateway, |frames| {
        for stream in (1..40_000).step_by(2) {
            let reset = frame(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes());
            if !frames.get(stream, "/slow") || !frames.raw(&reset) {
                break;
            }
        }
        frames.fate_after_flood()
    });
    ended(fate);
    assert!(origin.count() < 1000, "{} requests went on", origin.count());
}

#[test]
fn streams_made_to_fail_end_the_connection() {
    let origin = Origin::answering(|_| Answer::silence());
    let gateway = gateway(&origin);
    // A window opened by nothing makes the gateway reset the stream itself (CVE-2025-8671).
    let fate = beside(&gateway, |frames| {
        for stream in (1..40_000).step_by(2) {
            let fail = frame(kind::WINDOW_UPDATE, 0, stream, &[0; 4]);
            if !frames.get(stream, "/slow") || !frames.raw(&fail) {
                break;
            }
        }
        frames.fate_after_flood()
    });
    ended(fate);
    assert!(origin.count() < 1000, "{} requests went on", origin.count());
}

#[test]
fn more_streams_than_allowed_are_refused() {
    let origin = Origin::answering(|_| Answer::silence());
    let gateway = gateway(&origin);
    let fate = beside(&gateway, |frames| {
        for stream in (1..2001).step_by(2) {
            if !frames.get(stream, "/slow") {
                break;
            }
        }
        frames.fate()
    });
    assert!(
        matches!(fate, Fate::Stream(_, 7) | Fate::Connection(_)),
        "{fate:?}"
    );
    assert!(origin.count() <= 100, "{} at once", origin.count());
}

#[test]
fn a_client_that_takes_nothing_holds_little_and_not_for_long() {
    let origin = Origin::answering(|_| Answer::text(vec![b'x'; 1 << 20]));
    let gateway = with("[server.client]\nwrite_timeout = \"1s\"", &origin);
    let fate = beside(&gateway, |frames| {
        // No window for any stream.
        frames.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        for stream in (1..200).step_by(2) {
            frames.get(stream, "/large");
        }
        loop {
            match frames.fate() {
                Fate::Answer(_) => {}
                fate => return fate,
            }
        }
    });
    assert!(
        matches!(fate, Fate::Stream(..) | Fate::Connection(_)),
        "{fate:?}"
    );
    crate::harness::eventually(seconds(10), "upstreams are released", || origin.open() == 0);
}

#[test]
fn a_client_that_does_not_read_is_left() {
    let origin = Origin::answering(|_| Answer::text(vec![b'x'; 1 << 20]));
    let gateway = with("[server.client]\nwrite_timeout = \"1s\"", &origin);
    let mut frames = Frames::open(gateway.listen());
    frames.send(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    frames.send(kind::WINDOW_UPDATE, 0, 0, &0x7000_0000u32.to_be_bytes());
    for stream in (1..100).step_by(2) {
        frames.get(stream, "/large");
    }
    crate::harness::eventually(seconds(15), "the connection is gone", || {
        gateway.metric("gateway_connections_active", &[("listener", "public")]) == 0.0
    });
    let client = Http2::connect(gateway.listen());
    client.send(asking("GET", "/fixed"), None).expect(200);
}
