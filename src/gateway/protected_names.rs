//! Names of headers that only the gateway may set.

use http::HeaderName;

/// Names of headers, asked about for every header of every request. Most differ in length from all of them.
#[derive(Debug)]
pub struct ProtectedNames {
    names: Vec<HeaderName>,
    /// Bit n: some name has n bytes; the last bit stands for all longer ones.
    lengths: u64,
}

impl ProtectedNames {
    pub(super) fn new(names: Vec<HeaderName>) -> Self {
        let lengths = names.iter().fold(0, |bits, name| bits | length_bit(name));
        Self { names, lengths }
    }

    /// Whether `name` is one of them.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.lengths & length_bit(name) != 0 && self.names.contains(name)
    }

    /// All of them.
    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }
}

/// One bit for the length of a name: names of other lengths cannot be equal. The last bit stands for all longer ones.
pub(super) fn length_bit(name: &HeaderName) -> u64 {
    1 << name.as_str().len().min(63)
}
