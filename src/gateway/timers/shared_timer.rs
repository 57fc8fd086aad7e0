//! One timer for many waits.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::time::Sleep;

/// A timer that is armed once and left alone while what is waited for lies behind it, fires early then, and is armed anew.
/// Arming one for each wait would cost each request several.
#[derive(Default)]
pub(in crate::gateway) struct SharedTimer(Option<Timer>);

struct Timer {
    sleep: Pin<Box<Sleep>>,
    waker: Waker,
}

impl SharedTimer {
    /// Ready when `due` has passed. It need not be polled again while it would wake the same task.
    pub(in crate::gateway) fn poll_until(
        &mut self,
        cx: &mut Context<'_>,
        due: Instant,
    ) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Timer {
            sleep: Box::pin(tokio::time::sleep_until(due.into())),
            waker: Waker::noop().clone(),
        });
        if timer.sleep.deadline() > due.into() {
            timer.sleep.as_mut().reset(due.into());
        } else if timer.waker.will_wake(cx.waker()) && !timer.sleep.is_elapsed() {
            return Poll::Pending;
        }
        timer.waker.clone_from(cx.waker());
        // Unconstrained: a task that used up its turn would be told "not yet" without the timer taking its waker.
        while Pin::new(&mut tokio::task::unconstrained(timer.sleep.as_mut()))
            .poll(cx)
            .is_ready()
        {
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            timer.sleep.as_mut().reset(due.into());
        }
        Poll::Pending
    }
}
