//! Requests that are made inside the process: what for, and how many.

use prometheus::proto::MetricFamily;

use super::family::{counter, labels};
use super::stats::Count;

/// What a request is made for inside the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Internal {
    /// An item of a batch.
    Batch,
    /// A part of an aggregate.
    Aggregate,
    /// A kept answer that is fetched anew.
    Refresh,
}

impl Internal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Batch, Self::Aggregate, Self::Refresh];

    /// Label `kind` of `gateway_internal_requests_total`, and the field of an access line that holds the trace of the
    /// request which made it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Aggregate => "aggregate",
            Self::Refresh => "refresh",
        }
    }

    /// Whether it has an access line: what nobody asked for has none.
    pub fn is_logged(self) -> bool {
        self != Self::Refresh
    }
}

/// Counts of requests made inside the process. They are counted by their routes, too.
#[derive(Debug, Default)]
pub struct InternalStats([Count; Internal::ALL.len()]);

impl InternalStats {
    /// Counts one that ended.
    pub fn up(&self, kind: Internal) {
        self.0[kind as usize].up();
    }

    /// The family, of those kinds that there were.
    pub(super) fn family(&self) -> MetricFamily {
        let mut made = counter(
            "gateway_internal_requests_total",
            "Requests made inside the process, by what for",
        );
        for kind in Internal::ALL {
            let count = self.0[kind as usize].value();
            if count > 0 {
                made.push(labels(&[("kind", kind.label())]), count as f64);
            }
        }
        made.done()
    }
}
