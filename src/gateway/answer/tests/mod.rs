//! Answers over the wires of both protocols, with a stage and without.

mod hooks;
mod sources;
mod wires;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use pingora::http::ResponseHeader;

use self::wires::{Asks, HTTP_2, HTTP_10, HTTP_11};
use super::shout::Shout;
use super::stage::Stage;
use super::{AnswerPlan, KeepPlan, Unfinished};
use crate::config;
use crate::degrade::{Asked, KeptAnswers};
use crate::gateway::message::{BodySize, InvalidHead};
use crate::primitives::RouteName;
use crate::primitives::clock::Clock;

const ALL: [Asks; 3] = [HTTP_10, HTTP_11, HTTP_2];

fn head(status: u16, fields: &[(&'static str, &'static str)]) -> ResponseHeader {
    let mut head = ResponseHeader::build(status, None).expect("head");
    for (name, value) in fields {
        head.append_header(*name, *value).expect("field");
    }
    head
}

fn of_seven(status: u16) -> (ResponseHeader, BodySize) {
    (
        head(status, &[("Content-Length", "7")]),
        BodySize::Exactly(7),
    )
}

fn shouted(shout: Shout) -> AnswerPlan<'static> {
    AnswerPlan {
        stages: vec![Stage::Shout(shout)],
        ..AnswerPlan::default()
    }
}

fn sum() -> Option<HeaderMap> {
    let mut trailers = HeaderMap::new();
    trailers.append("x-sum", "9".parse().expect("value"));
    trailers.append("x-fallback", "forged".parse().expect("value"));
    Some(trailers)
}

#[tokio::test]
async fn an_answer_of_known_length_goes_as_it_is() {
    for asks in ALL {
        let given = asks.given().await;
        let client = Arc::clone(&given.client);
        let plan = AnswerPlan::default();
        let read = given.answer(of_seven(200), &["one\n", "two"], None, plan);
        let read = read.await;
        let moved = client.ended(Instant::now());
        assert_eq!(
            (read.status, &*read.body, read.whole),
            (200, "one\ntwo", true)
        );
        assert_eq!(read.field("content-length"), Some("7"), "{asks:?}");
        assert_eq!(read.field("transfer-encoding"), None);
        assert_eq!((moved.status, moved.sent), (200, 7), "{asks:?}");
        assert!(client.complete());
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_ends_as_the_client_understands() {
    for asks in ALL {
        let source = (head(200, &[]), BodySize::Unknown);
        let plan = AnswerPlan::default();
        let read = asks
            .given()
            .await
            .answer(source, &["one\n", "two"], None, plan);
        let read = read.await;
        assert_eq!((&*read.body, read.whole), ("one\ntwo", true), "{asks:?}");
        assert_eq!(read.field("content-length"), None);
        let chunked = (asks == HTTP_11).then_some("chunked");
        assert_eq!(read.field("transfer-encoding"), chunked);
    }
}

#[tokio::test]
async fn a_stage_that_changes_the_length_changes_how_it_is_told() {
    for asks in ALL {
        let given = asks.given().await;
        let client = Arc::clone(&given.client);
        let plan = shouted(Shout::default());
        let read = given.answer(of_seven(200), &["on", "e\nt", "wo"], None, plan);
        let read = read.await;
        assert_eq!((&*read.body, read.whole), ("ONE!\nTWO.", true), "{asks:?}");
        assert_eq!(read.field("content-length"), None, "{asks:?}");
        assert_eq!(read.field("x-shouted"), Some("1"));
        let chunked = (asks == HTTP_11).then_some("chunked");
        assert_eq!(read.field("transfer-encoding"), chunked);
        let moved = client.ended(Instant::now());
        assert_eq!(moved.sent, 9, "what went out is counted, {asks:?}");
    }
}

#[tokio::test]
async fn a_stage_that_knows_its_length_has_it_told() {
    for asks in ALL {
        let given = asks.given().await;
        let plan = shouted(Shout::exactly(9));
        let read = given.answer(of_seven(200), &["one\ntwo"], None, plan).await;
        assert_eq!((&*read.body, read.whole), ("ONE!\nTWO.", true), "{asks:?}");
        let told = read.field("content-length");
        // A stream needs no length that its source did not tell.
        let length = (asks != HTTP_2).then_some("9");
        assert_eq!(told, length, "{asks:?}");
    }
}

#[tokio::test]
async fn a_stage_that_gives_less_than_it_said_cuts_the_answer_short() {
    for asks in ALL {
        let mut given = asks.given().await;
        let plan = shouted(Shout::exactly(99));
        let (head, size) = of_seven(200);
        given.writer.begin(head, size, plan).expect("a head");
        let written = given.writer.write(Bytes::from_static(b"one\ntwo")).await;
        written.expect("written");
        let finished = given.writer.finish(None).await;
        assert!(matches!(finished, Err(Unfinished::CutShort)), "{asks:?}");
        given.writer.abort().await;
        assert!(!given.client.complete());
        let read = given.read().await;
        assert!(!read.whole, "{asks:?}: {read:?}");
    }
}

#[tokio::test]
async fn trailers_pass_through_stages_to_those_who_take_them() {
    let takes = Asks {
        trailers: true,
        ..HTTP_11
    };
    for (asks, pass) in [
        (HTTP_10, false),
        (HTTP_11, false),
        (takes, true),
        (HTTP_2, true),
    ] {
        for plan in [AnswerPlan::default(), shouted(Shout::default())] {
            let source = (head(200, &[]), BodySize::Unknown);
            let read = asks.given().await.answer(source, &["a"], sum(), plan).await;
            assert!(read.whole, "{asks:?}");
            let sum = ("x-sum".to_owned(), "9".to_owned());
            let expected = if pass { vec![sum] } else { vec![] };
            assert_eq!(read.trailers, expected, "{asks:?}");
        }
    }
}

#[tokio::test]
async fn what_is_held_back_goes_when_it_is_flushed() {
    let mut given = HTTP_11.given().await;
    let source = (head(200, &[]), BodySize::Unknown);
    let plan = shouted(Shout::default());
    given
        .writer
        .begin(source.0, source.1, plan)
        .expect("a head");
    let mut write = async |bytes: &'static [u8]| {
        let written = given.writer.write(Bytes::from_static(bytes)).await;
        written.expect("written");
        given.client.flush().await.expect("flushed");
        given.so_far()
    };
    let came = write(b"one").await;
    assert!(came.ends_with("\r\n\r\n"), "the head alone: {came}");
    assert_eq!(write(b"\ntwo").await, "5\r\nONE!\n\r\n");
    given.writer.flush().await.expect("flushed");
    assert_eq!(given.so_far(), "3\r\nTWO\r\n");
    given.writer.flush().await.expect("flushed");
    assert_eq!(given.so_far(), "", "nothing came since");
    given.writer.finish(None).await.expect("finished");
    assert_eq!(given.so_far(), "1\r\n.\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_head_alone_says_what_the_body_would_be() {
    for asks in ALL {
        let asks = Asks {
            method: "HEAD",
            ..asks
        };
        let answer = async |plan| {
            let given = asks.given().await;
            given.answer(of_seven(200), &["one\ntwo"], None, plan).await
        };
        let plain = answer(AnswerPlan::default()).await;
        assert_eq!((&*plain.body, plain.whole), ("", true), "{asks:?}");
        assert_eq!(plain.field("content-length"), Some("7"));
        let changed = answer(shouted(Shout::default())).await;
        assert_eq!((&*changed.body, changed.whole), ("", true), "{asks:?}");
        assert_eq!(changed.field("content-length"), None);
        assert_eq!(changed.field("x-shouted"), Some("1"));
    }
}

#[tokio::test]
async fn an_answer_without_a_body_and_a_part_of_one_are_not_changed() {
    for asks in ALL {
        for (status, body, length) in [
            (204, "", None),
            (304, "", Some("7")),
            (206, "one\ntwo", Some("7")),
        ] {
            let given = asks.given().await;
            let plan = shouted(Shout::default());
            let read = given.answer(of_seven(status), &["one\ntwo"], None, plan);
            let read = read.await;
            assert_eq!((read.status, &*read.body), (status, body), "{asks:?}");
            assert!(read.whole, "{asks:?} {status}");
            assert_eq!(read.field("content-length"), length, "{asks:?} {status}");
            assert_eq!(read.field("x-shouted"), None);
        }
    }
}

#[tokio::test]
async fn a_stage_may_end_the_body() {
    for asks in ALL {
        let mut given = asks.given().await;
        let (head, size) = of_seven(200);
        let plan = shouted(Shout::default());
        given.writer.begin(head, size, plan).expect("a head");
        for piece in ["on\0", "more"] {
            let written = given.writer.write(Bytes::from_static(piece.as_bytes()));
            written.await.expect("written");
            assert!(given.writer.wants_no_more());
        }
        given.writer.finish(sum()).await.expect("finished");
        let read = given.read().await;
        assert_eq!((&*read.body, read.whole), ("ON.", true), "{asks:?}");
        assert_eq!(read.trailers, [], "they spoke of another body");
    }
}

#[tokio::test]
async fn a_body_where_none_belongs_is_dropped() {
    for asks in ALL {
        let given = asks.given().await;
        let source = (head(200, &[]), BodySize::Absent);
        let plan = AnswerPlan::default();
        let read = given.answer(source, &["stray"], None, plan).await;
        assert_eq!((&*read.body, read.whole), ("", true), "{asks:?}");
        let length = (asks != HTTP_2).then_some("0");
        assert_eq!(read.field("content-length"), length, "{asks:?}");
    }
}

#[tokio::test]
async fn what_follows_an_upgrade_goes_as_it_comes() {
    for size in [BodySize::Absent, BodySize::UntilClose] {
        let given = HTTP_11.given().await;
        let plan = shouted(Shout::default());
        let read = given.answer((head(101, &[]), size), &["any\n", "bytes"], None, plan);
        let read = read.await;
        assert_eq!((read.status, &*read.body), (101, "any\nbytes"), "{size:?}");
    }
}

#[tokio::test]
async fn a_source_is_held_to_the_length_it_said() {
    for asks in ALL {
        let more = asks.given().await;
        let plan = AnswerPlan::default();
        let read = more.answer(of_seven(200), &["one\ntw", "o and more"], None, plan);
        assert_eq!(read.await.body, "one\ntwo", "{asks:?}");
        let mut less = asks.given().await;
        let (head, size) = of_seven(200);
        less.writer
            .begin(head, size, AnswerPlan::default())
            .expect("a head");
        let written = less.writer.write(Bytes::from_static(b"one\n")).await;
        written.expect("written");
        let finished = less.writer.finish(None).await;
        assert!(matches!(finished, Err(Unfinished::CutShort)), "{asks:?}");
        less.writer.abort().await;
        assert!(!less.client.complete() && !less.client.can_keep_alive());
        let read = less.read().await;
        assert!(!read.whole, "{asks:?}");
        assert!(asks == HTTP_2 || read.body == "one\n", "{read:?}");
    }
}

#[tokio::test]
async fn what_is_kept_is_what_the_upstream_said_when_it_said_all() {
    let settings = config::LastGood {
        max_age: Duration::from_secs(60),
        max_body: 1000,
        size: 4000,
        per_consumer: false,
        vary: Vec::new(),
    };
    let name = RouteName::new("r");
    let store = KeptAnswers::default().route(&name, &settings, "r");
    let (fields, clock) = (HeaderMap::new(), Clock::start());
    let asked = |target: &'static str| Asked {
        host: "a",
        target: target.as_bytes(),
        headers: &fields,
        caller: None,
        certified: false,
    };
    let plan = |target, stages| AnswerPlan {
        keep: Some(KeepPlan {
            store: &store,
            asked: asked(target),
            clock,
        }),
        stages,
        ..AnswerPlan::default()
    };
    for (asks, plain, changed) in [(HTTP_11, "/1", "/2"), (HTTP_2, "/3", "/4")] {
        let given = asks.given().await;
        let kept = plan(plain, Vec::new());
        let read = given.answer(of_seven(200), &["one", "\ntwo"], None, kept);
        assert_eq!(read.await.body, "one\ntwo", "{asks:?}");
        let given = asks.given().await;
        let kept = plan(changed, vec![Stage::Shout(Shout::default())]);
        let read = given.answer(of_seven(200), &["one", "\ntwo"], None, kept);
        assert_eq!(read.await.body, "ONE!\nTWO.", "{asks:?}");
        for target in [plain, changed] {
            let good = store.find(&asked(target), clock.now()).expect("kept");
            assert_eq!(&good.body[..], b"one\ntwo", "{asks:?} {target}");
        }
    }
    let mut short = HTTP_11.given().await;
    let (head, size) = of_seven(200);
    let kept = plan("/short", Vec::new());
    short.writer.begin(head, size, kept).expect("a head");
    let written = short.writer.write(Bytes::from_static(b"one")).await;
    written.expect("written");
    assert!(short.writer.finish(None).await.is_err());
    drop(short);
    assert!(store.find(&asked("/short"), clock.now()).is_none());
}

#[tokio::test]
async fn a_request_has_one_answer() {
    let mut given = HTTP_11.given().await;
    let (head, size) = of_seven(200);
    let plan = AnswerPlan::default;
    given.writer.begin(head, size, plan()).expect("a head");
    let (head, size) = of_seven(500);
    let again = given.writer.begin(head, size, plan());
    assert_eq!(again, Err(InvalidHead("an answer has begun already")));
    let client = Arc::clone(&given.client);
    let mut other = super::ResponseWriter::new(client, HTTP_11.version, false);
    let (head, size) = of_seven(500);
    assert!(other.has_begun() && other.begin(head, size, plan()).is_err());
    assert_eq!(given.client.status(), Some(200));
}
