use super::*;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 64 << 10,
    fields: 256,
};

fn parsed<T>(bytes: &[u8], look: impl FnOnce(&Answer<'_>) -> T) -> Result<T, InvalidHead> {
    let (mut room, mut more) = (room(), Vec::new());
    let (answer, length) = Answer::parse(bytes, LIMITS, (&mut room, &mut more))?.expect("whole");
    assert_eq!(length, bytes.len());
    Ok(look(&answer))
}

fn body(head: &[u8]) -> Result<BodyDecoder, InvalidHead> {
    parsed(head, |answer| answer.body(false))
}

#[test]
fn knows_how_the_body_is_delimited() {
    let chunked = BodyDecoder::of_answer(Framing::Chunked);
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", BodyDecoder::Raw),
        ("HTTP/1.1 204 No Content\r\n\r\n", BodyDecoder::Done),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
            BodyDecoder::Done,
        ),
        (
            "HTTP/1.1 200\r\ncontent-length: 7\r\n\r\n",
            BodyDecoder::Length(7),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            BodyDecoder::Done,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
            chunked,
        ),
    ] {
        assert_eq!(body(head.as_bytes()), Ok(expected), "{head:?}");
    }
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
    assert_eq!(
        parsed(head, |answer| answer.body(true)),
        Ok(BodyDecoder::Done)
    );
}

#[test]
fn refuses_what_two_parsers_read_differently() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 07\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 7, 8\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 7,\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity, chunked\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1 999 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +7\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 007\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
    ] {
        assert!(body(head.as_bytes()).is_err(), "{head:?}");
    }
}

#[test]
fn a_head_is_bounded_in_bytes_however_they_came() {
    let head = |bytes: usize| {
        let (start, end) = (b"HTTP/1.1 200 OK\r\nX: ".to_vec(), b"\r\n\r\n".to_vec());
        let value = vec![b'x'; bytes - start.len() - end.len()];
        [start, value, end].concat()
    };
    let limits = HeadLimits {
        bytes: 2000,
        ..LIMITS
    };
    let at_once = |head: &[u8]| {
        let (mut room, mut more) = (room(), Vec::new());
        Answer::parse(head, limits, (&mut room, &mut more))
            .map(|parsed| parsed.map(|(_, length)| length))
    };
    let bytewise = |head: &[u8]| {
        let pieces = 1..=head.len();
        let mut seen = pieces.map(|end| at_once(&head[..end]));
        seen.find(|seen| !matches!(seen, Ok(None)))
    };
    assert_eq!(at_once(&head(2000)), Ok(Some(2000)));
    assert_eq!(bytewise(&head(2000)), Some(Ok(Some(2000))));
    assert!(at_once(&head(2001)).is_err());
    assert!(bytewise(&head(2001)).is_some_and(|seen| seen.is_err()));
    let with_body = [head(2000), vec![b'b'; 5000]].concat();
    assert_eq!(
        at_once(&with_body),
        Ok(Some(2000)),
        "what follows is no head"
    );
}

#[test]
fn a_head_is_bounded_in_fields() {
    for (most, fields, passes) in [
        (256, 256, true),
        (256, 257, false),
        (3, 3, true),
        (3, 4, false),
        (1000, 1000, true),
        (1000, 1001, false),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(fields));
        let limits = HeadLimits {
            fields: most,
            ..LIMITS
        };
        let (mut room, mut more) = (room(), Vec::new());
        let parsed = Answer::parse(head.as_bytes(), limits, (&mut room, &mut more));
        assert_eq!(parsed.is_ok(), passes, "{fields} of {most}");
    }
}

#[test]
fn what_is_said_again_has_one_meaning() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX: y\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 7, 7\r\nX: y\r\n\r\n",
    ] {
        let shown = parsed(head.as_bytes(), |answer| {
            let mut shown = Vec::new();
            answer.each(|name, value| shown.push([name, value].concat()));
            (answer.body(false), answer.persistent(), shown)
        });
        let (body, persistent, mut shown) = shown.expect("an answer");
        assert_eq!(
            (body, persistent),
            (BodyDecoder::Length(7), true),
            "{head:?}"
        );
        shown.sort_unstable();
        assert_eq!(shown, [&b"Content-Length7"[..], b"Xy"], "{head:?}");
    }
}

#[test]
fn identity_is_no_coding() {
    let head = |more: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n{more}\r\n");
    let read = |more: &str| {
        parsed(head(more).as_bytes(), |answer| {
            (answer.body(false), answer.persistent())
        })
    };
    assert_eq!(read(""), Ok((BodyDecoder::Raw, false)));
    assert_eq!(
        read("Content-Length: 7\r\n"),
        Ok((BodyDecoder::Length(7), false)),
        "and a connection on which it is in doubt is not used again"
    );
}

#[test]
fn what_the_gateway_says_of_itself_is_not_shown() {
    let head = b"HTTP/1.1 200 OK\r\nX-FallBack: fixed\r\nX-Kept: 1\r\n\r\n";
    let names = parsed(head, |answer| {
        let mut names = Vec::new();
        answer.each(|name, _| names.push(name.to_vec()));
        names
    });
    assert_eq!(names, Ok(vec![b"X-Kept".to_vec()]));
}

#[test]
fn fields_that_connection_names_are_not_shown() {
    let head = b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nx-hop: 1\r\nX-Kept: 2\r\nContent-Length: 1\r\n\r\n";
    let (names, persistent) = parsed(head, |answer| {
        let mut names = Vec::new();
        answer.each(|name, _| names.push(String::from_utf8_lossy(name).into_owned()));
        (names, answer.persistent())
    })
    .expect("an answer");
    assert_eq!(names, ["Connection", "X-Kept", "Content-Length"]);
    assert!(!persistent);
    let both = b"HTTP/1.1 200 OK\r\nConnection: close, keep-alive\r\n\r\n";
    assert_eq!(parsed(both, |answer| answer.persistent()), Ok(false));
    let many = format!("HTTP/1.1 200 OK\r\nConnection: {}\r\n\r\n", "a,".repeat(33));
    assert!(body(many.as_bytes()).is_err());
    let old = b"HTTP/1.0 200 OK\r\n\r\n";
    assert_eq!(parsed(old, |answer| answer.persistent()), Ok(false));
}
