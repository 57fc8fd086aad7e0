//! The gate: who gets a place, and that none is lost, also when threads meet.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

fn gate(limit: u32, queue: u32, timeout: u64) -> Arc<Gate> {
    let settings = Concurrency {
        limit: ConcurrencyLimit::Fixed(limit),
        queue,
        queue_timeout: Duration::from_millis(timeout),
    };
    Arc::new(Gate::new(settings, Arc::new(Places::new(Arc::default()))))
}

#[tokio::test]
async fn a_place_goes_to_who_matters_most() {
    let gate = gate(1, 10, 1000);
    let held = gate.enter(Class::Normal).expect("free");
    assert!(gate.enter(Class::Normal).is_none());
    let (sheddable, critical) = (gate.wait(Class::Sheddable), gate.wait(Class::Critical));
    tokio::pin!(sheddable, critical);
    assert!(futures_util::poll!(&mut sheddable).is_pending());
    assert!(futures_util::poll!(&mut critical).is_pending());
    drop(held);
    assert!(futures_util::poll!(&mut sheddable).is_pending());
    let place = critical.await.expect("next");
    assert!(
        gate.enter(Class::Normal).is_none(),
        "nobody passes those who wait"
    );
    drop(place);
    drop(sheddable.await.expect("last"));
    assert_eq!(gate.counts().now(), [0, 0, 0]);
}

#[tokio::test]
async fn who_leaves_or_waited_too_long_takes_nothing_along() {
    let gate = gate(1, 1, 200);
    let held = gate.enter(Class::Normal).expect("free");
    let mut left = Box::pin(gate.wait(Class::Normal));
    assert!(futures_util::poll!(&mut left).is_pending());
    assert_eq!(
        gate.wait(Class::Normal).await.err(),
        Some(ShedCause::QueueFull)
    );
    drop(left);
    assert_eq!(gate.counts().now()[2], 0);
    let late = gate.wait(Class::Normal).await.err();
    assert_eq!(late, Some(ShedCause::QueueTimeout));
    // Granted, and gone before it noticed.
    let mut granted = Box::pin(gate.wait(Class::Normal));
    assert!(futures_util::poll!(&mut granted).is_pending());
    drop(held);
    assert_eq!(gate.counts().now()[1], 1);
    drop(granted);
    assert_eq!(gate.counts().now(), [0, 0, 0]);
}

#[tokio::test]
async fn who_gives_way_is_told() {
    let gate = gate(1, 1, 200);
    let held = gate.enter(Class::Normal).expect("free");
    let mut displaced = Box::pin(gate.wait(Class::Sheddable));
    assert!(futures_util::poll!(&mut displaced).is_pending());
    let mut critical = Box::pin(gate.wait(Class::Critical));
    assert!(futures_util::poll!(&mut critical).is_pending());
    assert_eq!(displaced.await.err(), Some(ShedCause::Displaced));
    drop(held);
    drop(critical.await.expect("its turn"));
    assert_eq!(gate.counts().shed.of(Class::Sheddable), 1);
    assert_eq!(gate.counts().now(), [0, 0, 0]);
}

#[test]
fn places_are_neither_lost_nor_made_by_threads_that_meet() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .expect("runtime");
    // Of three places none is kept from anybody, of ten some are.
    meet(&runtime, 3);
    meet(&runtime, 10);
}

fn meet(runtime: &tokio::runtime::Runtime, places: u32) {
    let gate = gate(places, 4, 5);
    let most = Arc::new(std::sync::atomic::AtomicU32::new(0));
    runtime.block_on(async {
        let tasks = (0..20_u64).map(|task| {
            let (gate, most) = (Arc::clone(&gate), Arc::clone(&most));
            tokio::spawn(async move {
                let mut numbers = SmallRng::seed_from_u64(task);
                let now = Arc::new(std::sync::atomic::AtomicU32::new(0));
                for _ in 0..2000 {
                    let class = Class::ALL[numbers.random_range(0..3)];
                    let place = match gate.enter(class) {
                        Some(place) => Some(place),
                        None if numbers.random_bool(0.1) => {
                            // Leaves before its turn.
                            let pause = Duration::from_micros(numbers.random_range(0..200));
                            timeout(pause, gate.wait(class))
                                .await
                                .ok()
                                .and_then(Result::ok)
                        }
                        None => gate.wait(class).await.ok(),
                    };
                    if let Some(place) = place {
                        let in_flight = gate.counts().now()[1];
                        most.fetch_max(in_flight, SeqCst);
                        now.fetch_add(1, SeqCst);
                        tokio::task::yield_now().await;
                        drop(place);
                    }
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
    });
    assert!(most.load(SeqCst) <= places, "{most:?}");
    assert_eq!(gate.counts().now(), [0, 0, 0]);
    assert!(gate.places.queue.lock().is_empty());
    let kept = || Class::ALL.map(|class| gate.places.demand.kept_from(class, 100));
    gate.places.demand.turn();
    gate.places.demand.turn();
    assert_eq!(kept(), [0, 0, 0], "nobody is there, nor was lately");
}

#[tokio::test]
async fn a_place_is_free_for_what_matters_while_the_others_wait() {
    let gate = gate(5, 10, 1000);
    drop(gate.enter(Class::Critical).expect("free"));
    let held: Vec<GatePermit> = std::iter::from_fn(|| gate.enter(Class::Sheddable)).collect();
    assert_eq!(held.len(), 4, "a fifth is kept");
    let sheddable = gate.wait(Class::Sheddable);
    tokio::pin!(sheddable);
    assert!(futures_util::poll!(&mut sheddable).is_pending());
    let critical = gate.wait(Class::Critical).await.expect("at once");
    drop(critical);
    assert!(futures_util::poll!(&mut sheddable).is_pending());
    // A second later, and another, it is long ago that somebody needed it.
    gate.tell("api");
    gate.tell("api");
    drop(sheddable.await.expect("its turn"));
    drop(held);
    assert_eq!(gate.counts().now()[1..], [0, 0]);
}
