//! Entries of which there is one for each name, however many ask for it, and which nobody sees before they are registered.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

/// Fewest waiting names before those are looked for that nobody holds any more.
const FEW: usize = 16;

/// A table with one entry for each name.
///
/// A new entry waits: it belongs to those who asked for it, and goes with the last of them. Who asks meanwhile gets the same
/// one. Once it is [registered](Self::register) it belongs to the table, and stays until [`keep`](Self::keep) lets it go.
pub struct Interned<K, V> {
    known: BTreeMap<K, Arc<V>>,
    waiting: BTreeMap<K, Weak<V>>,
    /// So many wait before those are dropped that nobody holds any more.
    swept_at: usize,
}

impl<K: Ord, V> Interned<K, V> {
    /// The entry of a name, registered or waiting; `new` waits from now on when there is none.
    pub fn find_or(&mut self, name: K, new: impl FnOnce(&K) -> V) -> Arc<V> {
        if let Some(found) = self.find(&name) {
            return found;
        }
        if self.waiting.len() >= self.swept_at.max(FEW) {
            self.sweep();
            self.swept_at = self.waiting.len() * 2;
        }
        let entry = Arc::new(new(&name));
        self.waiting.insert(name, Arc::downgrade(&entry));
        entry
    }

    /// The entry of a name, registered or waiting.
    pub fn find(&self, name: &K) -> Option<Arc<V>> {
        let known = self.known.get(name).cloned();
        known.or_else(|| self.waiting.get(name)?.upgrade())
    }

    /// Registers the entry that waits under this name, if one does; says which is registered now.
    pub fn register<Q>(&mut self, name: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        if let Some((name, entry)) = self.waiting.remove_entry(name)
            && let Some(entry) = entry.upgrade()
        {
            self.known.insert(name, entry);
        }
        self.known.get(name)
    }

    /// Registers `new` under a name that nobody asked for yet; says which entry is registered now.
    pub fn register_or(&mut self, name: &K, new: impl FnOnce(&K) -> V) -> Arc<V>
    where
        K: Clone,
    {
        let entry = self.find_or(name.clone(), new);
        self.register(name);
        entry
    }

    /// The registered entries by their names.
    pub fn known(&self) -> &BTreeMap<K, Arc<V>> {
        &self.known
    }

    /// Every entry, the waiting ones included.
    pub fn each(&self) -> impl Iterator<Item = (&K, Arc<V>)> {
        let waiting = self.waiting.iter();
        let waiting = waiting.filter_map(|(name, entry)| Some((name, entry.upgrade()?)));
        let known = self.known.iter();
        known
            .map(|(name, entry)| (name, Arc::clone(entry)))
            .chain(waiting)
    }

    /// Forgets what nobody holds, but for registered entries that are `wanted`.
    pub fn keep(&mut self, mut wanted: impl FnMut(&K, &Arc<V>) -> bool) {
        self.known
            .retain(|name, entry| Arc::strong_count(entry) > 1 || wanted(name, entry));
        self.sweep();
    }

    /// Forgets what nobody holds.
    pub fn prune(&mut self) {
        self.keep(|_, _| false);
    }

    fn sweep(&mut self) {
        self.waiting.retain(|_, entry| entry.strong_count() > 0);
    }
}

impl<K, V> Default for Interned<K, V> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            waiting: BTreeMap::new(),
            swept_at: 0,
        }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Interned<K, V> {
    /// Shows what is registered.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.known.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_waits_is_seen_by_those_who_ask_alone() {
        let mut table = Interned::default();
        let first = table.find_or("a", |_| 1);
        assert!(Arc::ptr_eq(&first, &table.find_or("a", |_| 2)));
        assert!(table.known().is_empty());
        drop(first);
        assert!(table.find(&"a").is_none());
        assert!(table.register(&"a").is_none());
        assert_eq!(*table.find_or("a", |_| 3), 3);
    }

    #[test]
    fn two_who_asked_agree_on_the_entry_that_one_of_them_registers() {
        let mut table = Interned::default();
        let [one, other] = [1, 2].map(|number| table.find_or("a", |_| number));
        table.register(&"a");
        table.register(&"a");
        assert!(table.known().values().any(|known| Arc::ptr_eq(known, &one)));
        drop(one);
        table.prune();
        assert_eq!(table.known().len(), 1, "the other one holds it");
        drop(other);
        table.keep(|name, _| *name == "a");
        assert_eq!(table.known().len(), 1, "wanted");
        table.prune();
        assert!(table.known().is_empty());
    }

    #[test]
    fn names_that_nobody_holds_any_more_do_not_add_up() {
        let mut table = Interned::default();
        let held = table.find_or(0, |_| ());
        for number in 1..10_000 {
            table.find_or(number, |_| ());
            assert!(table.waiting.len() <= FEW, "{}", table.waiting.len());
        }
        assert!(Arc::ptr_eq(&held, &table.find_or(0, |_| ())));
    }
}
