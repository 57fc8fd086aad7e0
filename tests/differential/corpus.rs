//! The corpus: requests, and what origins do with them.

use super::case::{ALL, Act, Asked, Case, Framed, Leaves, Only, answers, case, says, text, whole};

pub(super) fn corpus() -> Vec<Case> {
    [
        bodies_up(),
        bodies_down(),
        early(),
        broken_off(),
        interim(),
        empty(),
        trailers(),
        slow(),
        leaving(),
        further_tries(),
        second_tries(),
        fallbacks(),
        copies(),
        answer_heads(),
        request_heads(),
    ]
    .concat()
}

fn bodies_up() -> Vec<Case> {
    let sizes = [0, 1, 2, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1 << 20];
    let sized = sizes.map(|size| {
        let put = case(format!("echo-{size}")).put(size, Framed::Length);
        put.does(vec![Act::Echo]).with(text(size))
    });
    let chunks = [
        (0, 1),
        (1, 1),
        (2, 1),
        (2, 2),
        (600, 1),
        (4096, 4095),
        (4097, 4096),
        (8194, 4097),
        (65_537, 65_535),
        (65_537, 65_536),
        (1 << 20, 65_537),
    ];
    let chunked = chunks.map(|(size, piece)| {
        let put = case(format!("echo-{size}-by-{piece}")).put(size, Framed::Chunked);
        let put = put.pieces(piece).does(vec![Act::EchoChunks(piece)]);
        put.with(text(size))
    });
    let too_long = [Framed::Length, Framed::Chunked].map(|framed| {
        let put = case(format!("too-long-{framed:?}").to_lowercase());
        put.put((1 << 20) + 1, framed).pieces(65_536).gives(413)
    });
    [sized.to_vec(), chunked.to_vec(), too_long.to_vec()].concat()
}

fn bodies_down() -> Vec<Case> {
    let until_end = [0, 1, 4097, 100_000].map(|size| {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        let acts = vec![
            Act::Read(ALL),
            Act::Says([head, text(size)].concat()),
            Act::End,
        ];
        case(format!("until-end-{size}"))
            .does(acts)
            .with(text(size))
    });
    let pieces = vec![
        Act::Read(ALL),
        says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhe"),
        Act::Pause(10),
        says("llo\r\n1\r\n,\r\n0"),
        Act::Pause(10),
        says("\r\n\r\n"),
    ];
    let odd = case("chunks-in-odd-pieces").does(pieces).with("hello,");
    [until_end.to_vec(), vec![odd]].concat()
}

fn early() -> Vec<Case> {
    let refusal = whole(403, "no");
    let put = |name: &str| case(name).put(300_000, Framed::Length).pieces(16_384);
    vec![
        put("early-before-body")
            .does(vec![says(&refusal)])
            .gives(403)
            .with("no"),
        put("early-within-body")
            .does(vec![Act::Read(20_000), says(&refusal)])
            .gives(403)
            .with("no"),
        put("early-while-body-waits")
            .asking(|ask| ask.pauses = [30, 0])
            .does(vec![Act::Read(1), says(&refusal)])
            .gives(403)
            .with("no"),
        case("early-chunked")
            .put(100_000, Framed::Chunked)
            .pieces(4096)
            .does(vec![Act::Read(1000), says(&refusal)])
            .gives(403)
            .with("no"),
    ]
}

fn broken_off() -> Vec<Case> {
    let sized = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let after = |text: &str, end: Act| vec![Act::Read(ALL), says(text), Act::Pause(50), end];
    let cases = vec![
        case("reset-before-head")
            .does(vec![Act::Read(ALL), Act::Reset])
            .gives(502),
        case("end-before-head")
            .does(vec![Act::Read(ALL), Act::End])
            .gives(502),
        case("reset-before-head-of-post")
            .put(2000, Framed::Length)
            .method("POST")
            .does(vec![Act::Read(ALL), Act::Reset])
            .gives(502),
        case("reset-within-upload")
            .put(300_000, Framed::Length)
            .pieces(16_384)
            .asking(|ask| ask.pauses = [5, 0])
            .does(vec![Act::Read(1000), Act::Reset])
            .gives(502),
        case("reset-within-head")
            .does(after("HTTP/1.1 200 OK\r\nX-Cut", Act::Reset))
            .gives(502),
        case("end-within-head")
            .does(after("HTTP/1.1 200 OK\r\nX-Cut", Act::End))
            .gives(502),
        case("reset-behind-head").does(after(sized, Act::Reset)),
        case("end-behind-head").does(after(sized, Act::End)),
        case("reset-within-length").does(after(&format!("{sized}half"), Act::Reset)),
        case("end-within-length").does(after(&format!("{sized}half"), Act::End)),
        case("reset-within-chunk").does(after(&format!("{chunked}8\r\nhalf"), Act::Reset)),
        case("end-within-chunk").does(after(&format!("{chunked}8\r\nhalf"), Act::End)),
        case("end-between-chunks").does(after(&format!("{chunked}4\r\nhalf\r\n"), Act::End)),
    ];
    cases
        .into_iter()
        .map(|case| case.of(Asked::Fresh))
        .collect()
}

fn interim() -> Vec<Case> {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    let asks = "HTTP/1.1 100 Continue\r\n\r\n";
    let expecting = |name: &str| {
        let put = case(name).put(2000, Framed::Length);
        put.asking(|ask| ask.expects = true)
            .field("expect", "100-continue")
    };
    vec![
        case("hints").does(answers(format!("{hints}{hints}{}", whole(200, "well")))),
        case("hints-then-pause").does(vec![
            Act::Read(ALL),
            says(hints),
            Act::Pause(50),
            says(whole(200, "well")),
        ]),
        case("processing").does(answers(format!(
            "HTTP/1.1 102 Processing\r\n\r\n{}",
            whole(200, "well")
        ))),
        case("continue-unasked").does(answers(format!("{asks}{}", whole(200, "well")))),
        expecting("continue")
            .does(vec![says(asks), Act::Echo])
            .with(text(2000)),
        expecting("continue-by-the-gateway")
            .does(vec![Act::Echo])
            .with(text(2000)),
        expecting("continue-refused")
            .does(vec![says(whole(403, "no"))])
            .gives(403)
            .with("no"),
        case("reset-behind-hints")
            .of(Asked::Fresh)
            .does(vec![
                Act::Read(ALL),
                says(hints),
                Act::Pause(50),
                Act::Reset,
            ])
            .gives(502),
        case("upgrade-that-nobody-asked-for")
            .does(answers(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
            ))
            .only(Only::Http1Upstream)
            .gives(502),
    ]
}

fn empty() -> Vec<Case> {
    let head = |name: &str| case(name).method("HEAD");
    vec![
        head("head").does(answers("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")),
        head("head-chunked").does(answers(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        )),
        head("head-without-length").does(answers("HTTP/1.1 200 OK\r\n\r\n")),
        head("head-of-nothing")
            .does(answers("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"))
            .gives(404),
        case("no-content")
            .does(answers("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"))
            .gives(204)
            .with(""),
        case("not-modified")
            .does(answers(
                "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 100\r\n\r\n",
            ))
            .gives(304)
            .with(""),
        case("reset-content")
            .does(answers("HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n"))
            .gives(205)
            .with(""),
        case("nothing").does(answers(whole(200, ""))).with(""),
        case("nothing-chunked")
            .does(answers(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ))
            .with(""),
    ]
}

fn trailers() -> Vec<Case> {
    let trailed = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
                   4\r\nwell\r\n0\r\nx-sum: 7\r\nx-other: a\r\n\r\n";
    vec![
        case("trailers")
            .field("te", "trailers")
            .does(answers(trailed))
            .with("well")
            .trailed(&[("x-sum", "7"), ("x-other", "a")]),
        case("trailers-unasked").does(answers(trailed)).with("well"),
        case("trailers-of-nothing")
            .field("te", "trailers")
            .does(answers(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx-sum: 7\r\n\r\n",
            ))
            .with("")
            .trailed(&[("x-sum", "7")]),
        case("trailers-of-a-request")
            .put(2000, Framed::Chunked)
            .asking(|ask| ask.trailer = true)
            .does(vec![Act::Echo])
            .with(text(2000)),
    ]
}

fn slow() -> Vec<Case> {
    let mut trickle = vec![
        Act::Read(ALL),
        says("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"),
    ];
    for piece in text(20).chunks(4) {
        trickle.extend([Act::Pause(30), says(piece)]);
    }
    let silent = vec![Act::Read(ALL), Act::Hang];
    let stalled = vec![
        Act::Read(ALL),
        says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        Act::Hang,
    ];
    let large = "HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n".to_owned();
    vec![
        case("origin-trickles").does(trickle).with(text(20)),
        case("origin-thinks").does(vec![
            Act::Read(ALL),
            Act::Pause(200),
            says(whole(200, "well")),
        ]),
        case("client-trickles")
            .put(1000, Framed::Length)
            .pieces(200)
            .asking(|ask| ask.pauses = [30, 0])
            .does(vec![Act::Echo])
            .with(text(1000)),
        case("client-takes-its-time")
            .asking(|ask| ask.pauses = [0, 2])
            .does(answers([large.into_bytes(), text(400_000)].concat()))
            .with(text(400_000)),
        case("silent-origin")
            .of(Asked::Impatient)
            .does(silent.clone())
            .gives(504),
        case("origin-stalls-within-body")
            .of(Asked::Impatient)
            .does(stalled.clone()),
        case("deadline")
            .route("timeout = \"300ms\"")
            .does(silent)
            .gives(504),
        case("deadline-within-body")
            .route("timeout = \"300ms\"")
            .does(stalled),
    ]
}

fn leaving() -> Vec<Case> {
    let put = |name: &str, leaves: Leaves| {
        let put = case(name).put(300_000, Framed::Length).pieces(16_384);
        put.asking(|ask| (ask.leaves, ask.pauses) = (leaves, [10, 0]))
            .does(vec![Act::Read(ALL), Act::Hang])
            .gives(0)
    };
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    vec![
        put("leaves-before-body", Leaves::BeforeBody),
        put("leaves-within-body", Leaves::WithinBody),
        put("leaves-before-answer", Leaves::BeforeAnswer),
        case("leaves-while-nothing-comes")
            .asking(|ask| ask.leaves = Leaves::BeforeAnswer)
            .does(vec![Act::Read(ALL), Act::Hang])
            .gives(0),
        case("leaves-within-answer")
            .asking(|ask| ask.leaves = Leaves::WithinAnswer)
            .does(vec![Act::Read(ALL), says(half), Act::Hang]),
    ]
}

fn further_tries() -> Vec<Case> {
    let reset = || vec![Act::Read(ALL), Act::Reset];
    let busy = || answers(whole(503, "busy"));
    let good = || answers(whole(200, "well"));
    vec![
        case("retry-connect").of(Asked::Dead).with("well"),
        case("retry-connect-of-post")
            .put(2000, Framed::Length)
            .method("POST")
            .of(Asked::Dead)
            .does(vec![Act::Echo])
            .with(text(2000)),
        case("retry-reset")
            .of(Asked::Two)
            .does(reset())
            .then(good())
            .with("well"),
        case("retry-503")
            .of(Asked::Two)
            .does(busy())
            .then(good())
            .with("well"),
        case("retry-503-in-vain")
            .of(Asked::Two)
            .does(busy())
            .gives(503)
            .with("busy"),
        case("retry-with-body")
            .of(Asked::Two)
            .put(4096, Framed::Length)
            .does(reset())
            .then(vec![Act::Echo])
            .with(text(4096)),
        case("retry-with-chunks")
            .of(Asked::Two)
            .put(4096, Framed::Chunked)
            .pieces(1000)
            .does(busy())
            .then(vec![Act::EchoChunks(1000)])
            .with(text(4096)),
        case("retry-with-a-body-too-long-to-keep")
            .of(Asked::Two)
            .put(70_000, Framed::Length)
            .does(reset())
            .gives(502),
        case("no-retry-of-post")
            .of(Asked::Two)
            .put(10, Framed::Length)
            .method("POST")
            .does(reset())
            .gives(502),
        case("no-retry-once-it-began").of(Asked::Two).does(vec![
            Act::Read(ALL),
            says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
            Act::Pause(50),
            Act::Reset,
        ]),
        case("nobody").of(Asked::Nobody).gives(502),
    ]
}

fn second_tries() -> Vec<Case> {
    let silent = || vec![Act::Read(ALL), Act::Hang];
    let late = || vec![Act::Read(ALL), Act::Pause(250), says(whole(200, "late"))];
    let soon = |name: &str| case(name).of(Asked::Soon).only(Only::Hedged);
    vec![
        soon("second-wins")
            .does(silent())
            .then(answers(whole(200, "second")))
            .with("second"),
        soon("first-wins").does(late()).then(silent()).with("late"),
        soon("second-wins-with-body")
            .put(4096, Framed::Chunked)
            .pieces(1000)
            .does(silent())
            .then(vec![Act::EchoChunks(1000)])
            .with(text(4096)),
        soon("second-is-busy")
            .does(late())
            .then(answers(whole(503, "busy")))
            .with("late"),
        soon("second-breaks-off")
            .does(late())
            .then(vec![Act::Read(ALL), Act::Reset])
            .with("late"),
    ]
}

fn fallbacks() -> Vec<Case> {
    let fixed = "fallback = { on = [\"no_endpoint\", \"reset\", \"503\"], status = 203, text = \"instead\" }";
    let spare =
        "fallback = { on = [\"no_endpoint\", \"reset\", \"503\"], upstream = \"{way}-spare\" }";
    let across =
        "fallback = { on = [\"no_endpoint\", \"reset\", \"503\"], upstream = \"{other}-spare\" }";
    let kept = "fallback = { on = [\"no_endpoint\", \"reset\", \"503\"], last_good = {} }";
    let reset = || vec![Act::Read(ALL), Act::Reset];
    let busy = || answers(whole(503, "busy"));
    let instead = |name: &str| case(name).gives(203).with("instead").route(fixed);
    let elsewhere = |name: &str, route: &str| case(name).with("spare").route(route);
    vec![
        instead("fixed-for-nobody").of(Asked::Nobody),
        instead("fixed-for-reset").of(Asked::Fresh).does(reset()),
        instead("fixed-for-503").does(busy()),
        instead("fixed-for-503-of-post")
            .put(2000, Framed::Length)
            .method("POST")
            .does(busy()),
        instead("fixed-for-head")
            .method("HEAD")
            .of(Asked::Nobody)
            .with(""),
        elsewhere("spare-for-nobody", spare).of(Asked::Nobody),
        elsewhere("spare-for-reset", spare)
            .of(Asked::Fresh)
            .does(reset()),
        elsewhere("spare-for-503", spare).does(busy()),
        elsewhere("spare-with-body", spare)
            .put(4096, Framed::Length)
            .does(busy()),
        elsewhere("spare-with-chunks", spare)
            .put(4096, Framed::Chunked)
            .of(Asked::Nobody),
        elsewhere("across-for-nobody", across).of(Asked::Nobody),
        elsewhere("across-for-reset", across)
            .of(Asked::Fresh)
            .does(reset()),
        elsewhere("across-with-chunks", across)
            .put(4096, Framed::Chunked)
            .pieces(1000)
            .does(busy()),
        case("last-good")
            .asking(|ask| ask.times = 2)
            .route(kept)
            .does(answers(whole(200, "good")))
            .then(busy())
            .with("good"),
        case("last-good-of-chunks")
            .of(Asked::Fresh)
            .asking(|ask| ask.times = 2)
            .route(kept)
            .does(answers(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ngo\r\n2\r\nod\r\n0\r\n\r\n",
            ))
            .then(reset())
            .with("good"),
    ]
}

fn copies() -> Vec<Case> {
    let mirror =
        "mirror = { upstream = \"{way}-shadow\", methods = [\"GET\", \"PUT\"], in_flight = 10000 }";
    let copied = |name: &str| case(name).route(mirror);
    vec![
        copied("copy"),
        copied("copy-with-body")
            .put(4096, Framed::Length)
            .does(vec![Act::Echo])
            .with(text(4096)),
        copied("copy-with-chunks")
            .put(4097, Framed::Chunked)
            .pieces(1000)
            .does(vec![Act::Echo])
            .with(text(4097)),
        copied("copy-of-what-is-too-long")
            .put(70_000, Framed::Length)
            .does(vec![Act::Echo])
            .with(text(70_000)),
        copied("copy-of-what-fails").of(Asked::Nobody).gives(502),
    ]
}

fn answer_heads() -> Vec<Case> {
    let with = |fields: &str| {
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 4\r\n\r\nwell").into_bytes()
    };
    let odd = |name: &str, fields: &str| case(name).does(answers(with(fields))).with("well");
    let latin = [
        b"HTTP/1.1 200 OK\r\nX-Latin: caf\xe9\r\n".to_vec(),
        b"Content-Length: 4\r\n\r\nwell".to_vec(),
    ];
    let garbled = |name: &str, text: &str| {
        case(name)
            .does(answers(text))
            .only(Only::Http1Upstream)
            .gives(502)
    };
    let status = [299, 400, 418, 451, 500, 599].map(|status| {
        case(format!("status-{status}"))
            .does(answers(whole(status, "well")))
            .gives(status)
            .with("well")
    });
    let mut cases = vec![
        odd(
            "repeated-fields",
            "X-A: 1\r\nX-B: 2\r\nX-A: 3\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n",
        ),
        odd("empty-field", "X-Empty:\r\nX-Blank:    \r\n"),
        odd("what-the-gateway-says-itself", "X-Fallback: fixed\r\n"),
        odd(
            "date-and-server",
            "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer: other/1\r\n",
        ),
        odd(
            "fields-of-the-connection",
            "Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n",
        )
        .only(Only::Http1Upstream),
        odd("200-fields", &"A: b\r\n".repeat(199)),
        odd("257-fields", &"A: b\r\n".repeat(257)).gives(502),
        odd(
            "40-kib-of-fields",
            &format!("X-Long: {}\r\n", "x".repeat(40_000)),
        ),
        odd(
            "70-kib-of-fields",
            &format!("X-Long: {}\r\n", "x".repeat(70_000)),
        )
        .gives(502),
        case("latin-field")
            .does(answers(latin.concat()))
            .with("well")
            .only(Only::Http1Upstream),
        garbled("garbage", "rubbish\r\n\r\n"),
        garbled(
            "two-lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        ),
        garbled(
            "status-999",
            "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
        ),
        garbled(
            "folded",
            "HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        ),
    ];
    for name in ["257-fields", "70-kib-of-fields"] {
        let refused = cases.iter_mut().find(|case| case.name == name);
        refused.expect("it stands above").body = None;
    }
    cases.extend(status);
    cases
}

fn request_heads() -> Vec<Case> {
    let many =
        |name: &str, count: usize| (0..count).fold(case(name), |case, _| case.field("x-many", "1"));
    vec![
        case("fields-of-a-request")
            .field("x-a", "1")
            .field("x-b", "2")
            .field("x-a", "3")
            .field("accept", "text/plain")
            .field("x-forwarded-for", "192.0.2.1")
            .field("x-fallback", "fixed"),
        case("cookies-of-a-request")
            .field("cookie", "a=1")
            .field("cookie", "b=2"),
        many("101-fields-of-a-request", 101).gives(431),
        case("17-kib-of-a-request")
            .field("x-long", "x".repeat(17_000))
            .gives(431),
        case("9-kib-of-target")
            .asking(|ask| ask.query = format!("?{}", "x".repeat(9000)))
            .gives(414),
        case("query").asking(|ask| ask.query = "?a=b%20c&d=%2F&e".to_owned()),
        case("options").method("OPTIONS"),
        case("delete-with-body")
            .put(10, Framed::Length)
            .method("DELETE")
            .does(vec![Act::Echo])
            .with(text(10)),
    ]
}
