//! What every test stands on: the real binary, origins behind it, clients before it.

mod binary;
mod client;
mod exposition;
mod faces;
pub(crate) mod fragment;
mod gateway;
mod haproxy;
mod http2;
mod incoming;
mod nginx;
mod origin;
mod peer;
mod ports;
mod raw;
mod rpc;
mod streams;
mod tls;
mod wait;
mod ways;
mod wire;

pub(crate) use binary::{Folder, Ran, tollgate, under};
pub(crate) use client::{Client, Connection, Outcome, Request, Response};
pub(crate) use exposition::{Metrics, Sample};
pub(crate) use faces::Faces;
pub(crate) use gateway::{ADMIN_TOKEN, Gateway, Setup, admin_json, wait_until_deaf};
pub(crate) use haproxy::HaProxy;
pub(crate) use http2::{
    Asked as Streaming, END_HEADERS, END_STREAM, Fate, Frames, Http2, asking, block, frame, get,
    kind,
};
pub(crate) use incoming::{Incoming, Left};
pub(crate) use nginx::Nginx;
pub(crate) use origin::{Answer, Origin, Seen};
pub(crate) use peer::{Keys, Peer, Signed, base64url};
pub(crate) use ports::{listen, reserve};
pub(crate) use raw::{RawOrigin, Says};
pub(crate) use rpc::{RpcServer, rpc};
pub(crate) use streams::{Does, Speech, StreamOrigin};
pub(crate) use tls::{TlsClient, TlsOrigin};
pub(crate) use wait::{always, eventually, holds_within, millis, seconds, unix_millis, unix_now};
pub(crate) use ways::{Caller, LATE, Speaks, Way, clients, crossings, on_each, ways, ways_of};
pub(crate) use wire::Head;
