//! Clients that ask at a fixed rate, whatever becomes of their requests.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Client, Connection, Response, seconds};

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
    /// Which of the clients asked.
    pub(super) client: usize,
    /// The word for a refusal.
    pub(super) code: Option<String>,
    /// The client was told when to come back.
    pub(super) come_back: bool,
    /// What stood in for the upstream.
    pub(super) fallback: Option<String>,
}

impl Sent {
    fn new(at: Instant, client: usize, answer: Option<&Response>) -> Self {
        let text = |name| answer.and_then(|answer| answer.header(name).map(str::to_owned));
        let refusal = answer.filter(|answer| answer.status >= 400);
        Self {
            at,
            took: at.elapsed(),
            status: answer.map(|answer| answer.status),
            origin: text("x-origin"),
            client,
            code: refusal.and_then(Response::code),
            come_back: text("retry-after").is_some(),
            fallback: text("x-fallback"),
        }
    }

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
    /// Begins to ask for `target`, `rate` times a second. With `cookies` each client sends back what it was given.
    pub(super) fn begin(
        client: &Client,
        target: &str,
        rate: u32,
        headers: &[(String, String)],
        cookies: bool,
    ) -> Self {
        let began = Instant::now();
        let next = Arc::new(AtomicUsize::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let clients = (0..CLIENTS).map(|index| {
            let mut asking = Asking {
                client: client.clone(),
                connection: None,
                target: target.to_owned(),
                headers: headers.to_vec(),
                cookies: cookies.then(Vec::new),
            };
            let (next, ended, sent) = (Arc::clone(&next), Arc::clone(&ended), Arc::clone(&sent));
            std::thread::spawn(move || {
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
                    let answer = asking.ask();
                    let one = Sent::new(due, index, answer.as_ref());
                    sent.lock().unwrap().push(one);
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

    /// What was sent and is over.
    pub(super) fn all(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
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

/// One client.
struct Asking {
    client: Client,
    connection: Option<Connection>,
    target: String,
    headers: Vec<(String, String)>,
    /// What it was given, when it keeps that.
    cookies: Option<Vec<String>>,
}

impl Asking {
    fn ask(&mut self) -> Option<Response> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.client.try_connect().ok()?,
        };
        let mut request = connection.get(&self.target).headers(&self.headers);
        if let Some(cookies) = self.cookies.as_ref().filter(|cookies| !cookies.is_empty()) {
            request = request.header("Cookie", cookies.join("; "));
        }
        let answer = request.try_send().ok()?;
        if let Some(cookies) = &mut self.cookies {
            let given = answer.headers.iter();
            for (_, given) in given.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")) {
                let pair = given.split(';').next().unwrap_or_default();
                let name = pair.split('=').next().unwrap_or_default();
                cookies.retain(|known| known.split('=').next() != Some(name));
                cookies.push(pair.to_owned());
            }
        }
        let closes = answer.header("connection");
        if !closes.is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.connection = Some(connection);
        }
        Some(answer)
    }
}
