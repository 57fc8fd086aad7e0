//! How long an answer of an upstream may be. One that says that it is longer is refused before anything is sent; one that
//! does not say so is counted on its way, and cut off where it gets longer.

use pingora::http::ResponseHeader;

use crate::filter::{
    FilterContext, Part, Reason, Refusal, RequestFilter, ResponseBodyHook, Verdict,
};

/// Lets answers of so many bytes through.
pub struct MaxAnswerFilter {
    most: u64,
}

impl MaxAnswerFilter {
    /// A filter that lets a body of `most` bytes through.
    pub fn new(most: u64) -> Self {
        Self { most }
    }
}

impl RequestFilter for MaxAnswerFilter {
    fn name(&self) -> &str {
        "max_answer"
    }

    fn part(&self) -> Part {
        Part::Form
    }

    fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
        let counted = LengthSoFar { left: self.most };
        context.answer_hooks.push(Box::new(counted));
        Verdict::Continue
    }
}

/// The body of one answer, counted.
struct LengthSoFar {
    /// Bytes that may still come.
    left: u64,
}

impl ResponseBodyHook for LengthSoFar {
    fn on_head(&mut self, _head: &ResponseHeader, length: Option<u64>) -> Result<(), Refusal> {
        match length {
            Some(length) if length > self.left => Err(too_large("its length was announced")),
            _ => Ok(()),
        }
    }

    fn on_body(
        &mut self,
        piece: &[u8],
        _end: bool,
        _give: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Refusal> {
        let left = self.left.checked_sub(piece.len() as u64);
        self.left = left.ok_or_else(|| too_large("its length was not announced"))?;
        Ok(())
    }
}

fn too_large(cause: &'static str) -> Refusal {
    let sentence = "the upstream's answer is longer than it may be";
    Refusal::new(Reason::AnswerTooLarge, sentence).cause(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(most: u64, pieces: &[usize]) -> bool {
        let mut counted = LengthSoFar { left: most };
        let mut fits = |length: &usize| counted.on_body(&vec![0; *length], false, &mut |_| {});
        pieces.iter().all(|length| fits(length).is_ok())
    }

    #[test]
    fn counts_every_piece() {
        assert!(fits(0, &[]) && fits(0, &[0]) && !fits(0, &[1]));
        assert!(fits(5, &[2, 3, 0]) && !fits(5, &[2, 3, 1]) && !fits(5, &[6]));
    }

    #[test]
    fn a_length_that_is_announced_is_believed() {
        let head = ResponseHeader::build(200, None).expect("a head");
        for (length, fits) in [
            (None, true),
            (Some(0), true),
            (Some(5), true),
            (Some(6), false),
        ] {
            let said = LengthSoFar { left: 5 }.on_head(&head, length);
            assert_eq!(said.is_ok(), fits, "{length:?}");
            assert!(
                said.err()
                    .is_none_or(|said| said.reason == Reason::AnswerTooLarge)
            );
        }
    }
}
