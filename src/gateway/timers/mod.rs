//! Time limits of an exchange, kept by one timer; both wires say what they wait for. Below whoever serves a connection.

mod abort_reason;
mod exchange_timers;
mod shared_timer;
mod stall_timer;

pub(super) use self::abort_reason::AbortReason;
pub(super) use self::exchange_timers::ExchangeTimers;
pub(super) use self::shared_timer::SharedTimer;
pub(super) use self::stall_timer::StallTimer;
