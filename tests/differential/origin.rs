//! The origin of the corpus: it does at each try what the case says, and writes down what it got.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};

use super::case::{ALL, Act, Case, answers, whole};
use super::seen::digest;
use crate::harness::{Head, Incoming, Left, millis};

/// What came of a request, by its target.
type Got = HashMap<String, Vec<String>>;

pub(super) struct Origin {
    /// Both lead to it: two endpoints.
    pub(super) addresses: [SocketAddr; 2],
    got: Arc<Mutex<Got>>,
}

/// What an origin does with the try of this number for this case.
type Script = Arc<dyn Fn(&str, usize) -> Vec<Act> + Send + Sync>;

impl Origin {
    /// One that does what the cases say.
    pub(super) async fn of(cases: &[Case]) -> Self {
        let tries = cases
            .iter()
            .map(|case| (case.name.clone(), case.tries.clone()));
        let tries: HashMap<_, _> = tries.collect();
        Self::scripted(move |name, number| {
            let tries: &Vec<Vec<Act>> = &tries[name];
            tries[number.min(tries.len() - 1)].clone()
        })
        .await
    }

    /// One that always answers with its name.
    pub(super) async fn named(name: &'static str) -> Self {
        Self::scripted(move |_, _| answers(whole(200, name))).await
    }

    async fn scripted(script: impl Fn(&str, usize) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let script: Script = Arc::new(script);
        let got: Arc<Mutex<Got>> = Arc::default();
        let mut addresses = Vec::new();
        for _ in 0..2 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let (script, got) = (Arc::clone(&script), Arc::clone(&got));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&got)));
                }
            });
        }
        Self {
            addresses: addresses.try_into().unwrap(),
            got,
        }
    }

    /// What the requests with this target were like, in no order.
    pub(super) fn got(&self, target: &str) -> Vec<String> {
        let got = self.got.lock().unwrap();
        let mut got = got.get(target).cloned().unwrap_or_default();
        got.sort();
        got
    }
}

/// A request whose body is being read.
struct Asked {
    incoming: Incoming<OwnedReadHalf>,
    left: Left,
    body: Vec<u8>,
    over: bool,
}

impl Asked {
    async fn read(&mut self, most: usize) -> io::Result<()> {
        while !self.over && self.body.len() < most {
            match self.incoming.piece(&mut self.left).await? {
                Some(piece) => self.body.extend_from_slice(&piece),
                None => self.over = true,
            }
        }
        Ok(())
    }
}

async fn serve(stream: TcpStream, script: Script, got: Arc<Mutex<Got>>) {
    let linger = socket2::SockRef::from(&stream).try_clone().unwrap();
    let (from, mut to) = stream.into_split();
    let mut incoming = Incoming::new(from);
    while let Ok(Some(head)) = incoming.head().await {
        let mut words = head.line.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let target = target.split('?').next().unwrap_or_default().to_owned();
        let slot = {
            let mut got = got.lock().unwrap();
            let got = got.entry(target.clone()).or_default();
            got.push(String::new());
            got.len() - 1
        };
        let name = target.split('/').nth(1).unwrap_or_default();
        let mut asked = Asked {
            left: Left::of_request(&head),
            incoming,
            body: Vec::new(),
            over: false,
        };
        asked.incoming.trailers.clear();
        let mut goes_on = true;
        for act in script(name, slot) {
            goes_on = goes_on
                && perform(act, &mut asked, &mut to, &linger)
                    .await
                    .unwrap_or(false);
        }
        goes_on = goes_on && asked.read(ALL).await.is_ok();
        note(&got, &target, slot, &describe(&method, &head, &asked));
        if !goes_on {
            if matches!(linger.linger(), Ok(Some(_))) {
                // No end before the reset.
                to.forget();
            }
            return;
        }
        incoming = asked.incoming;
    }
}

fn note(got: &Mutex<Got>, target: &str, slot: usize, what: &str) {
    if let Some(got) = got.lock().unwrap().get_mut(target) {
        what.clone_into(&mut got[slot]);
    }
}

/// Does as told; `false` at the end of the connection.
async fn perform(
    act: Act,
    asked: &mut Asked,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    linger: &socket2::Socket,
) -> io::Result<bool> {
    match act {
        Act::Read(most) => asked.read(most).await?,
        Act::Says(bytes) => to.write_all(&bytes).await?,
        Act::Pause(span) => tokio::time::sleep(millis(span)).await,
        Act::Echo => {
            asked.read(ALL).await?;
            let length = asked.body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            to.write_all(&[head.as_bytes(), &asked.body].concat())
                .await?;
        }
        Act::EchoChunks(size) => {
            asked.read(ALL).await?;
            let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in asked.body.chunks(size) {
                text.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend(chunk);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\n\r\n");
            to.write_all(&text).await?;
        }
        Act::Reset => {
            linger.set_linger(Some(millis(0)))?;
            return Ok(false);
        }
        Act::End => {
            to.shutdown().await?;
            return Ok(false);
        }
        Act::Hang => {
            asked.incoming.gone().await;
            return Ok(false);
        }
    }
    Ok(true)
}

/// The request in a line: what the client said, and what of its body came.
fn describe(method: &str, head: &Head, asked: &Asked) -> String {
    let ours = [
        "traceparent",
        "x-trace-id",
        "host",
        "x-request-deadline",
        "x-forwarded-proto",
    ];
    let framing = ["content-length", "transfer-encoding", "connection"];
    let mut fields: Vec<String> = Vec::new();
    for (name, value) in &head.headers {
        let name = name.to_ascii_lowercase();
        if !ours.contains(&&*name) && !framing.contains(&&*name) {
            fields.push(format!("{name}: {value}"));
        }
    }
    fields.sort();
    let body = match asked.over {
        true => digest(&asked.body),
        false => "in part".to_owned(),
    };
    let trailers = &asked.incoming.trailers;
    format!(
        "{method}; {}; body {body}; trailers {trailers:?}",
        fields.join(", ")
    )
}
