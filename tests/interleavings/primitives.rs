//! Floor 0 as the rooms see it here: the library's, but for what threads share.

pub use tollgate::primitives::*;

#[path = "../../src/primitives/rotation.rs"]
pub mod rotation;

/// What tests of the rooms stand on.
#[path = "../../src/primitives/corpus.rs"]
pub(crate) mod corpus;
#[path = "../../src/primitives/fuzzing.rs"]
pub mod fuzzing;

/// The model's atomics and locks, in the form of the real ones.
pub mod sync {
    use std::fmt;

    pub use loom::sync::MutexGuard;
    pub use loom::sync::atomic;

    /// A lock that is not poisoned by a panic, as the real one.
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    impl<T> fmt::Debug for Mutex<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Mutex")
        }
    }
}
