//! What filters see of an answer, and what they may do to it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pingora::http::ResponseHeader;

use super::wires::HTTP_2;
use super::{ALL, AnswerPlan, head, of_seven};
use crate::filter::{Reason, Refusal, ResponseBodyHook};
use crate::gateway::answer::shout::Shout;
use crate::gateway::answer::stage::Stage;
use crate::gateway::message::BodySize;

/// What a hook was shown, in order.
type Shown = Arc<Mutex<Vec<String>>>;

/// Notes what it is shown, and has something against what says `no`.
struct Noting {
    shown: Shown,
    against_head: bool,
    /// Each piece in brackets goes on in its place.
    brackets: bool,
}

impl Noting {
    fn of(shown: &Shown) -> Self {
        Self {
            shown: Arc::clone(shown),
            against_head: false,
            brackets: false,
        }
    }
}

fn objection() -> Refusal {
    Refusal::new(Reason::AnswerTooLarge, "no")
}

impl ResponseBodyHook for Noting {
    fn changes(&self) -> bool {
        self.brackets
    }

    fn on_head(&mut self, head: &ResponseHeader, length: Option<u64>) -> Result<(), Refusal> {
        self.shown
            .lock()
            .push(format!("{} {length:?}", head.status.as_u16()));
        match self.against_head {
            true => Err(objection()),
            false => Ok(()),
        }
    }

    fn on_body(
        &mut self,
        piece: &[u8],
        end: bool,
        give: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Refusal> {
        let said = if end {
            "end"
        } else {
            std::str::from_utf8(piece).expect("text")
        };
        self.shown.lock().push(said.to_owned());
        if said == "no" {
            return Err(objection());
        }
        for piece in [&b"["[..], piece, b"]"] {
            give(piece);
        }
        Ok(())
    }
}

fn hooked(hook: Noting) -> AnswerPlan<'static> {
    AnswerPlan {
        hooks: vec![Box::new(hook)],
        ..AnswerPlan::default()
    }
}

#[tokio::test]
async fn a_hook_sees_the_head_and_every_byte_once_in_order() {
    for asks in ALL {
        let shown = Shown::default();
        let given = asks.given().await;
        let plan = hooked(Noting::of(&shown));
        let read = given
            .answer(of_seven(200), &["one\n", "two"], None, plan)
            .await;
        assert_eq!((&*read.body, read.whole), ("one\ntwo", true), "{asks:?}");
        assert_eq!(read.field("content-length"), Some("7"), "{asks:?}");
        assert_eq!(
            *shown.lock(),
            ["200 Some(7)", "one\n", "two", "end"],
            "{asks:?}"
        );
    }
}

#[tokio::test]
async fn a_hook_may_give_other_bytes_and_later_stages_see_those() {
    for asks in ALL {
        let shown = Shown::default();
        let given = asks.given().await;
        let hook = Noting {
            brackets: true,
            ..Noting::of(&shown)
        };
        let plan = AnswerPlan {
            stages: vec![Stage::Shout(Shout::default())],
            ..hooked(hook)
        };
        let read = given
            .answer(of_seven(200), &["one\n", "two"], None, plan)
            .await;
        assert_eq!(
            (&*read.body, read.whole),
            ("[ONE!\n][TWO][].", true),
            "{asks:?}"
        );
        assert_eq!(read.field("content-length"), None, "{asks:?}");
        assert_eq!(
            *shown.lock(),
            ["200 Some(7)", "one\n", "two", "end"],
            "{asks:?}"
        );
    }
}

#[tokio::test]
async fn a_hook_that_refuses_the_head_leaves_room_for_another_answer() {
    for asks in ALL {
        let shown = Shown::default();
        let mut given = asks.given().await;
        let hook = Noting {
            against_head: true,
            ..Noting::of(&shown)
        };
        let source = (head(200, &[]), BodySize::Unknown);
        assert!(
            given
                .writer
                .begin(source.0, source.1, hooked(hook))
                .is_err()
        );
        assert_eq!(given.writer.take_refusal(), Some(objection()));
        assert!(!given.writer.has_begun(), "{asks:?}");
        assert_eq!(*shown.lock(), ["200 None"]);
        let plan = AnswerPlan::default();
        let read = given.answer(of_seven(502), &["one\ntwo"], None, plan).await;
        assert_eq!(
            (read.status, &*read.body, read.whole),
            (502, "one\ntwo", true)
        );
    }
}

#[tokio::test]
async fn a_hook_that_refuses_a_piece_cuts_the_answer_off_before_it() {
    for (asks, brackets) in ALL
        .into_iter()
        .flat_map(|asks| [(asks, false), (asks, true)])
    {
        let shown = Shown::default();
        let mut given = asks.given().await;
        let hook = Noting {
            brackets,
            ..Noting::of(&shown)
        };
        let (head, size) = (head(200, &[]), BodySize::Unknown);
        given
            .writer
            .begin(head, size, hooked(hook))
            .expect("a head");
        given
            .writer
            .write(Bytes::from_static(b"yes"))
            .await
            .expect("written");
        let refused = given.writer.write(Bytes::from_static(b"no")).await;
        assert!(refused.is_err(), "{asks:?}");
        assert_eq!(given.writer.take_refusal(), Some(objection()));
        given.writer.abort().await;
        assert!(
            !given.client.complete() && !given.client.can_keep_alive(),
            "{asks:?}"
        );
        assert_eq!(*shown.lock(), ["200 None", "yes", "no"], "{asks:?}");
        let read = given.read().await;
        assert!(!read.body.contains("no"), "{asks:?}: {read:?}");
        assert!(asks == super::HTTP_10 || !read.whole, "{asks:?}: {read:?}");
        let expected = if brackets { "[yes]" } else { "yes" };
        assert!(
            asks == HTTP_2 || read.body == expected,
            "{asks:?}: {read:?}"
        );
    }
}

#[tokio::test]
async fn of_an_answer_without_a_body_a_hook_sees_that_it_has_none() {
    for (status, method) in [(200, "HEAD"), (304, "GET")] {
        for asks in ALL {
            let shown = Shown::default();
            let given = super::Asks { method, ..asks }.given().await;
            let plan = hooked(Noting::of(&shown));
            let read = given.answer(of_seven(status), &[], None, plan).await;
            assert!(read.whole, "{asks:?}");
            assert_eq!(
                shown.lock()[0],
                format!("{status} Some(0)"),
                "{asks:?} {method}"
            );
        }
    }
    // What follows an upgrade is nobody's.
    let shown = Shown::default();
    let given = super::HTTP_11.given().await;
    let plan = hooked(Noting::of(&shown));
    let source = (head(101, &[]), BodySize::UntilClose);
    let read = given.answer(source, &["any bytes"], None, plan).await;
    assert_eq!((&*read.body, shown.lock().len()), ("any bytes", 0));
}
