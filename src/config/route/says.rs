//! What a route says, or its group for it.

use crate::config::document::{At, Document};
use crate::config::scope::Scope;

/// Where a group stands: its name, and its file.
#[derive(Clone, Copy)]
pub(in crate::config) struct GroupPlace<'r> {
    pub(in crate::config) name: &'r str,
    pub(in crate::config) document: &'r Document<'r>,
}

/// Keys of one kind that a route and its group can both have: the route's own wins. The merge of all of them.
pub(super) struct Says<'r, K> {
    /// The route's keys, and where the route stands.
    pub(super) own: &'r K,
    pub(super) at: &'r At<'r>,
    /// The group's keys.
    group: Option<(&'r K, GroupPlace<'r>)>,
}

impl<'r, K> Says<'r, K> {
    /// The keys of a route, and of its group, which stands there.
    pub(super) fn new(own: &'r K, at: &'r At<'r>, group: Option<(&'r K, GroupPlace<'r>)>) -> Self {
        Self { own, at, group }
    }

    /// The value of a key, wherever it stands.
    pub(super) fn get<V: 'r>(&self, of: impl Fn(&'r K) -> Option<&'r V>) -> Option<&'r V> {
        of(self.own).or_else(|| self.group.and_then(|(group, _)| of(group)))
    }

    /// Reads the value of a key with the place where it stands, so that a problem with it is shown there.
    pub(super) fn read<V: 'r, R>(
        &self,
        key: &str,
        of: impl Fn(&'r K) -> Option<&'r V>,
        scope: &mut Scope<'_>,
        read: impl FnOnce(&'r V, &At<'_>, &mut Scope<'_>) -> R,
    ) -> Option<R> {
        if let Some(value) = of(self.own) {
            return Some(read(value, &self.at.key(key), scope));
        }
        let (group, place) = self.group?;
        let value = of(group)?;
        let (table, mut scope) = (At::ROOT.key("group"), scope.of(place.document));
        Some(read(value, &table.key(place.name).key(key), &mut scope))
    }
}
