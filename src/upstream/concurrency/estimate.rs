//! A latency that is known only so well.

/// A latency, and how sure it is. Latencies are compared by their ratio, so the uncertainty is one of the logarithm.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Estimate {
    /// Nanoseconds; 0 = nothing is known.
    value: f64,
    /// Of the logarithm.
    variance: f64,
}

/// Nothing is known better: buckets, clocks and machines are not exact.
const EXACT: f64 = 0.02;
/// So many standard deviations apart are two things, not one.
const APART: f64 = 3.0;

impl Estimate {
    /// `error`: by what part it may be wrong.
    pub(super) fn new(value: f64, error: f64) -> Self {
        Self {
            value,
            variance: error * error + EXACT * EXACT,
        }
    }

    /// Nanoseconds; 0 = nothing is known.
    pub(super) fn value(self) -> f64 {
        self.value
    }

    /// Whether anything is known.
    pub(super) fn is_known(self) -> bool {
        self.value > 0.0
    }

    /// The logarithm of how many times `other` it is.
    pub(super) fn over(self, other: Self) -> f64 {
        (self.value / other.value).ln()
    }

    /// One standard deviation of that.
    pub(super) fn unsure(self, other: Self) -> f64 {
        (self.variance + other.variance).sqrt()
    }

    /// Moves towards what was seen by a part of the way.
    pub(super) fn follow(&mut self, seen: Self, part: f64) {
        self.value *= (seen.over(*self) * part).exp();
        self.variance = self.variance * (1.0 - part).powi(2) + seen.variance * part.powi(2);
    }

    /// Takes in what was seen, by how sure each is, but at least by `least`: what was true long ago need not be true now.
    /// What lies too far apart to be the same takes its place; says whether that is so.
    pub(super) fn take(&mut self, seen: Self, least: f64) -> bool {
        if !self.is_known() || seen.over(*self).abs() > APART * seen.unsure(*self) {
            *self = seen;
            return true;
        }
        let part = self.variance / (self.variance + seen.variance);
        self.follow(seen, part.max(least));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_that_are_unsure_make_one_that_is_sure() {
        let mut estimate = Estimate::default();
        assert!(estimate.take(Estimate::new(100.0, 0.2), 0.0));
        for seen in [120.0, 85.0, 110.0, 90.0, 105.0, 95.0] {
            assert!(!estimate.take(Estimate::new(seen, 0.2), 0.0));
        }
        assert!((95.0..105.0).contains(&estimate.value()), "{estimate:?}");
        assert!(
            estimate.unsure(Estimate::default()) < 0.1,
            "0.2 by the root of seven"
        );
    }

    #[test]
    fn what_is_clearly_something_else_is_believed_at_once() {
        let mut estimate = Estimate::new(100.0, 0.02);
        assert!(!estimate.take(Estimate::new(105.0, 0.02), 0.2));
        assert!(estimate.take(Estimate::new(150.0, 0.02), 0.2));
        assert!((estimate.value() - 150.0).abs() < 1e-9);
        let mut estimate = Estimate::new(100.0, 0.3);
        assert!(
            !estimate.take(Estimate::new(150.0, 0.3), 0.2),
            "may be chance"
        );
    }
}
