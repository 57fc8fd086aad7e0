//! The room that observes: the library's, and its buffers of lines with the model's locks.

pub use tollgate::observe::*;

#[path = "../../src/observe/access_log.rs"]
pub mod access_log;
#[path = "../../src/observe/line_buffers.rs"]
pub mod line_buffers;
// What it promises is private to it, so its model is in here.
pub mod lines;
