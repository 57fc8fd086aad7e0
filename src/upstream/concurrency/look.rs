//! A look below the limit: two limits with their latencies, and what they say.

use super::estimate::Estimate;

/// A limit and the latency there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) limit: f64,
    pub(super) latency: Estimate,
}

/// The limit was lowered to see whether the latency falls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// What is compared with.
    pub(super) above: Level,
    /// Where to return to.
    pub(super) top: Level,
    /// Whether the latency was above the floor already, and the limit lowered further to be sure that nobody waits.
    pub(super) again: bool,
    pub(super) since: u64,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Requests wait for each other there as well.
    Waiting,
    /// Nobody waits, but answers take longer than they did: to be made sure of.
    Slower,
    /// Nobody waits: that is the latency without load.
    Floor {
        /// Or so it is taken: the latency fell as if somebody waited, but to where it always was.
        suspected: bool,
    },
}

/// How much of the way down requests waited for each other: 1 = the latency falls as the limit does, 0 = it does not fall.
/// From where the gradient settles, it is half of the way; what is clearly more is waiting at the lower limit too.
const HALF: f64 = 0.5;
const MOST: f64 = 0.75;
/// So much (a logarithm) is no chance, however sure both latencies are; and is far above what the gradient tolerates.
const DIFFERENT: f64 = 0.1;
const FAR: f64 = 0.28;

impl Look {
    /// Begins one.
    pub(super) fn new(above: Level, since: u64) -> Self {
        Self {
            above,
            top: above,
            again: false,
            since,
        }
    }

    /// What the latency below says. `known`: the floor was found by looking; `suspected`: the look before this one had a
    /// suspicion.
    pub(super) fn judge(
        &self,
        below: Level,
        floor: Estimate,
        known: bool,
        suspected: bool,
    ) -> Verdict {
        let drop = (self.above.limit / below.limit).ln().max(0.01);
        let waiting = self.above.latency.over(below.latency) / drop;
        let chance = self.above.latency.unsure(below.latency) / drop;
        let (slower, unsure) = (below.latency.over(floor), below.latency.unsure(floor));
        // A moment of trouble, which is over: from far above, back to where it was.
        let over = known
            && slower.abs() < DIFFERENT + 2.0 * unsure
            && self.above.latency.over(floor) > FAR + 2.0 * unsure;
        let fell = waiting > MOST.max(HALF + 1.5 * chance) && !over;
        let same = known && slower.abs() < 1.5 * unsure;
        if fell && (!same || suspected) {
            return Verdict::Waiting;
        }
        if known && slower > DIFFERENT + 2.5 * unsure && !self.again {
            return Verdict::Slower;
        }
        Verdict::Floor {
            suspected: fell && same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: f64 = 1e6;

    fn level(limit: f64, latency: f64) -> Level {
        Level {
            limit,
            latency: Estimate::new(latency * MS, 0.02),
        }
    }

    /// From 24, where it took so long, to 17, where it takes so long; without load it took 20 ms.
    fn verdict(above: f64, below: f64, known: bool, suspected: bool) -> Verdict {
        let look = Look::new(level(24.0, above), 0);
        let floor = Estimate::new(20.0 * MS, 0.02);
        look.judge(level(17.0, below), floor, known, suspected)
    }

    #[test]
    fn where_the_latency_falls_with_the_limit_requests_wait_below_as_well() {
        assert_eq!(verdict(40.0, 28.3, true, false), Verdict::Waiting);
        // Before anything is known, the same.
        assert_eq!(verdict(60.0, 42.5, false, false), Verdict::Waiting);
        // What is not sure says nothing.
        let mut look = Look::new(level(24.0, 40.0), 0);
        look.above.latency = Estimate::new(40.0 * MS, 0.3);
        let floor = Estimate::new(20.0 * MS, 0.3);
        let unsure = look.judge(level(17.0, 28.3), floor, true, false);
        assert!(matches!(unsure, Verdict::Floor { .. }), "{unsure:?}");
    }

    #[test]
    fn where_it_falls_half_the_way_or_not_at_all_nobody_waits() {
        let floor = Verdict::Floor { suspected: false };
        assert_eq!(verdict(24.0, 20.0, true, false), floor);
        assert_eq!(verdict(20.0, 20.0, true, false), floor);
    }

    #[test]
    fn a_moment_of_trouble_that_is_over_is_none() {
        let floor = Verdict::Floor { suspected: false };
        assert_eq!(verdict(400.0, 20.5, true, false), floor);
    }

    #[test]
    fn that_it_takes_longer_is_made_sure_of_once() {
        assert_eq!(verdict(48.0, 40.0, true, false), Verdict::Slower);
        let mut look = Look::new(level(24.0, 48.0), 0);
        look.again = true;
        let floor = Estimate::new(20.0 * MS, 0.02);
        let again = look.judge(level(17.0, 40.0), floor, true, false);
        assert_eq!(again, Verdict::Floor { suspected: false });
    }

    #[test]
    fn a_floor_that_was_a_line_is_found_out_the_second_time() {
        let suspicion = Verdict::Floor { suspected: true };
        assert_eq!(verdict(27.5, 20.0, true, false), suspicion);
        assert_eq!(verdict(27.5, 20.0, true, true), Verdict::Waiting);
    }
}
