//! What filters see of a body on its way.

use std::io;
use std::task::Poll;

use bytes::Bytes;

use super::ClientIo;
use crate::filter::{Refusal, RequestBodyHook};

/// The hooks of one request, and what one of them said against it; boxed, since few have any.
#[derive(Default)]
pub(super) struct BodyHooks(Option<Box<Watching>>);

struct Watching {
    hooks: Vec<Box<dyn RequestBodyHook>>,
    refusal: Option<Refusal>,
}

impl BodyHooks {
    /// Shows what was read; says whether it may go on. After a refusal, and behind the end, nobody looks any more.
    pub(super) fn admit(&mut self, read: &Poll<io::Result<Option<Bytes>>>) -> bool {
        let Some(watching) = self
            .0
            .as_mut()
            .filter(|watching| !watching.hooks.is_empty())
        else {
            return true;
        };
        match read {
            Poll::Ready(Ok(Some(piece))) => watching.show(piece, false),
            Poll::Ready(Ok(None)) => watching.show(&[], true),
            Poll::Ready(Err(_)) | Poll::Pending => true,
        }
    }

    /// What one of them said against the body, once.
    fn take_refusal(&mut self) -> Option<Refusal> {
        self.0.as_mut()?.refusal.take()
    }
}

impl Watching {
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
        let mut watching = Box::new(Watching {
            hooks,
            refusal: None,
        });
        if let Some(buffered) = &state.buffered {
            watching.show(buffered, state.wire.body_done());
        }
        let refusal = watching.refusal.take();
        state.hooks = BodyHooks(Some(watching));
        match refusal {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// What a hook said against the body, when the exchange ended by [`AbortReason::Refused`](super::AbortReason::Refused).
    pub(in crate::gateway) fn take_body_refusal(&self) -> Option<Refusal> {
        self.state.lock().hooks.take_refusal()
    }
}
