//! Writing for whoever waits for nothing else meanwhile, and answers that are here as a whole.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use http::HeaderMap;

use super::plan::AnswerPlan;
use super::unfinished::Unfinished;
use super::writer::ResponseWriter;
use crate::gateway::message::{AnswerHead, BodySize};

impl ResponseWriter {
    /// Writes what is queued, see [`Self::poll_flush`].
    #[cfg(test)]
    pub(in crate::gateway) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Ends the answer and waits until the client has it.
    pub(in crate::gateway) async fn finish(
        &mut self,
        trailers: Option<HeaderMap>,
    ) -> Result<(), Unfinished> {
        self.end(trailers)?;
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    /// Writes a piece of the body, see [`Self::poll_write`].
    pub(in crate::gateway) async fn write(&mut self, mut piece: Bytes) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx, &mut piece)).await
    }

    /// Sends an answer that is here as a whole.
    pub(in crate::gateway) async fn send<H: AnswerHead>(
        &mut self,
        head: H,
        body: Bytes,
        plan: AnswerPlan<'_>,
    ) -> Result<(), Unfinished> {
        // Nothing follows an answer without a body: over HTTP/2 its stream ends with the head.
        let size = match body.len() {
            0 => BodySize::Absent,
            length => BodySize::Exactly(length as u64),
        };
        self.begin(head, size, plan)?;
        self.write(body).await?;
        self.finish(None).await
    }
}
