//! A body whose endpoint goes away in the middle of it goes on to the next, from its beginning and to its end.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::elsewhere;
use crate::harness::{
    Answer, Faces, Gateway, Http2, LATE, Origin, Way, asking, holds_within, seconds, ways,
};
use crate::upstream::endpoint;

/// The pieces in which a client sends its body, each when it is told to.
const PIECE: usize = 200;

/// An endpoint of HTTP/1 that resets its connection once more than so many bytes came behind a head.
struct Cutter {
    address: SocketAddr,
    begun: Arc<AtomicUsize>,
}

impl Cutter {
    fn after(bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let begun = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&begun);
        std::thread::spawn(move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                let begun = Arc::clone(&counting);
                std::thread::spawn(move || {
                    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
                    let mut head = None;
                    while head.is_none_or(|head| read.len() <= head + bytes) {
                        let Ok(length @ 1..) = socket.read(&mut piece) else {
                            return;
                        };
                        read.extend_from_slice(&piece[..length]);
                        let end = read.windows(4).position(|four| four == b"\r\n\r\n");
                        if let (None, Some(end)) = (head, end) {
                            head = Some(end + 4);
                            begun.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    let socket = socket2::SockRef::from(&socket);
                    let _ = socket.set_linger(Some(Duration::ZERO));
                });
            }
        });
        Self { address, begun }
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

/// One that cuts at once, one that cuts in the second piece, and one that answers.
struct World {
    early: Cutter,
    late: Cutter,
    good: Origin,
    shadow: Origin,
}

impl World {
    fn new() -> Self {
        let well = |name| Origin::scripted(name, |_| Answer::text("well"));
        Self {
            early: Cutter::after(0),
            late: Cutter::after(PIECE * 3 / 2),
            good: well("good"),
            shadow: well("shadow"),
        }
    }

    fn start(&self) -> Gateway {
        let mut text = format!(
            "[server]\nthreads = 1\n[server.client]\nmax_body = \"{}B\"\n\
             [[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n\
             [upstream.shadow]\nendpoints = [{}]\n",
            3 * PIECE,
            endpoint(self.shadow.address(), "")
        );
        let addresses = [self.early.address, self.late.address, self.good.address()];
        let faces = addresses.map(Faces::of);
        for way in ways() {
            text += &upstreams(way, faces.each_ref().map(|faces| faces.over(way)));
        }
        for (way, other) in elsewhere() {
            text += &format!(
                "[[route]]\npath = \"/{way}/{other}/**\"\nupstream = \"{way}_early\"\n\
                 fallback = {{ upstream = \"{other}_late\", on = [\"reset\"] }}\n\
                 mirror = {{ upstream = \"shadow\", methods = [\"PUT\"], in_flight = 1000 }}\n"
            );
        }
        let gateway = Gateway::with(&text).file("face.pem", Faces::ca());
        gateway.keeps(faces).start()
    }

    /// How many requests began at the one that cuts in the second piece, and at the one that answers.
    fn begun(&self) -> [usize; 2] {
        let good = self.good.bytes();
        let heads = good.windows(5).filter(|five| *five == b"PUT /").count();
        [self.late.begun(), heads]
    }

    /// The bodies with which `path` reached the one that answers, and the one that gets copies.
    fn reached(&self, path: &str) -> [Vec<Vec<u8>>; 2] {
        [&self.good, &self.shadow].map(|origin| {
            let seen = origin.seen().into_iter().filter(|seen| seen.target == path);
            seen.map(|seen| seen.body).collect()
        })
    }
}

/// The first upstream of one way, whose endpoint cuts at once, and the one that takes over: it cuts later, and retries.
fn upstreams(way: Way, [early, late, good]: [String; 3]) -> String {
    let one = |name: &str, endpoints: [String; 2], attempts: u32| {
        let more = format!(
            "passive = {{ max_fails = 0 }}\ntimeout = {{ request = \"8s\" }}\n\
             retry = {{ attempts = {attempts}, methods = [\"PUT\"], backoff = \"1ms\", budget = \"100%\" }}"
        );
        way.upstream(&format!("{way}_{name}"), &endpoints, LATE, &more)
    };
    one("early", [early, way.nowhere()], 0) + &one("late", [late, good], 2)
}

/// Sends each piece once whoever is to begin with the request before has begun, or after a while: then the answer tells.
fn pieces(world: &World, body: &[u8], mut send: impl FnMut(&[u8], bool)) {
    let before = world.begun();
    let parts: Vec<&[u8]> = body.chunks(PIECE).collect();
    send(parts[0], false);
    holds_within(seconds(3), || world.begun()[0] > before[0]);
    send(parts[1], false);
    holds_within(seconds(3), || world.begun()[1] > before[1]);
    send(parts[2], true);
}

fn over_http1(gateway: &Gateway, world: &World, path: &str, chunked: bool, body: &[u8]) -> u16 {
    let mut connection = gateway.client().connect();
    let framing = match chunked {
        true => "Transfer-Encoding: chunked".to_owned(),
        false => format!("Content-Length: {}", body.len()),
    };
    let head = format!("PUT {path} HTTP/1.1\r\nHost: gateway.test\r\n{framing}\r\n\r\n");
    connection.write(head).unwrap();
    pieces(world, body, |piece, last| {
        let mut bytes = piece.to_vec();
        if chunked {
            bytes = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
            bytes.extend_from_slice(if last { b"0\r\n\r\n" } else { b"" });
        }
        let _ = connection.write(bytes);
    });
    connection.response("PUT").map_or(0, |answer| answer.status)
}

fn over_http2(client: &Http2, world: &World, path: &str, chunked: bool, body: &[u8]) -> u16 {
    let mut request = asking("PUT", path);
    if !chunked {
        request = request.header("content-length", body.len());
    }
    let mut asked = client.begin(request.body(()).unwrap(), true);
    pieces(world, body, |piece, last| {
        let _ = asked.body.send_data(piece.to_vec().into(), last);
    });
    asked.wait().map_or(0, |answer| answer.status)
}

#[test]
fn goes_on_from_one_endpoint_and_one_upstream_to_the_next() {
    let world = World::new();
    let gateway = world.start();
    let client = Http2::connect(gateway.listen());
    let body: Vec<u8> = (0..3 * PIECE).map(|at| (at * 7 % 251) as u8).collect();
    let mut wrong = Vec::new();
    for (way, other) in elsewhere() {
        for (protocol, chunked) in [(1, true), (1, false), (2, true), (2, false)] {
            let path = format!("/{way}/{other}/{protocol}/{chunked}");
            let status = match protocol {
                1 => over_http1(&gateway, &world, &path, chunked, &body),
                _ => over_http2(&client, &world, &path, chunked, &body),
            };
            let expected = [vec![body.clone()], vec![body.clone()]];
            if status != 200 || !holds_within(seconds(2), || world.reached(&path) == expected) {
                let lengths = world
                    .reached(&path)
                    .map(|each| each.iter().map(Vec::len).collect::<Vec<_>>());
                wrong.push(format!("{path}: {status}, {lengths:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
