//! The head of an answer, on every way to an origin: what has two meanings is refused, what has one is read.

use crate::harness::{Folder, Gateway, RawOrigin, Response, Says, Speaks, ways_of};

/// Asks for each answer on each way; the answer's number is the target.
fn each<A: Clone + Send + Sync + 'static>(
    answers: &[A],
    more: &str,
    says: impl Fn(&A) -> Vec<Says> + Send + Sync + 'static,
    look: impl Fn(&str, &A, &Gateway, Response),
) {
    let known = answers.to_vec();
    let origin = RawOrigin::saying(move |target| {
        let number: usize = target.trim_matches('/').parse().unwrap();
        says(&known[number])
    });
    let gateway = origin.behind(more).start();
    for way in ways_of(Speaks::Http1) {
        for (number, answer) in answers.iter().enumerate() {
            for field in [("Accept", "*/*"), ("TE", "trailers")] {
                let client = gateway.client();
                let request = client.get(&format!("/{way}/{number}"));
                let response = request.header(field.0, field.1).send();
                look(&format!("{way}, {}", field.0), answer, &gateway, response);
            }
        }
    }
}

#[test]
fn what_two_parsers_read_differently_is_refused_on_every_way() {
    let heads = [
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "Content-Length: 3, 4\r\n\r\nabcd",
        "Content-Length: 3\r\nContent-Length: 03\r\n\r\nabc",
        "Content-Length: +3\r\n\r\nabc",
        "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "Transfer-Encoding: identity, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\nab",
        "Content-Length: 3\r\nX-Folded: a\r\n b\r\n\r\nabc",
        "Content-Length: 3\r\nX: a\0b\r\n\r\nabc",
        "Content-Length: 3\r\nno colon\r\n\r\nabc",
    ];
    each(
        &heads,
        "",
        |head| Says::last(&format!("HTTP/1.1 200 OK\r\n{head}")),
        |way, head, _, response| {
            assert_eq!(
                (response.status, response.code().as_deref()),
                (502, Some("upstream_invalid")),
                "{way}: {head:?}: {response:?}"
            );
        },
    );
}

#[test]
fn statuses_that_are_none_are_refused_on_every_way() {
    each(
        &[0, 99, 600, 700, 999],
        "",
        |status: &u16| {
            Says::last(&format!(
                "HTTP/1.1 {status:03} Odd\r\nContent-Length: 2\r\n\r\nok"
            ))
        },
        |way, status, _, response| {
            assert_eq!(
                (response.status, response.code().as_deref()),
                (502, Some("upstream_invalid")),
                "{way}: {status}"
            );
        },
    );
}

#[test]
fn what_has_one_meaning_is_read_on_every_way() {
    let answers = [
        "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "Content-Length: 5, 5\r\n\r\nhello",
        "Transfer-Encoding: identity\r\n\r\nhello",
        "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n2  \r\nhe\r\n3 \t\r\nllo\r\n0   \r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5 ;x=y\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: , Chunked,\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ];
    each(
        &answers,
        "",
        |head| Says::last(&format!("HTTP/1.1 200 OK\r\n{head}")),
        |way, head, _, response| {
            assert_eq!(response.status, 200, "{way}: {head:?}: {response:?}");
            assert_eq!(response.text(), "hello", "{way}: {head:?}");
            let lengths = response.headers.iter();
            let lengths = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            assert!(lengths.count() <= 1, "{way}: {head:?}: {response:?}");
            let coding = response.header("transfer-encoding");
            assert!(coding.is_none_or(|coding| coding == "chunked"), "{way}");
        },
    );
}

#[test]
fn blanks_before_a_chunk_size_or_inside_it_break_the_answer_off_on_every_way() {
    let bodies = [" 5\r\nhello\r\n0\r\n\r\n", "0 5\r\nhello\r\n0\r\n\r\n"];
    let origin = RawOrigin::saying(move |target| {
        let number: usize = target.trim_matches('/').parse().unwrap();
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        Says::last(&format!("{head}{}", bodies[number]))
    });
    let gateway = origin.behind("").start();
    for way in ways_of(Speaks::Http1) {
        for number in [0, 1] {
            let answer = gateway.client().get(&format!("/{way}/{number}")).try_send();
            let whole = answer.is_ok_and(|answer| answer.status == 200 && answer.body.complete);
            assert!(!whole, "{way}: {number}");
        }
    }
}

/// A whole answer whose head has so many bytes.
fn sized(bytes: usize) -> String {
    let (start, end) = (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Long: ",
        "\r\n\r\n",
    );
    let value = "x".repeat(bytes - start.len() - end.len());
    format!("{start}{value}{end}ok")
}

#[test]
fn the_bound_of_a_head_is_exact_whatever_its_segments_on_every_way() {
    let cases: Vec<(usize, usize)> = [4096, 4097]
        .into_iter()
        .flat_map(|bytes| [100_000, 4090, 1000, 977].map(|segment| (bytes, segment)))
        .collect();
    each(
        &cases,
        "max_response_header = \"4KiB\"",
        |(bytes, segment)| {
            let answer = sized(*bytes);
            let pieces = answer.as_bytes().chunks(*segment);
            pieces
                .flat_map(|piece| {
                    let pause = Says::Pause(std::time::Duration::from_millis(2));
                    [Says::Bytes(piece.to_vec()), pause]
                })
                .collect()
        },
        |way, (bytes, segment), _, response| {
            let expected = if *bytes == 4096 { 200 } else { 502 };
            assert_eq!(response.status, expected, "{way}: {bytes} in {segment}");
        },
    );
}

#[test]
fn by_default_a_head_has_64_kib_and_256_fields() {
    let many = |fields: usize| {
        let fields = "A: b\r\n".repeat(fields - 1);
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}\r\nok")
    };
    let answers = [
        (sized(65_536), 200),
        (sized(65_537), 502),
        (many(256), 200),
        (many(257), 502),
    ];
    each(
        &answers,
        "",
        |(answer, _)| Says::text(answer),
        |way, (answer, status), _, response| {
            assert_eq!(response.status, *status, "{way}: {} bytes", answer.len());
        },
    );
}

#[test]
fn more_fields_pass_where_that_is_configured() {
    let many = |fields: usize| {
        let fields = "A: b\r\n".repeat(fields - 1);
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}\r\nok")
    };
    each(
        &[(many(1000), 200), (many(1001), 502)],
        "max_response_headers = 1000",
        |(answer, _)| Says::text(answer),
        |way, (_, status), _, response| {
            assert_eq!(response.status, *status, "{way}");
            if *status == 200 {
                let fields = response.headers.iter().filter(|(name, _)| name == "A");
                assert_eq!(fields.count(), 999, "{way}");
            }
        },
    );
}

#[test]
fn an_upstream_does_not_speak_for_the_gateway_on_any_way() {
    each(
        &["X-Fallback: fixed\r\nx-fallback: last_good\r\n"],
        "",
        |fields| {
            Says::text(&format!(
                "HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok"
            ))
        },
        |way, _, _, response| {
            let response = response.expect(200);
            assert_eq!(response.header("X-Fallback"), None, "{way}");
        },
    );
}

#[test]
fn bounds_of_a_head_that_are_none_are_refused() {
    for (key, says) in [
        (
            "max_response_header = \"100B\"",
            "must be from 1KiB to 1MiB",
        ),
        (
            "max_response_header = \"2MiB\"",
            "must be from 1KiB to 1MiB",
        ),
        ("max_response_headers = 0", "must be from 1 to 10000"),
        ("timeout = { tunnel = \"0s\" }", "must be more than zero"),
    ] {
        let toml = format!(
            "[[listener]]\naddress = \"127.0.0.1:8080\"\n[upstream.api]\nendpoints = [{{ address = \"127.0.0.1:1\" }}]\n{key}\n\
             [[route]]\nid = \"r\"\npath = \"/\"\nupstream = \"api\"\n"
        );
        Folder::with(&toml).check().expect(1).says(says);
    }
}
