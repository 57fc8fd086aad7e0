//! The answer's way to the client. [`ResponseWriter`] is the one place where an answer is delimited, changed, counted,
//! paced, kept and ended, whoever gives it: an upstream, the configuration, a refusal.
//!
//! Files, from the bottom up: [`pacing`] says how fast, [`keep`] is the stage that keeps a last good answer, [`hook`] the one of a
//! filter that looks at a body, [`event`] what is said between stages, [`stage`] the list of them, [`plan`] what is done to one answer, [`writer`] does it, and
//! [`whole`] does all of it at once.

mod event;
mod hook;
mod keep;
mod pacing;
mod plan;
#[cfg(test)]
mod shout;
mod stage;
#[cfg(test)]
mod tests;
mod unfinished;
mod whole;
mod writer;

pub(super) use self::keep::KeepPlan;
pub(super) use self::pacing::Pacing;
pub(super) use self::plan::AnswerPlan;
pub(super) use self::unfinished::Unfinished;
pub(super) use self::writer::ResponseWriter;
