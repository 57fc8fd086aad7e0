//! `respond`: an answer that is the same every time, so it is made once; only a redirect may still be filled in.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_TYPE, LOCATION};

use crate::config::Respond;
use crate::filter::Reply;

/// The answer of a route with `respond`.
pub fn reply(respond: &Respond) -> Arc<Reply> {
    let mut headers = Vec::with_capacity(2);
    if let Some(location) = &respond.redirect {
        headers.push((LOCATION, location.clone()));
    }
    let mut body = Bytes::new();
    if let Some((kind, bytes)) = &respond.body {
        headers.push((CONTENT_TYPE, HeaderValue::from_static(kind)));
        body = Bytes::copy_from_slice(bytes);
    }
    Arc::new(Reply {
        status: respond.status,
        headers,
        body,
        redirect: respond.template.clone(),
    })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_body_brings_its_type() {
        let reply = reply(&Respond {
            status: StatusCode::IM_A_TEAPOT,
            body: Some(("application/json", b"{}".to_vec())),
            redirect: None,
            template: None,
        });
        assert_eq!(reply.status, 418);
        assert_eq!(reply.body, "{}");
        let kind = HeaderValue::from_static("application/json");
        assert_eq!(reply.headers, [(CONTENT_TYPE, kind)]);
    }

    #[test]
    fn a_redirect_has_a_location_and_no_body() {
        let location = HeaderValue::from_static("https://example.com/");
        let reply = reply(&Respond {
            status: StatusCode::FOUND,
            body: None,
            redirect: Some(location.clone()),
            template: None,
        });
        assert_eq!(reply.headers, [(LOCATION, location)]);
        assert!(reply.body.is_empty());
    }
}
