//! Clients that do not care how much is served: so many requests a second, whatever comes back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Answer, Origin, millis};

/// What came of the requests of one kind.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) asked: usize,
    pub(super) served: usize,
    pub(super) refused: usize,
    /// Neither 200 nor 503.
    pub(super) other: usize,
    /// Of those served.
    latencies: Vec<Duration>,
}

impl Tally {
    /// The share that was served.
    pub(super) fn goodput(&self) -> f64 {
        self.served as f64 / self.asked.max(1) as f64
    }

    pub(super) fn quantile(&self, share: f64) -> Duration {
        let mut latencies = self.latencies.clone();
        latencies.sort_unstable();
        let at = (latencies.len() as f64 * share) as usize;
        latencies
            .get(at.min(latencies.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn line(&self, what: &str) -> String {
        format!(
            "{what:<22} asked {:>5}  served {:>5} ({:>5.1} %)  refused {:>5}  other {}  p50 {:>6.1} ms  p99 {:>6.1} ms",
            self.asked,
            self.served,
            self.goodput() * 100.0,
            self.refused,
            self.other,
            self.quantile(0.5).as_secs_f64() * 1e3,
            self.quantile(0.99).as_secs_f64() * 1e3,
        )
    }
}

/// Sends so many of each target a second for a while, evenly spaced.
pub(super) fn send(to: SocketAddr, rates: &[(&str, f64)], during: Duration) -> Vec<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let tallies: Vec<Arc<Mutex<Tally>>> = rates.iter().map(|_| Arc::default()).collect();
    let idle: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    runtime.block_on(async {
        let kinds = rates.iter().zip(&tallies).map(|((target, rate), tally)| {
            let request = format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
            send_kind(
                to,
                request,
                *rate,
                during,
                Arc::clone(tally),
                Arc::clone(&idle),
            )
        });
        futures_util::future::join_all(kinds).await;
    });
    let tallies = tallies.into_iter();
    tallies
        .map(|tally| std::mem::take(&mut *tally.lock().unwrap()))
        .collect()
}

async fn send_kind(
    to: SocketAddr,
    request: String,
    rate: f64,
    during: Duration,
    tally: Arc<Mutex<Tally>>,
    idle: Arc<Mutex<Vec<TcpStream>>>,
) {
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..(rate * during.as_secs_f64()) as u32 {
        let due = begun + Duration::from_secs_f64(f64::from(n) / rate);
        tokio::time::sleep_until(due.into()).await;
        let (request, tally, idle) = (request.clone(), Arc::clone(&tally), Arc::clone(&idle));
        tasks.push(tokio::spawn(async move {
            let kept = idle.lock().unwrap().pop();
            // Counted from when it was due: a client that is late itself must not hide what its request met.
            let answer =
                tokio::time::timeout(Duration::from_secs(20), exchange(to, kept, &request));
            let answer = answer.await.ok().and_then(Result::ok);
            let mut tally = tally.lock().unwrap();
            tally.asked += 1;
            match answer {
                Some((200, stream)) => {
                    tally.served += 1;
                    tally.latencies.push(due.elapsed());
                    idle.lock().unwrap().push(stream);
                }
                Some((503, stream)) => {
                    tally.refused += 1;
                    idle.lock().unwrap().push(stream);
                }
                _ => tally.other += 1,
            }
        }));
    }
    futures_util::future::join_all(tasks).await;
}

async fn exchange(
    to: SocketAddr,
    kept: Option<TcpStream>,
    request: &str,
) -> std::io::Result<(u16, TcpStream)> {
    let mut stream = match kept {
        Some(stream) => stream,
        None => TcpStream::connect(to).await?,
    };
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes()).await?;
    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let more = stream.read(&mut piece).await?;
        if more == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&piece[..more]);
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1);
        let length = length.and_then(|rest| rest.lines().next()?.trim().parse().ok());
        if body.len() >= length.unwrap_or(0) {
            let status = head
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok());
            return Ok((status.unwrap_or(0), stream));
        }
    }
}

/// An origin that does so much at once and lets the rest wait, as long as it takes.
pub(super) struct Limited {
    pub(super) origin: Origin,
    slots: Arc<Slots>,
}

struct Slots {
    free: Mutex<isize>,
    freed: Condvar,
    turn: AtomicUsize,
}

impl Limited {
    /// `slots` at once, each between `shortest` and `longest` milliseconds.
    pub(super) fn start(slots: isize, (shortest, longest): (u64, u64)) -> Self {
        let slots = Arc::new(Slots {
            free: Mutex::new(slots),
            freed: Condvar::new(),
            turn: AtomicUsize::new(0),
        });
        let working = Arc::clone(&slots);
        let origin = Origin::answering(move |_| {
            let free = working.free.lock().unwrap();
            *working.freed.wait_while(free, |free| *free <= 0).unwrap() -= 1;
            // Spread over the span by the golden ratio, the same in each run.
            let turn = working.turn.fetch_add(1, Ordering::Relaxed);
            let part = (turn as f64 * 0.618_033_988_75).fract();
            let span = shortest as f64 + (longest - shortest) as f64 * part;
            std::thread::sleep(Duration::from_secs_f64(span / 1e3));
            *working.free.lock().unwrap() += 1;
            working.freed.notify_one();
            Answer::text("done").after(millis(0))
        });
        Self { origin, slots }
    }

    /// More slots from now on, or fewer.
    pub(super) fn resize(&self, by: isize) {
        *self.slots.free.lock().unwrap() += by;
        self.slots.freed.notify_all();
    }
}
