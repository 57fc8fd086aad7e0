//! What came near a request that no route takes: for `explain`, not for serving.

use super::predicate::{Asked, ask};
use super::table::RouteTable;
use crate::config::Route;
use crate::primitives::template::Segment;

/// A route that came near, and why it lost.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Index of the route.
    pub index: usize,
    /// Why, in words.
    pub why: String,
}

impl RouteTable {
    /// For a request that found nothing: the routes that came nearest, best first, and why each lost. Looks at every
    /// route; meant for `explain`, not for serving.
    pub fn nearest(&self, asked: &Asked<'_>, most: usize) -> Vec<Loss> {
        let segments: Vec<&str> = asked.path[1..].split('/').collect();
        let mut losses: Vec<(usize, Loss)> = self
            .routes()
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
