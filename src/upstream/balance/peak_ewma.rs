//! Of two endpoints the one where a request is answered sooner: what it took lately times those that wait there already
//! (Finagle's peak EWMA with the power of two choices).
//!
//! The first is the rotation's turn, the second is drawn by weight, and may be the first again: then that is kept, so
//! that of endpoints which are alike each gets its share by weight. Only when a third would answer clearly sooner it is
//! not kept, or of five endpoints a slow one would meet itself in every twenty-fifth choice.

use super::choice::{CLEARLY, Choice, mix};

/// What each request that waits at an endpoint nobody has heard of counts: it is asked once, and then left alone until it
/// answers.
const UNKNOWN: f32 = 1e9;

pub(super) fn choose(choice: &Choice<'_>, admits: impl Fn(u32) -> bool + Copy) -> Option<u32> {
    let first = choice.turn(admits)?;
    let rotation = &choice.side.rotation;
    let second = rotation.at(choice.chance as usize >> 1, admits)?;
    if second != first {
        let sooner = load(choice, second) < load(choice, first);
        return Some(if sooner { second } else { first });
    }
    let third = rotation.at(mix(choice.chance) as usize >> 1, |index| {
        index != first && admits(index)
    });
    Some(match third {
        Some(third) if load(choice, third) * CLEARLY < load(choice, first) => third,
        _ => first,
    })
}

fn load(choice: &Choice<'_>, index: u32) -> f32 {
    let waiting = choice.in_flight(index) / choice.share(index);
    match choice.cost(index) {
        Some(cost) => cost * (waiting + 1.0),
        None => UNKNOWN * waiting,
    }
}
