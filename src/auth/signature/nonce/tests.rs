//! What a store of nonces lets through, and what it never does.

use std::sync::Barrier;
use std::thread;

use super::*;

const SECOND: u64 = 1_000_000_000;
const SKEW: Duration = Duration::from_secs(300);
/// Twice the skew and the grain.
const LIFETIME: u64 = 602 * SECOND;

fn store(capacity: usize) -> NonceStore {
    let store = NonceStore::new(AuthName::new("partner"), 0, Arc::default());
    store.configure(SKEW, capacity, 0);
    store
}

#[test]
fn a_nonce_passes_once_per_application() {
    let store = store(100);
    let (a, b) = (store.share("a", 2), store.share("b", 2));
    assert_eq!(store.peek(&a, "n", 1), NonceOutcome::Fresh);
    assert_eq!(
        store.peek(&a, "n", 1),
        NonceOutcome::Fresh,
        "a look uses nothing"
    );
    assert_eq!(store.claim(&a, "n", 1), NonceOutcome::Fresh);
    assert_eq!(store.claim(&a, "n", 2), NonceOutcome::Seen);
    assert_eq!(store.peek(&a, "n", 2), NonceOutcome::Seen);
    assert_eq!(store.claim(&b, "n", 2), NonceOutcome::Fresh);
}

#[test]
fn is_kept_for_twice_the_skew_and_then_dropped() {
    let store = store(100);
    let a = store.share("a", 1);
    assert_eq!(store.claim(&a, "n", SECOND), NonceOutcome::Fresh);
    assert_eq!(
        store.claim(&a, "n", SECOND + LIFETIME - 1),
        NonceOutcome::Seen
    );
    let later = SECOND + LIFETIME + LIFETIME / BUCKETS;
    assert_eq!(store.claim(&a, "n", later), NonceOutcome::Fresh);
    assert_eq!(store.live.load(Ordering::Relaxed), 1);
    assert_eq!(a.live.load(Ordering::Relaxed), 1);
}

#[test]
fn a_full_store_refuses_and_forgets_nothing() {
    let store = store(1000);
    let a = store.share("a", 1);
    for i in 0..1000 {
        assert_eq!(store.claim(&a, &i.to_string(), SECOND), NonceOutcome::Fresh);
    }
    assert_eq!(store.claim(&a, "one more", SECOND), NonceOutcome::Full);
    assert_eq!(store.peek(&a, "one more", 2 * SECOND), NonceOutcome::Full);
    for i in 0..1000 {
        assert_eq!(
            store.claim(&a, &i.to_string(), 2 * SECOND),
            NonceOutcome::Seen
        );
    }
    let later = 2 * SECOND + LIFETIME + LIFETIME / BUCKETS;
    assert_eq!(store.peek(&a, "one more", later), NonceOutcome::Fresh);
    assert_eq!(store.claim(&a, "one more", later), NonceOutcome::Fresh);
    assert_eq!(store.live.load(Ordering::Relaxed), 1);
}

#[test]
fn a_million_nonces_leave_as_many_as_there_is_room_for() {
    let store = store(200_000);
    let a = store.share("a", 1);
    let fresh =
        (0..1_000_000u64).filter(|i| store.claim(&a, &i.to_string(), SECOND + i).is_fresh());
    assert_eq!(fresh.count(), 200_000);
    assert_eq!(store.export(2 * SECOND).len(), 200_000);
    assert_eq!(store.claim(&a, "0", 2 * SECOND), NonceOutcome::Seen);
    let later = 2 * SECOND + LIFETIME + LIFETIME / BUCKETS;
    assert_eq!(store.claim(&a, "0", later), NonceOutcome::Fresh);
    assert!(store.export(later).len() == 1, "all at once are gone");
}

#[test]
fn one_application_leaves_room_for_the_others() {
    let store = store(100);
    let (a, b) = (store.share("a", 2), store.share("b", 2));
    let passed = (0..100)
        .filter(|i| store.claim(&a, &i.to_string(), SECOND).is_fresh())
        .count();
    assert_eq!(passed, 50);
    assert_eq!(store.claim(&b, "n", SECOND), NonceOutcome::Fresh);
}

#[test]
fn of_many_threads_exactly_one_wins() {
    let store = store(100_000);
    let a = store.share("a", 1);
    let barrier = Barrier::new(8);
    let wins = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                for i in 0..2000 {
                    let claim = store.claim(&a, &i.to_string(), SECOND + i);
                    wins.fetch_add(usize::from(claim.is_fresh()), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(wins.load(Ordering::Relaxed), 2000);
    assert_eq!(store.live.load(Ordering::Relaxed), 2000);
}

#[test]
fn a_wider_skew_keeps_what_is_known_and_fences_off_the_rest() {
    let store = store(100);
    let a = store.share("a", 1);
    assert_eq!(store.claim(&a, "n", SECOND), NonceOutcome::Fresh);
    store.configure(SKEW * 2, 100, 5_000_000);
    assert_eq!(store.fence_unix_ms(), 5_000_000 - 300_000);
    assert_eq!(
        store.claim(&a, "n", SECOND + 1200 * SECOND),
        NonceOutcome::Seen
    );
    store.configure(SKEW, 100, 6_000_000);
    assert_eq!(store.fence_unix_ms(), 5_000_000 - 300_000);
}

struct Elsewhere(NonceStore);

impl NonceOwner for Elsewhere {
    fn claim(&self, _auth: &AuthName, nonce: u128, lifetime: Duration) -> Option<NonceOutcome> {
        Some(self.0.claim_for_other(nonce, lifetime, 5 * SECOND))
    }
}

#[test]
fn what_was_handed_over_is_decided_by_the_other() {
    let (old, new) = (store(100), store(100));
    let a = old.share("a", 1);
    assert_eq!(old.claim(&a, "before", SECOND), NonceOutcome::Fresh);
    old.ownership.hand_over();
    assert_eq!(
        old.claim(&a, "between", SECOND),
        NonceOutcome::Full,
        "nobody knows"
    );
    new.import(&old.export(SECOND), 5 * SECOND);
    assert_eq!(
        new.claim(&new.share("a", 1), "there", 5 * SECOND),
        NonceOutcome::Fresh
    );
    old.ownership.ask(Arc::new(Elsewhere(new)));
    for (nonce, claim) in [
        ("before", NonceOutcome::Seen),
        ("there", NonceOutcome::Seen),
        ("here", NonceOutcome::Fresh),
        ("here", NonceOutcome::Seen),
    ] {
        assert_eq!(old.claim(&a, nonce, SECOND), claim, "{nonce}");
    }
    old.ownership.take_back();
    assert_eq!(
        old.claim(&a, "here", SECOND),
        NonceOutcome::Seen,
        "kept as well"
    );
    assert_eq!(old.claim(&a, "again", SECOND), NonceOutcome::Fresh);
}

#[test]
fn a_claim_for_another_process_lasts_as_long_as_its_own() {
    let store = store(2);
    let day = Duration::from_secs(86_400);
    assert_eq!(store.claim_for_other(1, day, SECOND), NonceOutcome::Fresh);
    assert_eq!(
        store.claim_for_other(1, day, 80_000 * SECOND),
        NonceOutcome::Seen
    );
    assert_eq!(store.claim_for_other(2, day, SECOND), NonceOutcome::Fresh);
    assert_eq!(store.claim_for_other(3, day, SECOND), NonceOutcome::Full);
}

#[test]
fn a_successor_refuses_what_its_predecessor_could_not_know() {
    let store = store(10);
    store.fence_unix_ms.store(9_000_000, Ordering::Relaxed);
    let theirs = SKEW * 2 + GRAIN;
    store.succeed(1_000, theirs, 8_000_000);
    assert_eq!(store.fence_unix_ms(), 1_000, "it knew all since then");
    store.succeed(1_000, SKEW + GRAIN, 8_000_000);
    let half = u64::try_from(SKEW.as_millis()).expect("short") / 2;
    assert_eq!(
        store.fence_unix_ms(),
        8_000_000 - half,
        "it kept nonces for less"
    );
}

#[test]
fn imported_nonces_are_seen_until_their_time_is_over() {
    let (old, new) = (store(100), store(100));
    let a = old.share("a", 1);
    assert_eq!(old.claim(&a, "n", SECOND), NonceOutcome::Fresh);
    assert_eq!(old.claim(&a, "m", 200 * SECOND), NonceOutcome::Fresh);
    let entries = old.export(300 * SECOND);
    assert_eq!(entries.len(), 2);
    new.import(&entries, SECOND);
    new.import(&entries, SECOND);
    assert_eq!(new.live.load(Ordering::Relaxed), 2);
    let a = new.share("a", 1);
    assert_eq!(new.claim(&a, "n", 2 * SECOND), NonceOutcome::Seen);
    assert_eq!(new.claim(&a, "m", 300 * SECOND), NonceOutcome::Seen);
    assert_eq!(new.claim(&a, "m", 2 * LIFETIME), NonceOutcome::Fresh);
    assert!(new.export(9 * LIFETIME).is_empty());
}

/// The process that took over.
struct Next(Arc<NonceStore>);

impl NonceOwner for Next {
    fn claim(&self, _auth: &AuthName, nonce: u128, lifetime: Duration) -> Option<NonceOutcome> {
        Some(self.0.claim_for_other(nonce, lifetime, SECOND))
    }
}

#[test]
fn who_handed_on_is_no_judge_but_asks_on() {
    let [first, second, third] = [0; 3].map(|_| Arc::new(store(100)));
    for (old, new) in [(&first, &second), (&second, &third)] {
        old.ownership.hand_over();
        old.ownership.ask(Arc::new(Next(Arc::clone(new))));
    }
    let claim = |store: &NonceStore, nonce| store.claim(&store.share("a", 1), nonce, SECOND);
    for (nonce, order) in [
        ("last first", [&third, &first, &second]),
        ("first first", [&first, &third, &second]),
        ("middle first", [&second, &first, &third]),
    ] {
        let told = order.map(|store| claim(store, nonce));
        assert_eq!(
            told,
            [NonceOutcome::Fresh, NonceOutcome::Seen, NonceOutcome::Seen],
            "{nonce}"
        );
    }
    // The last did not begin, after all: the middle decides again, for the first as well.
    second.ownership.take_back();
    assert_eq!(claim(&first, "anew"), NonceOutcome::Fresh);
    assert_eq!(claim(&second, "anew"), NonceOutcome::Seen);
}

#[test]
fn an_application_that_nobody_names_any_more_is_forgotten_with_its_nonces() {
    let store = store(100);
    let (a, b) = (store.share("a", 1), store.share("b", 1));
    for app in ["a", "b"] {
        store.register(app);
    }
    drop(b);
    assert_eq!(store.claim(&a, "n", SECOND), NonceOutcome::Fresh);
    drop(a);
    assert!(!store.is_idle(2 * SECOND));
    let known: Vec<String> = store.shares.lock().known().keys().cloned().collect();
    assert_eq!(known, ["a"]);
    assert!(store.is_idle(2 * LIFETIME));
    assert!(store.shares.lock().known().is_empty());
}

#[test]
fn what_was_kept_under_wider_bounds_takes_no_room_under_narrower_ones() {
    let store = store(10_000);
    let a = store.share("a", 1);
    let narrow = Duration::from_secs(1);
    for i in 0..60 {
        assert_eq!(store.claim(&a, &i.to_string(), SECOND), NonceOutcome::Fresh);
    }
    store.configure(narrow, 20, 1_000_000);
    store.register("a");
    store.allot("a", 20);
    // Every lifetime has the room that is meant for it, though what came before is known for longer.
    for round in 0..100 {
        let now = (2 + round * 5) * SECOND;
        for i in 0..20 {
            let nonce = format!("{round} {i}");
            assert_eq!(store.claim(&a, &nonce, now), NonceOutcome::Fresh, "{nonce}");
        }
        assert_eq!(store.claim(&a, "one more", now), NonceOutcome::Full);
        assert_eq!(store.claim(&a, "59", now), NonceOutcome::Seen);
    }
    drop(store.share("a", 1));
    assert!(!store.is_idle(599 * SECOND), "they are known");
    assert!(store.is_idle(SECOND + LIFETIME + LIFETIME / BUCKETS));
    assert_eq!(store.live.load(Ordering::Relaxed), 0);
    assert_eq!(a.live.load(Ordering::Relaxed), 0);
}

#[test]
fn bounds_that_come_and_go_keep_nothing_for_longer_than_the_widest_wants() {
    let store = store(100);
    let a = store.share("a", 1);
    assert_eq!(store.claim(&a, "n", SECOND), NonceOutcome::Fresh);
    for _ in 0..10 {
        store.configure(Duration::from_secs(1), 10, 1_000_000);
        store.configure(SKEW, 100, 1_000_000);
    }
    assert_eq!(
        store.claim(&a, "n", SECOND + LIFETIME - 1),
        NonceOutcome::Seen
    );
    let later = SECOND + LIFETIME + LIFETIME / BUCKETS;
    assert_eq!(store.claim(&a, "n", later), NonceOutcome::Fresh);
    assert_eq!(store.live.load(Ordering::Relaxed), 1);
}

#[test]
fn who_judges_by_a_wider_skew_keeps_a_nonce_for_as_long() {
    let store = store(100);
    let a = store.share("a", 1);
    let (own, narrow) = (store.lifetime(), Duration::from_secs(1));
    store.configure(narrow, 100, 1_000_000);
    assert_eq!(store.claim_for(&a, "n", own, SECOND), NonceOutcome::Fresh);
    assert_eq!(store.claim(&a, "short", SECOND), NonceOutcome::Fresh);
    let late = SECOND + LIFETIME - 1;
    assert_eq!(store.claim_for(&a, "n", own, late), NonceOutcome::Seen);
    assert!(!store.is_idle(late));
    assert_eq!(a.live.load(Ordering::Relaxed), 1, "the other is gone");
    // A request that came in between is forgotten sooner: who has its stamp is judged as it was.
    let (since, skew) = store.narrowed();
    assert_eq!((since, skew), (1_000_000 - 3000, 1000));
    store.configure(narrow / 2, 100, 1_010_000);
    assert_eq!(store.narrowed(), (since, 500), "some still judge by 300s");
    store.configure(SKEW, 100, 1_020_000);
    assert_eq!(store.narrowed().0, u64::MAX, "the fence is for all");
}

#[test]
fn a_narrower_skew_wants_room_for_no_longer_than_its_own_lifetime() {
    let store = store(20);
    let a = store.share("a", 1);
    // Known before a trial with a wider skew, as after it.
    for i in 0..20 {
        assert_eq!(store.claim(&a, &i.to_string(), SECOND), NonceOutcome::Fresh);
    }
    store.configure(SKEW * 2, 20, 1_000_000);
    store.configure(Duration::from_secs(1), 20, 1_000_000);
    assert_eq!(store.live.load(Ordering::Relaxed), 20, "as it was");
    let later = SECOND + LIFETIME / BUCKETS + 4 * SECOND;
    assert_eq!(store.claim(&a, "n", later), NonceOutcome::Fresh);
    assert_eq!(store.claim(&a, "0", later), NonceOutcome::Seen);
    assert_eq!(store.claim(&a, "0", SECOND + LIFETIME), NonceOutcome::Seen);
}
