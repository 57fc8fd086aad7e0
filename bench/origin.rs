//! A small, fast origin: answers every request of a keep-alive connection with 128 bytes, `/64k` with 64 KiB.
//!
//! It understands requests without a body or with a `Content-Length` and nothing else, so that it costs a fraction of what
//! it helps to measure.
//!
//! Usage: `origin PORT`; it listens on all addresses of the host, so that one process can stand for several endpoints.

use std::net::Ipv4Addr;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SMALL: usize = 128;
const LARGE: usize = 64 << 10;

fn main() -> anyhow::Result<()> {
    let port = std::env::args().nth(1).context("usage: origin PORT")?;
    let port: u16 = port.parse().context("usage: origin PORT")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(listen(port))
}

async fn listen(port: u16) -> anyhow::Result<()> {
    let answers: &'static Answers = Box::leak(Box::new(Answers {
        small: answer(SMALL),
        large: answer(LARGE),
    }));
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream, answers));
        }
    }
}

struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
}

fn answer(length: usize) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes
}

/// Answers until the client leaves, or sends a head that does not fit the buffer.
async fn serve(mut stream: TcpStream, answers: &Answers) {
    let mut buffer = vec![0; 64 << 10];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
        while let Some(end) = find_end(&buffer[..filled]) {
            let large = buffer.starts_with(b"GET /64k ");
            let body = body_length(&buffer[..end]);
            let here = body.min(filled - end);
            buffer.copy_within(end + here..filled, 0);
            filled -= end + here;
            if !discard(&mut stream, &mut buffer, body - here).await {
                return;
            }
            let answer = if large {
                &answers.large
            } else {
                &answers.small
            };
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

/// Reads and forgets the rest of a body, where there is one; the buffer is free then. Whether all of it came.
async fn discard(stream: &mut TcpStream, buffer: &mut [u8], mut length: usize) -> bool {
    while length > 0 {
        let most = length.min(buffer.len());
        match stream.read(&mut buffer[..most]).await {
            Ok(0) | Err(_) => return false,
            Ok(read) => length -= read,
        }
    }
    true
}

/// The body's length, of a whole head; most requests are a GET and have none.
fn body_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    if head.starts_with(b"GET ") {
        return 0;
    }
    let lines = head.split(|byte| *byte == b'\n');
    let values = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    });
    let text = |value| std::str::from_utf8(value).ok()?.trim().parse().ok();
    values.filter_map(text).next().unwrap_or(0)
}

/// Where the first head ends. Most reads are one whole head, whose end is at the end.
fn find_end(bytes: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    memchr::memmem::find(bytes, END).map(|at| at + END.len())
}
