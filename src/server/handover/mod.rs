//! The life of the process beside others: taking over from the one before, serving, handing over to the next, and what is
//! carried from one to the other.

pub(in crate::server) mod carried;
pub(in crate::server) mod channel;
pub(in crate::server) mod doors;
mod first_format;
pub(in crate::server) mod inherited;
pub(in crate::server) mod life;
pub(in crate::server) mod notify;
pub(in crate::server) mod probe;
pub(in crate::server) mod quota_file;
pub(in crate::server) mod runtime_dir;
mod section_file;
pub(in crate::server) mod upgrade;
