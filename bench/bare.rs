//! A bare Pingora proxy: what the framework costs when nothing is asked of it. The gateway is measured against this.
//!
//! Tuned like the gateway: mimalloc, one service with one thread, no work stealing, no compression module, a 4 KiB read
//! buffer a connection, 1024 idle upstream connections.
//!
//! Usage: `bare LISTEN UPSTREAM [CERTIFICATE KEY]`, the first two as `address:port`. With the other two, PEM files, it speaks
//! TLS to clients, HTTP/2 where they ask for it.

use std::net::SocketAddr;

use anyhow::Context;
use async_trait::async_trait;
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::modules::http::HttpModules;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: bare LISTEN UPSTREAM [CERTIFICATE KEY]";
    let listen: SocketAddr = arguments.next().context(usage)?.parse().context(usage)?;
    let upstream: SocketAddr = arguments.next().context(usage)?.parse().context(usage)?;
    let certificate = arguments.next();
    let key = arguments.next();
    let settings = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: 1024,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, settings);
    let mut service = http_proxy_service(&server.configuration, Bare { upstream });
    let buffer = L4BufferSettings::default().read(4096);
    let mut listener = ListenerConfig::tcp(listen.to_string()).l4_buffer(buffer);
    if let (Some(certificate), Some(key)) = (certificate, key) {
        let mut tls = TlsSettings::intermediate(&certificate, &key)?;
        tls.enable_h2();
        listener = listener.tls(tls);
    }
    service.add_listener(listener);
    service.threads = Some(1);
    server.add_service(service);
    server.bootstrap();
    server.run(RunArgs::default());
    Ok(())
}
