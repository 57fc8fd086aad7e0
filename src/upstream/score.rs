//! `balance = "score"`: weights that follow what is seen of each endpoint, computed in the background about once a second.
//!
//! Each figure of an endpoint is compared with the middle one of its upstream, and lowers the weight by a factor when it is
//! clearly worse; what is alike, or fails everywhere alike, changes nothing. A weight falls at most to an eighth in a second
//! and rises by at most a half, so that an endpoint is relieved within three seconds and is given its load back over ten;
//! it never falls below the configured least, or nobody would notice that the endpoint is well again.

use std::collections::HashMap;

use super::live::Sums;
use crate::api::{EndpointFigures, EndpointScore, WeightReason};
use crate::primitives::address::Address;

/// What is read of an endpoint each time.
pub(super) struct Seen {
    pub(super) address: Address,
    /// Configured weight of the endpoint.
    pub(super) weight: f64,
    pub(super) sums: Sums,
    pub(super) in_flight: u64,
    pub(super) load: Option<f64>,
    /// By what its weight is multiplied already: goes on from there when nothing else is known.
    pub(super) factor: f64,
}

/// The scores of an upstream.
#[derive(Default)]
pub(super) struct Scores {
    known: HashMap<Address, Known>,
    last: u64,
}

struct Known {
    before: Sums,
    /// Decaying sums: each time halved before what is new is added.
    answered: f64,
    failed: f64,
    first_byte: f64,
    scored: EndpointScore,
}

/// Most that a weight falls in one step, and most that it rises.
const FALL: f64 = 8.0;
const RISE: f64 = 1.5;
/// What is within this of the middle is like it.
const ALIKE: f64 = 1.25;
/// Added to times, in milliseconds: below it differences are those of the machine.
const JITTER: f64 = 1.0;
/// Failures up to this share happen everywhere.
const USUAL_ERRORS: f64 = 0.01;
/// Requests in flight that are nothing special on any endpoint.
const USUAL_IN_FLIGHT: f64 = 4.0;
/// An endpoint that says 100 % still has this much left: it serves after all.
const LOAD_REST: f64 = 0.05;

impl Scores {
    /// Computes all factors from what is seen at `now`; half a second must have passed. Says whether it did.
    pub(super) fn step(&mut self, seen: &[Seen], least: f64, now: u64) -> bool {
        let seconds = now.saturating_sub(self.last) as f64 / 1e9;
        if seconds < 0.5 {
            return false;
        }
        self.last = now;
        self.known
            .retain(|address, _| seen.iter().any(|seen| seen.address == *address));
        for seen in seen {
            let known = self.known.entry(seen.address.clone());
            let known = known.or_insert_with(|| Known::at(seen));
            known.add(seen, seconds);
        }
        let figures: Vec<(EndpointFigures, f64, f64)> = seen
            .iter()
            .map(|seen| {
                let scored = &self.known[&seen.address].scored;
                (scored.figures, seen.weight, scored.factor)
            })
            .collect();
        for (seen, reasons) in seen.iter().zip(judge(&figures)) {
            if let Some(known) = self.known.get_mut(&seen.address) {
                turn(&mut known.scored, reasons, least);
            }
        }
        true
    }

    pub(super) fn of(&self, address: &Address) -> Option<&EndpointScore> {
        self.known.get(address).map(|known| &known.scored)
    }
}

impl Known {
    fn at(seen: &Seen) -> Self {
        Self {
            before: seen.sums,
            answered: 0.0,
            failed: 0.0,
            first_byte: 0.0,
            scored: EndpointScore {
                factor: seen.factor,
                target: seen.factor,
                ..EndpointScore::default()
            },
        }
    }

    fn add(&mut self, seen: &Seen, seconds: f64) {
        let new = seen.sums.since(self.before);
        self.before = seen.sums;
        self.answered = self.answered / 2.0 + new.answered as f64;
        self.failed = self.failed / 2.0 + new.failed as f64;
        self.first_byte = self.first_byte / 2.0 + new.first_byte as f64;
        let heard = self.answered >= 0.5;
        self.scored.figures = EndpointFigures {
            qps: new.answered as f64 / seconds,
            in_flight: seen.in_flight,
            first_byte_ms: heard.then(|| self.first_byte / self.answered / 1e6),
            error_ratio: if heard {
                self.failed / self.answered
            } else {
                0.0
            },
            load: seen.load,
        };
    }
}

/// Moves a score towards what `reasons` ask for, `least` at worst.
fn turn(score: &mut EndpointScore, reasons: Vec<WeightReason>, least: f64) {
    let product: f64 = reasons.iter().map(|reason| reason.factor).product();
    score.target = product.clamp(least, 1.0);
    score.factor = score
        .target
        .clamp(score.factor / FALL, score.factor * RISE)
        .clamp(least, 1.0);
    score.reasons = reasons;
}

/// What lowers the weight of each: `(figures, weight, factor in force)`.
fn judge(all: &[(EndpointFigures, f64, f64)]) -> Vec<Vec<WeightReason>> {
    let first_byte = middle(all.iter().filter_map(|(seen, ..)| seen.first_byte_ms));
    let errors = middle(all.iter().map(|(seen, ..)| seen.error_ratio));
    let load = middle(all.iter().filter_map(|(seen, ..)| seen.load));
    let weights: f64 = all.iter().map(|(_, weight, _)| weight).sum();
    let mean_weight = weights / all.len().max(1) as f64;
    let per_weight = |(seen, weight, _): &(EndpointFigures, f64, f64)| {
        seen.in_flight as f64 * mean_weight / weight
    };
    let in_flight = middle(all.iter().map(per_weight));
    let qps: f64 = all.iter().map(|(seen, ..)| seen.qps).sum();
    let expected: f64 = all.iter().map(|(_, weight, factor)| weight * factor).sum();
    all.iter()
        .map(|one| {
            let (seen, weight, factor) = one;
            let share = weight * factor / expected;
            let reasons = [
                slow(seen.first_byte_ms, first_byte),
                failing(seen.error_ratio, errors),
                crowded(per_weight(one), in_flight),
                loaded(seen.load, load),
                busy(seen.qps, qps * share),
            ];
            reasons.into_iter().flatten().collect()
        })
        .collect()
}

/// The middle one, of two the lower.
fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = values.len().checked_sub(1)? / 2;
    Some(values[at])
}

fn slow(took: Option<f64>, middle: Option<f64>) -> Option<WeightReason> {
    let (took, middle) = (took?, middle?);
    let ratio = (middle + JITTER) / (took + JITTER);
    (ratio * ALIKE < 1.0).then(|| WeightReason {
        figure: "first_byte".into(),
        factor: ratio * ratio,
        text: format!(
            "first byte after {took:.1} ms, the middle of the upstream is {middle:.1} ms"
        ),
    })
}

fn failing(ratio: f64, middle: Option<f64>) -> Option<WeightReason> {
    let middle = middle?;
    (ratio > middle + USUAL_ERRORS).then(|| WeightReason {
        figure: "errors".into(),
        factor: (1.0 - (ratio - middle)).powi(4),
        text: format!(
            "{:.1} % of its answers fail, the middle of the upstream is {:.1} %",
            ratio * 100.0,
            middle * 100.0
        ),
    })
}

fn crowded(waiting: f64, middle: Option<f64>) -> Option<WeightReason> {
    let usual = middle? * 2.0 + USUAL_IN_FLIGHT;
    (waiting > usual).then(|| WeightReason {
        figure: "in_flight".into(),
        factor: usual / waiting,
        text: format!("{waiting:.0} requests wait for it by its weight, {usual:.0} are usual here"),
    })
}

fn loaded(load: Option<f64>, middle: Option<f64>) -> Option<WeightReason> {
    let (load, middle) = (load?, middle?);
    let room = |load: f64| (1.0 + LOAD_REST - load).max(LOAD_REST / 2.0);
    (load > middle + LOAD_REST).then(|| WeightReason {
        figure: "load".into(),
        factor: (room(load) / room(middle)).min(1.0),
        text: format!(
            "it reports a load of {:.0} %, the middle of the upstream is {:.0} %",
            load * 100.0,
            middle * 100.0
        ),
    })
}

/// More comes to it than its weight asks for: clients that stay with it, or further tries.
fn busy(qps: f64, expected: f64) -> Option<WeightReason> {
    let ratio = qps / expected.max(1.0);
    (ratio > 1.5 && qps > 5.0).then(|| WeightReason {
        figure: "qps".into(),
        factor: (1.5 / ratio).max(0.5),
        text: format!(
            "{qps:.0} requests a second come to it, by its weight it would be {expected:.0}"
        ),
    })
}

/// Reads a load as an endpoint reports it: ORCA's text or JSON, of which the application's utilization counts before the
/// processor's, or a plain number, 0 to 1 or a percentage.
pub(super) fn load(text: &[u8]) -> Option<f32> {
    let text = std::str::from_utf8(text.get(..text.len().min(1024))?)
        .ok()?
        .trim();
    let found = if let Some(json) = text.strip_prefix("JSON") {
        let report: serde_json::Value = serde_json::from_str(json.trim()).ok()?;
        let figure = |name: &str| report.get(name).and_then(serde_json::Value::as_f64);
        utilization(figure)?
    } else if let Some(percent) = text.strip_suffix('%') {
        percent.trim().parse::<f64>().ok()? / 100.0
    } else if let Ok(plain) = text.parse::<f64>() {
        plain
    } else {
        let pairs = text.strip_prefix("TEXT").unwrap_or(text);
        let figure = |name: &str| {
            pairs
                .split(',')
                .filter_map(|pair| pair.split_once('='))
                .find(|(key, _)| key.trim() == name)
                .and_then(|(_, value)| value.trim().parse::<f64>().ok())
        };
        utilization(figure)?
    };
    (found.is_finite() && found >= 0.0).then_some(found as f32)
}

fn utilization(figure: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let names = ["application_utilization", "cpu_utilization"];
    names
        .into_iter()
        .find_map(|name| figure(name).filter(|value| *value > 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn address(last: u8) -> Address {
        Address::Inet(([127, 0, 0, last], 80).into())
    }

    /// An upstream that is driven second by second: `(answers, failures, ms to the first byte, in flight, load)`.
    struct Driven {
        scores: Scores,
        sums: Vec<Sums>,
        second: u64,
    }

    type Behaviour = (u64, u64, u64, u64, Option<f64>);
    const FINE: Behaviour = (100, 0, 5, 1, None);

    impl Driven {
        fn new(count: usize) -> Self {
            let mut driven = Self {
                scores: Scores::default(),
                sums: vec![Sums::default(); count],
                second: 0,
            };
            driven.second(&vec![FINE; count]);
            driven
        }

        fn second(&mut self, all: &[Behaviour]) -> Vec<f64> {
            self.second += 1;
            let mut seen = Vec::new();
            for (i, (answered, failed, ms, in_flight, load)) in all.iter().enumerate() {
                self.sums[i].answered += answered;
                self.sums[i].failed += failed;
                self.sums[i].first_byte += answered * ms * 1_000_000;
                seen.push(Seen {
                    address: address(i as u8),
                    weight: 1.0,
                    sums: self.sums[i],
                    in_flight: *in_flight,
                    load: *load,
                    factor: 1.0,
                });
            }
            assert!(self.scores.step(&seen, 0.02, self.second * SECOND));
            let factor = |i| self.scores.of(&address(i as u8)).expect("known").factor;
            (0..all.len()).map(factor).collect()
        }

        fn why(&self, index: u8) -> String {
            let scored = self.scores.of(&address(index)).expect("known");
            let each = scored.reasons.iter().map(|reason| &*reason.figure);
            each.collect::<Vec<_>>().join(" ")
        }
    }

    #[test]
    fn what_is_alike_keeps_its_weight() {
        let mut driven = Driven::new(3);
        let alike = [
            (100, 0, 5, 1, None),
            (110, 1, 6, 3, None),
            (110, 0, 5, 0, None),
        ];
        for _ in 0..5 {
            assert_eq!(driven.second(&alike), [1.0; 3]);
        }
    }

    #[test]
    fn ten_times_slower_is_relieved_within_three_seconds_and_comes_back_over_ten() {
        let mut driven = Driven::new(5);
        let slow = (20, 0, 50, 2, None);
        let all = [slow, FINE, FINE, FINE, FINE];
        let factors: Vec<f64> = (0..3).map(|_| driven.second(&all)[0]).collect();
        assert!(factors[0] >= 0.125 && factors[2] <= 0.02, "{factors:?}");
        assert!(driven.why(0).starts_with("first_byte"));
        assert_eq!(driven.second(&all)[1..], [1.0; 4]);
        let well = [(2, 0, 5, 0, None), FINE, FINE, FINE, FINE];
        let back: Vec<f64> = (0..14).map(|_| driven.second(&well)[0]).collect();
        assert!(back[4] < 0.5 && back[13] == 1.0, "{back:?}");
    }

    #[test]
    fn failures_reports_and_crowds_count_and_the_least_is_kept() {
        let mut driven = Driven::new(5);
        let all = [
            (100, 50, 5, 1, Some(0.5)),
            (100, 0, 5, 1, Some(0.9)),
            (100, 0, 5, 100, Some(0.5)),
            (100, 0, 5, 1, Some(0.5)),
            (100, 100, 5, 1, Some(0.5)),
        ];
        let mut factors = Vec::new();
        for _ in 0..8 {
            factors = driven.second(&all);
        }
        let whys: Vec<String> = (0..5).map(|i| driven.why(i)).collect();
        for (why, expected) in whys.iter().zip(["errors", "load", "in_flight"]) {
            assert!(why.contains(expected), "{whys:?}");
        }
        assert!(factors[0] < 0.1 && factors[4] == 0.02, "{factors:?}");
        assert!((0.2..0.4).contains(&factors[1]), "{factors:?}");
        assert!(factors[2] < 0.1, "{factors:?}");
    }

    #[test]
    fn who_gets_more_than_its_weight_is_spared_by_half_at_most() {
        let mut driven = Driven::new(5);
        let all = [(900, 0, 5, 1, None), FINE, FINE, FINE, FINE];
        assert_eq!(driven.second(&all), [0.5, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(driven.why(0), "qps");
    }

    #[test]
    fn what_fails_everywhere_moves_nothing() {
        let mut driven = Driven::new(3);
        let all = [(100, 40, 50, 9, Some(0.9)); 3];
        for _ in 0..5 {
            assert_eq!(driven.second(&all), [1.0; 3]);
        }
    }

    #[test]
    fn reads_loads_in_every_form() {
        for (text, expected) in [
            ("0.25", Some(0.25)),
            (" 25 % ", Some(0.25)),
            ("TEXT cpu_utilization=0.3, mem_utilization=0.8", Some(0.3)),
            ("cpu_utilization=0.3,application_utilization=0.5", Some(0.5)),
            ("JSON {\"cpu_utilization\": 0.75}", Some(0.75)),
            ("JSON {}", None),
            ("BIN Cg==", None),
            ("-1", None),
            ("NaN", None),
            ("", None),
        ] {
            assert_eq!(load(text.as_bytes()), expected, "{text}");
        }
    }
}
