//! Writers over real wires, and what their clients read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version};
use pingora::http::ResponseHeader;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::net::UnixStream;

use crate::gateway::Socket;
use crate::gateway::answer::{AnswerPlan, ResponseWriter};
use crate::gateway::client::ClientIo;
use crate::gateway::fuzzing::LIMITS;
use crate::gateway::http1::body::BodyDecoder;
use crate::gateway::http2;
use crate::gateway::message::BodySize;

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asks {
    pub(super) version: Version,
    pub(super) method: &'static str,
    /// The client sent `TE: trailers`; those of HTTP/2 need not.
    pub(super) trailers: bool,
}

/// GET over each protocol.
pub(super) const HTTP_10: Asks = Asks {
    version: Version::HTTP_10,
    method: "GET",
    trailers: false,
};
pub(super) const HTTP_11: Asks = Asks {
    version: Version::HTTP_11,
    ..HTTP_10
};
pub(super) const HTTP_2: Asks = Asks {
    version: Version::HTTP_2,
    ..HTTP_10
};

/// What a client read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) trailers: Vec<(String, String)>,
    /// The end of the answer was told.
    pub(super) whole: bool,
}

impl Read {
    /// The value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields
            .find(|(known, _)| known == name)
            .map(|(_, value)| &**value)
    }
}

/// What was given to a writer.
pub(super) struct Given {
    pub(super) writer: ResponseWriter,
    pub(super) client: Arc<ClientIo>,
    head_only: bool,
    wire: Kept,
}

enum Kept {
    /// A client to whom bytes are there as soon as they are written.
    Http1(std::os::unix::net::UnixStream),
    Http2(tokio::task::JoinHandle<Read>),
}

impl Asks {
    /// A writer for the answer to such a client.
    pub(super) async fn given(self) -> Given {
        let (client, wire) = if self.version == Version::HTTP_2 {
            let (client, reading) = self.stream().await;
            (client, Kept::Http2(reading))
        } else {
            let (ours, theirs) = UnixStream::pair().expect("pair");
            let theirs = theirs.into_std().expect("a socket");
            (ClientIo::new(Socket::Unix(ours)), Kept::Http1(theirs))
        };
        client.begin(BodyDecoder::Done, true, &LIMITS);
        let head_only = self.method == "HEAD";
        let writer = ResponseWriter::new(Arc::clone(&client), self.version, head_only)
            .with_trailers(self.trailers);
        Given {
            writer,
            client,
            head_only,
            wire,
        }
    }

    async fn stream(self) -> (Arc<ClientIo>, tokio::task::JoinHandle<Read>) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let reading = tokio::spawn(read_stream(theirs, self.method));
        let mut connection = h2::server::handshake(ours).await.expect("handshake");
        let (request, respond) = connection.accept().await.expect("one").expect("request");
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        let wire = http2::wire(request.into_body(), respond);
        (ClientIo::stream(wire), reading)
    }
}

impl Given {
    /// What of the answer came so far, over HTTP/1.
    pub(super) fn so_far(&self) -> String {
        let Kept::Http1(theirs) = &self.wire else {
            return String::new();
        };
        let mut theirs = theirs;
        let mut bytes = vec![0; 4096];
        let read = std::io::Read::read(&mut theirs, &mut bytes).unwrap_or(0);
        bytes.truncate(read);
        String::from_utf8(bytes).expect("text")
    }

    /// All that the client reads, when nothing more is written.
    pub(super) async fn read(self) -> Read {
        let Self {
            writer,
            client,
            head_only,
            wire,
        } = self;
        drop(writer);
        client.shutdown().await;
        drop(client);
        let reading = async {
            match wire {
                Kept::Http1(theirs) => {
                    let mut theirs = UnixStream::from_std(theirs).expect("a socket");
                    let mut bytes = Vec::new();
                    theirs.read_to_end(&mut bytes).await.expect("read");
                    read_bytes(&String::from_utf8(bytes).expect("text"), head_only)
                }
                Kept::Http2(reading) => reading.await.expect("read"),
            }
        };
        tokio::time::timeout(Duration::from_secs(5), reading)
            .await
            .expect("in time")
    }

    /// Writes a whole answer in these pieces, and what the client reads.
    pub(super) async fn answer(
        mut self,
        (head, size): (ResponseHeader, BodySize),
        pieces: &[&'static str],
        trailers: Option<HeaderMap>,
        plan: AnswerPlan<'_>,
    ) -> Read {
        self.writer.begin(head, size, plan).expect("a head");
        for piece in pieces {
            let piece = Bytes::from_static(piece.as_bytes());
            self.writer.write(piece).await.expect("written");
        }
        self.writer.finish(trailers).await.expect("finished");
        self.read().await
    }
}

async fn read_stream(theirs: DuplexStream, method: &str) -> Read {
    let (mut requests, connection) = h2::client::handshake(theirs).await.expect("handshake");
    tokio::spawn(connection);
    let method = Method::from_bytes(method.as_bytes()).expect("method");
    let request = Request::builder().method(method).uri("http://a/").body(());
    let (answer, _) = requests
        .send_request(request.expect("request"), true)
        .expect("sent");
    // A reset may overtake what came before it.
    let Ok(answer) = answer.await else {
        return Read::default();
    };
    let (head, mut body) = answer.into_parts();
    let mut read = Read {
        status: head.status.as_u16(),
        fields: pairs(&head.headers),
        ..Read::default()
    };
    while let Some(piece) = body.data().await {
        let Ok(piece) = piece else { return read };
        let _ = body.flow_control().release_capacity(piece.len());
        read.body += std::str::from_utf8(&piece).expect("text");
    }
    match body.trailers().await {
        Ok(trailers) => read.trailers = trailers.as_ref().map(pairs).unwrap_or_default(),
        Err(_) => return read,
    }
    read.whole = true;
    read
}

fn pairs(fields: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
    let fields = fields.iter();
    fields
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

/// Reads an answer of HTTP/1 as its client does.
fn read_bytes(text: &str, head_only: bool) -> Read {
    let (head, rest) = text.split_once("\r\n\r\n").expect("a head");
    let (line, fields) = head.split_once("\r\n").expect("fields");
    let mut read = Read {
        status: line[9..12].parse().expect("status"),
        fields: lines(fields),
        ..Read::default()
    };
    if head_only || matches!(read.status, 204 | 304) {
        (read.body, read.whole) = (rest.to_owned(), rest.is_empty());
    } else if read.field("transfer-encoding").is_some() {
        read_chunks(rest, &mut read);
    } else if let Some(length) = read.field("content-length") {
        let length: usize = length.parse().expect("length");
        (read.body, read.whole) = (rest.to_owned(), rest.len() == length);
    } else {
        (read.body, read.whole) = (rest.to_owned(), true);
    }
    read
}

fn read_chunks(mut rest: &str, read: &mut Read) {
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("size");
        if size == 0 {
            read.whole = after.ends_with("\r\n");
            read.trailers = lines(after.trim_end_matches("\r\n"));
            return;
        }
        read.body += &after[..size];
        rest = after[size..].strip_prefix("\r\n").expect("a chunk's end");
    }
}

fn lines(fields: &str) -> Vec<(String, String)> {
    let fields = fields.split("\r\n").filter(|line| !line.is_empty());
    fields
        .map(|line| line.split_once(": ").expect("a field"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect()
}
