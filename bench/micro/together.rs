//! The same work on several threads at once.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// How long the slowest of `threads` took to do `act(thread, i)` for every `i` below `times`, all at the same time. What
/// it costs more than one thread alone is what they pay for meeting.
pub(crate) fn together(threads: u64, times: u64, act: impl Fn(u64, u64) + Sync) -> Duration {
    let start = Barrier::new(threads as usize);
    let work = |thread| {
        start.wait();
        let begun = Instant::now();
        (0..times).for_each(|i| act(thread, i));
        begun.elapsed()
    };
    std::thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = (1..threads)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        let own = work(0);
        let others = others
            .into_iter()
            .map(|other| other.join().expect("a thread"));
        others.fold(own, Duration::max)
    })
}
