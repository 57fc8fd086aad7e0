//! A configuration and a request for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pingora::http::RequestHeader;

use crate::config::{self, Config, Source};
use crate::filter::{FilterContext, Moment, RequestFilter, RequestView, Verdict};
use crate::primitives::RouteName;

pub const SECOND: u64 = 1_000_000_000;
/// When a model begins.
pub const START: u64 = 1_000 * SECOND;
/// The same on the wall clock, seconds.
pub const UNIX: u64 = 1_800_000_000;

/// The configuration that `text` says with a listener. It is read once, and on a thread of its own: the checker's have
/// little stack.
pub fn configuration(text: &str) -> Arc<Config> {
    static READ: Mutex<BTreeMap<String, Arc<Config>>> = Mutex::new(BTreeMap::new());
    let mut read = READ.lock().unwrap();
    let config = read.entry(text.to_owned()).or_insert_with(|| {
        let text = text.to_owned();
        let reading = std::thread::spawn(move || Arc::new(load(&text)));
        reading.join().unwrap()
    });
    Arc::clone(config)
}

fn load(text: &str) -> Config {
    let text = format!("[[listener]]\naddress = \"127.0.0.1:8080\"\n{text}");
    let source = Source {
        file: "model.toml".into(),
        text: text.into(),
    };
    config::load(&[source], &|_| Ok(None)).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A request that can be asked about again and again.
#[derive(Clone)]
pub struct Request {
    pub head: RequestHeader,
    route: RouteName,
}

impl Request {
    pub fn new() -> Self {
        Self {
            head: RequestHeader::build("GET", b"/", None).unwrap(),
            route: RouteName::new("r"),
        }
    }

    /// The request of client number `client` at `now`.
    pub fn context(&self, client: u8, now: u64) -> FilterContext<'_> {
        let request = RequestView {
            host: "api.example.com",
            authority: "api.example.com",
            client_ip: [192, 0, 2, client].into(),
            ..RequestView::bare(&self.head, "/", &self.route)
        };
        let unix_time = UNIX;
        FilterContext::new(request, Moment { now, unix_time })
    }

    /// Whether it passes.
    pub fn passes(&self, filter: &dyn RequestFilter, client: u8, now: u64) -> bool {
        let mut context = self.context(client, now);
        matches!(filter.check(&mut context), Verdict::Continue)
    }
}
