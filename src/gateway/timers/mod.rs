//! Time limits of an exchange, kept by one timer; both wires say what they wait for. Below whoever serves a connection.

mod alarm;
mod fault;
mod patience;
mod waits;

pub(super) use self::alarm::Alarm;
pub(super) use self::fault::Fault;
pub(super) use self::patience::Patience;
pub(super) use self::waits::Waits;
