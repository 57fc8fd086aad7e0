//! Answers in small pieces over HTTP/2: they are put together where they lie together, and where they wait for a client. A
//! frame for each would have codecs end connections that many share.

use http::Response;

use super::endpoint;
use crate::harness::{
    Does, Fate, Frames, Gateway, Http2, RawOrigin, Says, Speaks, Speech, StreamOrigin, asking,
    kind, seconds, ways_of,
};

const LISTENER: &str = "[server]\nthreads = 1\n[[listener]]\nname = \"public\"\naddress = \"{listen}\"\nhttp2 = true\n";

/// Bytes of an answer of which each is a frame.
const FEW: usize = 5_000;
/// More than the codec lets wait in one connection, and fewer than an endpoint may send unread of one body.
const MANY: usize = 400_000;

fn say(mut respond: h2::server::SendResponse<bytes::Bytes>, count: usize) {
    let mut answer = respond.send_response(Response::new(()), false).unwrap();
    for at in 1..=count {
        answer.send_data("x".into(), at == count).unwrap();
    }
}

const SAYS_FEW: Speech = |respond| Box::pin(async move { say(respond, FEW) });
const SAYS_MANY: Speech = |respond| Box::pin(async move { say(respond, MANY) });

fn streams() -> StreamOrigin {
    StreamOrigin::scripted("streams", |path| match path {
        "/few" => Does::Speaks(SAYS_FEW),
        "/many" => Does::Speaks(SAYS_MANY),
        _ => Does::Answers(seconds(0)),
    })
}

fn before(origin: &StreamOrigin) -> Gateway {
    let endpoints = endpoint(origin.address(), "");
    Gateway::with(&format!(
        "{LISTENER}[upstream.h2]\nendpoints = [{endpoints}]\nhttp_version = \"2\"\ntimeout = {{ request = \"60s\" }}\n\
         [[route]]\nid = \"h2\"\npath = \"/**\"\nupstream = \"h2\"\n"
    ))
    .start()
}

#[test]
fn chunks_that_came_together_are_one_frame() {
    let chunks = "1\r\nx\r\n".repeat(600);
    let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    let origin = RawOrigin::saying(move |_| Says::text(&answer));
    let gateway = origin.behind("").append(LISTENER).start();
    for way in ways_of(Speaks::Http1) {
        let mut client = Frames::open(gateway.listen());
        client.get(1, &format!("/{way}/"));
        let (mut bytes, mut frames) = (0, 0);
        while let Some(frame) = client.read() {
            if frame.kind == kind::DATA {
                bytes += frame.payload.len();
                frames += 1;
                if frame.flags & 1 == 1 {
                    break;
                }
            }
        }
        assert_eq!(bytes, 600, "{way}");
        // It may have come in several reads, and its end in a frame of its own.
        assert!(frames <= 10, "{way}: {frames} frames");
    }
}

#[test]
fn a_client_that_reads_slowly_gets_small_frames_together() {
    let origin = streams();
    let gateway = before(&origin);
    // It ends its connection at about a hundred small frames that it has not read.
    let client = Http2::with(gateway.listen(), &h2::client::Builder::new());
    for pause in [0, 5] {
        let asked = client.begin(asking("GET", "/few").body(()).unwrap(), false);
        let answer = asked.wait_slowly(std::time::Duration::from_millis(pause));
        let answer = answer.expect(200);
        assert_eq!(answer.body.len(), FEW, "pausing {pause} ms");
    }
    assert!(!client.is_closed());
}

#[test]
fn a_client_that_reads_nothing_does_not_end_the_streams_of_others() {
    let origin = streams();
    let gateway = before(&origin);
    let others = Http2::connect(gateway.listen());
    others.get("/other").expect(200);
    let mut silent = Frames::open(gateway.listen());
    silent.get(1, "/many");
    assert_eq!(silent.fate(), Fate::Answer(1));
    let mut read = 0;
    while read < 65_535 {
        let frame = silent.read().expect("a window of the answer");
        assert_ne!(frame.kind, kind::RST_STREAM, "{read}");
        read += match frame.kind {
            kind::DATA => frame.payload.len(),
            _ => 0,
        };
    }
    // Its windows are used up: the rest waits, and meanwhile others are served over the same connection.
    for _ in 0..20 {
        others.get("/other").expect(200);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(origin.connections(), (1, 1));
    let window = (1_u32 << 20).to_be_bytes();
    silent.send(kind::WINDOW_UPDATE, 0, 0, &window);
    silent.send(kind::WINDOW_UPDATE, 0, 1, &window);
    while let Some(frame) = silent.read() {
        assert!(
            ![kind::RST_STREAM, kind::GOAWAY].contains(&frame.kind),
            "{read}"
        );
        if frame.kind == kind::DATA {
            read += frame.payload.len();
            if frame.flags & 1 == 1 {
                break;
            }
        }
    }
    assert_eq!(read, MANY);
}
