//! What is done to one answer on its way out, besides sending it.

use std::sync::Arc;

use http::{HeaderValue, header};
use pingora::http::ResponseHeader;

use super::hook::Hook;
use super::keep::KeepPlan;
use super::pacing::Pacing;
use super::stage::{Stage, Stages};
use crate::filter::{Refusal, ResponseBodyHook, ResponseFilter};
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
    /// What filters have to see of it, in order, behind keeping it.
    pub(in crate::gateway) hooks: Vec<Box<dyn ResponseBodyHook>>,
    /// What happens to the body, in order, behind that.
    pub(in crate::gateway) stages: Vec<Stage>,
}

impl AnswerPlan<'_> {
    /// Whether the head has to be a map: somebody looks at all of it, or changes it.
    pub(super) fn needs_map(&self) -> bool {
        !self.filters.is_empty()
            || self.cookie.is_some()
            || self.keep.is_some()
            || !self.hooks.is_empty()
            || !self.stages.is_empty()
    }

    /// Applies the plan to a head as its source gave it, whose body has `length` bytes: what is kept is kept as it came, then
    /// filters see it, then their hooks, then the stages that its body goes through.
    pub(super) fn apply(
        self,
        head: &mut ResponseHeader,
        length: Option<u64>,
    ) -> Result<Stages, Objected> {
        let kept = self.keep.and_then(|keep| keep.begin(&head.headers));
        if let Some(cookie) = self.cookie {
            head.append_header(header::SET_COOKIE, cookie)
                .map_err(|_| InvalidHead("the answer has too many fields"))?;
        }
        for filter in self.filters {
            filter.apply(self.origin, head);
        }
        let mut list = Vec::new();
        // What follows an upgrade is no body.
        let hooks = self.hooks.into_iter().filter(|_| head.status != 101);
        for mut hook in hooks {
            hook.on_head(head, length)?;
            list.push(Stage::Hook(Hook::new(hook)));
        }
        list.extend(self.stages);
        let stages = Stages::new(kept.map(Stage::keep), list, head.status.as_u16());
        stages.change_head(head);
        Ok(stages)
    }
}

/// What stands against a head.
pub(super) enum Objected {
    /// The head cannot be sent.
    Invalid(InvalidHead),
    /// A filter refuses the answer.
    Refused(Box<Refusal>),
}

impl From<InvalidHead> for Objected {
    fn from(invalid: InvalidHead) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<Refusal> for Objected {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}
