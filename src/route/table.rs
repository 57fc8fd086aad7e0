//! The table: a tree of path segments whose leaves hold the routes of one path shape, best first.

use std::sync::Arc;

use std::collections::BTreeSet;

use http::Method;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::predicate::{Asked, Failed, ask};
use super::preflight::{Fit, fit};
use crate::config::{HostPattern, Route};
use crate::primitives::template::Segment;

/// Where a captured value stands in the path.
pub(super) type Span = (u32, u32);
/// Captures of one match, in the order of `PathTemplate::captures`.
pub(super) type Spans = SmallVec<[Span; 6]>;

/// All routes, ready to be asked.
#[derive(Debug)]
pub struct RouteTable {
    routes: Arc<[Route]>,
    nodes: Vec<Node>,
    /// Some route leaves slashes as they are.
    keeps_slashes: bool,
}

/// A point in the tree: what was read so far.
#[derive(Debug, Default)]
struct Node {
    literals: FxHashMap<Box<str>, u32>,
    param: Option<u32>,
    exact: Leaf,
    tail: Leaf,
}

/// Routes that end at a node, best first. With many of them those bound to hosts are found by host.
#[derive(Debug, Default)]
struct Leaf {
    any_host: Vec<u32>,
    by_host: FxHashMap<Box<str>, Vec<u32>>,
}

/// A match.
#[derive(Clone, Debug)]
pub struct Found {
    /// Index of the route in [`RouteTable::routes`].
    pub index: usize,
    spans: Spans,
}

impl Found {
    /// The captured values, in the order of the template.
    pub fn captures<'p>(&self, path: &'p str) -> impl Iterator<Item = &'p str> {
        self.spans
            .iter()
            .map(move |(start, end)| &path[*start as usize..*end as usize])
    }
}

/// No match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No route takes the path.
    NotFound,
    /// Only the method stood in the way: the value of `Allow`.
    MethodNotAllowed(String),
}

impl RouteTable {
    /// Builds the table. Conflicts were refused when the configuration was validated.
    pub fn new(routes: Arc<[Route]>) -> Self {
        let mut table = Self {
            routes: Arc::from([]),
            nodes: vec![Node::default()],
            keeps_slashes: routes
                .iter()
                .any(|route| route.matching.keeps_encoded_slash || !route.matching.merges_slashes),
        };
        let mut order: Vec<u32> = (0..routes.len() as u32).collect();
        order.sort_by(|a, b| {
            let (a, b) = (&routes[*a as usize], &routes[*b as usize]);
            b.matching
                .predicates()
                .cmp(&a.matching.predicates())
                .then(b.matching.priority.cmp(&a.matching.priority))
                .then(head_first(b, a))
        });
        for (rank, index) in order.iter().enumerate() {
            table.insert(&routes[*index as usize], *index, rank);
        }
        table.routes = routes;
        table
    }

    /// The routes in file order.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Whether some route leaves `%2F` or `//` as they are.
    pub fn keeps_slashes(&self) -> bool {
        self.keeps_slashes
    }

    /// The routes in the order in which they are tried for a path that all would match.
    pub fn in_match_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.routes.len()).collect();
        order.sort_by_cached_key(|index| {
            let route = &self.routes[*index];
            let mut shape: Vec<(u8, String)> = Vec::new();
            for segment in &route.matching.path.segments {
                shape.push(match segment {
                    Segment::Literal(text) => (0, text.clone()),
                    Segment::Param(_) => (1, String::new()),
                });
            }
            shape.push((
                if route.matching.path.tail.is_some() {
                    3
                } else {
                    2
                },
                String::new(),
            ));
            (
                shape,
                std::cmp::Reverse(route.matching.predicates()),
                std::cmp::Reverse(route.matching.priority),
                *index,
            )
        });
        order
    }

    fn insert(&mut self, route: &Route, index: u32, _rank: usize) {
        let mut at = 0;
        for segment in &route.matching.path.segments {
            let next = self.nodes.len() as u32;
            let node = &mut self.nodes[at];
            let child = match segment {
                Segment::Literal(text) => {
                    *node.literals.entry(text.as_str().into()).or_insert(next)
                }
                Segment::Param(_) => *node.param.get_or_insert(next),
            };
            if child == next {
                self.nodes.push(Node::default());
            }
            at = child as usize;
        }
        let node = &mut self.nodes[at];
        let leaf = if route.matching.path.tail.is_some() {
            &mut node.tail
        } else {
            &mut node.exact
        };
        leaf.insert(route, index);
    }

    /// The most specific route that accepts the request.
    pub fn find(&self, asked: &Asked<'_>) -> Result<Found, Miss> {
        let mut walk = Walk {
            table: self,
            asked,
            spans: Spans::new(),
            allow: BTreeSet::new(),
            announced: None,
        };
        let found = walk.node(0, Some(1));
        if let Some(announced) = walk.announced.take()
            && announced.is_better(found.map(|index| &self.routes[index as usize]))
        {
            return Ok(announced.found);
        }
        match found {
            Some(index) => Ok(Found {
                index: index as usize,
                spans: walk.spans,
            }),
            None if walk.allow.is_empty() => Err(Miss::NotFound),
            None => Err(Miss::MethodNotAllowed(
                walk.allow.into_iter().collect::<Vec<_>>().join(", "),
            )),
        }
    }
}

/// Of two routes equal in all else, one that names `HEAD` is asked before one that admits it through `GET`.
fn head_first(a: &Route, b: &Route) -> std::cmp::Ordering {
    a.matching
        .methods
        .contains(&Method::HEAD)
        .cmp(&b.matching.methods.contains(&Method::HEAD))
}

impl Leaf {
    fn insert(&mut self, route: &Route, index: u32) {
        let exact_only = !route.matching.hosts.is_empty()
            && route
                .matching
                .hosts
                .iter()
                .all(|h| matches!(h, HostPattern::Exact(_)));
        if !exact_only {
            self.any_host.push(index);
            return;
        }
        for host in &route.matching.hosts {
            if let HostPattern::Exact(name) = host {
                self.by_host
                    .entry(name.as_str().into())
                    .or_default()
                    .push(index);
            }
        }
    }
}

struct Walk<'w> {
    table: &'w RouteTable,
    asked: &'w Asked<'w>,
    spans: Spans,
    allow: BTreeSet<&'w str>,
    /// Of a preflight: the best route that may be the one, but need not.
    announced: Option<Box<Announced>>,
}

/// A route that may take what a preflight announces.
struct Announced {
    fit: Fit,
    found: Found,
}

impl Announced {
    /// Whether it answers in place of the route that takes the preflight itself. That one does when it has rules to answer
    /// by, or when what was announced speaks against the other.
    fn is_better(&self, other: Option<&Route>) -> bool {
        match other {
            Some(other) => other.transform.cors.is_none() && self.fit > Fit::Poor,
            None => true,
        }
    }
}

impl Walk<'_> {
    /// Looks below `node` for what is left of the path from `start`; `None` means the path is read.
    fn node(&mut self, node: usize, start: Option<usize>) -> Option<u32> {
        let table = self.table;
        let node = &table.nodes[node];
        let path = self.asked.path;
        let Some(start) = start else {
            return self
                .leaf(&node.exact, None)
                .or_else(|| self.tail(&node.tail, path.len()));
        };
        let end = path[start..].find('/').map_or(path.len(), |at| start + at);
        let next = (end < path.len()).then_some(end + 1);
        let segment = &path[start..end];
        if let Some(child) = node.literals.get(segment)
            && let Some(found) = self.node(*child as usize, next)
        {
            return Some(found);
        }
        if let Some(child) = node.param.filter(|_| !segment.is_empty()) {
            self.spans.push((start as u32, end as u32));
            if let Some(found) = self.node(child as usize, next) {
                return Some(found);
            }
            self.spans.pop();
        }
        self.tail(&node.tail, start)
    }

    fn tail(&mut self, leaf: &Leaf, start: usize) -> Option<u32> {
        let span = (start as u32, self.asked.path.len() as u32);
        let found = self.leaf(leaf, Some(span))?;
        self.spans.push(span);
        Some(found)
    }

    /// The best route of `leaf` that accepts the request; `tail` is the rest of the path, where it takes that.
    fn leaf(&mut self, leaf: &Leaf, tail: Option<Span>) -> Option<u32> {
        if leaf.by_host.is_empty() {
            return leaf
                .any_host
                .iter()
                .copied()
                .find(|index| self.accepts(*index, tail));
        }
        let bound = leaf
            .by_host
            .get(self.asked.host)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut any = leaf.any_host.iter().copied().peekable();
        let mut bound = bound.iter().copied().peekable();
        loop {
            let index = match (bound.peek(), any.peek()) {
                (Some(b), Some(a)) if self.better(*a, *b) => any.next(),
                (Some(_), _) => bound.next(),
                (None, _) => any.next(),
            }?;
            if self.accepts(index, tail) {
                return Some(index);
            }
        }
    }

    fn better(&self, a: u32, b: u32) -> bool {
        let key = |index: u32| {
            let route = &self.table.routes[index as usize];
            (route.matching.predicates(), route.matching.priority)
        };
        key(a) > key(b)
    }

    fn accepts(&mut self, index: u32, tail: Option<Span>) -> bool {
        let route = &self.table.routes[index as usize];
        match ask(route, self.asked) {
            Ok(()) => true,
            Err(Failed::Method) => {
                self.allow
                    .extend(route.matching.methods.iter().map(Method::as_str));
                if route.matching.methods.contains(&Method::GET) {
                    self.allow.insert("HEAD");
                }
                false
            }
            Err(Failed::Header(_) | Failed::Cookie(_)) => self.is_announced(index, tail),
            Err(_) => false,
        }
    }

    /// Whether the request is a preflight of one that the route takes; where that is open the route is kept in mind.
    fn is_announced(&mut self, index: u32, tail: Option<Span>) -> bool {
        let Some(fit) = fit(&self.table.routes[index as usize], self.asked) else {
            return false;
        };
        let known = self.announced.as_ref().map(|announced| announced.fit);
        if fit < Fit::Good && known < Some(fit) {
            let mut spans = self.spans.clone();
            spans.extend(tail);
            let index = index as usize;
            let found = Found { index, spans };
            self.announced = Some(Box::new(Announced { fit, found }));
        }
        fit == Fit::Good
    }
}

#[cfg(test)]
mod tests;
