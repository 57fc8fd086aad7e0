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

/// A route that came near, and why it lost.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Index of the route.
    pub index: usize,
    /// Why, in words.
    pub why: String,
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

    /// For a request that found nothing: the routes that came nearest, best first, and why each lost. Looks at every
    /// route; meant for `explain`, not for serving.
    pub fn nearest(&self, asked: &Asked<'_>, most: usize) -> Vec<Loss> {
        let segments: Vec<&str> = asked.path[1..].split('/').collect();
        let mut losses: Vec<(usize, Loss)> = self
            .routes
            .iter()
            .enumerate()
            .map(|(index, route)| near(index, route, &segments, asked))
            .collect();
        losses.retain(|(score, _)| *score > 0);
        losses.sort_by_key(|(score, loss)| (std::cmp::Reverse(*score), loss.index));
        losses
            .into_iter()
            .take(most)
            .map(|(_, loss)| loss)
            .collect()
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

/// How near `route` came: agreeing segments count, then the kind of failure.
fn near(index: usize, route: &Route, segments: &[&str], asked: &Asked<'_>) -> (usize, Loss) {
    let agrees = |(template, segment): (&Segment, &&str)| match template {
        Segment::Literal(text) => text == segment,
        Segment::Param(_) => !segment.is_empty(),
    };
    let agreeing = route
        .matching
        .path
        .segments
        .iter()
        .zip(segments)
        .take_while(|pair| agrees(*pair))
        .count();
    let literal = route.matching.path.segments[..agreeing]
        .iter()
        .filter(|s| matches!(s, Segment::Literal(_)))
        .count();
    let whole = agreeing == route.matching.path.segments.len()
        && (agreeing == segments.len() || route.matching.path.tail.is_some());
    if whole {
        let why = match ask(route, asked) {
            Ok(()) => "accepts the request, but a more specific route took it".to_owned(),
            Err(failed) => failed.describe(route),
        };
        return (1000 + literal, Loss { index, why });
    }
    let why = match (
        route.matching.path.segments.get(agreeing),
        segments.get(agreeing),
    ) {
        (Some(Segment::Literal(wanted)), Some(found)) => {
            let hint = if strsim::damerau_levenshtein(wanted, found) <= 2 {
                " (a misspelling?)"
            } else {
                ""
            };
            format!(
                "segment {} is {found:?}, the route wants {wanted:?}{hint}",
                agreeing + 1
            )
        }
        (Some(_), _) => format!("the path ends after {agreeing} segments, the route goes on"),
        (None, _) => format!("the route ends after {agreeing} segments, the path goes on"),
    };
    let spelling = why.contains("misspelling");
    (
        if literal > 0 || spelling {
            1 + literal * 2 + usize::from(spelling)
        } else {
            0
        },
        Loss { index, why },
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::config::{self, Scheme, Source};

    fn table(routes: &str) -> RouteTable {
        let text = format!("[[listener]]\naddress = \"127.0.0.1:8080\"\n{routes}");
        let source = Source {
            file: "t.toml".into(),
            text: text.into(),
        };
        let config =
            config::load(&[source], &|_| Ok(None)).unwrap_or_else(|problems| panic!("{problems}"));
        RouteTable::new(config.routes)
    }

    fn route(path: &str, more: &str) -> String {
        let id = format!("{path} {more}")
            .replace('"', "'")
            .replace('\n', " ");
        format!(
            "[[route]]\nid = \"{id}\"\npath = \"{path}\"\nrespond = {{ status = 200 }}\n{more}\n"
        )
    }

    fn find(table: &RouteTable, method: &str, host: &str, path: &str) -> Result<String, Miss> {
        let method = Method::from_bytes(method.as_bytes()).expect("method");
        let asked = Asked {
            method: &method,
            host,
            path,
            scheme: Scheme::Https,
            query: None,
            headers: &HeaderMap::new(),
        };
        table.find(&asked).map(|found| {
            let captures: Vec<&str> = found.captures(path).collect();
            format!(
                "{} [{}]",
                table.routes()[found.index].matching.path,
                captures.join(",")
            )
        })
    }

    #[test]
    fn the_more_specific_path_wins_segment_by_segment() {
        let all = [
            "/a/b",
            "/a/{x}",
            "/a/**",
            "/{y}/b",
            "/**",
            "/a/{x}/c",
            "/a/b/{*rest}",
        ];
        let table = table(&all.map(|path| route(path, "")).concat());
        for (path, expected) in [
            ("/a/b", "/a/b []"),
            ("/a/z", "/a/{x} [z]"),
            ("/a", "/a/** []"),
            ("/a/", "/a/** []"),
            ("/a/z/q", "/a/** [z/q]"),
            ("/a/b/c", "/a/b/{*rest} [c]"),
            ("/a/z/c", "/a/{x}/c [z]"),
            ("/q/b", "/{y}/b [q]"),
            ("/q", "/** [q]"),
            ("/", "/** []"),
        ] {
            assert_eq!(
                find(&table, "GET", "", path).as_deref(),
                Ok(expected),
                "{path}"
            );
        }
    }

    #[test]
    fn falls_back_to_a_less_specific_route_that_accepts() {
        let routes = [
            route("/a/b", "methods = [\"POST\"]"),
            route("/a/**", "methods = [\"GET\"]"),
        ]
        .concat();
        let table = table(&routes);
        assert_eq!(find(&table, "GET", "", "/a/b").as_deref(), Ok("/a/** [b]"));
        assert_eq!(find(&table, "HEAD", "", "/a/b").as_deref(), Ok("/a/** [b]"));
        assert_eq!(find(&table, "POST", "", "/a/b").as_deref(), Ok("/a/b []"));
        let miss = find(&table, "DELETE", "", "/a/b");
        assert_eq!(
            miss,
            Err(Miss::MethodNotAllowed("GET, HEAD, POST".to_owned()))
        );
        assert_eq!(find(&table, "GET", "", "/b"), Err(Miss::NotFound));
    }

    #[test]
    fn more_predicates_win_then_priority() {
        let routes = [
            route("/a", ""),
            route("/a", "hosts = [\"x.example\"]"),
            route("/a", "hosts = [\"*.example\"]\npriority = 5"),
        ]
        .concat();
        let table = table(&routes);
        let by = |host| {
            let asked = Asked {
                method: &Method::GET,
                host,
                path: "/a",
                scheme: Scheme::Https,
                query: None,
                headers: &HeaderMap::new(),
            };
            table.find(&asked).map(|found| found.index).ok()
        };
        assert_eq!(by("other"), Some(0));
        assert_eq!(by("x.example"), Some(2));
        assert_eq!(by("y.example"), Some(2));
    }

    #[test]
    fn finds_one_of_many_hosts() {
        let routes: String = (0..500)
            .map(|i| route("/a", &format!("hosts = [\"h{i}.example\"]")))
            .collect();
        let table = table(&routes);
        let asked = Asked {
            method: &Method::GET,
            host: "h321.example",
            path: "/a",
            scheme: Scheme::Https,
            query: None,
            headers: &HeaderMap::new(),
        };
        assert_eq!(table.find(&asked).map(|found| found.index).ok(), Some(321));
    }

    #[test]
    fn names_the_nearest_routes_and_why_they_lost() {
        let table = table(
            &[
                route("/users/{id}", "methods = [\"POST\"]"),
                route("/orders", ""),
            ]
            .concat(),
        );
        let asked = Asked {
            method: &Method::GET,
            host: "",
            path: "/users/7",
            scheme: Scheme::Https,
            query: None,
            headers: &HeaderMap::new(),
        };
        let losses = table.nearest(&asked, 3);
        assert_eq!(losses.len(), 1);
        assert!(losses[0].why.contains("method"), "{}", losses[0].why);
        let asked = Asked {
            path: "/order",
            scheme: Scheme::Https,
            ..asked
        };
        assert!(table.nearest(&asked, 3)[0].why.contains("misspelling"));
    }
}
