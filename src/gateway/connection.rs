//! One connection, from its socket to its end: which protocol it speaks is found out here.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::HeaderValue;

use super::admission::AdmissionPermit;
use super::application::Application;
use super::client::ClientIo;
use super::http1::connection::Ended;
use super::peer::Peer;
use super::serve_context::{DrainSignal, Protocols, ServeContext};
use super::socket::Socket;
use super::{http1, http2};

/// Serves a connection to its end. What it was given is held by the future once: one of an `async fn` would hold its
/// arguments twice, for as long as the connection is idle.
pub fn serve<A>(
    socket: Socket,
    address: Option<IpAddr>,
    protocols: Protocols,
    door: ServeContext<A>,
    place: AdmissionPermit,
) -> impl Future<Output = ()> + Send
where
    A: Application,
{
    let address = address
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .to_canonical();
    let peer = Arc::new(Peer {
        address,
        // Digits, points and colons are a value.
        text: HeaderValue::from_str(&address.to_string()).unwrap_or(HeaderValue::from_static("")),
        scheme: socket.scheme(),
        listener: door.listener.clone(),
        certified: socket.certified(),
        inside: false,
    });
    let begun = match protocols {
        Protocols::Http2 => Begun::Http2(socket),
        Protocols::Http1 => Begun::Http1(ClientIo::new(socket), false),
        Protocols::Either => Begun::Http1(ClientIo::new(socket), true),
    };
    async move {
        let mut word = door.closing.clone();
        let waiting = std::pin::pin!(async move {
            let _ = word.wait_for(Option::is_some).await;
        });
        let mut closing = DrainSignal::new(door.closing.clone(), waiting);
        let upgraded = match begun {
            Begun::Http2(socket) => Some((socket, bytes::Bytes::new())),
            Begun::Http1(client, either) => {
                match http1::connection::serve(client, &peer, either, &door, &mut closing).await {
                    Ended::Preface(preface) => Some(*preface),
                    Ended::Over => None,
                }
            }
        };
        if let Some((socket, read)) = upgraded {
            // Boxed, as is what few requests come to: every idle connection of HTTP/1 would hold room for it.
            let served = http2::connection::serve(socket, read, &peer, &door, &mut closing);
            Box::pin(served).await;
        }
        drop(place);
    }
}

/// What a connection begins with.
enum Begun {
    /// The client's side of HTTP/1, and whether it may turn out to speak HTTP/2.
    Http1(Arc<ClientIo>, bool),
    Http2(Socket),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::sync::watch;

    use super::super::serve_context::CloseSchedule;
    use super::*;
    use crate::config::{self, Source};
    use crate::filter::{FilterContext, Reason, RequestFilter, Verdict};
    use crate::gateway::chain::Chain;
    use crate::gateway::parts::Parts;
    use crate::gateway::snapshot::Snapshot;
    use crate::gateway::state::State;
    use crate::gateway::worker_local::WorkerLocal;
    use crate::gateway::{Gateway, Hooks, Material, RouteRuntime};
    use crate::observe::{ListenerStats, Metrics};
    use crate::primitives::secret::{Secret, SecretSource};

    struct Nothing;

    impl Material for Nothing {
        fn secret(&self, _: &SecretSource) -> Result<Secret, String> {
            Err("none here".into())
        }

        fn file(&self, _: &std::path::Path) -> Result<Vec<u8>, String> {
            Err("none here".into())
        }
    }

    /// A filter with a bug.
    struct Faulty;

    impl RequestFilter for Faulty {
        fn name(&self) -> &str {
            "faulty"
        }

        fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
            assert!(
                context.request.query != Some("boom"),
                "a bug met this request"
            );
            Verdict::Continue
        }
    }

    fn door(closing: watch::Receiver<CloseSchedule>) -> ServeContext<Hooks> {
        let text = "[[listener]]\naddress = \"127.0.0.1:8080\"\n\
                    [[route]]\nid = \"r\"\npath = \"/\"\nrespond = { text = \"fine\" }\n";
        let sources = vec![Source {
            file: "t.toml".into(),
            text: text.into(),
        }];
        let config =
            config::load(&sources, &|_| Ok(None)).unwrap_or_else(|problems| panic!("{problems}"));
        let state = Arc::new(State::new(
            Arc::new(Metrics::new("0", "0").expect("metrics")),
            None,
        ));
        let mut snapshot =
            Snapshot::build(config, sources, &state, &[], &Nothing).expect("snapshot");
        let route = &snapshot.routes[0];
        snapshot.routes[0] = Arc::new(RouteRuntime {
            breaker: None,
            name: route.name.clone(),
            chain: Chain::with(vec![Arc::new(Faulty)]),
            target: match &route.target {
                crate::gateway::Target::Respond(reply) => {
                    crate::gateway::Target::Respond(Arc::clone(reply))
                }
                crate::gateway::Target::Forward { .. } => unreachable!("the route answers itself"),
            },
            class: config::Class::Normal,
            hedge: None,
            stats: Arc::clone(&route.stats),
            policy: crate::gateway::Policy::of(
                &snapshot.config.routes[0],
                &[],
                &Parts {
                    auths: &snapshot.config.auths,
                    authenticators: Default::default(),
                    limits: Default::default(),
                    pools: &snapshot.pools,
                },
                &state,
            ),
            max_body: route.max_body,
            json_depth: None,
            upstream_filters: Vec::new(),
            response_filters: Vec::new(),
        });
        state.publish(&Arc::new(snapshot));
        let lane = Arc::new(WorkerLocal::new(0, 1));
        let app = Arc::new(Hooks::new(Gateway::new(Arc::clone(&lane))));
        ServeContext {
            lane,
            app,
            state,
            shutdown: watch::channel(false).1,
            closing,
            public: true,
            listener: None,
        }
    }

    async fn ask(door: &ServeContext<Hooks>, target: &str) -> String {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        let limits = door
            .state
            .snapshot()
            .expect("snapshot")
            .config
            .server
            .client;
        let place = door
            .state
            .admission
            .enter(None, &limits, &Arc::new(ListenerStats::default()))
            .expect("place");
        let serving = tokio::spawn(serve(
            Socket::Unix(ours),
            None,
            Protocols::Http1,
            door.clone(),
            place,
        ));
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nX-Trace-ID: known\r\nConnection: close\r\n\r\n"
        );
        theirs.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        let read = theirs.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(5), read)
            .await
            .expect("in time")
            .expect("answer");
        drop(theirs);
        serving.await.expect("the connection's task survives");
        answer
    }

    #[tokio::test]
    async fn a_panic_in_a_filter_costs_one_request_and_no_other() {
        let (_stays_open, closing) = watch::channel(None);
        let door = door(closing);
        let answer = ask(&door, "/?boom").await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(
            answer.contains("X-Trace-ID: known") && answer.contains("\"code\":\"internal\""),
            "{answer}"
        );
        let answer = ask(&door, "/?fine").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("fine"),
            "{answer}"
        );
        let stats = &door.state.snapshot().expect("snapshot").routes[0].stats;
        assert_eq!(
            stats.refusals().collect::<Vec<_>>(),
            [(Reason::Internal, 1)]
        );
        assert_eq!(
            stats.statuses.seen().collect::<Vec<_>>(),
            [(200, 1), (500, 1)]
        );
        assert_eq!(
            (
                stats.in_flight.value(),
                door.state.in_flight(),
                door.state.admission.open()
            ),
            (0, 0, 0)
        );
    }
}
