//! Watches a worker for signs of overload: how late it is, and, once for all, the memory of the process. Asked for by
//! `[server.overload]`; otherwise it looks once a second whether it is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::processors::kernel;
use crate::gateway::State;

/// Between two looks at the clock: enough of them in a tenth of a second that the best of them tells something.
const LOOK: Duration = Duration::from_millis(10);
/// After so long it is said what was seen.
const TICK: Duration = Duration::from_millis(100);
/// Between two looks whether somebody asks.
const IDLE: Duration = Duration::from_secs(1);

/// Watches the worker on whose thread it runs. Ends with it.
pub(super) async fn watch(state: Arc<State>, worker: usize) {
    let mut on = false;
    loop {
        let watched = state.snapshot();
        let watched = watched.and_then(|snapshot| snapshot.config.server.overload);
        let (lag, memory) = match watched {
            Some(watched) => (watched.max_lag, watched.max_memory),
            None => (None, None),
        };
        if worker == 0 && memory.is_some() {
            state.overload.uses_memory(resident());
        }
        if lag.is_none() {
            if on {
                state.overload.beat(worker, Duration::ZERO, TICK, None);
                on = false;
            }
            sleep(if memory.is_some() { TICK } else { IDLE }).await;
            continue;
        }
        on = true;
        let begun = Instant::now();
        let late = lateness(begun + TICK).await;
        state.overload.beat(worker, late, begun.elapsed(), lag);
    }
}

/// The least lateness met until `end`: a queue that stands is late each time, a burst is not.
async fn lateness(end: Instant) -> Duration {
    let mut least = Duration::MAX;
    loop {
        let due = Instant::now() + LOOK;
        sleep_until(due).await;
        let now = Instant::now();
        // A timer's own slack is a millisecond.
        let late = now.saturating_duration_since(due + Duration::from_millis(1));
        least = least.min(late);
        if now >= end {
            return least;
        }
    }
}

/// Memory of this process that is there, bytes. 0 when the kernel does not tell.
fn resident() -> u64 {
    let text = kernel(Path::new("/proc/self/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kilobytes: Option<u64> = kilobytes.and_then(|number| number.trim().parse().ok());
    kilobytes.unwrap_or_default() << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        assert!((1 << 20..1 << 40).contains(&resident()), "{}", resident());
    }
}
