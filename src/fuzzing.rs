//! What the targets of `fuzz/` call: each parser that meets a client's bytes, or what a process before left, and what must
//! hold of whatever it says. Not part of any build but theirs. The same checks are made by ordinary tests with the files of `tests/fixtures/corpus/`.

pub use crate::auth::signature::fuzzing::signature;
pub use crate::gateway::fuzzing::{forwarded_for, head};
pub use crate::primitives::fuzzing::{path, proxy_header};
pub use crate::primitives::sections::fuzzing::sections;
