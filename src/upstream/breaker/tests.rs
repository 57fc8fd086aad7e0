//! The breaker against a model of it: a list of calls and a few rules, with time as the test says.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::config::{BreakerWindow, Failures};
use crate::primitives::units::Percent;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1000 * SECOND;

fn rule(window: BreakerWindow) -> Rule {
    Rule {
        window,
        minimum_calls: 4,
        failure_rate: Percent::whole(50),
        slow_call: Duration::from_secs(2),
        slow_rate: Percent::whole(100),
        open_for: Duration::from_secs(5),
        half_open_calls: 3,
        failures: Failures {
            connect: true,
            reset: true,
            timeout: true,
            statuses: vec![502, 503, 504],
        },
    }
}

fn breaker(rule: Rule) -> Arc<Breaker> {
    let guarded = Guarded::Upstream("u".into());
    Arc::new(Breaker::new(rule, guarded, Arc::default()))
}

const TEN_SECONDS: BreakerWindow = BreakerWindow::Time(Duration::from_secs(10));
const BAD: Ending = Ending::Broken(RetryCause::Reset);
const GOOD: Ending = Ending::Answered(200);

fn call(breaker: &Arc<Breaker>, ending: Ending, took: u64, now: u64) -> bool {
    let permit = breaker.enter(now);
    let entered = permit.is_ok();
    if let Ok(permit) = permit {
        permit.tell(ending, Duration::from_secs(took), now);
    }
    entered
}

fn calls(times: usize, breaker: &Arc<Breaker>, ending: Ending, took: u64, now: u64) {
    for _ in 0..times {
        call(breaker, ending, took, now);
    }
}

fn state(breaker: &Breaker, now: u64) -> BreakerState {
    breaker.standing(now).state
}

#[test]
fn opens_at_the_rate_and_not_below() {
    for window in [TEN_SECONDS, BreakerWindow::Calls(10)] {
        let breaker = breaker(rule(window));
        for ending in [GOOD, GOOD, BAD] {
            assert!(call(&breaker, ending, 0, START));
        }
        assert_eq!(state(&breaker, START), BreakerState::Closed);
        assert!(call(&breaker, BAD, 0, START));
        assert_eq!(state(&breaker, START), BreakerState::Open);
        let refused = breaker.enter(START + SECOND).err();
        assert_eq!(refused, Some(Duration::from_secs(4)));
        let figures = breaker.standing(START).figures;
        assert_eq!((figures.calls, figures.failed), (4, 2));
    }
}

#[test]
fn failures_in_a_quiet_time_do_not_open_it() {
    let breaker = breaker(rule(TEN_SECONDS));
    for second in 0..30 {
        assert!(call(&breaker, BAD, 0, START + second * 4 * SECOND));
    }
    assert_eq!(state(&breaker, START), BreakerState::Closed);
}

#[test]
fn a_good_call_that_makes_the_minimum_opens_it_too() {
    let breaker = breaker(rule(TEN_SECONDS));
    for ending in [BAD, BAD, BAD] {
        call(&breaker, ending, 0, START);
    }
    assert_eq!(state(&breaker, START), BreakerState::Closed);
    call(&breaker, GOOD, 0, START + SECOND);
    assert_eq!(state(&breaker, START), BreakerState::Open);
}

#[test]
fn slow_calls_open_it_when_all_are_slow() {
    let breaker = breaker(rule(TEN_SECONDS));
    for took in [2, 3, 2, 1] {
        call(&breaker, GOOD, took, START);
    }
    assert_eq!(state(&breaker, START), BreakerState::Closed);
    for _ in 0..4 {
        call(&breaker, GOOD, 2, START + 10 * SECOND);
    }
    assert_eq!(
        state(&breaker, START),
        BreakerState::Open,
        "the first are forgotten"
    );
}

#[test]
fn what_counts_as_a_failure_is_configured() {
    let mut only_500 = rule(TEN_SECONDS);
    only_500.failures = Failures {
        connect: false,
        reset: false,
        timeout: false,
        statuses: vec![500],
    };
    let breaker = breaker(only_500);
    use RetryCause::{Connect, Reset, Timeout};
    for cause in [Connect, Reset, Timeout] {
        for _ in 0..4 {
            call(&breaker, Ending::Broken(cause), 0, START);
        }
    }
    calls(4, &breaker, Ending::Answered(503), 0, START);
    assert_eq!(state(&breaker, START), BreakerState::Closed);
    calls(16, &breaker, Ending::Answered(500), 0, START);
    assert_eq!(state(&breaker, START), BreakerState::Open);
}

fn opened(rule: Rule) -> Arc<Breaker> {
    let breaker = breaker(rule);
    calls(4, &breaker, BAD, 0, START);
    breaker
}

#[test]
fn half_open_admits_its_quota_and_decides_when_all_have_finished() {
    let breaker = opened(rule(TEN_SECONDS));
    let later = START + 5 * SECOND;
    let mut permits: Vec<BreakerPermit> =
        (0..20).filter_map(|_| breaker.enter(later).ok()).collect();
    assert_eq!(permits.len(), 3);
    let tell = |permit: BreakerPermit, ending| permit.tell(ending, Duration::ZERO, later);
    tell(permits.remove(0), BAD);
    tell(permits.remove(0), GOOD);
    assert_eq!(state(&breaker, later), BreakerState::HalfOpen);
    tell(permits.remove(0), GOOD);
    assert_eq!(state(&breaker, later), BreakerState::Closed);
    // What was counted before it opened is forgotten.
    assert_eq!(breaker.standing(later).figures.calls, 0);
}

#[test]
fn a_probe_that_is_dropped_gives_its_place_back() {
    let breaker = opened(rule(TEN_SECONDS));
    let later = START + 5 * SECOND;
    let permits: Vec<BreakerPermit> = (0..3).filter_map(|_| breaker.enter(later).ok()).collect();
    assert!(breaker.enter(later).is_err());
    drop(permits);
    let again: Vec<BreakerPermit> = (0..9).filter_map(|_| breaker.enter(later).ok()).collect();
    assert_eq!(again.len(), 3);
    for permit in again {
        permit.tell(BAD, Duration::ZERO, later);
    }
    assert_eq!(state(&breaker, later), BreakerState::Open);
    assert_eq!(breaker.enter(later).err(), Some(Duration::from_secs(5)));
}

#[test]
fn calls_of_before_a_change_tell_nothing_after_it() {
    let breaker = breaker(rule(TEN_SECONDS));
    let old: Vec<BreakerPermit> = (0..9).filter_map(|_| breaker.enter(START).ok()).collect();
    calls(4, &breaker, BAD, 0, START);
    let later = START + 5 * SECOND;
    calls(3, &breaker, GOOD, 0, later);
    assert_eq!(state(&breaker, later), BreakerState::Closed);
    for permit in old {
        permit.tell(BAD, Duration::ZERO, later);
    }
    assert_eq!(state(&breaker, later), BreakerState::Closed);
}

#[test]
fn without_traffic_it_becomes_half_open_all_the_same() {
    let breaker = opened(rule(TEN_SECONDS));
    breaker.tick(START + 4 * SECOND);
    assert_eq!(state(&breaker, START), BreakerState::Open);
    breaker.tick(START + 5 * SECOND);
    assert_eq!(state(&breaker, START), BreakerState::HalfOpen);
    assert_eq!(breaker.refuses(START + 5 * SECOND), None);
}

#[test]
fn the_quota_is_exact_over_threads() {
    for _ in 0..200 {
        let breaker = opened(rule(TEN_SECONDS));
        let later = START + 5 * SECOND;
        let admitted: usize = std::thread::scope(|scope| {
            let enter = || (0..10).filter_map(|_| breaker.enter(later).ok()).collect();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(enter)).collect();
            let each = threads.into_iter().map(|thread| thread.join());
            let each: Vec<Vec<BreakerPermit>> =
                each.map(|permits| permits.expect("thread")).collect();
            each.iter().map(Vec::len).sum()
        });
        assert_eq!(admitted, 3);
    }
}

/// What the breaker promises, said as plainly as possible.
struct Model {
    rule: Rule,
    state: BreakerState,
    /// How often the state changed.
    turns: u64,
    until: u64,
    calls: VecDeque<(u64, Call)>,
    left: u32,
    finished: Vec<Call>,
}

impl Model {
    fn new(rule: Rule) -> Self {
        Self {
            rule,
            state: BreakerState::Closed,
            turns: 0,
            until: 0,
            calls: VecDeque::new(),
            left: 0,
            finished: Vec::new(),
        }
    }

    fn turn(&mut self, to: BreakerState) {
        self.state = to;
        self.turns += 1;
    }

    fn enter(&mut self, now: u64) -> Option<u64> {
        if self.state == BreakerState::Open && now >= self.until {
            self.turn(BreakerState::HalfOpen);
            self.left = self.rule.half_open_calls;
            self.finished.clear();
        }
        match self.state {
            BreakerState::Closed => Some(self.turns),
            BreakerState::Open => None,
            BreakerState::HalfOpen if self.left == 0 => None,
            BreakerState::HalfOpen => {
                self.left -= 1;
                Some(self.turns)
            }
        }
    }

    fn told(&mut self, turns: u64, call: Call, now: u64) {
        if turns != self.turns {
            return;
        }
        match self.state {
            BreakerState::Closed => {
                self.calls.push_back((now, call));
                match self.rule.window {
                    BreakerWindow::Calls(most) if self.calls.len() > most as usize => {
                        self.calls.pop_front();
                    }
                    BreakerWindow::Calls(_) => {}
                    BreakerWindow::Time(span) => self
                        .calls
                        .retain(|(at, _)| at / SECOND + span.as_secs() > now / SECOND),
                }
                let calls: Vec<Call> = self.calls.iter().map(|(_, call)| *call).collect();
                if calls.len() >= self.rule.minimum_calls as usize && self.bad(&calls) {
                    self.open(now);
                }
            }
            BreakerState::HalfOpen => {
                self.finished.push(call);
                if self.finished.len() == self.rule.half_open_calls as usize {
                    let finished = std::mem::take(&mut self.finished);
                    if self.bad(&finished) {
                        self.open(now);
                    } else {
                        self.calls.clear();
                        self.turn(BreakerState::Closed);
                    }
                }
            }
            BreakerState::Open => {}
        }
    }

    fn gave_up(&mut self, turns: u64) {
        if turns == self.turns && self.state == BreakerState::HalfOpen {
            self.left += 1;
        }
    }

    fn open(&mut self, now: u64) {
        self.turn(BreakerState::Open);
        self.until = now + nanos(self.rule.open_for);
    }

    /// Half of them failed, or all were slow: the shares of `rule`.
    fn bad(&self, calls: &[Call]) -> bool {
        let failed = calls.iter().filter(|call| call.failed).count();
        failed * 2 >= calls.len() || calls.iter().all(|call| call.slow)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Enter,
    Tell(prop::sample::Index, bool, bool),
    Leave(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0u64..4 * SECOND).prop_map(Step::Pass),
        6 => Just(Step::Enter),
        5 => (any::<prop::sample::Index>(), prop::bool::weighted(0.4), prop::bool::weighted(0.7))
            .prop_map(|(which, failed, slow)| Step::Tell(which, failed, slow)),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
    ]
}

fn window() -> impl Strategy<Value = BreakerWindow> {
    prop_oneof![
        (1u64..12).prop_map(|seconds| BreakerWindow::Time(Duration::from_secs(seconds))),
        (4u32..12).prop_map(BreakerWindow::Calls),
    ]
}

proptest! {
    #[test]
    fn does_what_the_model_does(window in window(), steps in prop::collection::vec(step(), 0..400)) {
        let rule = rule(window);
        let (breaker, mut model) = (breaker(rule.clone()), Model::new(rule));
        let mut now = START;
        let mut under_way: Vec<(BreakerPermit, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Pass(span) => now += span,
                Step::Enter => {
                    let (real, modelled) = (breaker.enter(now), model.enter(now));
                    prop_assert_eq!(real.is_ok(), modelled.is_some());
                    under_way.extend(real.ok().zip(modelled));
                }
                Step::Tell(which, failed, slow) if !under_way.is_empty() => {
                    let (mut permit, turns) = under_way.swap_remove(which.index(under_way.len()));
                    let call = Call { failed, slow };
                    permit.tell_call(call, now);
                    model.told(turns, call, now);
                }
                Step::Leave(which) if !under_way.is_empty() => {
                    let (permit, turns) = under_way.swap_remove(which.index(under_way.len()));
                    drop(permit);
                    model.gave_up(turns);
                }
                Step::Tell(..) | Step::Leave(..) => {}
            }
            prop_assert_eq!(state(&breaker, now), model.state);
        }
    }
}

#[test]
fn goes_on_in_another_process_where_it_was() {
    let open = || {
        let breaker = breaker(rule(TEN_SECONDS));
        calls(4, &breaker, BAD, 0, START);
        breaker
    };
    assert_eq!(breaker(rule(TEN_SECONDS)).known(START), None);
    let known = open().known(START + SECOND).into_iter().collect::<Vec<_>>();
    // Another process, another clock; half a second passed on the way.
    let (there, now) = (breaker(rule(TEN_SECONDS)), SECOND / 4);
    there.recall(&known, Duration::from_millis(500), now);
    assert_eq!(there.standing(now).left, Duration::from_millis(3500));
    assert!(there.enter(now + 3 * SECOND).is_err());
    calls(3, &there, GOOD, 0, now + 4 * SECOND);
    assert_eq!(state(&there, now + 4 * SECOND), BreakerState::Closed);
    // Half-open: its calls are made anew, and no more than that.
    let half = open();
    assert!(half.enter(START + 6 * SECOND).is_ok());
    let known = half
        .known(START + 6 * SECOND)
        .into_iter()
        .collect::<Vec<_>>();
    let there = breaker(rule(TEN_SECONDS));
    there.recall(&known, Duration::ZERO, now);
    let permits: Vec<_> = (0..5).map(|_| there.enter(now)).collect();
    assert_eq!(permits.iter().filter(|permit| permit.is_ok()).count(), 3);
    // Not longer than this process would keep it open, and nobody else's.
    let mut rule_here = rule(TEN_SECONDS);
    rule_here.open_for = Duration::from_secs(2);
    let shorter = breaker(rule_here);
    let known = open().known(START).into_iter().collect::<Vec<_>>();
    shorter.recall(&known, Duration::ZERO, now);
    assert_eq!(shorter.standing(now).left, Duration::from_secs(2));
    let guarded = Guarded::Route("u".into());
    let other = Breaker::new(rule(TEN_SECONDS), guarded, Arc::default());
    other.recall(&known, Duration::ZERO, now);
    assert_eq!(state(&other, now), BreakerState::Closed);
}
