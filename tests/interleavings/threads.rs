//! Threads of the model.

use loom::thread::{Builder, JoinHandle};

/// Stack of a thread, bytes: the checker's own choice is for code that calls little.
const STACK: usize = 1 << 20;

/// A thread whose steps the checker puts in every order.
pub fn spawn<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().stack_size(STACK).spawn(act).unwrap()
}
