//! Messages as every protocol has them: the head of an answer, how its body is delimited, and the fields that the gateway
//! adds. How they look on a wire is said in [`http1`](super::http1) and [`http2`](super::http2).

mod fields;
mod framing;
mod head;

pub(crate) use self::fields::{
    GatewayHeaders, each_final, each_informational, strip_trailers, whole_seconds,
};
pub(crate) use self::framing::{BodyFraming, BodySize};
pub(crate) use self::head::{AnswerHead, InvalidHead, has_no_body, is_ours, is_status, to_header};
