//! Ten thousand requests over memory, and the same over sockets: same answers, same records.

use std::collections::BTreeMap;

use serde_json::Value;
use tollgate::gateway::internal::Parts;

use super::gateway::{Asked, Inside};
use super::harness::{
    Answer, Client, Connection, Does, Http2, Metrics, Origin, StreamOrigin, asking, eventually,
    millis, reserve, seconds,
};

const REQUESTS: usize = 10_000;

/// What is different by nature: moments, times, names of one request, and what concerns a connection.
const OF_ITS_OWN: [&str; 6] = [
    "date",
    "x-trace-id",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "x-ratelimit-reset",
];

/// An answer, without what differs by nature.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Whole {
        status: u16,
        fields: Vec<(String, String)>,
        body: String,
        trailers: Vec<(String, String)>,
    },
    Cut,
}

impl Got {
    fn whole(
        status: u16,
        fields: Vec<(String, String)>,
        body: &[u8],
        trailers: Vec<(String, String)>,
    ) -> Self {
        let mut fields: Vec<_> = fields
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        let trace = fields.iter().find(|(name, _)| name == "x-trace-id");
        let trace = trace.map_or(String::new(), |(_, value)| value.clone());
        assert!(!trace.is_empty(), "every answer has a trace");
        fields.retain(|(name, _)| !OF_ITS_OWN.contains(&name.as_str()));
        fields.sort();
        Self::Whole {
            status,
            fields,
            body: String::from_utf8_lossy(body).replace(&trace, "TRACE"),
            trailers,
        }
    }
}

fn pairs(map: &http::HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    map.iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

/// The requests, one after the other: each kind comes round again, with other bodies.
fn asked(index: usize) -> Asked {
    let length = [0, 1, 100, 5_000, 40_000, 70_000][index / KINDS % 6];
    // What takes its time comes seldom.
    let is_rare = (index / KINDS).is_multiple_of(20);
    let token = "Bearer eyJhbGciOiJIUzI1NiJ9.e30.bm8";
    match index % KINDS {
        0 => Asked::new("GET", format!("/plain/{index}?q=1")),
        1 => Asked::new("HEAD", "/plain/head"),
        2 => Asked::new("POST", "/plain/post").body(length),
        3 => Asked::new("GET", "/plain/204"),
        4 => Asked::new("GET", "/plain/chunked"),
        5 => Asked::new("GET", "/plain/304"),
        6 => Asked::new("GET", "/nowhere"),
        7 => Asked::new("DELETE", "/gets"),
        8 => Asked::new("GET", "/private"),
        9 => Asked::new("GET", "/private").field("authorization", token),
        10 => Asked::new("POST", "/small").body(length),
        11 => Asked::new("GET", "/limited"),
        12 => Asked::new("GET", "/denied"),
        13 => Asked::new("GET", "/flaky"),
        14 => Asked::new("GET", "/fallen"),
        15 => Asked::new("GET", "/down"),
        16 => Asked::new("GET", "/streams/get").http2(),
        17 => Asked::new("POST", "/streams/post").body(length).http2(),
        18 => Asked::new("GET", "/streams/get"),
        19 => Asked::new("POST", "/streams/post").body(length),
        20 => Asked::new("GET", "/own"),
        21 => Asked::new("GET", "/moved/away?x=1"),
        22 => Asked::new("GET", "/plain/a%2fb"),
        23 => Asked::new("GET", "/plain/filtered").field("origin", "https://there.test"),
        24 => Asked::new("PUT", "/plain/put").body(length).http2(),
        25 => Asked::new("HEAD", "/streams/head").http2(),
        26 => Asked::new("GET", "/refused").http2(),
        27 if is_rare => Asked::new("GET", "/plain/silent").field("x-request-deadline", "30"),
        28 if is_rare => Asked::new("GET", "/plain/broken"),
        // Not tried again: so there is always room in the budget of second tries, wherever a second ends.
        28 => Asked::new("POST", "/flaky"),
        _ => Asked::new("OPTIONS", "/plain/options").field("x-hop", "1"),
    }
}

const KINDS: usize = 29;

fn toml(http1: &Origin, flaky: &Origin, streams: &StreamOrigin) -> String {
    let nobody = reserve();
    format!(
        r#"
        [upstream.plain]
        endpoints = [{{ address = "{http1}" }}]
        passive = {{ max_fails = 0 }}
        [upstream.flaky]
        endpoints = [{{ address = "{flaky}" }}, {{ address = "{http1}", backup = true }}]
        passive = {{ max_fails = 0 }}
        retry = {{ attempts = 1, on = ["503"], budget = "100%", backoff = "0ms" }}
        [upstream.nobody]
        endpoints = [{{ address = "{nobody}" }}]
        passive = {{ max_fails = 0 }}
        retry = {{ attempts = 0 }}
        [upstream.streams]
        endpoints = [{{ address = "{streams}" }}]
        http_version = "2"
        passive = {{ max_fails = 0 }}
        [auth.app]
        type = "jwt"
        algorithms = ["HS256"]
        secret = "a secret of this test, long enough for HS256"
        [limit.few]
        key = "route"
        algorithm = "quota"
        quota = 200
        window = "day"
        [[route]]
        id = "plain"
        path = "/plain/**"
        upstream = "plain"
        max_body = "1MiB"
        response = {{ set = {{ X-Set = "here" }} }}
        [[route]]
        id = "gets"
        path = "/gets"
        methods = ["GET"]
        upstream = "plain"
        [[route]]
        id = "private"
        path = "/private"
        auth = ["app"]
        upstream = "plain"
        [[route]]
        id = "small"
        path = "/small"
        max_body = "1KiB"
        upstream = "plain"
        [[route]]
        id = "limited"
        path = "/limited"
        limits = ["few"]
        upstream = "plain"
        [[route]]
        id = "denied"
        path = "/denied"
        deny_ips = ["127.0.0.0/8"]
        upstream = "plain"
        [[route]]
        id = "flaky"
        path = "/flaky"
        upstream = "flaky"
        [[route]]
        id = "fallen"
        path = "/fallen"
        upstream = "nobody"
        fallback = {{ on = ["no_endpoint"], status = 200, json = {{ degraded = true }} }}
        [[route]]
        id = "down"
        path = "/down"
        upstream = "nobody"
        [[route]]
        id = "streams"
        path = "/streams/**"
        upstream = "streams"
        [[route]]
        id = "own"
        path = "/own"
        respond = {{ text = "mine" }}
        [[route]]
        id = "moved"
        path = "/moved/**"
        respond = {{ status = 308, redirect = "https://{{host}}{{path}}" }}
        [[route]]
        id = "refused"
        path = "/refused"
        auth = ["app"]
        upstream = "streams"
        "#,
        http1 = http1.address(),
        flaky = flaky.address(),
        streams = streams.address(),
    )
}

fn origins() -> (Origin, Origin, StreamOrigin) {
    let plain = Origin::answering(|seen| match seen.target.as_str() {
        "/plain/204" => Answer::status(204),
        "/plain/304" => Answer::status(304).header("ETag", "\"a\""),
        "/plain/chunked" => Answer::chunked(&["some ", "pieces", ""]),
        "/plain/silent" => Answer::silence(),
        "/plain/broken" => Answer::broken_off(),
        _ => Answer::text(format!("{} {}", seen.method, seen.body.len())).header("X-Two", "1"),
    });
    let flaky = Origin::answering(|_| Answer::status(503));
    let streams = StreamOrigin::start("streams", Does::Answers(millis(0)));
    (plain, flaky, streams)
}

/// A client of each protocol, with connections that it keeps.
struct Sockets {
    client: Client,
    connection: Connection,
    http2: Http2,
}

impl Sockets {
    fn new(gateway: &Inside) -> Self {
        let client = Client::to(gateway.address);
        Self {
            connection: client.connect(),
            client,
            http2: Http2::connect(gateway.address),
        }
    }

    fn ask(&mut self, asked: &Asked) -> Got {
        if asked.http2 {
            return self.ask_stream(asked);
        }
        let mut request = self.connection.request(asked.method, &asked.target);
        for (name, value) in &asked.fields {
            request = request.header(name, value);
        }
        if !asked.body.is_empty() {
            request = request.body(&asked.body);
        }
        let answer = request.send();
        let closes = answer.header("connection") == Some("close");
        if closes || !answer.body.complete {
            self.connection = self.client.connect();
        }
        if !answer.body.complete {
            return Got::Cut;
        }
        Got::whole(
            answer.status,
            answer.headers,
            &answer.body.bytes,
            Vec::new(),
        )
    }

    fn ask_stream(&self, asked: &Asked) -> Got {
        let mut request = asking(asked.method, &asked.target);
        for (name, value) in &asked.fields {
            request = request.header(*name, value);
        }
        if !asked.body.is_empty() {
            request = request.header("content-length", asked.body.len());
        }
        let body = (!asked.body.is_empty()).then_some(&asked.body[..]);
        let answer = self.http2.send(request, body);
        if answer.reset.is_some() {
            return Got::Cut;
        }
        let trailers = answer.trailers.as_ref().map(pairs).unwrap_or_default();
        Got::whole(
            answer.status,
            pairs(&answer.headers),
            &answer.body,
            trailers,
        )
    }
}

fn over_memory(gateway: &Inside, asked: &Asked) -> Got {
    let Ok(answer) = gateway.ask(gateway.request(asked, Parts::ALL)) else {
        return Got::Cut;
    };
    let mut trailers = answer.trailers.as_ref().map(pairs).unwrap_or_default();
    if !asked.http2 {
        // A client of HTTP/1 is not sent those it did not ask for.
        trailers.clear();
    }
    let (head, _) = answer.head.into_parts();
    Got::whole(
        head.status.as_u16(),
        pairs(&head.headers),
        &answer.body,
        trailers,
    )
}

/// What was counted, by series; times by how many there were.
fn counted(gateway: &Inside) -> BTreeMap<String, f64> {
    let metrics = Metrics::parse(&gateway.counts());
    let timed = |name: &str| {
        ["_bucket", "_sum"].iter().any(|end| name.ends_with(end))
            || name.starts_with("gateway_internal_")
            || name.starts_with("gateway_connections_")
            || name.starts_with("gateway_config_")
            || name.starts_with("gateway_limit_keys")
    };
    let samples = metrics.samples.iter().filter(|sample| !timed(&sample.name));
    samples
        .map(|sample| (format!("{}{:?}", sample.name, sample.labels), sample.value))
        .collect()
}

fn grown(after: &BTreeMap<String, f64>, before: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let before = |name: &String| before.get(name).copied().unwrap_or_default();
    let more = after
        .iter()
        .map(|(name, value)| (name.clone(), value - before(name)));
    more.filter(|(_, more)| *more != 0.0).collect()
}

/// An access line, without what differs by nature.
fn told(line: &Value) -> Value {
    let mut line = line.clone();
    let fields = line.as_object_mut().unwrap();
    for name in [
        "timestamp",
        "trace_id",
        "duration_ms",
        "upstream_ms",
        "batch",
    ] {
        fields.remove(name);
    }
    for attempt in fields.get_mut("tries").into_iter().flat_map(tries) {
        attempt.remove("ms");
    }
    line
}

fn tries(list: &mut Value) -> impl Iterator<Item = &mut serde_json::Map<String, Value>> {
    let each = list.as_array_mut().into_iter().flatten();
    each.filter_map(Value::as_object_mut)
}

#[test]
fn over_memory_as_over_sockets_ten_thousand_times() {
    let (plain, flaky, streams) = origins();
    let toml = toml(&plain, &flaky, &streams);
    let (one, other) = (Inside::start(&toml), Inside::start(&toml));
    let before = [counted(&one), counted(&other)];
    let mut sockets = Sockets::new(&one);
    for index in 0..REQUESTS {
        let asked = asked(index);
        let expected = sockets.ask(&asked);
        let got = over_memory(&other, &asked);
        assert_eq!(got, expected, "{index}: {} {}", asked.method, asked.target);
    }
    eventually(seconds(10), "everything is over", || {
        one.is_idle() && other.is_idle()
    });
    let [more, same] = [&one, &other].map(counted);
    assert_eq!(grown(&same, &before[1]), grown(&more, &before[0]));
    let [lines, others] = [one.lines(), other.lines()];
    assert_eq!((lines.len(), others.len()), (REQUESTS, REQUESTS));
    for (index, (line, other)) in lines.iter().zip(&others).enumerate() {
        assert_eq!(told(line), told(other), "{index}");
        assert_eq!(line.get("batch"), None, "{line}");
        assert_eq!(other["batch"], other["trace_id"], "{other}");
    }
    let metrics = Metrics::parse(&other.counts());
    let internal = "gateway_internal_requests_total";
    assert_eq!(metrics.sum(internal, &[("kind", "batch")]), REQUESTS as f64);
    assert!(!Metrics::parse(&one.counts()).has(internal, &[]));
    // The road was the whole one: every way out of it was taken.
    for reason in [
        "route_not_found",
        "method_not_allowed",
        "token_missing",
        "token_invalid",
        "body_too_large",
        "rate_limited",
        "ip_denied",
        "upstream_connect",
        "path_ambiguous",
        "deadline_exceeded",
    ] {
        let refused = metrics.sum("gateway_refused_total", &[("reason", reason)]);
        assert!(refused > 0.0, "{reason}");
    }
    assert!(metrics.sum("gateway_upstream_retries_total", &[]) > 0.0);
}
