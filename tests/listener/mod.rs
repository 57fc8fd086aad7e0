//! Where connections come in: what must come before HTTP, and who is let in.

mod descriptors;
mod idle;
mod proxy_protocol;
mod unix;
