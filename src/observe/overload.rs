//! What is counted where more comes in than can be served: places of upstreams, and what was refused by class and cause.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::stats::Count;
use crate::config::Class;

/// Why a request was refused as too much: label `cause` of `gateway_shed_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShedCause {
    /// `server.overload.max_in_flight`: so many that its class gets no more.
    InFlight,
    /// `server.overload.max_lag`: the workers are late.
    Lag,
    /// `server.overload.max_memory`.
    Memory,
    /// The upstream's places are taken, and nobody else may wait.
    QueueFull,
    /// No place became free in time.
    QueueTimeout,
    /// The request waited for a place, and one that matters more took its turn.
    Displaced,
}

impl ShedCause {
    /// All causes with their labels.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::InFlight, "max_in_flight"),
        (Self::Lag, "max_lag"),
        (Self::Memory, "max_memory"),
        (Self::QueueFull, "queue_full"),
        (Self::QueueTimeout, "queue_timeout"),
        (Self::Displaced, "displaced"),
    ];

    /// Label of the cause.
    pub fn label(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// Refused requests by class and cause.
#[derive(Debug, Default)]
pub struct ShedCounts([[Count; ShedCause::ALL.len()]; Class::ALL.len()]);

impl ShedCounts {
    /// Counts one.
    pub fn up(&self, class: Class, cause: ShedCause) {
        self.0[class as usize][cause as usize].up();
    }

    /// Of one class, whatever the cause.
    pub fn of(&self, class: Class) -> u64 {
        self.0[class as usize].iter().map(Count::value).sum()
    }

    /// Of all classes.
    pub fn total(&self) -> u64 {
        Class::ALL.into_iter().map(|class| self.of(class)).sum()
    }

    /// Class, cause and count of what was refused.
    pub fn seen(&self) -> impl Iterator<Item = (Class, ShedCause, u64)> + '_ {
        let cells = Class::ALL.into_iter().flat_map(|class| {
            let causes = ShedCause::ALL.iter();
            causes.map(move |(cause, _)| (class, *cause))
        });
        cells
            .map(|(class, cause)| (class, cause, self.0[class as usize][cause as usize].value()))
            .filter(|(.., count)| *count > 0)
    }
}

/// The places of one upstream. The numbers are the very ones that decide.
#[derive(Debug, Default)]
pub struct ConcurrencyStats {
    /// Requests that may be there at once; 0 = not known yet.
    pub limit: AtomicU32,
    /// Requests that are.
    pub in_flight: AtomicU32,
    /// Requests that wait for a place.
    pub queued: AtomicU32,
    /// Requests that got none.
    pub shed: ShedCounts,
}

/// The process as a whole.
#[derive(Debug, Default)]
pub struct OverloadStats {
    /// How much is refused at present: 0 nothing, 1 sheddable, 2 normal as well, 3 critical as well.
    pub level: AtomicU32,
    /// By how much workers were late of late, nanoseconds.
    pub lag: AtomicU64,
    /// Memory of the process, bytes.
    pub memory: AtomicU64,
    /// Requests that were let in and are not over.
    pub in_flight: AtomicU32,
    /// Requests that were not let in.
    pub shed: ShedCounts,
}

impl ConcurrencyStats {
    /// Limit, in flight and waiting, as they are now.
    pub fn now(&self) -> [u32; 3] {
        [&self.limit, &self.in_flight, &self.queued].map(|number| number.load(Ordering::Relaxed))
    }
}
