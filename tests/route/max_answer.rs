//! Answers of upstreams that are longer than a route lets through: refused where they say so, cut off where they do not,
//! on every way and for clients of either protocol.

use serde_json::json;

use crate::harness::{
    Answer, Client, Faces, Gateway, Http2, Origin, Seen, asking, eventually, seconds, ways,
};

/// Most bytes that the routes of these tests let through.
const MOST: usize = 1000;

/// Answers `/says/N` and `/chunks/N` with so many bytes, and `/same/N` with the head alone of so many.
fn origin() -> Origin {
    Origin::answering(|seen: &Seen| {
        let mut parts = seen.target.split('/').skip(1);
        let kind = parts.next().unwrap_or_default();
        let length: usize = parts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let body = "x".repeat(length);
        match kind {
            "chunks" => {
                let pieces: Vec<&str> = body.as_bytes().chunks(90).map(text).collect();
                Answer::chunked(&pieces)
            }
            "same" => Answer::status(304).header("Content-Length", &length.to_string()),
            "down" => Answer::status(503),
            _ => Answer::text(body),
        }
    })
}

fn text(piece: &[u8]) -> &str {
    std::str::from_utf8(piece).unwrap()
}

/// A route for each way, of its name, in a group that says how much they let through.
fn gateway(origin: &Origin, more: &str) -> Gateway {
    let faces = Faces::of(origin.address());
    let mut config = format!(
        "[server]\nthreads = 1\n[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n\
         [group.short]\nmax_answer = \"{MOST}B\"\n"
    );
    for way in ways() {
        let keys = "passive = { max_fails = 0 }\nretry = { attempts = 0 }";
        config += &way.upstream(way.name(), &[faces.over(way)], crate::harness::LATE, keys);
        config += &format!(
            "[[route]]\nid = \"{way}\"\npath = \"/{way}/**\"\nstrip_prefix = 1\ngroup = \"short\"\nupstream = \"{way}\"\n{more}\n"
        );
    }
    let setup = Gateway::with(&config).file("face.pem", Faces::ca());
    setup.keeps(faces).start()
}

#[test]
fn one_that_says_that_it_is_too_long_is_refused_before_anything_is_sent() {
    let origin = origin();
    let gateway = gateway(&origin, "");
    let (client, streams) = (gateway.client(), Http2::connect(gateway.listen()));
    for way in ways() {
        let longer = format!("/{way}/says/{}", MOST + 1);
        client.get(&longer).send().refused(502, "answer_too_large");
        streams.get(&longer).refused(502, "answer_too_large");
        let fits = format!("/{way}/says/{MOST}");
        assert_eq!(
            client.get(&fits).send().expect(200).text().len(),
            MOST,
            "{way}"
        );
        assert_eq!(streams.get(&fits).expect(200).body.len(), MOST, "{way}");
    }
    let line = gateway.wait_for_log(|line| line["reason"] == "answer_too_large");
    assert_eq!(
        (&line["status"], &line["cause"]),
        (&json!(502), &json!("its length was announced"))
    );
}

#[test]
fn one_that_does_not_say_so_is_cut_off_where_it_gets_too_long() {
    let origin = origin();
    let gateway = gateway(&origin, "");
    let (client, streams) = (gateway.client(), Http2::connect(gateway.listen()));
    for way in ways() {
        let longer = format!("/{way}/chunks/5000");
        let cut = client.get(&longer).send();
        assert!(!cut.body.complete, "{way}: {cut:?}");
        assert!(cut.body.bytes.len() <= MOST, "{way}: {cut:?}");
        // A reset may overtake what went before it.
        if let Ok(cut) = streams.try_send(asking("GET", &longer), None) {
            assert!(
                cut.reset.is_some() && cut.body.len() <= MOST,
                "{way}: {cut:?}"
            );
        }
        let fits = format!("/{way}/chunks/{MOST}");
        assert_eq!(
            client.get(&fits).send().expect(200).text().len(),
            MOST,
            "{way}"
        );
        assert_eq!(streams.get(&fits).expect(200).body.len(), MOST, "{way}");
        let labels = [("route", way.name()), ("reason", "answer_too_large")];
        gateway.wait_for_metric("gateway_refused_total", &labels, 2.0);
    }
    assert!(!streams.is_closed(), "other streams go on");
    let cut =
        |line: &serde_json::Value| line["reason"] == "answer_too_large" && line["status"] == 200;
    let line = gateway.wait_for_log(cut);
    assert!(line["bytes_out"].as_u64().unwrap() <= MOST as u64, "{line}");
}

#[test]
fn where_no_body_is_sent_its_length_is_none_of_ours() {
    let origin = origin();
    let gateway = gateway(&origin, "");
    let (client, streams) = (gateway.client(), Http2::connect(gateway.listen()));
    for way in ways() {
        let head = format!("/{way}/says/5000");
        let answer = client.request("HEAD", &head).send().expect(200);
        assert_eq!(answer.number("content-length"), 5000, "{way}");
        streams.send(asking("HEAD", &head), None).expect(200);
        let same = format!("/{way}/same/5000");
        client.get(&same).send().expect(304);
        streams.get(&same).expect(304);
    }
}

fn kept(client: &Client, target: &str) -> bool {
    let answer = client.get(target).send();
    answer.header("x-fallback") == Some("last_good")
}

#[test]
fn what_was_cut_off_is_not_kept_and_what_was_refused_has_the_fallback_of_its_route() {
    let origin = origin();
    let fallback = "fallback = { on = [\"502\", \"503\", \"no_endpoint\"], last_good = {}, status = 203, text = \"fixed\" }";
    let gateway = gateway(&origin, fallback);
    let client = gateway.client();
    let mut said = Vec::new();
    for way in ways() {
        let cut = client.get(&format!("/{way}/chunks/5000")).send();
        assert!(!cut.body.complete, "{way}");
        let refused = client.get(&format!("/{way}/says/5000")).send().expect(203);
        assert_eq!(refused.text(), "fixed", "{way}");
        client.get(&format!("/{way}/chunks/900")).send().expect(200);
        said.push(way);
    }
    origin.kill();
    for way in said {
        assert!(!kept(&client, &format!("/{way}/chunks/5000")), "{way}");
        eventually(seconds(5), "what was whole is kept", || {
            kept(&client, &format!("/{way}/chunks/900"))
        });
    }
}

#[test]
fn explain_names_the_bound_and_the_tries() {
    let origin = origin();
    let gateway = gateway(&origin, "");
    let answer = gateway.admin_post(
        "/api/v1/explain",
        &json!({ "method": "GET", "url": "/h1/x" }),
    );
    let answer = answer.json();
    let steps = answer["steps"].as_array().unwrap();
    let named = steps.iter().find(|step| step["step"] == "max_answer");
    let named = named.unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(named["verdict"], "continue", "{named}");
    let retry = steps.iter().find(|step| step["step"] == "retry");
    assert_eq!(
        retry.unwrap_or_else(|| panic!("{answer}"))["verdict"],
        "none"
    );
}
