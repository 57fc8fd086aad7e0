//! HTTP/2 towards endpoints: each try is a stream on a connection that others share. Given up it is reset, and the
//! connection goes on.

pub(in crate::gateway) mod connections;
pub(in crate::gateway) mod stream;
