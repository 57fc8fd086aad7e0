//! Fields behind a body pass from every kind of upstream to every client that takes them, and from a client to every
//! kind of upstream; never those that mean something before a body.

use std::io::{Read, Write};
use std::net::TcpStream;

use http::{HeaderMap, Response};

use super::endpoint;
use crate::harness::{
    Answer, Does, Faces, Gateway, Http2, Origin, Peer, RawOrigin, Says, Speaks, Speech,
    StreamOrigin, asking, eventually, reserve, seconds, ways, ways_of,
};

const SPEAKS: Speech = |mut respond| {
    Box::pin(async move {
        let mut answer = respond.send_response(Response::new(()), false).unwrap();
        answer.send_data("hello".into(), false).unwrap();
        let mut trailers = HeaderMap::new();
        for (name, value) in [
            ("x-sum", "7"),
            ("authorization", "Basic bm8="),
            ("set-cookie", "a=b"),
            ("x-fallback", "fixed"),
            ("x-sum", "8"),
        ] {
            trailers.append(name, value.parse().unwrap());
        }
        let _ = answer.send_trailers(trailers);
    })
};

const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n";

/// Origins of HTTP/1.1 on every way, and of HTTP/2 with and without TLS, each behind a route's first segment.
struct Origins {
    raw: RawOrigin,
    plain: StreamOrigin,
    secure: StreamOrigin,
    ca: String,
}

impl Origins {
    /// Those of HTTP/1.1 say `section` behind the body.
    fn saying(section: &'static str, does: Does) -> Self {
        let certificates = Peer::certificates("streams.internal");
        let pem = |name: &str| certificates[name].as_str().unwrap();
        let identity = (pem("server"), pem("server_key"));
        Self {
            raw: RawOrigin::saying(move |_| Says::text(&format!("{CHUNKED}{section}\r\n"))),
            plain: StreamOrigin::start("plain", does),
            secure: StreamOrigin::secure("secure", identity, move |_| does),
            ca: pem("ca").to_owned(),
        }
    }

    fn gateway(&self) -> Gateway {
        let tls = "tls = { sni = \"streams.internal\", ca = \"{dir}/streams.pem\" }\n";
        let hedge = "hedge = { after = \"10s\" }\n";
        let backup = endpoint(reserve(), ", backup = true");
        let upstreams = [
            ("h2", &self.plain, "", ""),
            ("h2-hedged", &self.plain, hedge, &*backup),
            ("h2-tls", &self.secure, tls, ""),
        ]
        .map(|(name, origin, keys, more)| {
            let endpoints = endpoint(origin.address(), "") + more;
            format!(
                "[upstream.{name}]\nendpoints = [{endpoints}]\nhttp_version = \"2\"\n{keys}\
                 [[route]]\nid = \"{name}\"\npath = \"/{name}/**\"\nupstream = \"{name}\"\n"
            )
        });
        let listener = "[[listener]]\nname = \"public\"\naddress = \"{listen}\"\nhttp2 = true\n";
        let config = format!("{listener}{}", upstreams.concat());
        let raw = self.raw.behind("").append(&config);
        raw.file("streams.pem", &self.ca).start()
    }
}

const STREAMS: [&str; 3] = ["h2", "h2-hedged", "h2-tls"];

fn raw_ways() -> impl Iterator<Item = &'static str> {
    ways_of(Speaks::Http1).into_iter().map(|way| way.name())
}

fn all_ways() -> impl Iterator<Item = &'static str> {
    raw_ways().chain(STREAMS)
}

/// All that a client of HTTP/1.1 reads until the connection ends.
fn read(gateway: &Gateway, way: &str, more: &str) -> String {
    let mut socket = TcpStream::connect(gateway.listen()).unwrap();
    socket.set_read_timeout(Some(seconds(20))).unwrap();
    let head = format!("GET /{way}/ HTTP/1.1\r\nHost: a\r\nConnection: close{more}\r\n\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    answer
}

const SECTION: &str = "X-Sum: 7\r\nAuthorization: no\r\nHost: other\r\nContent-Length: 5\r\nX-Fallback: fixed\r\nx-sum: 8\r\n";

#[test]
fn of_an_answer_pass_to_clients_of_http2_from_every_upstream() {
    let origins = Origins::saying(SECTION, Does::Speaks(SPEAKS));
    let gateway = origins.gateway();
    let client = Http2::connect(gateway.listen());
    for way in all_ways() {
        // Twice: over a connection that was kept, too.
        for _ in 0..2 {
            let answer = client.get(&format!("/{way}/")).expect(200);
            assert_eq!(answer.text(), "hello", "{way}");
            let trailers = answer.trailers.expect(way);
            assert_eq!(trailers.keys_len(), 1, "{way}: {trailers:?}");
            let sums: Vec<_> = trailers.get_all("x-sum").iter().collect();
            assert_eq!(sums, ["7", "8"], "{way}");
        }
    }
}

#[test]
fn of_an_answer_pass_to_clients_of_http1_that_take_them() {
    let origins = Origins::saying(SECTION, Does::Speaks(SPEAKS));
    let gateway = origins.gateway();
    for way in all_ways() {
        let taken = read(&gateway, way, ", TE\r\nTE: trailers");
        let (_, body) = taken.split_once("\r\n\r\n").expect("a head");
        let (body, section) = body.split_once("\r\n0\r\n").expect(way);
        assert!(
            body.ends_with("hello") || body.ends_with("lo"),
            "{way}: {taken}"
        );
        let section = section.to_ascii_lowercase();
        assert_eq!(section, "x-sum: 7\r\nx-sum: 8\r\n\r\n", "{way}: {taken}");
        let without = read(&gateway, way, "");
        assert!(without.ends_with("\r\n0\r\n\r\n"), "{way}: {without}");
        assert!(
            !without.to_ascii_lowercase().contains("x-sum"),
            "{way}: {without}"
        );
    }
}

#[test]
fn a_section_that_is_none_breaks_the_answer_off() {
    for section in ["no colon\r\n", " fold\r\n", ": v\r\n", "a b: v\r\n"] {
        let origins = Origins::saying(section, Does::Speaks(SPEAKS));
        let gateway = origins.gateway();
        let client = Http2::connect(gateway.listen());
        for way in raw_ways() {
            // Not even its head need have gone when it is found out.
            if let Ok(answer) = client.try_send(asking("GET", &format!("/{way}/")), None) {
                assert!(answer.reset.is_some(), "{way} {section:?}: {answer:?}");
                assert_eq!(answer.trailers, None, "{way} {section:?}");
            }
        }
    }
}

#[test]
fn more_fields_than_anybody_means_are_dropped_and_the_answer_is_whole() {
    let many: String = (0..65).map(|number| format!("x-{number}: v\r\n")).collect();
    let origins = Origins::saying(many.leak(), Does::Speaks(SPEAKS));
    let gateway = origins.gateway();
    let client = Http2::connect(gateway.listen());
    for way in raw_ways() {
        let answer = client.get(&format!("/{way}/")).expect(200);
        assert_eq!((answer.text(), &answer.trailers), ("hello", &None), "{way}");
    }
}

#[test]
fn of_a_request_pass_between_clients_and_upstreams_of_http2() {
    let does = Does::Answers(seconds(0));
    let origins = Origins::saying("", does);
    let gateway = origins.gateway();
    let client = Http2::connect(gateway.listen());
    for (way, origin) in [("h2", &origins.plain), ("h2-tls", &origins.secure)] {
        let request = asking("POST", &format!("/{way}/")).body(()).unwrap();
        let mut asked = client.begin(request, true);
        asked.body.send_data("body".into(), false).unwrap();
        let mut trailers = HeaderMap::new();
        for (name, value) in [
            ("x-sum", "7"),
            ("host", "other"),
            ("authorization", "Basic bm8="),
            ("x-consumer", "root"),
            ("x_consumer", "root"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-trace-id", "theirs"),
            ("grpc-timeout", "1H"),
        ] {
            trailers.append(name, value.parse().unwrap());
        }
        asked.body.send_trailers(trailers).unwrap();
        assert_eq!(asked.wait().unwrap().status, 200, "{way}");
        let (path, body) = origin.bodies().pop().unwrap();
        assert_eq!(
            (path.as_str(), body.as_slice()),
            (&*format!("/{way}/"), &b"body"[..])
        );
        let seen = origin.trailers().pop().unwrap();
        assert_eq!(seen.keys_len(), 1, "{way}: {seen:?}");
        assert_eq!(seen["x-sum"], "7", "{way}");
    }
    // An upstream of HTTP/1.1 is sent a length or chunks, and reads the same body.
    client
        .send(asking("POST", "/h1/"), Some(b"body"))
        .expect(200);
}

/// A chunked request with these lines behind its body.
fn request(way: &str, section: &str) -> String {
    format!(
        "POST /{way}/path HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nbod\r\n1\r\ny\r\n0\r\n{section}\r\n"
    )
}

#[test]
fn of_a_request_pass_from_clients_of_http1_to_every_upstream() {
    const SAID: &str = "X-Sum: 7\r\nHost: other\r\nAuthorization: Basic bm8=\r\nContent-Length: 3\r\n\
        Transfer-Encoding: chunked\r\nX-Consumer: root\r\nx_consumer: root\r\nX-Forwarded-For: 1.2.3.4\r\n\
        X-Trace-ID: theirs\r\nx-sum:  8 \r\n";
    let origin = Origin::answering(|_| Answer::text("well"));
    let faces = Faces::of(origin.address());
    let gateway = faces.behind(&ways(), "").keeps(faces).start();
    let sums = [
        ("x-sum".to_owned(), "7".to_owned()),
        ("x-sum".to_owned(), "8".to_owned()),
    ];
    for way in ways() {
        let mut connection = gateway.client().connect();
        // In one piece and in two, over one connection, and then without any: what one request said is not the next one's.
        let whole = request(way.name(), SAID);
        connection.write(&whole).unwrap();
        connection.response("POST").unwrap().expect(200);
        let (first, rest) = whole.split_at(whole.len() - 100);
        connection.write(first).unwrap();
        let began = "/path".to_owned();
        let before = origin.count_of(|seen| seen.target == began);
        eventually(seconds(5), "the head went on", || {
            String::from_utf8_lossy(&origin.bytes())
                .matches("POST /path")
                .count()
                > before
        });
        connection.write(rest).unwrap();
        connection.response("POST").unwrap().expect(200);
        connection.write(request(way.name(), "")).unwrap();
        connection.response("POST").unwrap().expect(200);
        let seen = origin.seen();
        let [one, two, none] = &seen[seen.len() - 3..] else {
            panic!("{way}: {seen:?}");
        };
        for seen in [one, two] {
            assert_eq!(seen.body, b"body", "{way}");
            let mut said = seen.trailers.clone();
            said.iter_mut()
                .for_each(|(name, _)| name.make_ascii_lowercase());
            assert_eq!(said, sums, "{way}");
            assert_eq!(seen.header("x-sum"), None, "{way}: it is behind the body");
        }
        assert_eq!(
            (&none.body[..], none.trailers.len()),
            (&b"body"[..], 0),
            "{way}"
        );
    }
}

#[test]
fn of_a_request_more_than_anybody_means_are_dropped_and_a_section_that_is_none_is_refused() {
    let origin = Origin::answering(|_| Answer::text("well"));
    let faces = Faces::of(origin.address());
    let gateway = faces.behind(&ways(), "").keeps(faces).start();
    let many: String = (0..65).map(|number| format!("x-{number}: v\r\n")).collect();
    for way in ways() {
        let mut connection = gateway.client().connect();
        connection.write(request(way.name(), &many)).unwrap();
        connection.response("POST").unwrap().expect(200);
        assert_eq!(origin.last().trailers.len(), 0, "{way}");
        for section in [
            "no colon\r\n",
            "a: b\r\n fold\r\n",
            ": v\r\n",
            "a b: v\r\n",
            "a: \0\r\n",
        ] {
            let outcome = gateway.client().raw(request(way.name(), section));
            assert_eq!(outcome.status(), 400, "{way} {section:?}");
        }
    }
    let endless = "x".repeat(20 << 10);
    let outcome = gateway
        .client()
        .raw(request("h1", &format!("x: {endless}\r\n")));
    assert_eq!(outcome.status(), 400);
}

const RULES: &str =
    "remove = [\"X-Debug\"], set = { X-Env = \"prod\" }, add = { X-More = \"ours\" }";
const LISTENS: &str = "[[listener]]\nname = \"public\"\naddress = \"{listen}\"\nhttp2 = true\n";

const RULED: Speech = |mut respond| {
    Box::pin(async move {
        let mut answer = respond.send_response(Response::new(()), false).unwrap();
        answer.send_data("hello".into(), false).unwrap();
        let mut trailers = HeaderMap::new();
        for line in OTHERS.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            let name: http::HeaderName = name.parse().unwrap();
            trailers.append(name, value.parse().unwrap());
        }
        let _ = answer.send_trailers(trailers);
    })
};

/// What a route's rules and the gateway itself decide about, and one field more.
const OTHERS: &str = "X-Debug: 1\r\nX-Env: evil\r\nX-More: theirs\r\nServer: evil\r\nX-Trace-ID: evil\r\n\
    X-RateLimit-Limit: 999\r\nRateLimit: evil\r\nRateLimit-Policy: evil\r\nAccess-Control-Allow-Origin: *\r\n\
    X-Sum: 7\r\n";

#[test]
fn of_an_answer_say_nothing_that_rules_and_the_gateway_decide_about() {
    let head = CHUNKED.replace("OK\r\n", "OK\r\nConnection: X-Nom\r\nX-Nom: 1\r\n");
    let section = format!("{head}{OTHERS}X-Nom: 2\r\n\r\n");
    let raw = RawOrigin::saying(move |_| Says::text(&section));
    let streams = StreamOrigin::start("streams", Does::Speaks(RULED));
    // The rules are those of the last route.
    let way = raw_ways().last().unwrap();
    let rules = format!("response = {{ {RULES} }}\n");
    let gateway = raw
        .behind("")
        .append(&format!(
            "{rules}[upstream.ruled]\nendpoints = [{}]\nhttp_version = \"2\"\n\
             [[route]]\nid = \"ruled\"\npath = \"/ruled/**\"\nupstream = \"ruled\"\n{rules}{LISTENS}",
            endpoint(streams.address(), "")
        ))
        .start();
    let client = Http2::connect(gateway.listen());
    for way in [way, "ruled"] {
        let answer = client.get(&format!("/{way}/")).expect(200);
        assert_eq!(answer.header("x-env"), Some("prod"), "{way}");
        let trailers = answer.trailers.expect(way);
        assert_eq!(trailers.len(), 1, "{way}: {trailers:?}");
        assert_eq!(trailers["x-sum"], "7", "{way}");
        let taken = read(&gateway, way, ", TE\r\nTE: trailers");
        let (_, section) = taken.split_once("\r\n0\r\n").expect(way);
        assert_eq!(section.to_ascii_lowercase(), "x-sum: 7\r\n\r\n", "{way}");
    }
}

#[test]
fn of_a_request_say_nothing_that_rules_decide_about() {
    let origin = Origin::answering(|_| Answer::text("well"));
    for way in [Speaks::Http1, Speaks::Http2].map(|speaks| ways_of(speaks)[0]) {
        let faces = Faces::of(origin.address());
        let rules = format!("request = {{ {RULES} }}\n");
        let gateway = faces.behind(&[way], "").append(&rules);
        let gateway = gateway.keeps(faces).start();
        let said = "X-Debug: 1\r\nX-Env: evil\r\nX-More: theirs\r\nX-Sum: 7\r\n";
        let mut connection = gateway.client().connect();
        connection.write(request(way.name(), said)).unwrap();
        connection.response("POST").unwrap().expect(200);
        let seen = origin.last();
        assert_eq!(seen.values("x-env"), ["prod"], "{way}");
        let [(name, value)] = &seen.trailers[..] else {
            panic!("{way}: {seen:?}");
        };
        assert!(name.eq_ignore_ascii_case("x-sum") && value == "7", "{way}");
    }
}

fn with_trailers(mut respond: h2::server::SendResponse<bytes::Bytes>, trailers: HeaderMap) {
    let mut answer = respond.send_response(Response::new(()), false).unwrap();
    answer.send_data("hello".into(), false).unwrap();
    let _ = answer.send_trailers(trailers);
}

#[test]
fn of_an_answer_over_http2_are_bounded() {
    const MANY: Speech = |respond| {
        Box::pin(async move {
            let mut trailers = HeaderMap::new();
            for number in 0..65 {
                let name: http::HeaderName = format!("x-{number}").parse().unwrap();
                trailers.append(name, "v".parse().unwrap());
            }
            with_trailers(respond, trailers);
        })
    };
    const LONG: Speech = |respond| {
        Box::pin(async move {
            let mut trailers = HeaderMap::new();
            trailers.append("x-sum", "v".repeat(2 << 20).parse().unwrap());
            with_trailers(respond, trailers);
        })
    };
    for (speech, whole) in [(MANY, true), (LONG, false)] {
        let origins = Origins::saying("", Does::Speaks(speech));
        let gateway = origins.gateway();
        for way in STREAMS {
            let client = Http2::connect(gateway.listen());
            let answer = client.try_send(asking("GET", &format!("/{way}/")), None);
            match answer {
                Ok(answer) => {
                    assert_eq!(answer.reset.is_none(), whole, "{way}: {answer:?}");
                    assert_eq!(answer.trailers, None, "{way}");
                }
                Err(error) => assert!(!whole, "{way}: {error}"),
            }
        }
    }
}
