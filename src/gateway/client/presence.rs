//! Waiting for something else than the client, and noticing that it goes away.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use super::io::ClientIo;

impl ClientIo {
    /// Whether the client has gone away, as far as that can be seen now.
    pub(in crate::gateway) async fn is_gone(&self) -> bool {
        poll_fn(|cx| Poll::Ready(self.state.lock().wire.poll_gone(cx).is_ready())).await
    }

    /// What is awaited, or the error when the client goes away first. What it sends meanwhile is read as far as it must be
    /// to see its end, and kept for whoever reads it; one that has sent more than that is not seen to leave.
    pub(in crate::gateway) async fn unless_gone<T>(
        &self,
        awaited: impl Future<Output = T>,
    ) -> io::Result<T> {
        let mut awaited = pin!(awaited);
        poll_fn(|cx| match awaited.as_mut().poll(cx) {
            Poll::Ready(ready) => Poll::Ready(Ok(ready)),
            Poll::Pending => self.state.lock().wire.poll_gone(cx).map(Err),
        })
        .await
    }
}
