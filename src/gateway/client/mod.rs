//! The client's side of an exchange: the body it sends, the answer it is sent, and every time limit of both.
//!
//! [`ClientIo`] is shared by whoever serves the connection and the request being served. So a body can be buffered before
//! it is forwarded, a client whose request is gone can still be answered, and an exchange can be ended without cutting an
//! answer off. What carries it is a connection of HTTP/1, which serves one request after the other, a stream of HTTP/2,
//! which serves one, or memory. Uncontended lock: one task uses it.

mod body;
mod body_hooks;
mod heads;
mod io;
mod linger;
mod presence;
mod sending;
mod wire;

pub(super) use self::heads::NoHead;
pub(super) use self::io::ClientIo;
pub(super) use self::linger::Rest;
pub(super) use self::sending::Moved;
