//! Smooth weighted round robin as a fixed order and a cursor.
//!
//! nginx's algorithm (`ngx_http_upstream_round_robin.c`) keeps a running weight per peer and needs a lock to share it.
//! Its picks repeat with period Σ weights, so the order is computed once per set of usable endpoints and workers share
//! only a counter: the sequence is the same, the shares are exact over any number of threads, and a pick is one add.

use super::sync::atomic::{AtomicUsize, Ordering};

/// Longest order kept. Larger sums of weights are scaled down, which moves a share by at most one part in this number.
const LONGEST: u64 = 1 << 16;

/// The order in which a set of endpoints is used.
#[derive(Debug)]
pub struct Rotation {
    order: Box<[u32]>,
    cursor: AtomicUsize,
}

impl Rotation {
    /// Computes the order for `(index, weight)` pairs; weights are at least 1.
    pub fn new(members: &[(u32, u32)], start: usize) -> Self {
        Self {
            order: order(members),
            cursor: AtomicUsize::new(start),
        }
    }

    /// Whether there is nothing to pick.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The next index that `admits` accepts, starting from this turn's; `None` when none in the whole order does.
    pub fn next(&self, admits: impl Fn(u32) -> bool) -> Option<u32> {
        if self.order.is_empty() {
            return None;
        }
        let turn = self.cursor.fetch_add(1, Ordering::Relaxed);
        self.at(turn, admits)
    }

    /// Like [`Self::next`] without taking a turn: for a second try, which must not move where the next request begins.
    /// Otherwise of two endpoints, one of them dead, every request would meet the dead one first.
    pub fn spare(&self, admits: impl Fn(u32) -> bool) -> Option<u32> {
        self.at(self.position(), admits)
    }

    /// The index that turn number `turn` begins with, or the next that `admits` accepts. A random turn gives each its share.
    pub fn at(&self, turn: usize, admits: impl Fn(u32) -> bool) -> Option<u32> {
        let len = self.order.len();
        (0..len)
            .map(|step| self.order[(turn % len + step) % len])
            .find(|index| admits(*index))
    }

    /// Where the cursor stands, so that a rebuilt order does not begin at its first member again.
    pub fn position(&self) -> usize {
        self.cursor.load(Ordering::Relaxed)
    }
}

fn order(members: &[(u32, u32)]) -> Box<[u32]> {
    let divisor = members
        .iter()
        .map(|(_, weight)| u64::from(*weight))
        .fold(0, gcd)
        .max(1);
    let sum: u64 = members
        .iter()
        .map(|(_, weight)| u64::from(*weight) / divisor)
        .sum();
    let longest = LONGEST.max(members.len() as u64);
    let scaled = |weight: u32| {
        let weight = u64::from(weight) / divisor;
        if sum <= longest {
            weight
        } else {
            (weight * longest / sum).max(1)
        }
    };
    let weights: Vec<i64> = members
        .iter()
        .map(|(_, weight)| scaled(*weight) as i64)
        .collect();
    let total: i64 = weights.iter().sum();
    if weights.iter().all(|weight| *weight == 1) {
        return members.iter().map(|(index, _)| *index).collect();
    }
    smooth(members, &weights, total)
}

/// One full period of the textbook algorithm: everyone gains its weight, the richest is picked and pays the total.
///
/// Members of equal weight and balance are interchangeable but for their position, so they are walked in classes: the
/// cost is periods × distinct weights instead of periods × members, and 10 000 endpoints stay cheap.
fn smooth(members: &[(u32, u32)], weights: &[i64], total: i64) -> Box<[u32]> {
    let mut classes: Vec<Class> = Vec::new();
    for (position, weight) in weights.iter().enumerate() {
        match classes.iter_mut().find(|class| class.weight == *weight) {
            Some(class) => class.push(position),
            None => classes.push(Class::new(*weight, position)),
        }
    }
    let mut picked = Vec::with_capacity(total as usize);
    for round in 1..=total {
        let best = classes
            .iter()
            .enumerate()
            .max_by(|(_, a), (_, b)| {
                let (balance_a, at_a) = a.front(round, total);
                let (balance_b, at_b) = b.front(round, total);
                balance_a.cmp(&balance_b).then(at_b.cmp(&at_a))
            })
            .map(|(index, _)| index);
        if let Some(position) = best.and_then(|index| classes[index].take()) {
            picked.push(members[position].0);
        }
    }
    picked.into_boxed_slice()
}

/// Members of one weight, ordered by how often they were picked, then by position.
struct Class {
    weight: i64,
    /// `(times picked, position)`; the least is the richest.
    queue: std::collections::BinaryHeap<std::cmp::Reverse<(i64, usize)>>,
}

impl Class {
    fn new(weight: i64, position: usize) -> Self {
        let mut class = Self {
            weight,
            queue: std::collections::BinaryHeap::new(),
        };
        class.push(position);
        class
    }

    fn push(&mut self, position: usize) {
        self.queue.push(std::cmp::Reverse((0, position)));
    }

    /// Balance and position of the member that would be picked: `round × weight − picks × total`.
    fn front(&self, round: i64, total: i64) -> (i64, usize) {
        match self.queue.peek() {
            Some(std::cmp::Reverse((picks, position))) => {
                (round * self.weight - picks * total, *position)
            }
            None => (i64::MIN, usize::MAX),
        }
    }

    fn take(&mut self) -> Option<usize> {
        let std::cmp::Reverse((picks, position)) = self.queue.pop()?;
        self.queue.push(std::cmp::Reverse((picks + 1, position)));
        Some(position)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn letters(weights: &[u32]) -> String {
        let members: Vec<(u32, u32)> = weights
            .iter()
            .enumerate()
            .map(|(i, w)| (i as u32, *w))
            .collect();
        order(&members)
            .iter()
            .map(|index| char::from(b'a' + *index as u8))
            .collect()
    }

    /// The algorithm as nginx writes it.
    fn textbook(weights: &[u32]) -> Vec<u32> {
        let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
        let mut current = vec![0i64; weights.len()];
        (0..total)
            .map(|_| {
                let mut best = 0;
                for (i, weight) in weights.iter().enumerate() {
                    current[i] += i64::from(*weight);
                    if current[i] > current[best] {
                        best = i;
                    }
                }
                current[best] -= total;
                best as u32
            })
            .collect()
    }

    #[test]
    fn five_one_one_gives_the_known_order() {
        assert_eq!(letters(&[5, 1, 1]), "aabacaa");
        assert_eq!(letters(&[1, 1, 1]), "abc");
        assert_eq!(letters(&[2, 2]), "ab");
    }

    #[test]
    fn skips_what_is_not_admitted() {
        let rotation = Rotation::new(&[(0, 5), (1, 1), (2, 1)], 0);
        assert_eq!(rotation.next(|index| index != 0), Some(1));
        assert_eq!(rotation.next(|_| false), None);
    }

    #[test]
    fn ten_thousand_members_cost_little() {
        let members: Vec<(u32, u32)> = (0..10_000).map(|i| (i, 1 + i % 3)).collect();
        assert_eq!(order(&members).len(), 19_999);
    }

    proptest! {
        #[test]
        fn is_the_textbook_order(weights in prop::collection::vec(1u32..20, 1..8)) {
            let divisor = weights.iter().map(|w| u64::from(*w)).fold(0, gcd) as u32;
            let reduced: Vec<u32> = weights.iter().map(|w| w / divisor).collect();
            let members: Vec<(u32, u32)> = weights.iter().enumerate().map(|(i, w)| (i as u32, *w)).collect();
            prop_assert_eq!(order(&members).to_vec(), textbook(&reduced));
        }
    }
}
