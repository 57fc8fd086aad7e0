//! Every transport between a client, the gateway and an origin: what a test of forwarding goes through.

/// The version of HTTP that an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// What carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Over {
    Tcp,
    Tls,
    Unix,
}

/// A way from the gateway to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Way {
    pub(crate) speaks: Speaks,
    pub(crate) over: Over,
    /// Whether the upstream has `hedge`.
    pub(crate) hedged: bool,
}

/// Every way to an upstream that the configuration allows. Second tries do not go to Unix sockets.
pub(crate) fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for speaks in [Speaks::Http1, Speaks::Http2] {
        for over in [Over::Tcp, Over::Tls, Over::Unix] {
            for hedged in [false, true] {
                let way = Way {
                    speaks,
                    over,
                    hedged,
                };
                if over != Over::Unix || !hedged {
                    ways.push(way);
                }
            }
        }
    }
    ways
}

/// The ways to an upstream that speaks this version.
pub(crate) fn ways_of(speaks: Speaks) -> Vec<Way> {
    let mut ways = ways();
    ways.retain(|way| way.speaks == speaks);
    ways
}

/// Runs `claim` for each of `ways`, in a thread of its own: for claims that wait.
pub(crate) fn on_each(ways: Vec<Way>, claim: impl Fn(Way) + Sync) {
    std::thread::scope(|scope| {
        for way in ways {
            let claim = &claim;
            scope.spawn(move || claim(way));
        }
    });
}

/// Each of these ways with another of them behind it, so that every one comes first and every one comes second, with
/// `turns` others each.
pub(crate) fn crossings(ways: &[Way], turns: usize) -> Vec<(Way, Way)> {
    let mut pairs = Vec::new();
    for (at, way) in ways.iter().enumerate() {
        for turn in 0..turns {
            // 0 is itself; steps of three meet ways of the other version and of other sockets first.
            pairs.push((*way, ways[(at + 3 * turn) % ways.len()]));
        }
    }
    pairs
}

/// The name under which a face of an origin shows its certificate.
pub(crate) const FACE: &str = "face.internal";

/// A second try that does not begin within a test.
pub(crate) const LATE: &str = "after = \"10s\", methods = [\"GET\", \"HEAD\", \"PUT\"]";

/// Nobody listens on the discard port of the loopback.
const NOBODY: &str = "127.0.0.1:9";

impl Way {
    /// Its name: that of an upstream, and the first segment of a route.
    pub(crate) fn name(self) -> &'static str {
        match (self.speaks, self.over, self.hedged) {
            (Speaks::Http1, Over::Tcp, false) => "h1",
            (Speaks::Http1, Over::Tcp, true) => "h1-hedged",
            (Speaks::Http1, Over::Tls, false) => "h1-tls",
            (Speaks::Http1, Over::Tls, true) => "h1-tls-hedged",
            (Speaks::Http1, Over::Unix, _) => "h1-unix",
            (Speaks::Http2, Over::Tcp, false) => "h2",
            (Speaks::Http2, Over::Tcp, true) => "h2-hedged",
            (Speaks::Http2, Over::Tls, false) => "h2-tls",
            (Speaks::Http2, Over::Tls, true) => "h2-tls-hedged",
            (Speaks::Http2, Over::Unix, _) => "h2-unix",
        }
    }

    /// An upstream over this way: the first of `endpoints`, and the others as backups. `more` is said before its tables,
    /// `hedge` is what says when a second try begins; the file `face.pem` is [`Faces::ca`](super::Faces::ca).
    pub(crate) fn upstream(
        self,
        name: &str,
        endpoints: &[String],
        hedge: &str,
        more: &str,
    ) -> String {
        let mut listed = Vec::new();
        for (index, address) in endpoints.iter().enumerate() {
            let backup = if index == 0 { "" } else { ", backup = true" };
            listed.push(format!("{{ address = \"{address}\"{backup} }}"));
        }
        if self.hedged && endpoints.len() == 1 {
            // Second tries need a second endpoint, though it is never asked.
            listed.push(format!("{{ address = \"{NOBODY}\", backup = true }}"));
        }
        let keys = self.keys(hedge);
        let listed = listed.join(", ");
        format!("[upstream.{name}]\nendpoints = [{listed}]\n{keys}{more}\n")
    }

    /// What the upstream says of this way; `hedge` is what says when a second try begins.
    pub(crate) fn keys(self, hedge: &str) -> String {
        let mut text = String::new();
        if self.speaks == Speaks::Http2 {
            text += "http_version = \"2\"\n";
        }
        if self.over == Over::Tls {
            text += &format!("tls = {{ sni = \"{FACE}\", ca = \"{{dir}}/face.pem\" }}\n");
        }
        if self.hedged {
            text += &format!("hedge = {{ {hedge} }}\n");
        }
        text
    }

    /// Where nobody listens, as this way writes it.
    pub(crate) fn nowhere(self) -> String {
        match self.over {
            Over::Unix => format!("unix:/nowhere/{}", super::reserve().port()),
            _ => super::reserve().to_string(),
        }
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How a client speaks to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Caller {
    pub(crate) speaks: Speaks,
    pub(crate) tls: bool,
}

/// Every way from a client to the gateway.
pub(crate) fn clients() -> [Caller; 4] {
    [
        (Speaks::Http1, false),
        (Speaks::Http1, true),
        (Speaks::Http2, false),
        (Speaks::Http2, true),
    ]
    .map(|(speaks, tls)| Caller { speaks, tls })
}

impl Caller {
    pub(crate) fn name(self) -> &'static str {
        match (self.speaks, self.tls) {
            (Speaks::Http1, false) => "h1",
            (Speaks::Http1, true) => "h1-tls",
            (Speaks::Http2, false) => "h2",
            (Speaks::Http2, true) => "h2-tls",
        }
    }
}
