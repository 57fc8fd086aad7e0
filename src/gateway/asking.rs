//! Clients that wait to be asked for the body of their request (`Expect: 100-continue`, RFC 9110 §10.1.1).
//!
//! They are asked by the endpoint. One that never does, and need not, would be waited for as long as the client has
//! patience: when it has said nothing for a while, they are asked here.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::Sleep;

use super::client::ClientIo;
use super::ctx::Ctx;

/// Whether the client of a request was asked, and when it is if nobody does.
#[derive(Default)]
pub(super) struct Asking {
    asked: bool,
    due: Option<Pin<Box<Sleep>>>,
}

/// How long an endpoint may take to ask.
const PATIENCE: Duration = Duration::from_millis(500);

impl Asking {
    /// A try begins.
    pub(super) fn begin(&mut self, ctx: &Ctx) {
        let start = ctx.start.as_ref();
        let waits = start.is_some_and(|start| start.head.expects_continue);
        let due = || Box::pin(tokio::time::sleep(PATIENCE));
        self.due = (waits && !ctx.buffered && !self.asked).then(due);
    }

    /// Queues the word when it is time, and says whether it did.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, client: &ClientIo) -> bool {
        let Some(due) = &mut self.due else {
            return false;
        };
        if due.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.due = None;
        self.asked = true;
        client.queue_continue();
        true
    }

    /// Nobody need be asked any more: something came of the body, or the answer is here.
    pub(super) fn settle(&mut self) {
        self.due = None;
    }

    /// The endpoint asks. Says whether the client has to hear it: not twice.
    pub(super) fn hear(&mut self) -> bool {
        self.due = None;
        !std::mem::replace(&mut self.asked, true)
    }

    /// For a try beside the first: who was asked need not be again.
    pub(super) fn again(&self) -> Self {
        Self {
            asked: self.asked,
            due: None,
        }
    }
}
