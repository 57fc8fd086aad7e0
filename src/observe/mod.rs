//! How the gateway is seen: metrics, logs, and the windows that `status` shows.
//!
//! The request path adds to atomics and, once the answer is out, writes one line into a buffer; everything that sums or
//! makes a system call happens in the background, so that being seen never delays a request.

mod access_log;
mod breaker;
mod family;
mod hedge;
pub mod internal;
mod line_buffers;
mod log_writer;
mod metrics;
pub mod overload;
pub mod rollouts;
mod secrets;
pub mod stats;
mod windows;

pub use access_log::{Record, Timestamp, Try, TryEnd, TunnelEnd};
pub use breaker::{BreakerState, BreakerStats};
pub use hedge::{HedgeOutcome, HedgeStats};
pub use internal::{Internal, InternalStats};
pub use log_writer::{LogHandle, LogSettings, install};
pub use metrics::{EndpointCounts, ListenerStats, Metrics, TrialEnd};
pub use windows::{Sums, Windows, quantile};
