//! Clients that ask at a fixed rate, whatever becomes of their requests.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Client, Connection, seconds};

/// Clients of one load. A request that finds all of them waiting is late, and its lateness counts as its own.
const CLIENTS: usize = 48;

/// One request and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// When it was due.
    pub(super) at: Instant,
    /// From then to the end of its answer.
    pub(super) took: Duration,
    /// `None`: there was no answer.
    pub(super) status: Option<u16>,
    /// Who answered, when an origin did.
    pub(super) origin: Option<String>,
}

impl Sent {
    pub(super) fn failed(&self) -> bool {
        self.status.is_none_or(|status| status >= 500)
    }
}

/// Requests on their way at a rate, from the beginning to [`Load::end`].
pub(super) struct Load {
    ended: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Sent>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins to ask for `target`, `rate` times a second.
    pub(super) fn begin(
        client: &Client,
        target: &str,
        rate: u32,
        headers: &[(String, String)],
    ) -> Self {
        let began = Instant::now();
        let next = Arc::new(AtomicUsize::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let clients = (0..CLIENTS).map(|_| {
            let (client, target, headers) = (client.clone(), target.to_owned(), headers.to_vec());
            let (next, ended, sent) = (Arc::clone(&next), Arc::clone(&ended), Arc::clone(&sent));
            std::thread::spawn(move || {
                let mut connection = None;
                while !ended.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed) as u32;
                    let due = began + seconds(1) * number / rate;
                    while Instant::now() < due && !ended.load(Ordering::Relaxed) {
                        let left = due.saturating_duration_since(Instant::now());
                        std::thread::sleep(left.min(Duration::from_millis(20)));
                    }
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    let (status, origin) = ask(&client, &mut connection, &target, &headers);
                    let took = due.elapsed();
                    sent.lock().unwrap().push(Sent {
                        at: due,
                        took,
                        status,
                        origin,
                    });
                }
            })
        });
        Self {
            clients: clients.collect(),
            ended,
            sent,
        }
    }

    /// Stops asking and waits for what is still on its way.
    pub(super) fn end(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().unwrap();
        }
    }

    /// What was sent between two moments and is over.
    pub(super) fn between(&self, from: Instant, to: Instant) -> Vec<Sent> {
        let sent = self.sent.lock().unwrap();
        let within = |sent: &&Sent| (from..to).contains(&sent.at);
        sent.iter().filter(within).cloned().collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn ask(
    client: &Client,
    kept: &mut Option<Connection>,
    target: &str,
    headers: &[(String, String)],
) -> (Option<u16>, Option<String>) {
    let connection = match kept.take() {
        Some(connection) => Some(connection),
        None => client.try_connect().ok(),
    };
    let Some(mut connection) = connection else {
        return (None, None);
    };
    let answer = connection.get(target).headers(headers).try_send();
    let Ok(answer) = answer else {
        return (None, None);
    };
    let origin = answer.header("x-origin").map(str::to_owned);
    let status = answer.status;
    if !answer
        .header("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    {
        *kept = Some(connection);
    }
    (Some(status), origin)
}
