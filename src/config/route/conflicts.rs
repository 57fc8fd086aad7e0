//! What several routes do to each other: names that stand twice, routes that cannot be told apart.

use std::collections::{HashMap, HashSet};

use http::Method;

use super::{Matching, Route};
use crate::primitives::RouteName;
use crate::primitives::matcher::ValueMatch;

/// Makes names that were not given tell routes of one path apart: by their methods, else by a number. A route alone on
/// its path keeps the path as its name, so that another route elsewhere does not rename its metrics.
pub(in crate::config) fn name_routes(routes: &mut [Route]) {
    let mut taken: HashSet<String> = HashSet::with_capacity(routes.len());
    let mut paths: HashMap<String, usize> = HashMap::new();
    for route in &*routes {
        if route.named {
            taken.insert(route.name.to_string());
        } else {
            *paths.entry(route.name.to_string()).or_default() += 1;
        }
    }
    for route in routes.iter_mut().filter(|route| !route.named) {
        let path = route.name.to_string();
        let mut name = path.clone();
        if paths.get(&path).is_some_and(|count| *count > 1) && !route.matching.methods.is_empty() {
            let methods: Vec<&str> = route.matching.methods.iter().map(Method::as_str).collect();
            name = format!("{} {path}", methods.join(","));
        }
        let wanted = name.clone();
        let mut number = 1;
        while !taken.insert(name.clone()) {
            number += 1;
            name = format!("{wanted} #{number}");
        }
        route.name = RouteName::new(&name);
    }
}

/// Reports routes that cannot be told apart, and names that stand twice.
pub(in crate::config) fn check_conflicts(routes: &[Route], report: &mut dyn FnMut(usize, String)) {
    let mut names: HashMap<&str, usize> = HashMap::with_capacity(routes.len());
    let mut shapes: HashMap<String, Vec<usize>> = HashMap::with_capacity(routes.len());
    for (index, route) in routes.iter().enumerate() {
        if let Some(first) = names.insert(route.name.as_str(), index) {
            let place = &routes[first].location;
            report(
                index,
                format!(
                    "the id {:?} is taken by the route at {place}",
                    route.name.as_str()
                ),
            );
        }
        let same = shapes.entry(route.matching.path.shape()).or_default();
        for other in same.iter().map(|other| &routes[*other]) {
            if indistinct(route, other) {
                let message = format!(
                    "cannot be told apart from route {:?} at {}: same path, equally many predicates, none excludes the \
                     other; give one a higher `priority` or another predicate",
                    other.name.as_str(),
                    other.location
                );
                report(index, message);
                break;
            }
        }
        same.push(index);
    }
}

fn indistinct(a: &Route, b: &Route) -> bool {
    let (a, b) = (&a.matching, &b.matching);
    a.priority == b.priority && a.predicates() == b.predicates() && !excludes(a, b)
}

fn excludes(a: &Matching, b: &Matching) -> bool {
    let disjoint_methods = !a.methods.is_empty()
        && !b.methods.is_empty()
        && a.methods.iter().all(|m| {
            !b.methods.contains(m) && !admits_head(m, &b.methods) && !admits_head_of(m, &b.methods)
        });
    let disjoint_hosts = !a.hosts.is_empty()
        && !b.hosts.is_empty()
        && a.hosts
            .iter()
            .all(|x| b.hosts.iter().all(|y| x.excludes(y)));
    let other_scheme = a.scheme.zip(b.scheme).is_some_and(|(a, b)| a != b);
    disjoint_methods
        || disjoint_hosts
        || other_scheme
        || differ(&a.headers, &b.headers)
        || differ(&a.query, &b.query)
        || differ(&a.cookies, &b.cookies)
}

/// `GET` on one side takes `HEAD` too, unless the other names it: then the more literal wins by order of methods.
fn admits_head(method: &Method, others: &[Method]) -> bool {
    *method == Method::GET && others.contains(&Method::HEAD)
}

fn admits_head_of(method: &Method, others: &[Method]) -> bool {
    *method == Method::HEAD && others.contains(&Method::GET)
}

fn differ<K: PartialEq>(a: &[(K, ValueMatch)], b: &[(K, ValueMatch)]) -> bool {
    a.iter().any(|(name, value)| {
        b.iter()
            .any(|(other, wanted)| name == other && value.excludes(wanted))
    })
}
