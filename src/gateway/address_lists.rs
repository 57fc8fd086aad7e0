//! Address lists made ready: their files read once, and lists that are equal kept once, however many routes have them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;

use super::material::Material;
use crate::auth::IpRules;
use crate::config::{AddressList, Config, ListFile, Problem};
use crate::primitives::ListenerName;
use crate::primitives::ranges::AddressRanges;

/// Lists by what they consist of.
type Known = HashMap<(Vec<IpNet>, Vec<PathBuf>), Arc<AddressRanges>>;

/// Reads lists, and remembers them while a snapshot is built.
pub(super) struct AddressLists<'m> {
    material: &'m dyn Material,
    known: Known,
    files: HashMap<PathBuf, Arc<Vec<IpNet>>>,
    problems: Vec<Problem>,
}

impl<'m> AddressLists<'m> {
    pub(super) fn new(material: &'m dyn Material) -> Self {
        Self {
            material,
            known: HashMap::new(),
            files: HashMap::new(),
            problems: Vec::new(),
        }
    }

    /// What was wrong with files.
    pub(super) fn problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }

    /// Reads everything that `config` names, so that all its problems show.
    pub(super) fn read_all(&mut self, config: &Config) {
        for listener in &config.listeners {
            self.rules(listener.allow_ips.as_ref(), &listener.deny_ips);
        }
        for route in config.routes.iter() {
            self.rules(route.access.allow_ips.as_ref(), &route.access.deny_ips);
            if let Some(maintenance) = &route.policies.maintenance {
                self.ranges(&maintenance.allow_ips);
            }
        }
    }

    /// Rules of a listener or a route; `None` when they say nothing.
    pub(super) fn rules(
        &mut self,
        allow: Option<&AddressList>,
        deny: &AddressList,
    ) -> Option<IpRules> {
        let allow = allow.map(|list| self.ranges(list));
        IpRules::new(allow, self.ranges(deny))
    }

    /// The listeners that do not let everybody in.
    pub(super) fn of_listeners(&mut self, config: &Config) -> HashMap<ListenerName, Arc<IpRules>> {
        let mut rules = HashMap::new();
        for listener in &config.listeners {
            if let Some(found) = self.rules(listener.allow_ips.as_ref(), &listener.deny_ips) {
                rules.insert(listener.name.clone(), Arc::new(found));
            }
        }
        rules
    }

    /// The addresses of a list.
    pub(super) fn ranges(&mut self, list: &AddressList) -> Arc<AddressRanges> {
        let paths = list.files.iter().map(|file| file.path.clone()).collect();
        let key = (list.networks.clone(), paths);
        if let Some(known) = self.known.get(&key) {
            return Arc::clone(known);
        }
        let mut networks = list.networks.clone();
        for file in &list.files {
            networks.extend_from_slice(&self.listed(file));
        }
        let ranges = Arc::new(AddressRanges::new(networks));
        self.known.insert(key, Arc::clone(&ranges));
        ranges
    }

    /// What a file lists; nothing when it cannot be read, which is a problem of its own.
    fn listed(&mut self, file: &ListFile) -> Arc<Vec<IpNet>> {
        if let Some(known) = self.files.get(&file.path) {
            return Arc::clone(known);
        }
        let networks = read(self.material, &file.path).unwrap_or_else(|why| {
            self.problems.push(file.problem(&why));
            Vec::new()
        });
        let networks = Arc::new(networks);
        self.files.insert(file.path.clone(), Arc::clone(&networks));
        networks
    }
}

fn read(material: &dyn Material, path: &std::path::Path) -> Result<Vec<IpNet>, String> {
    let bytes = material.file(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "is no text".to_owned())?;
    AddressRanges::parse_list(text)
}
