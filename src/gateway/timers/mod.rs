//! Every time limit of an exchange, below whatever carries it: [`Waits`] holds the limits, [`Patience`] one of them, and
//! [`Alarm`] the one timer that serves all.

mod alarm;
mod patience;
mod waits;

pub(super) use self::alarm::Alarm;
pub(super) use self::patience::Patience;
pub(super) use self::waits::{Fault, Waits};
