//! Origins whose conduct a story changes while requests come.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::harness::{Answer, Origin};

/// How an origin behaves.
#[derive(Clone, Debug)]
struct Conduct {
    takes: Duration,
    /// Answers of every hundred that have this status.
    fails: Option<(u16, usize)>,
    /// Requests of every hundred that it never answers.
    stalls: usize,
    /// Requests it works on at once; the others wait.
    slots: usize,
}

/// What the origin's threads share.
struct Desk {
    conduct: Mutex<Conduct>,
    asked: Mutex<usize>,
    busy: Mutex<usize>,
    freed: Condvar,
}

/// An origin with a conduct.
pub(super) struct Actor {
    pub(super) origin: Origin,
    desk: Arc<Desk>,
}

impl Actor {
    pub(super) fn new(name: &str, takes: Duration) -> Self {
        let desk = Arc::new(Desk {
            conduct: Mutex::new(Conduct {
                takes,
                fails: None,
                stalls: 0,
                slots: usize::MAX,
            }),
            asked: Mutex::new(0),
            busy: Mutex::new(0),
            freed: Condvar::new(),
        });
        let shared = Arc::clone(&desk);
        Self {
            origin: Origin::scripted(name, move |_| shared.answer()),
            desk,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Conduct)) {
        change(&mut self.desk.conduct.lock().unwrap());
    }

    pub(super) fn takes(&self, span: Duration) {
        self.change(|conduct| conduct.takes = span);
    }

    pub(super) fn serves_at_once(&self, slots: usize) {
        self.change(|conduct| conduct.slots = slots);
    }

    pub(super) fn fails(&self, percent: usize, status: u16) {
        self.change(|conduct| conduct.fails = Some((status, percent)));
    }

    pub(super) fn stalls(&self, percent: usize) {
        self.change(|conduct| conduct.stalls = percent);
    }

    /// Answers again, with nothing wrong.
    pub(super) fn is_well(&self) {
        self.change(|conduct| {
            conduct.stalls = 0;
            conduct.fails = None;
        });
    }
}

impl Desk {
    fn answer(&self) -> Answer {
        let conduct = self.conduct.lock().unwrap().clone();
        let number = {
            let mut asked = self.asked.lock().unwrap();
            *asked += 1;
            *asked
        };
        if is_one_of(conduct.stalls, number) {
            return Answer::silence();
        }
        if conduct.slots < usize::MAX {
            let mut busy = self.busy.lock().unwrap();
            while *busy >= conduct.slots {
                busy = self.freed.wait(busy).unwrap();
            }
            *busy += 1;
        }
        std::thread::sleep(conduct.takes);
        if conduct.slots < usize::MAX {
            *self.busy.lock().unwrap() -= 1;
            self.freed.notify_one();
        }
        match conduct.fails {
            Some((status, percent)) if is_one_of(percent, number) => Answer::status(status),
            _ => Answer::text("well"),
        }
    }
}

/// Whether the request of this number is one of so many in a hundred: spread evenly, so that a short story sees the share
/// it names.
fn is_one_of(percent: usize, number: usize) -> bool {
    number * percent / 100 > (number - 1) * percent / 100
}
