//! Who waits for a place, and who is next.
//!
//! The class decides first. Within a class it is first come, first served while the queue is a burst that will be gone
//! in a moment. A queue that has been standing for longer is overload, and then fairness serves nobody: everyone would
//! wait nearly the whole time allowed, and be served when there is hardly time left. So a standing queue serves who came
//! last, who waits for next to nothing, and those who came first are refused when their time is over (adaptive LIFO, as
//! Facebook runs it with a CoDel-like bound; Maurer, "Fail at scale", ACM Queue 2015).

use std::collections::VecDeque;

use crate::config::Class;

/// Names one who waits; later ones have larger numbers.
pub(super) type Number = u64;

/// Waiting requests, by class.
#[derive(Debug)]
pub(super) struct Queue<T> {
    lines: [Line<T>; Class::ALL.len()],
    next: Number,
    length: usize,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<(Number, T)>,
    /// When it was empty last.
    since: u64,
}

/// What became of one who came.
#[derive(Debug)]
pub(super) enum Pushed<T> {
    /// Waits.
    Waiting(Number),
    /// Waits in the place of this one, of whom less is lost.
    InPlaceOf(Number, T, Class),
    /// There is no room.
    Full(T),
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let line = || Line {
            waiting: VecDeque::new(),
            since: 0,
        };
        Self {
            lines: [line(), line(), line()],
            next: 0,
            length: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Lets `item` wait, if there is room for so many. `patience`: how long one waits at most.
    pub(super) fn push(
        &mut self,
        class: Class,
        item: T,
        room: usize,
        now: u64,
        patience: u64,
    ) -> Pushed<T> {
        let mut displaced = None;
        if self.length >= room {
            match self.give_way(class, now, patience) {
                Some(other) => displaced = Some(other),
                None => return Pushed::Full(item),
            }
        }
        let number = self.next;
        self.next += 1;
        let line = &mut self.lines[class as usize];
        if line.waiting.is_empty() {
            line.since = now;
        }
        line.waiting.push_back((number, item));
        self.length += 1;
        match displaced {
            Some((other, of)) => Pushed::InPlaceOf(number, other, of),
            None => Pushed::Waiting(number),
        }
    }

    /// Takes out who gives way to a request of `class`: the first of the least class below it, or, where the line stands,
    /// the first of its own, whose time is nearly over.
    fn give_way(&mut self, class: Class, now: u64, patience: u64) -> Option<(T, Class)> {
        let least = Class::ALL
            .into_iter()
            .rev()
            .find(|of| !self.lines[*of as usize].waiting.is_empty())?;
        let line = &mut self.lines[least as usize];
        let below = least as usize > class as usize;
        let gives_way = below || (least == class && line.stands(now, patience));
        if !gives_way {
            return None;
        }
        let (_, item) = line.waiting.pop_front()?;
        self.length -= 1;
        Some((item, least))
    }

    /// The class of who is next.
    pub(super) fn next_class(&self) -> Option<Class> {
        let waiting = |class: &Class| !self.lines[*class as usize].waiting.is_empty();
        Class::ALL.into_iter().find(waiting)
    }

    /// Takes out who is next.
    pub(super) fn pop(&mut self, now: u64, patience: u64) -> Option<T> {
        let line = self
            .lines
            .iter_mut()
            .find(|line| !line.waiting.is_empty())?;
        let (_, item) = if line.stands(now, patience) {
            line.waiting.pop_back()?
        } else {
            line.waiting.pop_front()?
        };
        self.length -= 1;
        Some(item)
    }

    /// Takes out who waits no longer; says whether it was still there.
    pub(super) fn leave(&mut self, class: Class, number: Number) -> bool {
        let line = &mut self.lines[class as usize].waiting;
        let Ok(at) = line.binary_search_by_key(&number, |(number, _)| *number) else {
            return false;
        };
        line.remove(at);
        self.length -= 1;
        true
    }
}

impl<T> Line<T> {
    /// Not a burst any more: it was never empty for half the time that one may wait.
    fn stands(&self, now: u64, patience: u64) -> bool {
        now.saturating_sub(self.since) > patience / 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: u64 = 200;

    fn push(queue: &mut Queue<u32>, class: Class, item: u32, room: usize, now: u64) -> Pushed<u32> {
        queue.push(class, item, room, now, PATIENCE)
    }

    #[test]
    fn a_burst_is_served_in_order_and_by_class() {
        let mut queue = Queue::new();
        for (item, class) in [
            (1, Class::Sheddable),
            (2, Class::Normal),
            (3, Class::Critical),
            (4, Class::Normal),
            (5, Class::Critical),
        ] {
            push(&mut queue, class, item, 10, 0);
        }
        let served: Vec<u32> = std::iter::from_fn(|| queue.pop(100, PATIENCE)).collect();
        assert_eq!(served, [3, 5, 2, 4, 1]);
    }

    #[test]
    fn a_standing_line_serves_who_came_last() {
        let mut queue = Queue::new();
        push(&mut queue, Class::Normal, 1, 10, 0);
        push(&mut queue, Class::Normal, 2, 10, 50);
        push(&mut queue, Class::Normal, 3, 10, 101);
        assert_eq!(queue.pop(101, PATIENCE), Some(3));
        assert_eq!(queue.pop(101, PATIENCE), Some(2));
        assert_eq!(queue.pop(101, PATIENCE), Some(1));
        push(&mut queue, Class::Normal, 4, 10, 102);
        push(&mut queue, Class::Normal, 5, 10, 103);
        assert_eq!(queue.pop(104, PATIENCE), Some(4), "it was empty meanwhile");
    }

    #[test]
    fn a_full_queue_gives_way_to_what_matters_more() {
        let mut queue = Queue::new();
        push(&mut queue, Class::Normal, 1, 2, 0);
        push(&mut queue, Class::Sheddable, 2, 2, 0);
        assert!(matches!(
            push(&mut queue, Class::Sheddable, 3, 2, 1),
            Pushed::Full(3)
        ));
        let pushed = push(&mut queue, Class::Critical, 4, 2, 1);
        assert!(
            matches!(pushed, Pushed::InPlaceOf(_, 2, Class::Sheddable)),
            "{pushed:?}"
        );
        assert!(matches!(
            push(&mut queue, Class::Normal, 5, 2, 1),
            Pushed::Full(5)
        ));
        let pushed = push(&mut queue, Class::Critical, 6, 2, 1);
        assert!(
            matches!(pushed, Pushed::InPlaceOf(_, 1, Class::Normal)),
            "{pushed:?}"
        );
        assert!(matches!(
            push(&mut queue, Class::Critical, 7, 2, 1),
            Pushed::Full(7)
        ));
        let pushed = push(&mut queue, Class::Critical, 8, 2, 150);
        assert!(
            matches!(pushed, Pushed::InPlaceOf(_, 4, Class::Critical)),
            "{pushed:?}"
        );
        let mut none: Queue<u32> = Queue::new();
        assert!(matches!(
            push(&mut none, Class::Critical, 9, 0, 0),
            Pushed::Full(9)
        ));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Class),
        Pop,
        Leave(usize),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let class = prop_oneof![
            Just(Class::Critical),
            Just(Class::Normal),
            Just(Class::Sheddable)
        ];
        let step = prop_oneof![
            4 => class.prop_map(Step::Push),
            2 => Just(Step::Pop),
            1 => (0..40_usize).prop_map(Step::Leave),
            1 => (0..120_u64).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_no_class_passes_a_better_one(steps in steps(), room in 0..12_usize) {
            let mut queue: Queue<u32> = Queue::new();
            let mut waiting: Vec<(Number, u32, Class)> = Vec::new();
            let (mut now, mut item) = (0, 0);
            for step in steps {
                match step {
                    Step::Push(class) => {
                        item += 1;
                        match queue.push(class, item, room, now, PATIENCE) {
                            Pushed::Waiting(number) => waiting.push((number, item, class)),
                            Pushed::InPlaceOf(number, other, of) => {
                                prop_assert!(of as usize >= class as usize);
                                let at = waiting.iter().position(|w| w.1 == other).expect("known");
                                prop_assert_eq!(waiting.remove(at).2, of);
                                waiting.push((number, item, class));
                            }
                            Pushed::Full(same) => {
                                prop_assert_eq!(same, item);
                                prop_assert!(waiting.len() >= room);
                                prop_assert!(waiting.iter().all(|w| w.2 as usize <= class as usize));
                            }
                        }
                    }
                    Step::Pop => {
                        let best = waiting.iter().map(|w| w.2 as usize).min();
                        let popped = queue.pop(now, PATIENCE);
                        prop_assert_eq!(popped.is_some(), best.is_some());
                        if let Some(popped) = popped {
                            let at = waiting.iter().position(|w| w.1 == popped).expect("known");
                            prop_assert_eq!(Some(waiting.remove(at).2 as usize), best);
                        }
                    }
                    Step::Leave(nth) => {
                        if let Some((number, _, class)) = waiting.get(nth).copied() {
                            prop_assert!(queue.leave(class, number));
                            prop_assert!(!queue.leave(class, number));
                            waiting.remove(nth);
                        }
                    }
                    Step::Wait(span) => now += span,
                }
                prop_assert_eq!(queue.length, waiting.len());
                prop_assert!(waiting.len() <= room);
                prop_assert_eq!(queue.is_empty(), waiting.is_empty());
            }
        }
    }
}
