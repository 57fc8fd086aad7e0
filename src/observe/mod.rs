//! How the gateway is seen: metrics, logs, and the windows that `status` shows.
//!
//! The request path adds to atomics and fills one [`Record`]; everything that formats, sums or writes happens in the
//! background, so that being seen never delays a request.

mod access_log;
mod log_writer;
mod metrics;
pub mod stats;
mod windows;

pub use access_log::Record;
pub use log_writer::{LogHandle, LogSettings, install};
pub use metrics::{EndpointCounts, ListenerStats, Metrics};
pub use windows::{RouteWindows, Window, Windows};
