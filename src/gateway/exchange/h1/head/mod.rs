//! The head of an endpoint's answer: is it one that every parser reads alike?
//!
//! What is ambiguous is no answer: the client gets a 502 instead, and the connection is not used again.

#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;

use http::HeaderName;
use httparse::Header;
use smallvec::SmallVec;

use crate::config::HeadLimits;
use crate::gateway::http1::body::BodyDecoder;
use crate::gateway::http1::head::{Framing, content_length};
use crate::gateway::message::{AnswerHead, BodySize, InvalidHead, has_no_body, is_ours, is_status};

/// Most fields that its `Connection` may name.
const MOST_NOMINATED: usize = 32;
/// Fields for which there is room at once: answers with more of them are rare, and room costs each of the others.
const USUAL: usize = 64;

/// Room for as many fields of an answer as are usual.
pub(in crate::gateway) type Room<'b> = [MaybeUninit<Header<'b>>; USUAL];
/// Room for more of them, made when it is needed.
pub(in crate::gateway) type MoreRoom<'b> = Vec<MaybeUninit<Header<'b>>>;

/// Room that nothing was put into yet.
pub(in crate::gateway) fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; USUAL]
}

/// A head that passed.
pub(in crate::gateway) struct Answer<'b> {
    status: u16,
    reason: &'b str,
    fields: &'b [Header<'b>],
    /// Fields that `Connection` names: they concern the endpoint's connection.
    nominated: SmallVec<[&'b [u8]; 2]>,
    length: Option<u64>,
    /// `length` as text, where it is said more than once: it is passed on once.
    repeated: Option<&'b [u8]>,
    chunked: bool,
    /// The head speaks of a coding that is none.
    identity: bool,
    /// The endpoint will take another request.
    persistent: bool,
    /// The endpoint said that it will take no other request.
    closes: bool,
}

impl<'b> Answer<'b> {
    /// Reads a head and says how long it is; `None` while it is not whole. Its limits hold exactly, however it came.
    pub(in crate::gateway) fn parse(
        bytes: &'b [u8],
        limits: HeadLimits,
        (usual, more): (&'b mut Room<'b>, &'b mut MoreRoom<'b>),
    ) -> Result<Option<(Self, usize)>, InvalidHead> {
        let usual = &mut usual[..limits.fields.min(USUAL)];
        let mut parsed = httparse::Response::new(&mut []);
        let mut outcome = rules().parse_response_with_uninit_headers(&mut parsed, bytes, usual);
        if outcome == Err(httparse::Error::TooManyHeaders) && limits.fields > USUAL {
            more.resize_with(limits.fields, MaybeUninit::uninit);
            parsed = httparse::Response::new(&mut []);
            outcome = rules().parse_response_with_uninit_headers(&mut parsed, bytes, more);
        }
        let length = match outcome {
            Ok(httparse::Status::Complete(length)) if length <= limits.bytes => length,
            Ok(httparse::Status::Partial) if bytes.len() < limits.bytes => return Ok(None),
            Ok(_) => return Err(InvalidHead("the answer's head is too long")),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(InvalidHead("the answer's head has too many fields"));
            }
            Err(_) => return Err(InvalidHead("the answer's head is malformed")),
        };
        let mut answer = Self {
            status: parsed.code.unwrap_or_default(),
            reason: parsed.reason.unwrap_or_default(),
            fields: parsed.headers,
            nominated: SmallVec::new(),
            length: None,
            repeated: None,
            chunked: false,
            identity: false,
            persistent: parsed.version == Some(1),
            closes: false,
        };
        answer.judge(parsed.version == Some(1))?;
        Ok(Some((answer, length)))
    }

    fn judge(&mut self, version_11: bool) -> Result<(), InvalidHead> {
        if !is_status(self.status) {
            return Err(InvalidHead("the answer's status is none"));
        }
        for field in self.fields {
            let (name, value) = (field.name.as_bytes(), field.value);
            match name.len() {
                14 if name.eq_ignore_ascii_case(b"content-length") => self.take_length(value)?,
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.take_coding(value)?,
                10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value)?,
                _ => {}
            }
        }
        if self.chunked && (self.identity || self.length.is_some() || !version_11) {
            return Err(AMBIGUOUS);
        }
        // The length holds where no coding is one; a reader that goes to the end of the connection must not be told more.
        self.closes |= self.identity;
        Ok(())
    }

    /// A length that is said again means the same (RFC 9110 §8.6); two lengths mean nothing.
    fn take_length(&mut self, value: &'b [u8]) -> Result<(), InvalidHead> {
        for value in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let length = content_length(value).ok_or(AMBIGUOUS)?;
            if self.length.is_some_and(|known| known != length) {
                return Err(AMBIGUOUS);
            }
            if self.length.replace(length).is_some() {
                self.repeated = Some(value);
            }
        }
        Ok(())
    }

    /// `chunked`, once; or `identity`, which is no coding (RFC 2616 §3.6). What other codings are within we cannot say.
    fn take_coding(&mut self, value: &[u8]) -> Result<(), InvalidHead> {
        let codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        for coding in codings.filter(|coding| !coding.is_empty()) {
            if coding.eq_ignore_ascii_case(b"chunked") && !self.chunked {
                self.chunked = true;
            } else if coding.eq_ignore_ascii_case(b"identity") {
                self.identity = true;
            } else {
                return Err(AMBIGUOUS);
            }
        }
        Ok(())
    }

    fn connection(&mut self, value: &'b [u8]) -> Result<(), InvalidHead> {
        for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.closes = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.persistent = true;
            } else if !token.is_empty() && !is_kept(token) {
                self.nominated.push(token);
            }
        }
        if self.nominated.len() > MOST_NOMINATED {
            return Err(InvalidHead("the answer's Connection names too many fields"));
        }
        Ok(())
    }

    /// How the endpoint delimits the body, to be followed as it comes; `Raw`: by the end of the connection.
    pub(in crate::gateway) fn body(&self, head_only: bool) -> BodyDecoder {
        if has_no_body(self.status, head_only) {
            return BodyDecoder::Done;
        }
        match (self.chunked, self.length) {
            (true, _) => BodyDecoder::of_answer(Framing::Chunked),
            (false, Some(0)) => BodyDecoder::Done,
            (false, Some(length)) => BodyDecoder::Length(length),
            (false, None) => BodyDecoder::Raw,
        }
    }

    /// How long the body is, as the endpoint says.
    pub(in crate::gateway) fn size(&self, head_only: bool) -> BodySize {
        match (self.chunked, self.length) {
            _ if has_no_body(self.status, head_only) => BodySize::Absent,
            (true, _) => BodySize::Unknown,
            (false, Some(length)) => BodySize::Exactly(length),
            (false, None) => BodySize::UntilClose,
        }
    }

    /// Whether the endpoint will take another request on this connection.
    pub(in crate::gateway) fn persistent(&self) -> bool {
        self.persistent && !self.closes
    }

    /// Whether it announces a body where none may follow: whether one does, nobody can tell.
    pub(in crate::gateway) fn is_in_doubt(&self) -> bool {
        let coded = self.chunked || self.identity;
        match self.status {
            204 => coded || self.length.is_some_and(|length| length > 0),
            304 => coded,
            _ => false,
        }
    }

    /// Fields that `Connection` names. Hardly any answer has one.
    pub(in crate::gateway) fn nominated(&self) -> Vec<HeaderName> {
        let names = self.nominated.iter();
        names
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            .collect()
    }

    /// The first value of a field.
    pub(in crate::gateway) fn value(&self, name: &str) -> Option<&'b [u8]> {
        let mut fields = self.fields.iter();
        fields
            .find(|field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }

    /// Whether it agrees to go on as a WebSocket (RFC 6455 §4.1).
    pub(in crate::gateway) fn opens_websocket(&self) -> bool {
        let names = |name: &str, wanted: &[u8]| {
            let fields = self.fields.iter();
            fields
                .filter(|field| field.name.eq_ignore_ascii_case(name))
                .flat_map(|field| field.value.split(|byte| *byte == b','))
                .any(|token| token.trim_ascii().eq_ignore_ascii_case(wanted))
        };
        self.status == 101 && names("upgrade", b"websocket") && names("connection", b"upgrade")
    }
}

impl AnswerHead for Answer<'_> {
    fn status(&self) -> u16 {
        self.status
    }

    fn reason(&self) -> &str {
        self.reason
    }

    fn each(&self, mut show: impl FnMut(&[u8], &[u8])) {
        let mut repeated = self.repeated;
        for field in self.fields {
            let name = field.name.as_bytes();
            let mut nominated = self.nominated.iter();
            if nominated.any(|nominated| name.eq_ignore_ascii_case(nominated)) {
                continue;
            }
            if name.len() == 10 && is_ours(name) {
                continue;
            }
            if self.repeated.is_some() && name.eq_ignore_ascii_case(b"content-length") {
                if let Some(once) = repeated.take() {
                    show(name, once);
                }
                continue;
            }
            show(name, field.value);
        }
    }
}

const AMBIGUOUS: InvalidHead = InvalidHead("the answer's length is ambiguous");

fn rules() -> httparse::ParserConfig {
    let mut rules = httparse::ParserConfig::default();
    rules.allow_spaces_after_header_name_in_responses(true);
    rules
}

/// Whether a field that `Connection` names is passed on, or left out, whatever it says.
fn is_kept(name: &[u8]) -> bool {
    let known: [&[u8]; 2] = [b"content-length", b"upgrade"];
    known.iter().any(|known| name.eq_ignore_ascii_case(known))
}
