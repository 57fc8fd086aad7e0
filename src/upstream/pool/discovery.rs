//! What a pool makes of what its source finds.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Pool;
use crate::config::EndpointAddress;
use crate::upstream::source::Discovery;

impl Pool {
    /// Takes over what its source found; says whether that changed anything. Never an empty list: it would empty the pool
    /// on a resolver's bad day. Nor one in which less than `min_keep`, a part of 1, of the endpoints in use is left.
    pub(in crate::upstream) fn follow(&self, found: &Discovery, min_keep: f64, now: u64) -> bool {
        self.failure.lock().clone_from(&found.failure);
        let mut discovered = self.discovered.lock();
        if found.endpoints.is_empty() || *discovered == found.endpoints {
            return false;
        }
        if min_keep > 0.0 && !discovered.is_empty() {
            let there = found.endpoints.iter();
            let there: HashSet<_> = there.map(|one| (&one.label, &one.address)).collect();
            let known = discovered.iter();
            let kept = known.filter(|one| there.contains(&(&one.label, &one.address)));
            let (kept, all) = (kept.count(), discovered.len());
            if (kept as f64) < min_keep * all as f64 {
                let why = format!("only {kept} of {all} endpoints would stay");
                log::warn!(upstream = self.settings.name.as_str();
                    "what was found is not used, known endpoints stay in use: {why}");
                *self.failure.lock() = Some(why);
                return false;
            }
        }
        discovered.clone_from(&found.endpoints);
        drop(discovered);
        self.gather(now);
        true
    }

    /// Why its source failed when it looked last; `None` when it did not.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Whether a name is still without an address.
    pub fn unresolved(&self) -> bool {
        let resolved = self.resolved();
        let names = self.names();
        names.iter().any(|host| !resolved.contains_key(*host))
    }

    /// Names that stand for endpoints.
    pub fn names(&self) -> Vec<&str> {
        let named = self.named().map(|(host, _)| host);
        let mut names: Vec<&str> = named.collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The addresses of names, as far as they are known.
    pub(in crate::upstream) fn resolved(&self) -> HashMap<String, Vec<IpAddr>> {
        let discovered = Arc::clone(&self.discovered.lock());
        let mut resolved = HashMap::new();
        for (host, label) in self.named() {
            let at = discovered.iter().filter(|one| *one.label == *label);
            let at: Vec<IpAddr> = at
                .filter_map(|one| one.address.inet().map(|address| address.ip()))
                .collect();
            if !at.is_empty() {
                resolved.insert(host.to_owned(), at);
            }
        }
        resolved
    }

    /// Endpoints that are configured by name: the host, and the label.
    fn named(&self) -> impl Iterator<Item = (&str, String)> {
        let endpoints = self.settings.endpoints.iter();
        endpoints.filter_map(|endpoint| match &endpoint.address {
            EndpointAddress::Named(host, _) => Some((host.as_str(), endpoint.address.to_string())),
            EndpointAddress::Fixed(_) => None,
        })
    }
}
