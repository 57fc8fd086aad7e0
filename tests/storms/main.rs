//! The real binary under loads whose latencies are judged. They run one at a time, and beside no other test: what else the
//! machine does would be measured as well.

#![allow(
    clippy::unwrap_used,
    reason = "in a test a failed unwrap is the report"
)]
#![allow(
    clippy::print_stderr,
    reason = "a failing test shows the gateway's log"
)]

#[path = "../harness/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the other tests use what these do not"
)]
mod harness;
mod load;
mod overload;
mod slow_endpoint;
mod stories;

use std::sync::{Mutex, MutexGuard};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Held by a test that must have the machine for itself.
fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
