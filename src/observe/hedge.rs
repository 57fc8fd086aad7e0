//! What became of second tries beside the first.

use super::stats::Count;

/// What became of a second try: label `outcome` of `gateway_upstream_hedges_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeOutcome {
    /// The second try answered first.
    Won,
    /// Another answered first, or the client left.
    Lost,
    /// The second try failed while the other was awaited.
    Failed,
    /// A second try was due and not begun: no other endpoint was usable, the budget was spent, or a breaker stood in
    /// the way.
    Refused,
}

impl HedgeOutcome {
    /// All of them with their labels.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Won, "won"),
        (Self::Lost, "lost"),
        (Self::Failed, "failed"),
        (Self::Refused, "refused"),
    ];
}

/// Counts by outcome.
#[derive(Debug, Default)]
pub struct HedgeStats {
    counts: [Count; HedgeOutcome::ALL.len()],
}

impl HedgeStats {
    /// Counts one.
    pub fn up(&self, outcome: HedgeOutcome) {
        self.counts[outcome as usize].up();
    }

    /// `(label, count)` of every outcome.
    pub(super) fn seen(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let outcomes = HedgeOutcome::ALL.iter();
        outcomes.map(|(outcome, label)| (*label, self.counts[*outcome as usize].value()))
    }
}
