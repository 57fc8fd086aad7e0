//! What is done to one answer on its way out, besides sending it.

use std::sync::Arc;

use http::{HeaderValue, header};
use pingora::http::ResponseHeader;

use super::keep::KeepPlan;
use super::pacing::Pacing;
use super::stage::{Stage, Stages};
use crate::filter::ResponseFilter;
use crate::gateway::message::{GatewayHeaders, InvalidHead};

/// What is done to one answer. By default nothing.
#[derive(Default)]
pub(in crate::gateway) struct AnswerPlan<'a> {
    /// Fields that the gateway adds, straight to the wire.
    pub(in crate::gateway) ours: GatewayHeaders,
    /// The connection ends with this answer.
    pub(in crate::gateway) last: bool,
    /// How fast the body may go; `None`: as fast as it is taken.
    pub(in crate::gateway) pacing: Option<Box<Pacing>>,
    /// The answer is kept, if its head allows it.
    pub(in crate::gateway) keep: Option<KeepPlan<'a>>,
    /// The cookie by which the client stays with its endpoint.
    pub(in crate::gateway) cookie: Option<HeaderValue>,
    /// Filters of the route, in order.
    pub(in crate::gateway) filters: &'a [Arc<dyn ResponseFilter>],
    /// `Origin` of the request, which filters look at.
    pub(in crate::gateway) origin: Option<&'a HeaderValue>,
    /// What happens to the body, in order, behind keeping it.
    pub(in crate::gateway) stages: Vec<Stage>,
}

impl AnswerPlan<'_> {
    /// Whether the head has to be a map: somebody looks at all of it, or changes it.
    pub(super) fn needs_map(&self) -> bool {
        !self.filters.is_empty()
            || self.cookie.is_some()
            || self.keep.is_some()
            || !self.stages.is_empty()
    }

    /// Applies the plan to a head as its source gave it: what is kept is kept as it came, then filters see it, then the
    /// stages that its body goes through.
    pub(super) fn apply(self, head: &mut ResponseHeader) -> Result<Stages, InvalidHead> {
        let kept = self.keep.and_then(|keep| keep.begin(&head.headers));
        if let Some(cookie) = self.cookie {
            head.append_header(header::SET_COOKIE, cookie)
                .map_err(|_| InvalidHead("the answer has too many fields"))?;
        }
        for filter in self.filters {
            filter.apply(self.origin, head);
        }
        let stages = Stages::new(kept.map(Stage::keep), self.stages, head.status.as_u16());
        stages.change_head(head);
        Ok(stages)
    }
}
