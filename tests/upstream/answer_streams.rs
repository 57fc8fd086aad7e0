//! Answers of origins that speak HTTP/2, hedged or not: judged and passed on as those of HTTP/1 are.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};

use super::endpoint;
use crate::harness::{
    Does, END_HEADERS, Faces, Gateway, Http2, Speaks, Speech, StreamOrigin, always, asking, block,
    eventually, frame, kind, millis, on_each, reserve, seconds, ways_of,
};

fn before(origin: &StreamOrigin, more: &str) -> Gateway {
    let faces = Faces::of_streams(origin.address());
    let listener = "[[listener]]\nname = \"public\"\naddress = \"{listen}\"\nhttp2 = true\n";
    let gateway = faces.behind(&ways_of(Speaks::Http2), more).append(listener);
    gateway.keeps(faces).start()
}

fn says(speech: Speech) -> StreamOrigin {
    StreamOrigin::start("speaks", Does::Speaks(speech))
}

fn informational(status: u16) -> Response<()> {
    let head = Response::builder().status(status);
    let head = head
        .header("link", "</a.css>")
        .header("x-fallback", "fixed");
    head.body(()).unwrap()
}

fn fine() -> Response<()> {
    let head = Response::builder().header("content-length", "2");
    head.header("x-fallback", "fixed").body(()).unwrap()
}

#[test]
fn early_hints_pass_to_clients_of_both_protocols() {
    let origin = says(|mut respond| {
        Box::pin(async move {
            respond.send_informational(informational(103)).unwrap();
            respond.send_informational(informational(103)).unwrap();
            tokio::time::sleep(millis(50)).await;
            respond.send_informational(informational(102)).unwrap();
            let mut body = respond.send_response(fine(), false).unwrap();
            body.send_data("ok".into(), true).unwrap();
        })
    });
    let gateway = before(&origin, "");
    for way in ways_of(Speaks::Http2) {
        let answer = gateway.client().get(&format!("/{way}/")).send().expect(200);
        assert_eq!(answer.interim, [103, 103, 102], "{way}");
        assert_eq!(answer.text(), "ok");
        assert_eq!(answer.header("X-Fallback"), None, "{way}");
        let answer = Http2::connect(gateway.listen())
            .get(&format!("/{way}/"))
            .expect(200);
        assert_eq!(answer.text(), "ok");
        assert_eq!(answer.header("x-fallback"), None, "{way}");
    }
}

#[test]
fn a_flood_of_interim_answers_ends() {
    let origin = says(|mut respond| {
        Box::pin(async move {
            for _ in 0..150 {
                if respond.send_informational(informational(103)).is_err() {
                    return;
                }
            }
            let _ = respond.send_response(fine(), false);
        })
    });
    let gateway = before(&origin, "");
    for way in ways_of(Speaks::Http2) {
        let answer = gateway.client().get(&format!("/{way}/")).send();
        assert_eq!(answer.status, 502, "{way}");
    }
}

#[test]
fn a_client_is_asked_for_its_body_though_the_origin_never_asks() {
    let origin = says(|mut respond| {
        Box::pin(async move {
            tokio::time::sleep(millis(1200)).await;
            let mut body = respond.send_response(fine(), false).unwrap();
            body.send_data("ok".into(), true).unwrap();
        })
    });
    let gateway = before(&origin, "");
    on_each(ways_of(Speaks::Http2), |way| {
        let mut connection = gateway.client().connect();
        let head = format!(
            "PUT /{way}/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        );
        let began = Instant::now();
        connection.write(head).unwrap();
        let word = b"HTTP/1.1 100 Continue\r\n\r\n";
        assert_eq!(connection.bytes(word.len()).unwrap(), word, "{way}");
        let took = began.elapsed();
        assert!(
            (millis(450)..millis(1150)).contains(&took),
            "{way}: {took:?}"
        );
        connection.write("hello").unwrap();
        let answer = connection.response("PUT").unwrap().expect(200);
        assert_eq!(answer.interim, [] as [u16; 0], "{way}");
    });
}

#[test]
fn an_origin_that_asks_is_heard_at_once() {
    let origin = says(|mut respond| {
        Box::pin(async move {
            let head = Response::builder().status(100).body(()).unwrap();
            respond.send_informational(head).unwrap();
            tokio::time::sleep(millis(900)).await;
            let mut body = respond.send_response(fine(), false).unwrap();
            body.send_data("ok".into(), true).unwrap();
        })
    });
    let gateway = before(&origin, "");
    let mut connection = gateway.client().connect();
    let head = "PUT /h2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let began = Instant::now();
    connection.write(head).unwrap();
    let word = b"HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(connection.bytes(word.len()).unwrap(), word);
    assert!(began.elapsed() < millis(450));
    connection.write("hello").unwrap();
    let answer = connection.response("PUT").unwrap().expect(200);
    assert_eq!(answer.interim, [] as [u16; 0]);
}

#[test]
fn statuses_that_are_none_are_refused() {
    let origin = says(|mut respond| {
        Box::pin(async move {
            let head = Response::builder().status(700).body(()).unwrap();
            let _ = respond.send_response(head, true);
        })
    });
    let gateway = before(&origin, "");
    for way in ways_of(Speaks::Http2) {
        let answer = gateway.client().get(&format!("/{way}/")).send();
        answer.refused(502, "upstream_invalid");
    }
}

/// A head with so many fields.
fn many(fields: usize) -> Response<()> {
    let mut head = Response::builder().body(()).unwrap();
    let value = HeaderValue::from_static("b");
    for _ in 0..fields {
        head.headers_mut().append("a", value.clone());
    }
    head
}

#[test]
fn a_head_is_bounded() {
    fn speech(fields: usize, respond: &mut SendResponse<Bytes>) {
        let _ = respond.send_response(many(fields), true);
    }
    let fits = says(|mut respond| Box::pin(async move { speech(256, &mut respond) }));
    let more = says(|mut respond| Box::pin(async move { speech(257, &mut respond) }));
    let long = says(|mut respond| {
        Box::pin(async move {
            let value = "x".repeat(70_000).parse().unwrap();
            let mut head = Response::builder().body(()).unwrap();
            head.headers_mut().insert("x-long", value);
            let _ = respond.send_response(head, true);
        })
    });
    for (origin, bounds, status) in [
        (&fits, "", 200),
        (&more, "", 502),
        (&more, "max_response_headers = 300", 200),
        (&long, "", 502),
        (&long, "max_response_header = \"128KiB\"", 200),
    ] {
        let gateway = before(origin, bounds);
        for way in ways_of(Speaks::Http2) {
            let answer = gateway.client().get(&format!("/{way}/")).send();
            assert_eq!(
                answer.status,
                status,
                "{way}: {bounds}: {:?}",
                answer.code()
            );
        }
    }
}

#[test]
fn a_check_over_http_2_does_not_take_an_interim_answer_for_the_answer() {
    let origin = says(|mut respond| {
        Box::pin(async move {
            let _ = respond.send_informational(informational(103));
            if let Ok(mut body) = respond.send_response(fine(), false) {
                let _ = body.send_data("ok".into(), true);
            }
        })
    });
    let health = "health = { path = \"/healthz\", interval = \"50ms\", fall = 1, rise = 1 }";
    let gateway = before(&origin, health);
    eventually(seconds(5), "it was checked", || origin.count() > 3);
    let label = origin.address().to_string();
    let healthy = || {
        gateway.metric(
            "gateway_endpoint_healthy",
            &[("upstream", "h2"), ("endpoint", &label)],
        )
    };
    always(millis(300), "the endpoint is healthy", || healthy() == 1.0);
}

#[test]
fn a_connection_is_shared() {
    let origin = StreamOrigin::start("shared", Does::Answers(millis(200)));
    let gateway = before(&origin, "");
    let client = Http2::connect(gateway.listen());
    client.get("/h2/").expect(200);
    let asked: Vec<_> = (0..20)
        .map(|_| client.begin(asking("GET", "/h2/").body(()).unwrap(), false))
        .collect();
    for one in asked {
        let answer = one.wait().unwrap();
        assert_eq!(answer.status, 200);
        let trailers: HeaderMap = answer.trailers.expect("trailers");
        assert_eq!(trailers["x-trailer"], "seen");
    }
    assert_eq!(origin.connections(), (1, 1));
}

/// Counts the heads of requests on one connection, whose settings it never says.
fn count_heads(mut socket: std::net::TcpStream, heads: &AtomicUsize) {
    let mut preface = [0; 24];
    let mut read = socket.read_exact(&mut preface);
    while read.is_ok() {
        let mut head = [0; 9];
        read = socket.read_exact(&mut head);
        if read.is_err() {
            return;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        if head[3] == kind::HEADERS {
            heads.fetch_add(1, Ordering::SeqCst);
        }
        read = socket.read_exact(&mut vec![0; length as usize]);
    }
}

#[test]
fn one_stream_at_most_goes_to_an_endpoint_that_did_not_say_how_many_it_takes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections: Arc<Mutex<Vec<Arc<AtomicUsize>>>> = Arc::default();
    let known = Arc::clone(&connections);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let heads = Arc::new(AtomicUsize::new(0));
            known.lock().unwrap().push(Arc::clone(&heads));
            std::thread::spawn(move || count_heads(socket, &heads));
        }
    });
    let first = endpoint(address, "");
    let gateway = Gateway::with(&format!(
        "[server]\nthreads = 1\n[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n\
         [upstream.api]\nendpoints = [{first}]\nhttp_version = \"2\"\n\
         [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n"
    ))
    .start();
    let client = Http2::connect(gateway.listen());
    let mut asked = Vec::new();
    for number in 1..=5 {
        asked.push(client.begin(asking("GET", "/").body(()).unwrap(), false));
        let each = || -> Vec<usize> {
            let known = connections.lock().unwrap();
            known
                .iter()
                .map(|heads| heads.load(Ordering::SeqCst))
                .collect()
        };
        eventually(seconds(5), "it arrives", || {
            each().iter().sum::<usize>() == number
        });
        assert_eq!(each(), vec![1; number]);
    }
}

/// A route to `first`, which is not there, and from there to `spare`.
fn falls(first: &str, spare: &str) -> Gateway {
    let nobody = reserve();
    Gateway::with(&format!(
        "[upstream.first]\nendpoints = [{{ address = \"{nobody}\" }}]\nretry = {{ attempts = 0 }}\n{first}\n\
         [upstream.spare]\n{spare}\nretry = {{ attempts = 0 }}\n\
         [[route]]\nid = \"r\"\npath = \"/**\"\nupstream = \"first\"\n[route.fallback]\nupstream = \"spare\"\n"
    ))
    .start()
}

#[test]
fn another_upstream_that_takes_over_is_judged_as_any() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = Read::read(&mut stream, &mut [0; 4096]);
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
            let _ = Write::write_all(&mut stream, answer.as_bytes());
        }
    });
    let spare = format!("endpoints = [{{ address = \"{address}\" }}]");
    for first in ["http_version = \"2\"", ""] {
        let gateway = falls(first, &spare);
        let answer = gateway.client().get("/x").send();
        answer.refused(502, "upstream_invalid");
    }
    let origin = says(|mut respond| {
        Box::pin(async move {
            respond.send_informational(informational(103)).unwrap();
            let mut body = respond.send_response(fine(), false).unwrap();
            body.send_data("ok".into(), true).unwrap();
        })
    });
    let spare = format!(
        "endpoints = [{{ address = \"{}\" }}]\nhttp_version = \"2\"",
        origin.address()
    );
    for first in ["http_version = \"2\"", ""] {
        let answer = falls(first, &spare).client().get("/x").send().expect(200);
        assert_eq!(
            (answer.text().as_str(), &answer.interim[..]),
            ("ok", &[103][..])
        );
        assert_eq!(answer.header("X-Fallback"), Some("upstream"));
    }
}

#[test]
fn who_does_not_read_holds_up_nobody_else() {
    let origin = StreamOrigin::scripted("large", |path| match path {
        "/large" => Does::Speaks(|mut respond| {
            Box::pin(async move {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                for _ in 0..512 {
                    let _ = body.send_data(vec![b'x'; 64 << 10].into(), false);
                }
                std::future::poll_fn(|cx| body.poll_reset(cx)).await.ok();
            })
        }),
        _ => Does::Answers(millis(0)),
    });
    let gateway = before(&origin, "");
    let asked = gateway.client().get("/h2/large").begin();
    eventually(seconds(5), "it is asked", || origin.begun() == 1);
    // All that is taken without being read was taken.
    std::thread::sleep(millis(500));
    for _ in 0..20 {
        let answer = gateway.client().get("/h2/small").send().expect(200);
        assert_eq!(answer.text(), "large 0");
    }
    drop(asked);
}

#[test]
fn what_the_endpoint_refused_is_sent_again_whatever_the_method() {
    let count = AtomicUsize::new(0);
    let refuses: Speech =
        |mut respond| Box::pin(async move { respond.send_reset(h2::Reason::REFUSED_STREAM) });
    let answers: Speech = |mut respond| {
        Box::pin(async move {
            let mut body = respond.send_response(fine(), false).unwrap();
            body.send_data("ok".into(), true).unwrap();
        })
    };
    let origin = StreamOrigin::scripted("moody", move |_| {
        let odd = count.fetch_add(1, Ordering::SeqCst) % 2 == 1;
        Does::Speaks(if odd { refuses } else { answers })
    });
    let gateway = before(&origin, "");
    // One connection is served by one worker, which has one to the origin.
    let mut connection = gateway.client().connect();
    for count in 1..4 {
        let head = "POST /h2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        connection.write(head).unwrap();
        let answer = connection.response("POST").unwrap().expect(200);
        assert_eq!(answer.text(), "ok");
        assert_eq!(origin.begun(), 2 * count - 1);
    }
}

/// Answers `ok` behind this head, and says something behind that.
async fn say_more(mut respond: SendResponse<Bytes>, head: http::response::Builder) {
    let mut body = respond
        .send_response(head.body(()).unwrap(), false)
        .unwrap();
    body.send_data("ok".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    for name in ["x-sum", "x-fallback", "content-length"] {
        trailers.insert(name, HeaderValue::from_static("2"));
    }
    body.send_trailers(trailers).unwrap();
}

#[test]
fn trailers_pass_to_every_client_that_takes_them() {
    let sum = ("x-sum".to_owned(), "2".to_owned());
    let unknown: Speech = |respond| Box::pin(say_more(respond, Response::builder()));
    let known: Speech = |respond| {
        let head = Response::builder().header("content-length", "2");
        Box::pin(say_more(respond, head))
    };
    for (speech, known) in [(unknown, false), (known, true)] {
        let origin = says(speech);
        let gateway = before(&origin, "");
        for way in ways_of(Speaks::Http2) {
            let path = format!("/{way}/");
            let client = gateway.client();
            let takes = client.get(&path).header("TE", "trailers").send();
            let takes = takes.expect(200);
            assert_eq!(takes.text(), "ok", "{way}");
            // A length leaves no room for them in HTTP/1.
            let expected = if known { vec![] } else { vec![sum.clone()] };
            assert_eq!(takes.body.trailers, expected, "{way} {known}");
            let other = client.get(&path).send().expect(200);
            assert_eq!(
                (&*other.text(), other.body.trailers.len()),
                ("ok", 0),
                "{way}"
            );
            let answer = Http2::connect(gateway.listen()).get(&path).expect(200);
            assert_eq!(answer.text(), "ok");
            let trailers = answer.trailers.expect("trailers");
            assert_eq!(trailers["x-sum"], "2", "{way} {known}");
            assert_eq!(trailers.len(), 1, "{way}: {trailers:?}");
        }
    }
}

#[test]
fn an_answer_of_which_all_came_is_whole_whoever_leaves_then() {
    let origin = says(|mut respond| {
        Box::pin(async move {
            let mut body = respond.send_response(fine(), false).unwrap();
            body.send_data("ok".into(), false).unwrap();
            tokio::time::sleep(millis(300)).await;
            body.send_reset(h2::Reason::INTERNAL_ERROR);
        })
    });
    let gateway = before(&origin, "");
    on_each(ways_of(Speaks::Http2), |way| {
        // The client leaves before the endpoint says that there is no more.
        let trace = format!("leaves-{way}");
        let mut connection = gateway.client().connect();
        let head = format!("GET /{way}/ HTTP/1.1\r\nHost: a\r\nX-Trace-ID: {trace}\r\n\r\n");
        connection.write(head).unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\nok") {
            read.extend(connection.bytes(1).unwrap());
        }
        drop(connection);
        let line = gateway.access_line(&trace);
        assert_eq!(
            (&line["status"], line.get("reason")),
            (&200.into(), None),
            "{way}: {line}"
        );
        // The endpoint breaks off behind the last byte.
        let answer = gateway.client().get(&format!("/{way}/")).send();
        assert_eq!(answer.expect(200).text(), "ok", "{way}");
    });
}

#[test]
fn trailers_that_are_owed_are_awaited() {
    const RESETS: Speech = |mut respond| {
        Box::pin(async move {
            let mut body = respond.send_response(fine(), false).unwrap();
            body.send_data("ok".into(), false).unwrap();
            tokio::time::sleep(millis(100)).await;
            body.send_reset(h2::Reason::INTERNAL_ERROR);
        })
    };
    const SILENT: Speech = |mut respond| {
        Box::pin(async move {
            let mut body = respond.send_response(fine(), false).unwrap();
            body.send_data("ok".into(), false).unwrap();
            tokio::time::sleep(seconds(30)).await;
        })
    };
    for (speech, name) in [(RESETS, "resets"), (SILENT, "silent")] {
        let origin = says(speech);
        let gateway = before(&origin, "timeout = { read = \"400ms\" }\n");
        on_each(ways_of(Speaks::Http2), |way| {
            let answer = Http2::connect(gateway.listen()).get(&format!("/{way}/"));
            assert_eq!((answer.status, answer.text()), (200, "ok"), "{way} {name}");
            assert!(answer.reset.is_some(), "{way} {name}: {answer:?}");
        });
    }
}

#[test]
fn trailers_follow_a_body_of_no_bytes() {
    let origin = says(|mut respond| {
        Box::pin(async move {
            let head = Response::builder().header("content-length", "0");
            let head = head.body(()).unwrap();
            let mut body = respond.send_response(head, false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("5"));
            body.send_trailers(trailers).unwrap();
        })
    });
    let gateway = before(&origin, "");
    for way in ways_of(Speaks::Http2) {
        let path = format!("/{way}/");
        let answer = Http2::connect(gateway.listen()).get(&path).expect(200);
        let trailers = answer.trailers.expect("trailers");
        assert_eq!(trailers["grpc-status"], "5", "{way}");
        let answer = gateway.client().get(&path).send().expect(200);
        assert_eq!(answer.text(), "", "{way}");
    }
}

/// An origin that answers the first stream of each connection with a field that is none; counts its connections.
fn malformed(
    fields: &'static [(&'static str, &'static str)],
) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let _ = socket.write_all(&frame(kind::SETTINGS, 0, 0, &[]));
                let mut preface = [0; 24];
                let _ = socket.read_exact(&mut preface);
                let mut head = [0; 9];
                while socket.read_exact(&mut head).is_ok() {
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                    let mut payload = vec![0; length as usize];
                    if socket.read_exact(&mut payload).is_err() {
                        return;
                    }
                    if head[3] == kind::HEADERS {
                        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                        let answer = frame(kind::HEADERS, END_HEADERS, stream, &block(fields));
                        let _ = socket.write_all(&answer);
                    }
                }
            });
        }
    });
    (address, count)
}

#[test]
fn an_answer_that_the_codec_does_not_take_is_invalid_and_asked_for_once() {
    for fields in [
        &[(":status", "200"), ("x-a", "a\r\nb")][..],
        &[(":status", "200"), ("content-length", "x")],
        &[(":status", "200"), ("connection", "close")],
    ] {
        let (address, connections) = malformed(fields);
        let gateway = Gateway::with(&format!(
            "[server]\nthreads = 1\n[upstream.api]\nendpoints = [{}]\nhttp_version = \"2\"\n\
             retry = {{ attempts = 3, on = [\"reset\"] }}\npassive = {{ max_fails = 0 }}\n\
             [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n",
            endpoint(address, "")
        ))
        .start();
        let request = gateway.client();
        let request = request.get("/").header("X-Trace-ID", "once");
        request.send().refused(502, "upstream_invalid");
        let line = gateway.access_line("once");
        assert_eq!(line["attempts"], 1, "{fields:?}: {line}");
        assert_eq!(connections.load(Ordering::SeqCst), 1, "{fields:?}");
    }
}
