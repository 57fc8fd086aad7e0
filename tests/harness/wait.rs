//! Waiting is polling with a deadline; no test sleeps and hopes.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);

/// Polls until `condition` holds; says whether it did before the deadline.
pub(crate) fn holds_within(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Polls until `condition` holds and fails the test when it never does.
#[track_caller]
pub(crate) fn eventually(deadline: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(
        holds_within(deadline, condition),
        "not within {deadline:?}: {what}"
    );
}

/// Polls until `look` finds something.
#[track_caller]
pub(crate) fn found_within<T>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let mut found = None;
    eventually(deadline, what, || {
        found = look();
        found.is_some()
    });
    found.unwrap()
}

/// Polls for as long as `span` and fails the test the moment `condition` does not hold.
#[track_caller]
pub(crate) fn always(span: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    assert!(
        !holds_within(span, || !condition()),
        "not all through {span:?}: {what}"
    );
}

pub(crate) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Now, in whole seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    unix_millis() / 1000
}

/// Now, in milliseconds since 1970.
pub(crate) fn unix_millis() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64
}
