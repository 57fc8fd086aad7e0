//! What filters see of a body on its way.

use std::io;
use std::task::Poll;

use bytes::Bytes;

use super::ClientIo;
use crate::filter::{Refusal, RequestBodyHook};

/// The hooks of one request, and what one of them said against it.
#[derive(Default)]
pub(super) struct BodyHooks {
    hooks: Vec<Box<dyn RequestBodyHook>>,
    refusal: Option<Refusal>,
}

impl BodyHooks {
    /// Shows what was read; says whether it may go on. After a refusal, and behind the end, nobody looks any more.
    pub(super) fn admit(&mut self, read: &Poll<io::Result<Option<Bytes>>>) -> bool {
        if self.hooks.is_empty() {
            return true;
        }
        match read {
            Poll::Ready(Ok(Some(piece))) => self.show(piece, false),
            Poll::Ready(Ok(None)) => self.show(&[], true),
            Poll::Ready(Err(_)) | Poll::Pending => true,
        }
    }

    fn show(&mut self, piece: &[u8], end: bool) -> bool {
        let mut hooks = self.hooks.iter_mut();
        let said = hooks.try_for_each(|hook| hook.on_body(piece, end));
        if end || said.is_err() {
            self.hooks.clear();
        }
        self.refusal = said.err();
        self.refusal.is_none()
    }
}

impl ClientIo {
    /// Shows the body of the request to `hooks` from here on. What was buffered of it they see at once: an `Err` says what
    /// one of them has against that.
    pub(in crate::gateway) fn set_body_hooks(
        &self,
        hooks: Vec<Box<dyn RequestBodyHook>>,
    ) -> Result<(), Refusal> {
        let state = &mut *self.state.lock();
        state.hooks = BodyHooks {
            hooks,
            refusal: None,
        };
        let Some(buffered) = &state.buffered else {
            return Ok(());
        };
        let end = state.wire.body_done();
        state.hooks.show(buffered, end);
        match state.hooks.refusal.take() {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// What a hook said against the body, when the exchange ended by [`Fault::Refused`](super::Fault::Refused).
    pub(in crate::gateway) fn take_body_refusal(&self) -> Option<Refusal> {
        self.state.lock().hooks.refusal.take()
    }
}
