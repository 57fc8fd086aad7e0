//! How the gateway is seen: metrics, logs, and the windows that `status` shows.

pub mod stats;
