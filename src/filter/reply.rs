//! Answers that the gateway makes itself.

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::config::RedirectTemplate;

/// An answer made by the gateway itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status line.
    pub status: StatusCode,
    /// Headers besides framing, date and trace id.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body; its length is sent with it.
    pub body: Bytes,
    /// Where it leads, when that is made of the request.
    pub redirect: Option<RedirectTemplate>,
}

impl Reply {
    /// An answer as this one, leading there.
    pub fn leading_to(&self, location: HeaderValue) -> Self {
        let mut headers = self.headers.clone();
        headers.push((LOCATION, location));
        Self {
            status: self.status,
            headers,
            body: self.body.clone(),
            redirect: None,
        }
    }
}
