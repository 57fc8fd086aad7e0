//! Answers that go out no faster than they may, over both protocols, however they are framed and whoever forwards them.

use std::time::{Duration, Instant};

use crate::harness::{Answer, Gateway, Http2, Origin, millis, seconds};

/// 100 KiB a second, of which 10 KiB may go at once.
const LIMIT: &str = "algorithm = \"bandwidth\"\nrate = \"100KiB/s\"\nburst_bytes = \"10KiB\"\n";
const SIZE: usize = 80 << 10;

fn gateway(key: &str, origin: &Origin, keys: &str) -> Gateway {
    Gateway::with(&format!(
        "[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n\
         [limit.slow]\nkey = \"{key}\"\n{LIMIT}\n\
         [upstream.o]\nendpoints = [{{ address = \"{{{name}}}\" }}]\n\
         [[route]]\nid = \"r\"\npath = \"/**\"\nupstream = \"o\"\nlimits = [\"slow\"]\n{keys}\n",
        name = origin.name()
    ))
    .to(origin)
    .start()
}

/// Everything but the burst takes its time: at 100 KiB a second 70 KiB take 0.7 s.
fn paced(took: Duration) {
    assert!(took >= millis(620), "too fast: {took:?}");
    assert!(took < seconds(4), "too slow: {took:?}");
}

#[test]
fn an_answer_goes_out_at_its_rate() {
    let body = "x".repeat(SIZE);
    let pieces: Vec<String> = (0..8).map(|_| "y".repeat(SIZE / 8)).collect();
    let origin = Origin::answering(move |seen| {
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        match seen.target.as_str() {
            "/chunked" => Answer::chunked(&pieces),
            _ => Answer::text(&body),
        }
    });
    let gateway = gateway("response", &origin, "");
    for path in ["/whole", "/chunked"] {
        let began = Instant::now();
        let answer = gateway.client().get(path).patience(seconds(10)).send();
        assert_eq!(answer.expect(200).text().len(), SIZE, "{path}");
        paced(began.elapsed());
        let began = Instant::now();
        let answer = Http2::connect(gateway.listen()).get(path).expect(200);
        assert_eq!(answer.text().len(), SIZE, "{path}");
        paced(began.elapsed());
    }
    // A field of the connection alone: the head of such a request is changed on its way.
    for path in ["/whole", "/chunked"] {
        let began = Instant::now();
        let client = gateway.client();
        let request = client.get(path).header("TE", "trailers");
        let answer = request.patience(seconds(10)).send().expect(200);
        assert_eq!(answer.text().len(), SIZE, "{path}");
        paced(began.elapsed());
    }
    let labels = [("limit", "slow"), ("outcome", "delayed")];
    gateway.wait_for_metric("gateway_limit_decisions_total", &labels, 6.0);
}

#[test]
fn answers_of_one_client_share_what_they_may() {
    let body = "x".repeat(SIZE / 2);
    let origin = Origin::answering(move |_| Answer::text(&body));
    let gateway = gateway("client_ip", &origin, "");
    let began = Instant::now();
    let client = gateway.client();
    let mut both = [client.get("/a").begin(), client.get("/b").begin()];
    for connection in &mut both {
        connection.patience(seconds(10));
        assert_eq!(connection.response("GET").unwrap().text().len(), SIZE / 2);
    }
    paced(began.elapsed());
    // Another client has a pace of its own.
    let began = Instant::now();
    client.from(2).get("/c").send().expect(200);
    assert!(began.elapsed() < millis(620), "{:?}", began.elapsed());
}

#[test]
fn an_answer_of_the_gateway_s_own_is_paced_too() {
    let text = format!(
        "[limit.slow]\nkey = \"response\"\n{LIMIT}\n[[route]]\nid = \"r\"\npath = \"/\"\nlimits = [\"slow\"]\n\
         respond = {{ text = \"{}\" }}\n",
        "z".repeat(SIZE)
    );
    let gateway = Gateway::with(&text).start();
    let began = Instant::now();
    let answer = gateway.client().get("/").patience(seconds(10)).send();
    assert_eq!(answer.expect(200).text().len(), SIZE);
    paced(began.elapsed());
}

#[test]
fn what_waits_does_not_pile_up_in_the_gateway() {
    let body = "x".repeat(8 << 20);
    let origin = Origin::answering(move |_| Answer::text(&body));
    let gateway = gateway("response", &origin, "timeout = \"4s\"");
    let before = gateway.rss();
    let mut waiting: Vec<_> = (0..4)
        .map(|_| gateway.client().get("/big").begin())
        .collect();
    std::thread::sleep(millis(800));
    let grown = gateway.rss().saturating_sub(before);
    assert!(grown < 12 << 10, "{grown} KiB for four answers that wait");
    let busy = gateway.cpu();
    std::thread::sleep(millis(500));
    let busy = gateway.cpu() - busy;
    assert!(busy < millis(150), "waiting is not work: {busy:?}");
    // The deadline of the exchange holds.
    for connection in &mut waiting {
        connection.patience(seconds(10));
        let answer = connection.response("GET");
        let answer = answer.map(|answer| (answer.status, answer.body.complete));
        let cut = matches!(answer, Err(_) | Ok((200, false)));
        assert!(cut, "cut off at its deadline: {answer:?}");
    }
}

#[test]
fn a_paced_answer_keeps_its_head_start() {
    let origin = Origin::answering(|_| Answer::text("small"));
    let gateway = gateway("response", &origin, "");
    let began = Instant::now();
    for _ in 0..10 {
        gateway.client().get("/").send().expect(200);
    }
    assert!(began.elapsed() < seconds(2), "{:?}", began.elapsed());
}
