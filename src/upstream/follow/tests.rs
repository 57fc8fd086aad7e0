//! A source that is told what it finds, as one would be that reads a file or asks a registry.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::config::{self, Source};
use crate::observe::Metrics;
use crate::primitives::UpstreamName;
use crate::primitives::address::Address;
use crate::upstream::source::{Discovered, Discovery};
use crate::upstream::{EndpointFacts, PeerTemplate};

struct Told {
    news: tokio::sync::Mutex<mpsc::Receiver<Result<Vec<Discovered>, String>>>,
    discovery: watch::Sender<Discovery>,
    min_keep: f64,
}

type Teller = mpsc::Sender<Result<Vec<Discovered>, String>>;

impl Told {
    fn new(min_keep: f64) -> (Self, Teller) {
        let (teller, news) = mpsc::channel(9);
        let told = Self {
            news: tokio::sync::Mutex::new(news),
            discovery: watch::Sender::default(),
            min_keep,
        };
        (told, teller)
    }
}

impl EndpointSource for Told {
    fn watch(&self) -> watch::Receiver<Discovery> {
        self.discovery.subscribe()
    }

    fn look(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            while let Some(news) = self.news.lock().await.recv().await {
                self.discovery.send_modify(|discovery| {
                    discovery.looked = true;
                    discovery.failure = news.as_ref().err().cloned();
                    if let Ok(found) = news {
                        discovery.endpoints = found.into();
                    }
                });
                // Each is seen before the next.
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        })
    }

    fn min_keep(&self) -> f64 {
        self.min_keep
    }
}

fn pool() -> (Pool, Arc<EndpointFacts>) {
    let text = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[upstream.u]\nendpoints = [{ address = \"127.0.0.1:1\" }]";
    let source = Source {
        file: "t.toml".into(),
        text: text.into(),
    };
    let config =
        config::load(&[source], &|_| Ok(None)).unwrap_or_else(|problems| panic!("{problems}"));
    let settings = config.upstreams[&UpstreamName::new("u")].clone();
    let peers = PeerTemplate::new(&settings, &|_| Err("no files".into())).expect("no TLS");
    let metrics = Arc::new(Metrics::new("0", "0").expect("metrics"));
    let facts = Arc::new(EndpointFacts::new(metrics));
    let pool = Pool::new(settings, peers, Arc::clone(&facts), Arc::default(), 1);
    pool.begin(&[], 1);
    (pool, facts)
}

fn at(ports: &[u16]) -> Vec<Discovered> {
    let each = ports.iter().map(|port| Discovered {
        address: Address::Inet(SocketAddr::from(([10, 0, 0, 1], *port))),
        weight: 1,
        backup: false,
        label: "service".into(),
    });
    each.collect()
}

fn ports(pool: &Pool) -> Vec<u16> {
    let endpoints = pool.endpoints();
    let addresses = endpoints.iter().filter_map(|(one, ..)| one.address.inet());
    addresses.map(|address| address.port()).collect()
}

/// Follows the source while `told` runs; what it was told is taken over before.
async fn following(pool: &Pool, source: &Told, told: impl AsyncFnOnce()) {
    let clock = Clock::start();
    let following = std::pin::pin!(follow(pool, source, clock));
    let told = std::pin::pin!(told());
    select(told, following).await;
}

async fn tell(teller: &Teller, news: Result<Vec<Discovered>, String>) {
    teller.send(news).await.expect("somebody listens");
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_stays_is_who_it_was_and_who_goes_is_forgotten() {
    let (pool, facts) = pool();
    let (source, teller) = Told::new(0.0);
    following(&pool, &source, async || {
        tell(&teller, Ok(at(&[1, 2]))).await;
        assert_eq!(ports(&pool), [1, 2]);
        let [first, second] = [0, 1].map(|index| Arc::clone(&pool.endpoints()[index].0));
        assert!(second.set_drained(true));
        let mut next = at(&[3, 2]);
        (next[1].weight, next[1].backup) = (7, true);
        tell(&teller, Ok(next)).await;
        assert_eq!(ports(&pool), [3, 2]);
        let (kept, weight, backup) = pool.endpoints()[1].clone();
        assert!(Arc::ptr_eq(&kept, &second), "with all that is known of it");
        assert_eq!((weight, backup), (7, true));
        drop((first, second, kept));
        pool.begin(&[], 1);
        facts.prune();
        let known = facts.dump();
        assert_eq!(known.len(), 2, "{known:?}");
    })
    .await;
}

#[tokio::test]
async fn a_failure_and_an_empty_finding_leave_the_last_good_one() {
    let (pool, _) = pool();
    let (source, teller) = Told::new(0.0);
    following(&pool, &source, async || {
        tell(&teller, Err("not there".into())).await;
        assert_eq!(ports(&pool), [1], "what is configured");
        assert_eq!(pool.failure().as_deref(), Some("not there"));
        tell(&teller, Ok(at(&[5, 6]))).await;
        assert_eq!((ports(&pool), pool.failure()), (vec![5, 6], None));
        tell(&teller, Err("gone".into())).await;
        assert_eq!(ports(&pool), [5, 6]);
        assert_eq!(pool.failure().as_deref(), Some("gone"));
        tell(&teller, Ok(Vec::new())).await;
        assert_eq!(ports(&pool), [5, 6]);
    })
    .await;
}

#[tokio::test]
async fn a_finding_that_keeps_too_few_is_a_failure() {
    let (pool, _) = pool();
    let (source, teller) = Told::new(0.5);
    following(&pool, &source, async || {
        tell(&teller, Ok(at(&[1, 2, 3, 4]))).await;
        // Who is configured is another, by its label.
        assert_eq!(ports(&pool), [1]);
        let why = pool.failure();
        assert_eq!(why.as_deref(), Some("only 0 of 1 endpoints would stay"));
    })
    .await;
    let (source, teller) = Told::new(0.0);
    following(&pool, &source, async || {
        tell(&teller, Ok(at(&[1, 2, 3, 4]))).await;
    })
    .await;
    let (source, teller) = Told::new(0.5);
    following(&pool, &source, async || {
        tell(&teller, Ok(at(&[4, 5, 6]))).await;
        assert_eq!(ports(&pool), [1, 2, 3, 4]);
        tell(&teller, Ok(at(&[3, 4, 5]))).await;
        assert_eq!((ports(&pool), pool.failure()), (vec![3, 4, 5], None));
    })
    .await;
}

#[tokio::test]
async fn following_once_ends_with_the_first_look() {
    let (pool, _) = pool();
    let (source, teller) = Told::new(0.0);
    teller.send(Ok(at(&[8]))).await.expect("somebody listens");
    follow_once(&pool, &source, Clock::start()).await;
    assert_eq!(ports(&pool), [8]);
    let (source, teller) = Told::new(0.0);
    teller
        .send(Err("no".into()))
        .await
        .expect("somebody listens");
    follow_once(&pool, &source, Clock::start()).await;
    assert_eq!((ports(&pool), pool.failure()), (vec![8], Some("no".into())));
}
