//! What the code that threads share is made of.
//!
//! The files that promise something about threads take their atomics and locks from here, and not from where these come
//! from: `tests/interleavings` compiles the same files with a model's types in this place, and takes them through the
//! orders in which threads can meet.

pub use std::sync::atomic;

pub use parking_lot::{Mutex, MutexGuard};
