//! Who decides about nonces: this process, or the one that takes over from it.

use std::sync::Arc;
use std::time::Duration;

use super::NonceOutcome;
use crate::primitives::AuthName;
use crate::primitives::sync::Mutex;
use crate::primitives::sync::atomic::{AtomicBool, Ordering};

/// Between two looks who decides about nonces, and how many of them: a second in all, in which a worker stands still.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS: usize = 1000;

/// Another process that decides about nonces in our place.
pub trait NonceOwner: Send + Sync {
    /// Whether a nonce of `[auth.NAME]` is new there, where it is kept from now on for `lifetime`. `None` when no answer
    /// came.
    fn claim(&self, auth: &AuthName, nonce: u128, lifetime: Duration) -> Option<NonceOutcome>;
}

/// Whether nonces are decided here, and where else.
#[derive(Default)]
pub(in crate::auth) struct Ownership {
    handed_over: AtomicBool,
    owner: Mutex<Option<Arc<dyn NonceOwner>>>,
}

impl Ownership {
    /// Nothing is decided here from now on. Whoever holds a shard's lock at this moment still decides, and is seen by
    /// who takes that lock afterwards.
    pub(in crate::auth) fn hand_over(&self) {
        self.handed_over.store(true, Ordering::SeqCst);
    }

    /// Decides here again.
    pub(in crate::auth) fn take_back(&self) {
        *self.owner.lock() = None;
        self.handed_over.store(false, Ordering::SeqCst);
    }

    /// Whether nothing is decided here.
    pub(super) fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::SeqCst)
    }

    /// Who decides. On the way from one to the other it is waited for: nobody is refused for want of a judge.
    pub(super) fn decider(&self) -> Decider {
        for _ in 0..LOOKS {
            if let Some(owner) = self.owner.lock().clone() {
                return Decider::Other(owner);
            }
            if !self.is_handed_over() {
                return Decider::Us;
            }
            std::thread::sleep(LOOK);
        }
        Decider::Nobody
    }

    /// Who is asked from now on.
    pub(in crate::auth) fn ask(&self, owner: Arc<dyn NonceOwner>) {
        *self.owner.lock() = Some(owner);
    }
}

/// Who decides about a nonce.
pub(super) enum Decider {
    Us,
    Other(Arc<dyn NonceOwner>),
    Nobody,
}
