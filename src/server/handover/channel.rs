//! What two processes say to each other while one replaces the other, over a socket pair that is passed on.
//!
//! New to old: *ready* (configuration read, sockets in hand, nothing accepted yet), or why not. Old to new: *go*, with
//! everything that is carried. New to old: *serving*. From then on the old process asks about every nonce that a request
//! of its last connections brings, and the new one answers.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::carried::HandoverState;
use crate::auth::{NonceOutcome, NonceOwner};
use crate::gateway::State;
use crate::primitives::AuthName;
use crate::primitives::sections::LARGEST;

const READY: u8 = b'R';
const FAILED: u8 = b'F';
const GO: u8 = b'G';
const SERVING: u8 = b'S';

/// Longest reason for a failure that is passed on.
const LONGEST_REASON: usize = 16 << 10;
/// How long an answer about a nonce is waited for: a worker stands still meanwhile. Longer than who is asked waits itself
/// while it hands over to yet another process.
const ANSWER: Duration = Duration::from_secs(2);

/// What the new process says before it serves.
pub(in crate::server) enum HandoverMessage {
    /// The new process could serve.
    Ready,
    /// The new process serves.
    Serving,
    /// The new process cannot serve.
    Failed(String),
}

/// Waits for the next word of the new process. The end of the stream is an error.
pub(in crate::server) async fn word(channel: &mut UnixStream) -> anyhow::Result<HandoverMessage> {
    match channel.read_u8().await.context("it ended")? {
        READY => Ok(HandoverMessage::Ready),
        SERVING => Ok(HandoverMessage::Serving),
        FAILED => {
            let mut reason = Vec::new();
            let limit = LONGEST_REASON as u64;
            channel.take(limit).read_to_end(&mut reason).await?;
            Ok(HandoverMessage::Failed(
                String::from_utf8_lossy(&reason).trim().to_owned(),
            ))
        }
        other => bail!("it speaks another language ({other:#04x})"),
    }
}

/// Says that the old process may go.
pub(in crate::server) async fn go(channel: &mut UnixStream, carried: &[u8]) -> io::Result<()> {
    channel.write_u8(GO).await?;
    channel.write_u64(carried.len() as u64).await?;
    channel.write_all(carried).await
}

/// Says that the new process could serve, and waits until it shall.
pub(in crate::server) async fn ready(channel: &mut UnixStream) -> anyhow::Result<HandoverState> {
    channel.write_u8(READY).await?;
    let gone = "the process to be replaced ended before it handed over";
    let word = channel.read_u8().await.context(gone)?;
    ensure!(word == GO, "unexpected word {word:#04x}");
    let length = channel.read_u64().await.context(gone)?;
    ensure!(
        length <= LARGEST as u64,
        "{length} bytes are more than is carried"
    );
    let mut bytes = Vec::new();
    let read = channel.take(length).read_to_end(&mut bytes).await?;
    ensure!(read as u64 == length, gone);
    HandoverState::decode(&bytes).context("what is carried cannot be read")
}

/// Says that the new process serves.
pub(in crate::server) async fn serving(channel: &mut UnixStream) -> io::Result<()> {
    channel.write_u8(SERVING).await
}

/// Says why the new process cannot.
pub(in crate::server) fn failed(channel: &mut StdUnixStream, why: &str) {
    let why = &why.as_bytes()[..why.len().min(LONGEST_REASON)];
    let _ = channel.set_nonblocking(false);
    let _ = channel.write_all(&[&[FAILED], why].concat());
}

/// The new process as owner of the nonces, for the old one.
pub(in crate::server) struct Remote(Mutex<Option<StdUnixStream>>);

impl Remote {
    /// Asks over `channel`.
    pub(in crate::server) fn new(channel: UnixStream) -> io::Result<Arc<Self>> {
        let channel = channel.into_std()?;
        channel.set_nonblocking(false)?;
        channel.set_read_timeout(Some(ANSWER))?;
        channel.set_write_timeout(Some(ANSWER))?;
        Ok(Arc::new(Self(Mutex::new(Some(channel)))))
    }
}

impl NonceOwner for Remote {
    fn claim(&self, auth: &AuthName, nonce: u128, lifetime: Duration) -> Option<NonceOutcome> {
        let name = auth.as_str().as_bytes();
        let mut question = u16::try_from(name.len()).ok()?.to_be_bytes().to_vec();
        question.extend_from_slice(name);
        question.extend_from_slice(&nonce.to_be_bytes());
        question.extend_from_slice(&lifetime.as_secs().to_be_bytes());
        let mut channel = self.0.lock();
        let mut answer = [0];
        let asked = channel.as_mut().map(|channel| {
            channel.write_all(&question)?;
            channel.read_exact(&mut answer)
        });
        if !matches!(asked, Some(Ok(()))) {
            // A late answer would be taken for that to the next question.
            *channel = None;
            return None;
        }
        match answer {
            [0] => Some(NonceOutcome::Fresh),
            [1] => Some(NonceOutcome::Seen),
            _ => Some(NonceOutcome::Full),
        }
    }
}

/// Answers about nonces, on a thread of its own, until the old process is gone: then the thread ends.
pub(in crate::server) fn answer(
    channel: UnixStream,
    state: Arc<State>,
) -> io::Result<JoinHandle<()>> {
    let mut channel = channel.into_std()?;
    channel.set_nonblocking(false)?;
    let answering = move || while answer_one(&mut channel, &state).is_ok() {};
    std::thread::Builder::new()
        .name("nonces".into())
        .spawn(answering)
}

fn answer_one(channel: &mut StdUnixStream, state: &State) -> io::Result<()> {
    let mut length = [0; 2];
    channel.read_exact(&mut length)?;
    let mut name = vec![0; usize::from(u16::from_be_bytes(length))];
    channel.read_exact(&mut name)?;
    let (mut nonce, mut lifetime) = ([0; 16], [0; 8]);
    channel.read_exact(&mut nonce)?;
    channel.read_exact(&mut lifetime)?;
    let claim = state.auth.claim_for_other(
        &AuthName::new(&String::from_utf8_lossy(&name)),
        u128::from_be_bytes(nonce),
        Duration::from_secs(u64::from_be_bytes(lifetime).saturating_add(1)),
        state.clock.now(),
    );
    channel.write_all(&[match claim {
        NonceOutcome::Fresh => 0,
        NonceOutcome::Seen => 1,
        NonceOutcome::Full => 2,
    }])
}
