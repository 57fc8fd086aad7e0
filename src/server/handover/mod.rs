//! The life of the process beside others: taking over from the one before, serving, handing over to the next.

pub(in crate::server) mod channel;
pub(in crate::server) mod doors;
pub(in crate::server) mod inherited;
pub(in crate::server) mod life;
pub(in crate::server) mod notify;
pub(in crate::server) mod runtime_dir;
pub(in crate::server) mod upgrade;
