//! The endpoint with the fewest requests in flight for its weight.
//!
//! In flight are those of all workers: endpoints count them in one place. Of several with the same number it is the
//! rotation's turn that is chosen, so that without load shares are exact; but not an endpoint that is clearly slower than
//! another of these: with few requests at once all would be idle each time, the slow one too.

use super::choice::{CLEARLY, Choice, mix};

/// Up to so many endpoints are all looked at; of more, two are.
const ALL: usize = 32;

pub(super) fn choose(choice: &Choice<'_>, admits: impl Fn(u32) -> bool + Copy) -> Option<u32> {
    let first = choice.turn(admits)?;
    let list = &choice.side.list;
    if list.len() > ALL {
        let other = choice
            .side
            .rotation
            .at(mix(choice.chance) as usize >> 1, |index| {
                index != first && admits(index)
            });
        return Some(match other {
            Some(other) if better(choice, other, first) => other,
            _ => first,
        });
    }
    let start = list.partition_point(|index| *index < first);
    let others = list[start..].iter().chain(&list[..start]);
    let mut best = first;
    for &index in others {
        if index != first && admits(index) && better(choice, index, best) {
            best = index;
        }
    }
    Some(best)
}

fn better(choice: &Choice<'_>, index: u32, than: u32) -> bool {
    let load = |index| choice.in_flight(index) * (1.0 / choice.share(index));
    let (load, known) = (load(index), load(than));
    if load != known {
        return load < known;
    }
    match (choice.cost(index), choice.cost(than)) {
        (Some(cost), Some(known)) => cost * CLEARLY < known,
        (None, Some(_)) | (_, None) => false,
    }
}
