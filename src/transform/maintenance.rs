//! Maintenance: a route that is closed for the time being says so, and lets in who works on it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use crate::config::Maintenance;
use crate::filter::{FilterContext, Reason, Refusal, Reply, RequestFilter, Verdict};
use crate::primitives::ranges::AddressRanges;

/// Refuses everybody but a few.
pub struct MaintenanceFilter {
    refusal: Refusal,
    allow: Arc<AddressRanges>,
}

impl MaintenanceFilter {
    /// A filter that answers as `settings` say, to all but those of `allow`.
    pub fn new(settings: &Maintenance, allow: Arc<AddressRanges>) -> Self {
        let mut refusal = Refusal::new(
            Reason::Maintenance,
            "The service is being worked on; come back later.",
        )
        .retry_after(settings.retry_after);
        refusal.answer = settings.body.as_ref().map(|(kind, body)| {
            Arc::new(Reply {
                status: StatusCode::SERVICE_UNAVAILABLE,
                headers: vec![(CONTENT_TYPE, HeaderValue::from_static(kind))],
                body: Bytes::copy_from_slice(body),
                redirect: None,
            })
        });
        Self { refusal, allow }
    }
}

impl RequestFilter for MaintenanceFilter {
    fn name(&self) -> &str {
        "maintenance"
    }

    fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
        if self.allow.contains(context.request.client_ip) {
            Verdict::Continue
        } else {
            Verdict::Refuse(self.refusal.clone())
        }
    }
}
