//! HTTP/1.1 towards endpoints: over TCP, Unix sockets and TLS, each connection for one request at a time.
//!
//! The framework would carry each request through two tasks and two channels, clone its head, and watch every kept
//! connection with a task of its own; that costs as much as all the rest, and it reads answers less strictly.

pub(in crate::gateway) mod connection;
pub(in crate::gateway) mod head;
pub(in crate::gateway) mod kept;
pub(in crate::gateway) mod transport;
pub(in crate::gateway) mod tunnel;
mod websocket;
