//! Chains of real limits and a filter that asks somebody else, over a connection of their own.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use pingora::http::RequestHeader;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::*;
use crate::config::{self, Config, Source};
use crate::filter::RequestView;
use crate::gateway::http1::head;
use crate::gateway::socket::Socket;
use crate::limit::{self, LimitFacts};
use crate::observe::stats::LimitStats;
use crate::primitives::{LimitName, RouteName};

const LIMITS: &str = "[limit.rate]\nkey = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"1/h\"\nburst = 1\n\
                      [limit.inside]\nkey = \"client_ip\"\nalgorithm = \"concurrency\"\nmax = 1\n";

/// What somebody else is asked: how often it was begun, and how often it was given up.
#[derive(Default)]
struct Inquiries {
    begun: AtomicU64,
    given_up: AtomicU64,
}

/// One inquiry under way.
struct Inquiry {
    answer: oneshot::Receiver<Verdict>,
    inquiries: Arc<Inquiries>,
    over: bool,
}

impl Future for Inquiry {
    type Output = Verdict;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Verdict> {
        let verdict = std::task::ready!(Pin::new(&mut self.answer).poll(cx));
        self.over = true;
        Poll::Ready(verdict.expect("an answer"))
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        if !self.over {
            self.inquiries.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Asks somebody else, whose answer the test has in its hand.
struct AsksElsewhere {
    answer: Mutex<Option<oneshot::Receiver<Verdict>>>,
    inquiries: Arc<Inquiries>,
}

impl RequestFilter for AsksElsewhere {
    fn name(&self) -> &str {
        "asks_elsewhere"
    }

    fn check(&self, _context: &mut FilterContext<'_>) -> Verdict {
        self.inquiries.begun.fetch_add(1, Ordering::Relaxed);
        Verdict::Later(Box::pin(Inquiry {
            answer: self.answer.lock().take().expect("asked once"),
            inquiries: Arc::clone(&self.inquiries),
            over: false,
        }))
    }

    fn check_body(&self, _context: &mut FilterContext<'_>, body: &[u8]) -> Verdict {
        match body {
            b"good" => Verdict::Continue,
            _ => Verdict::Refuse(Refusal::new(Reason::BodyDigest, "no")),
        }
    }
}

/// A rate, a bound on requests at once, and somebody else, in this order.
struct Chain {
    filters: Vec<Arc<dyn RequestFilter>>,
    inquiries: Arc<Inquiries>,
    answer: Option<oneshot::Sender<Verdict>>,
    stats: Arc<LimitStats>,
}

fn config() -> Config {
    let text = format!("[[listener]]\naddress = \"127.0.0.1:8080\"\n{LIMITS}");
    let source = Source {
        file: "t.toml".into(),
        text: text.into(),
    };
    config::load(&[source], &|_| Ok(None)).unwrap_or_else(|why| panic!("{why}"))
}

fn chain() -> Chain {
    let config = config();
    let facts = LimitFacts::new();
    let stats = Arc::<LimitStats>::default();
    let of = |name: &str| &config.limits[&LimitName::new(name)];
    let (sender, receiver) = oneshot::channel();
    let inquiries = Arc::<Inquiries>::default();
    Chain {
        filters: vec![
            limit::build(of("rate"), Arc::clone(&stats), &facts),
            limit::build(of("inside"), Arc::default(), &facts),
            Arc::new(AsksElsewhere {
                answer: Mutex::new(Some(receiver)),
                inquiries: Arc::clone(&inquiries),
            }),
        ],
        inquiries,
        answer: Some(sender),
        stats,
    }
}

impl Chain {
    /// Whether limits would let another request of this client in, of which they take nothing.
    fn has_room(&self) -> bool {
        let head = RequestHeader::build("GET", b"/", None).expect("head");
        let route = RouteName::new("r");
        let mut context = context(&head, &route).dry();
        let mut limits = self.filters[..2].iter();
        limits.all(|limit| matches!(limit.check(&mut context), Verdict::Continue))
    }

    fn answer(&mut self, verdict: Verdict) {
        let answer = self.answer.take().expect("not answered yet");
        assert!(answer.send(verdict).is_ok(), "somebody waits");
    }

    fn given_up(&self) -> u64 {
        self.inquiries.given_up.load(Ordering::Relaxed)
    }
}

fn context<'r>(head: &'r RequestHeader, route: &'r RouteName) -> FilterContext<'r> {
    let moment = Moment {
        now: 1_000_000_000_000,
        unix_time: 1_800_000_000,
    };
    FilterContext::new(RequestView::bare(head, "/", route), moment)
}

/// A client on a socket, and what its request is asked with.
struct Served {
    client: Arc<ClientIo>,
    theirs: UnixStream,
    head: Head,
    clock: Clock,
    wall: WallClock,
    auth_buffer: Arc<AuthBuffer>,
}

impl Served {
    fn new() -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let limits = config().server.client;
        let request = Bytes::from_static(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (_, head) = head::parse(&request, &limits).expect("a head");
        let clock = Clock::start();
        Self {
            client: ClientIo::new(Socket::Unix(ours)),
            theirs,
            head,
            clock,
            wall: WallClock::new(clock),
            auth_buffer: Arc::default(),
        }
    }

    fn asker(&self, time: Duration) -> Asker<'_> {
        Asker {
            client: &self.client,
            head: &self.head,
            until: Instant::now() + time,
            forwards: true,
            clock: self.clock,
            wall: &self.wall,
            auth_buffer: &self.auth_buffer,
            most_kept: 1 << 20,
            spread: 0,
            buffered: false,
        }
    }
}

const LONG: Duration = Duration::from_secs(60);

/// What becomes of a request while `meanwhile` happens, once somebody else was asked about it.
async fn asked(
    chain: &Chain,
    served: &Served,
    time: Duration,
    meanwhile: impl AsyncFnOnce(),
) -> Told {
    let head = RequestHeader::build("GET", b"/", None).expect("head");
    let route = RouteName::new("r");
    let mut context = context(&head, &route);
    let mut asker = served.asker(time);
    let (said, ()) = tokio::join!(asker.ask_all(&chain.filters, &mut context), meanwhile());
    Told::of(said, context.tickets.len())
}

/// What was said, and how many tickets the request holds.
#[derive(Debug, PartialEq)]
enum Told {
    Passed(usize),
    Refused(Reason),
    Ended(Reason),
    Answered,
}

impl Told {
    fn of(said: Result<(), Objection>, tickets: usize) -> Self {
        match said {
            Ok(()) => Self::Passed(tickets),
            Err(Objection::Refuse(refusal)) => Self::Refused(refusal.reason),
            Err(Objection::Ended(refusal)) => Self::Ended(refusal.reason),
            Err(Objection::Answer(_)) => Self::Answered,
        }
    }
}

#[tokio::test]
async fn a_verdict_that_comes_later_is_awaited_and_the_worker_does_other_things() {
    let (mut chain, served) = (chain(), Served::new());
    let answer = chain.answer.take().expect("not answered");
    let told = asked(&chain, &served, LONG, async || {
        // This runs on the same thread, while the request waits.
        assert!(answer.send(Verdict::Continue).is_ok());
    });
    assert_eq!(told.await, Told::Passed(1));
    assert_eq!(chain.given_up(), 0);
    assert!(!chain.has_room(), "it is counted, and inside");
    drop(served.theirs);
}

#[tokio::test]
async fn what_is_refused_later_stays_counted_unless_a_limit_refuses() {
    for (reason, frees) in [(Reason::TokenInvalid, false), (Reason::RateLimited, true)] {
        let (mut chain, served) = (chain(), Served::new());
        chain.answer(Verdict::Refuse(Refusal::new(reason, "no")));
        let told = asked(&chain, &served, LONG, async || {}).await;
        assert_eq!(told, Told::Refused(reason));
        assert_eq!(chain.has_room(), frees, "{reason:?}");
        assert_eq!(chain.stats.returned.value(), u64::from(frees));
    }
}

#[tokio::test]
async fn a_verdict_that_never_comes_ends_with_the_time_of_the_request() {
    let (chain, served) = (chain(), Served::new());
    let (began, time) = (Instant::now(), Duration::from_millis(50));
    let told = asked(&chain, &served, time, async || {}).await;
    assert_eq!(told, Told::Ended(Reason::DeadlineExceeded));
    assert!(began.elapsed() >= time);
    assert_eq!(chain.given_up(), 1, "nobody is asked any more");
    assert!(chain.has_room(), "and nothing is counted");
}

#[tokio::test]
async fn a_client_that_leaves_ends_what_was_asked_for_it() {
    let (chain, mut served) = (chain(), Served::new());
    let (_unused, other) = UnixStream::pair().expect("a pair");
    let theirs = std::mem::replace(&mut served.theirs, other);
    let told = asked(&chain, &served, LONG, async || drop(theirs)).await;
    assert_eq!(told, Told::Ended(Reason::ClientGone));
    assert_eq!(chain.given_up(), 1);
    assert!(chain.has_room());
}

#[tokio::test]
async fn a_request_that_is_dropped_while_it_waits_gives_everything_back() {
    let (chain, served) = (chain(), Served::new());
    let head = RequestHeader::build("GET", b"/", None).expect("head");
    let route = RouteName::new("r");
    let mut context = context(&head, &route);
    let mut asker = served.asker(LONG);
    {
        let mut asking = std::pin::pin!(asker.ask_all(&chain.filters, &mut context));
        let polled = polled_once(asking.as_mut()).await;
        assert!(polled.is_none(), "it waits");
        assert_eq!(chain.inquiries.begun.load(Ordering::Relaxed), 1);
        assert!(!chain.has_room());
    }
    assert_eq!(chain.given_up(), 1);
    assert!(chain.has_room(), "though the context lives");
    assert_eq!(context.tickets.len(), 0);
}

/// One poll: `None` when it is not ready.
async fn polled_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(ready) => Some(ready),
            Poll::Pending => None,
        })
    })
    .await
}
