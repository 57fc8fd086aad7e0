//! Paths with `%2F` or `//`, on routes that leave them as they are.
//!
//! Whoever gets such a path may read it in another way than the gateway: `%2F` as a slash, `//` as one. It must not get to
//! anything by that which the gateway guards by another rule. So every other reading of what goes out is looked up as well,
//! and has to lead to the same route, or to none.

use super::decide;
use crate::filter::Refusal;
use crate::primitives::path::{self, Ambiguous, Encoded, Slashes};
use crate::route::{Asked, Found, Miss, RouteTable};

/// Whether a path is one that others may read differently.
pub(super) fn are_doubtful(path: &str) -> bool {
    path::has_double_slash(path) || path::has_encoded_slash(path)
}

/// The path as it goes out, and the route that takes it; `raw` [is doubtful](are_doubtful).
pub(super) fn place(
    raw: &str,
    table: &RouteTable,
    asked: &Asked<'_>,
) -> Result<(String, Found), Refusal> {
    let encoded = path::has_encoded_slash(raw);
    let places = Places { raw, table, asked };
    let own = match places.own(false)? {
        Some(own) => own,
        None => match places.own(true)? {
            Some(own) => own,
            // As on routes that say nothing of it.
            None if encoded => return Err(decide::ambiguous(Ambiguous::HiddenSeparator)),
            None => return Err(places.merged_miss()),
        },
    };
    let mut others = Vec::new();
    if !own.merged {
        others.push((Encoded::Keep, true));
    }
    if encoded {
        others.extend([(Encoded::Decode, true), (Encoded::Decode, false)]);
    }
    for (encoded, merge) in others {
        places.leads_nowhere_else(Slashes { encoded, merge }, &own.found)?;
    }
    Ok((own.path, own.found))
}

/// A path that is looked up in several readings.
struct Places<'p> {
    raw: &'p str,
    table: &'p RouteTable,
    asked: &'p Asked<'p>,
}

/// A reading that a route takes as it is.
struct Own {
    path: String,
    found: Found,
    merged: bool,
}

impl Places<'_> {
    fn find(&self, path: &str) -> Result<Found, Miss> {
        self.table.find(&Asked {
            path,
            ..*self.asked
        })
    }

    fn read(&self, slashes: Slashes) -> Result<String, Ambiguous> {
        path::read(self.raw, slashes).map(|path| path.into_owned())
    }

    /// The path as a route would send it that merges slashes or does not, if the route that it leads to is one. That is
    /// asked of the most specific route alone: another would pass by the rules of that one.
    fn own(&self, merged: bool) -> Result<Option<Own>, Refusal> {
        let slashes = Slashes {
            encoded: Encoded::Keep,
            merge: merged,
        };
        let path = match self.read(slashes) {
            Ok(path) => path,
            // Merged first, dot segments mean what they always do.
            Err(Ambiguous::DotsBesideSlashes) if !merged => return Ok(None),
            Err(why) => return Err(decide::ambiguous(why)),
        };
        let Ok(found) = self.find(&path) else {
            return Ok(None);
        };
        let route = &self.table.routes()[found.index];
        let merges = !path::has_double_slash(self.raw) || route.matching.merges_slashes == merged;
        let keeps = !path::has_encoded_slash(self.raw) || route.matching.keeps_encoded_slash;
        Ok((merges && keeps).then_some(Own {
            path,
            found,
            merged,
        }))
    }

    fn leads_nowhere_else(&self, slashes: Slashes, own: &Found) -> Result<(), Refusal> {
        let path = self.read(slashes).map_err(decide::ambiguous)?;
        match self.find(&path) {
            Ok(found) if found.index == own.index => Ok(()),
            // Nobody takes it, so there is no rule that it could pass by.
            Err(Miss::NotFound) => Ok(()),
            _ => Err(decide::ambiguous(Ambiguous::OtherRoute)),
        }
    }

    /// Why a path with `//` is not taken, where no route takes it as it stands.
    fn merged_miss(&self) -> Refusal {
        let slashes = Slashes {
            encoded: Encoded::Keep,
            merge: true,
        };
        match self.read(slashes).map(|path| self.find(&path)) {
            Ok(Err(miss)) => decide::missed(miss),
            Ok(Ok(_)) => decide::ambiguous(Ambiguous::OtherRoute),
            Err(why) => decide::ambiguous(why),
        }
    }
}
