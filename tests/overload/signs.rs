//! The signs that the gateway itself has too much to do besides the number of requests: its memory, and its lateness.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{classes, slow};
use crate::harness::{Connection, Gateway, eventually, millis, seconds};

fn statuses(gateway: &Gateway) -> [u16; 3] {
    ["critical", "normal", "sheddable"].map(|class| {
        let client = gateway.client();
        client.get(&format!("/{class}/x")).send().status
    })
}

/// Puts this bound in force.
fn most(gateway: &Gateway, text: &str, kib: u64) {
    gateway.rewrite(&text.replace("4GiB", &format!("{kib}KiB")));
    gateway.reload_ok();
}

#[test]
fn memory_that_is_nearly_full_refuses_by_class() {
    let origin = slow();
    let gateway = classes("", "[server.overload]\nmax_memory = \"4GiB\"\n")
        .to(&origin)
        .start();
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let hold = |count: usize| -> Vec<Connection> {
        let before = origin.count();
        let held = (0..count).map(|_| gateway.client().get("/critical/never").begin());
        let held = held.collect();
        eventually(seconds(10), "they arrived", || {
            origin.count() == before + count
        });
        held
    };
    let mut held = hold(63);
    // As little as may be set, and more than that in use: but so few requests do not fill it.
    let used = gateway.rss();
    assert!(used > 32 * 1024, "{used} KiB");
    most(&gateway, &text, 32 * 1024);
    std::thread::sleep(millis(300));
    assert_eq!(statuses(&gateway), [200; 3]);
    held.extend(hold(1));
    eventually(seconds(5), "all are refused", || {
        statuses(&gateway) == [503; 3]
    });
    let cause = [("cause", "max_memory"), ("upstream", "")];
    assert!(gateway.metric("gateway_shed_total", &cause) >= 3.0);
    gateway.client().get("/own").send().expect(200);
    // Sheddable ones from nine tenths on, and the others not yet.
    most(&gateway, &text, gateway.rss() * 1000 / 925);
    eventually(seconds(5), "one class is refused", || {
        statuses(&gateway) == [200, 200, 503]
    });
    most(&gateway, &text, gateway.rss() * 2);
    eventually(seconds(5), "none is refused", || {
        statuses(&gateway) == [200; 3]
    });
    drop(held);
}

/// Lets the process run for a moment at a time, and stand still for much longer in between.
struct Halting {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Halting {
    fn begin(pid: i32) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let pid = Pid::from_raw(pid);
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::SeqCst) {
                let _ = kill(pid, Signal::SIGSTOP);
                std::thread::sleep(millis(40));
                let _ = kill(pid, Signal::SIGCONT);
                std::thread::sleep(millis(4));
            }
        });
        Self {
            ended,
            thread: Some(thread),
        }
    }
}

impl Drop for Halting {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn workers_that_are_always_late_let_in_less_and_critical_requests_first() {
    let origin = slow();
    let server = "[server]\nthreads = 1\n[server.overload]\nmax_lag = \"8ms\"\n";
    let gateway = classes("", server).to(&origin).start();
    let halting = Halting::begin(gateway.pid());
    let mut tally = [[0_u32; 2]; 3];
    // Enough of all classes that there is something to choose from.
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..12)
            .map(|asker| {
                let class = ["critical", "normal", "sheddable"][asker % 3];
                let client = gateway.client();
                scope.spawn(move || {
                    let mut connection = client.connect();
                    let mut seen = [0; 2];
                    let end = std::time::Instant::now() + seconds(5);
                    while std::time::Instant::now() < end {
                        let target = format!("/{class}/x");
                        let status = connection.get(&target).send().status;
                        seen[usize::from(status == 503)] += 1;
                    }
                    (asker % 3, seen)
                })
            })
            .collect();
        for asker in askers {
            let (class, seen) = asker.join().unwrap();
            tally[class][0] += seen[0];
            tally[class][1] += seen[1];
        }
    });
    drop(halting);
    let refused = tally.map(|[served, refused]| f64::from(refused) / f64::from(served + refused));
    assert!(
        refused[0] < 0.3 && refused[2] > 0.3 && refused[2] > refused[0],
        "{tally:?}"
    );
    let cause = [("cause", "max_lag"), ("class", "sheddable")];
    assert!(gateway.metric("gateway_shed_total", &cause) > 0.0);
    eventually(seconds(5), "all may come again", || {
        statuses(&gateway) == [200; 3] && gateway.info()["overload"]["refused_now"] == "nothing"
    });
}
