//! An origin that says exactly these bytes, over every transport of HTTP/1, one answer for each head that comes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::faces::Faces;
use super::gateway::Setup;
use super::ways::{Speaks, ways_of};

/// What it does after a head.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These bytes, in one piece.
    Bytes(Vec<u8>),
    /// Nothing for so long.
    Pause(Duration),
    /// No more.
    End,
}

impl Says {
    pub(crate) fn text(text: &str) -> Vec<Self> {
        vec![Self::Bytes(text.as_bytes().to_vec())]
    }

    /// This text, and then the connection ends.
    pub(crate) fn last(text: &str) -> Vec<Self> {
        vec![Self::Bytes(text.as_bytes().to_vec()), Self::End]
    }
}

type Script = Arc<dyn Fn(&str) -> Vec<Says> + Send + Sync>;

/// An origin behind each kind of connection. It runs as long as the test's process.
pub(crate) struct RawOrigin {
    faces: Faces,
}

impl RawOrigin {
    /// Answers each head as `script` says for its target, without the first segment.
    pub(crate) fn saying(script: impl Fn(&str) -> Vec<Says> + Send + Sync + 'static) -> Self {
        let script: Script = Arc::new(script);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let faces = Faces::of(tcp.local_addr().unwrap());
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let _ = stream.set_nodelay(true);
                let own = Arc::clone(&script);
                thread::spawn(move || serve(stream, &own));
            }
        });
        Self { faces }
    }

    /// A gateway with one upstream and one route, of its name, for each way of HTTP/1; `more` is said of each upstream,
    /// before its tables.
    pub(crate) fn behind(&self, more: &str) -> Setup {
        self.faces.behind(&ways_of(Speaks::Http1), more)
    }
}

fn serve(mut stream: impl Read + Write, script: &Script) {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&seen[..end]).into_owned();
            seen.drain(..end + 4);
            let target = head.split(' ').nth(1).unwrap_or_default();
            for says in script(target) {
                match says {
                    Says::Bytes(bytes) => {
                        if stream
                            .write_all(&bytes)
                            .and_then(|()| stream.flush())
                            .is_err()
                        {
                            return;
                        }
                    }
                    Says::Pause(span) => thread::sleep(span),
                    Says::End => return,
                }
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(read) => seen.extend_from_slice(&piece[..read]),
        }
    }
}
