//! What a case of the corpus consists of: a request, and what its origin does at each try.

/// What an origin does with a request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Reads the body until it has so many bytes of it, or all.
    Read(usize),
    /// Says these bytes of HTTP/1.1.
    Says(Vec<u8>),
    /// Reads the body, and gives it back in one piece.
    Echo,
    /// Reads the body, and gives it back in chunks of so many bytes.
    EchoChunks(usize),
    /// Waits so many milliseconds.
    Pause(u64),
    /// Resets the connection.
    Reset,
    /// Ends the connection.
    End,
    /// Waits until the connection is gone.
    Hang,
}

pub(super) const ALL: usize = usize::MAX;

/// How a request says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framed {
    /// There is no body.
    Without,
    Length,
    /// In HTTP/2: without a length.
    Chunked,
}

/// When a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    Never,
    BeforeBody,
    WithinBody,
    BeforeAnswer,
    WithinAnswer,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: &'static str,
    pub(super) body: Vec<u8>,
    /// Bytes of a piece, each of them a chunk or a frame.
    pub(super) piece: usize,
    pub(super) framed: Framed,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) query: String,
    pub(super) trailer: bool,
    /// Waits to be asked for its body.
    pub(super) expects: bool,
    /// Milliseconds between two pieces that it sends, and between two that it reads.
    pub(super) pauses: [u64; 2],
    pub(super) leaves: Leaves,
    /// Asks so often; what came of the last is looked at.
    pub(super) times: usize,
}

/// The upstream that is asked, of those that each way has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// One endpoint, no further try.
    One,
    /// One endpoint, over a new connection each time: one that was kept and is found closed is replaced without a word.
    Fresh,
    /// One that waits 400 ms for a piece of an answer.
    Impatient,
    /// Two endpoints, and a further try.
    Two,
    /// Two endpoints, the first of them dead, and a further try.
    Dead,
    /// Two dead endpoints, no further try.
    Nobody,
    /// Two endpoints; the second is asked after 60 ms where the way is hedged.
    Soon,
}

pub(super) const UPSTREAMS: [Asked; 7] = [
    Asked::One,
    Asked::Fresh,
    Asked::Impatient,
    Asked::Two,
    Asked::Dead,
    Asked::Nobody,
    Asked::Soon,
];

impl Asked {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Fresh => "fresh",
            Self::Impatient => "impatient",
            Self::Two => "two",
            Self::Dead => "dead",
            Self::Nobody => "nobody",
            Self::Soon => "soon",
        }
    }
}

/// Where a case says something at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Only {
    Everywhere,
    /// A second try takes a way that has one.
    Hedged,
    /// What HTTP/2 has no bytes for.
    Http1Upstream,
}

/// A row of the corpus.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) ask: Ask,
    /// What the origin does at the first try, at the second; the last holds for all that follow.
    pub(super) tries: Vec<Vec<Act>>,
    pub(super) asked: Asked,
    /// More keys of the route. `{way}` is the way, `{other}` another.
    pub(super) route: String,
    pub(super) only: Only,
    /// The status that the client gets; 0 for none.
    pub(super) status: u16,
    /// The body that the client gets; its length where it says what differs.
    pub(super) body: Option<Vec<u8>>,
    pub(super) trailers: Vec<(&'static str, &'static str)>,
}

/// Text of which no part looks like the next.
pub(super) fn text(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| b'!' + ((at * 7 + at / 89) % 89) as u8)
        .collect()
}

pub(super) fn says(text: impl AsRef<[u8]>) -> Act {
    Act::Says(text.as_ref().to_vec())
}

/// The request is read and answered with these bytes.
pub(super) fn answers(text: impl AsRef<[u8]>) -> Vec<Act> {
    vec![Act::Read(ALL), says(text)]
}

/// A whole answer of this status.
pub(super) fn whole(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} So\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// `GET` that is answered with 200 by the first endpoint of `one`, until more is said.
pub(super) fn case(name: impl Into<String>) -> Case {
    Case {
        name: name.into(),
        ask: Ask {
            method: "GET",
            body: Vec::new(),
            piece: usize::MAX,
            framed: Framed::Without,
            fields: Vec::new(),
            query: String::new(),
            trailer: false,
            expects: false,
            pauses: [0; 2],
            leaves: Leaves::Never,
            times: 1,
        },
        tries: vec![answers(whole(200, "well"))],
        asked: Asked::One,
        route: String::new(),
        only: Only::Everywhere,
        status: 200,
        body: None,
        trailers: Vec::new(),
    }
}

impl Case {
    pub(super) fn method(mut self, method: &'static str) -> Self {
        self.ask.method = method;
        self
    }

    /// `PUT` with a body of so many bytes.
    pub(super) fn put(mut self, length: usize, framed: Framed) -> Self {
        (self.ask.method, self.ask.body, self.ask.framed) = ("PUT", text(length), framed);
        self
    }

    pub(super) fn pieces(mut self, bytes: usize) -> Self {
        self.ask.piece = bytes;
        self
    }

    pub(super) fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.ask.fields.push((name, value.into()));
        self
    }

    pub(super) fn asking(mut self, change: impl FnOnce(&mut Ask)) -> Self {
        change(&mut self.ask);
        self
    }

    pub(super) fn does(mut self, acts: Vec<Act>) -> Self {
        self.tries = vec![acts];
        self
    }

    pub(super) fn then(mut self, acts: Vec<Act>) -> Self {
        self.tries.push(acts);
        self
    }

    pub(super) fn of(mut self, asked: Asked) -> Self {
        self.asked = asked;
        self
    }

    pub(super) fn route(mut self, keys: &str) -> Self {
        self.route = format!("{keys}\n");
        self
    }

    pub(super) fn only(mut self, only: Only) -> Self {
        self.only = only;
        self
    }

    /// What the client gets.
    pub(super) fn gives(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// What comes behind the body.
    pub(super) fn trailed(mut self, trailers: &[(&'static str, &'static str)]) -> Self {
        self.trailers = trailers.to_vec();
        self
    }

    pub(super) fn with(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }
}
